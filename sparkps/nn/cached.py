"""Rows of steps by way of a cache: what was pulled for earlier steps is used again, as long as it is new enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from sparkps.client.futures import Future
from sparkps.client.row_cache import CACHE_BYTES, RowCache
from sparkps.nn.tier import TierRows

Array = NDArray[Any]


class CachedRows:
    """Asks the tier for the rows of steps that are not at hand. For one thread, and one attempt of a rank.

    A cache is as long-lived as its reader: a run that is rolled back to a checkpoint has new ones, so that no row of a state that was
    undone is ever given. Where a bucket lies, and whether its node is the first that has had it, does not matter to a row that was read.

    Parameters
    ----------
    rows : TierRows
    max_bytes : int
        Of the rows of each table, with their keys.
    """

    def __init__(self, rows: TierRows, max_bytes: int = CACHE_BYTES) -> None:
        self._rows = rows
        self._caches = {name: RowCache(table.dim, max_bytes) for name, table in rows.tables.items()}
        #: Asked for and not taken yet, in the order of asking.
        self._under_way: list[AskedRows] = []

    @property
    def asked(self) -> int:
        """Distinct keys of all steps so far."""
        return sum(each.asked for each in self._caches.values())

    @property
    def found(self) -> int:
        """Those of them that were not pulled."""
        return sum(each.found for each in self._caches.values())

    def ask(self, wanted: Mapping[str, Array], more: Sequence[Any], clock: int, oldest: int) -> AskedRows:
        """Ask for the rows of a step, without waiting.

        Parameters
        ----------
        wanted : mapping
            By table, distinct keys.
        more : sequence
            Whatever else `pull_together` takes; it is always pulled.
        clock : int
            The one at which this is asked; it never goes back.
        oldest : int
            Rows that were asked for at this clock or later are new enough.
        """
        while self._under_way and self._under_way[0].is_there:
            self._under_way[0].take()
        held = {name: self._caches[name].look_up(keys, oldest) for name, keys in wanted.items()}
        pulled = {name: wanted[name][missing] for name, (_, missing) in held.items() if len(missing)}
        made = AskedRows(self, held, pulled, self._rows.pull_ahead(pulled, more), clock)
        self._under_way.append(made)
        return made

    def came(self, asked: AskedRows, future: Future[list[Array]], clock: int) -> tuple[dict[str, Array], list[Array]]:
        """What was pulled is there, or is waited for: it is kept."""
        rows, more = self._rows.taken(asked.pulled, future)
        self._under_way.remove(asked)
        for name, keys in asked.pulled.items():
            self._caches[name].keep(keys, rows[name], clock)
        return rows, more


class AskedRows:
    """Rows of one step that are under way, or at hand. Made by `CachedRows.ask`."""

    def __init__(
        self, source: CachedRows, held: dict[str, tuple[Array, Array]], pulled: dict[str, Array], future: Future[list[Array]], clock: int
    ) -> None:
        self._source, self._held, self._future, self._clock = source, held, future, clock
        #: By table, keys that are pulled; tables without any are not there.
        self.pulled = pulled
        self._taken: tuple[dict[str, Array], list[Array]] | None = None

    @property
    def is_there(self) -> bool:
        """Whether `take` would not wait."""
        return self._future.done()

    def take(self) -> tuple[dict[str, Array], list[Array]]:
        """By table, the rows of all keys, and what else was asked for; waits for them. The same objects each time."""
        if self._taken is None:
            came, more = self._source.came(self, self._future, self._clock)
            self._taken = {name: _filled(*held, came.get(name)) for name, held in self._held.items()}, more
        return self._taken


def _filled(rows: Array, missing: Array, came: Array | None) -> Array:
    """All rows of a table; what came may be all of them, and is then used as it is."""
    if came is None or len(came) == len(rows):
        return rows if came is None else came
    rows[missing] = came
    return rows


__all__ = ["AskedRows", "CachedRows"]
