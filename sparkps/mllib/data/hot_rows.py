"""Rows of a table that were asked for lately, so that a batch pulls only those that are new: bounded, and no older than wished.

Of frequent keys few make up most of a batch; models too large for one machine are scored by pulling the others.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.data.keys import KeyMap

Array = NDArray[Any]

#: Most bytes of the rows of one table in one process, keys included.
HOT_BYTES = 64 << 20

#: Most tables whose rows one process keeps.
_MOST_TABLES = 4

#: Bytes that a row takes besides its values: key, time, and the entries of its map.
_OVERHEAD = 80


class _Generation:
    """Rows that came, or were used, between two turns of the cache."""

    def __init__(self, dim: int) -> None:
        self.keys = KeyMap()
        #: float64 (capacity, dim), and seconds at which each row was pulled; the first ``len(keys)`` are in use.
        self._rows = np.empty((1024, dim))
        self._times = np.empty(1024)

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, keys: Array) -> Array:
        """Places of `keys`, -1 for those that are not here."""
        return self.keys.find(keys)

    def at(self, places: Array) -> tuple[Array, Array]:
        """Rows and times at `places`."""
        return self._rows[places], self._times[places]

    def put(self, keys: Array, rows: Array, times: Array) -> None:
        """Rows of distinct `keys`, in the place of older ones."""
        places = self.keys.number(keys)
        if len(self) > len(self._times):
            room = max(len(self), 2 * len(self._times))
            self._rows, self._times = (_grown(held, room) for held in (self._rows, self._times))
        self._rows[places] = rows
        self._times[places] = times


def _grown(held: Array, room: int) -> Array:
    made = np.empty((room, *held.shape[1:]))
    made[: len(held)] = held
    return made


class HotRows:
    """A cache of rows by key, which forgets those that were not used for longest.

    It holds two generations, each of at most half of its rows: what is found in the older one moves to the younger, and when that is
    full the older one is forgotten and the younger takes its place. So a row that is used again within half the cache's size of other
    rows stays, for two look-ups a key and no list of uses.

    Parameters
    ----------
    dim : int
        Values of a row.
    max_bytes : int
        Of all rows, with their keys.
    max_age : float, optional
        Seconds for which a row is good; None: for ever.
    clock : callable
        Seconds that never go back.

    Examples
    --------
    >>> hot, asked = HotRows(1), []
    >>> def pull(keys):
    ...     asked.append(keys.tolist())
    ...     return keys[:, None] * 0.5
    >>> hot.look_up(np.array([4, 6]), pull).tolist(), hot.look_up(np.array([8, 4]), pull).tolist(), asked
    ([[2.0], [3.0]], [[4.0], [2.0]], [[4, 6], [8]])
    """

    def __init__(
        self, dim: int, max_bytes: int = HOT_BYTES, max_age: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.dim = dim
        self.max_age = max_age
        #: Most rows of a generation.
        self._half = max(1, max_bytes // (2 * (8 * dim + _OVERHEAD)))
        self._clock = clock
        self._lock = threading.Lock()
        #: Both under the lock.
        self._young, self._old = _Generation(dim), _Generation(dim)

    def __len__(self) -> int:
        """Rows held; one that is in both generations counts twice."""
        return len(self._young) + len(self._old)

    def look_up(self, keys: Array, pull: Callable[[Array], Array]) -> Array:
        """The rows of distinct `keys`, float64 (n, dim); `pull` is asked for those that are not here, or too old."""
        now = self._clock()
        rows = np.empty((len(keys), self.dim))
        times = np.full(len(keys), -np.inf)
        with self._lock:
            young = self._take(self._young, keys, np.arange(len(keys)), rows, times, now)
            old = self._take(self._old, keys, np.flatnonzero(~young), rows, times, now)
        missing = np.flatnonzero(~(young | old))
        if len(missing):
            rows[missing] = pull(keys[missing])
            times[missing] = now
        fresh = np.flatnonzero(~young)
        with self._lock:
            self._keep(keys[fresh], rows[fresh], times[fresh])
        return rows

    def _take(self, held: _Generation, keys: Array, wanted: Array, rows: Array, times: Array, now: float) -> Array:
        """Fills in the `wanted` rows that are held and good; bool (n,): which they are."""
        taken = np.zeros(len(keys), bool)
        if not len(held) or not len(wanted):
            return taken
        places = held.find(keys[wanted])
        here = np.flatnonzero(places >= 0)
        found, pulled = held.at(places[here])
        if self.max_age is not None:
            good = now - pulled <= self.max_age
            here, found, pulled = here[good], found[good], pulled[good]
        rows[wanted[here]], times[wanted[here]] = found, pulled
        taken[wanted[here]] = True
        return taken

    def _keep(self, keys: Array, rows: Array, times: Array) -> None:
        if len(self._young) + len(keys) > self._half:
            self._old, self._young = self._young, _Generation(self.dim)
        self._young.put(keys[: self._half], rows[: self._half], times[: self._half])


#: The caches of this process, by table and age, the one used last at the end; under the lock.
_held: OrderedDict[Hashable, HotRows] = OrderedDict()
_holding = threading.Lock()


def hot_rows_of(table: Hashable, dim: int, max_age: float | None = None) -> HotRows:
    """This process's cache of the rows of a table; that of the table not asked for for longest gives way to a new one."""
    with _holding:
        key = table, max_age
        found = _held.pop(key, None)
        if found is None:
            found = HotRows(dim, max_age=max_age)
        _held[key] = found
        while len(_held) > _MOST_TABLES:
            _held.popitem(last=False)
        return found


__all__ = ["HOT_BYTES", "HotRows", "hot_rows_of"]
