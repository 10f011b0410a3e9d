"""When each table was used last, by what nodes count, and which tables nobody has used for too long. Pure: time is an argument.

A node counts the requests of each table, and says how many there were with its heartbeat. A count that has changed since the node spoke
last is a use, at the time of the heartbeat: so it is known to about a second, at the cost of one addition a request.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from typing import Any

from sparkps.driver_bridge.coordinator.reports import is_number
from sparkps.namespaces import owner_of
from sparkps.specs import TableSpec

#: Seconds between two looks for tables that nobody uses.
LOOK_EVERY = 1.0


class Usage:
    """When tables were used last. Owner: the coordinator's thread.

    Examples
    --------
    >>> usage, w = Usage(), TableSpec("ann/w", "sparse", 1, table=7)
    >>> usage.used(7, now=10.0)
    >>> usage.heard(0, {"7": {"uses": 3}}, now=20.0)
    >>> usage.heard(0, {"7": {"uses": 3}}, now=50.0)
    >>> usage.idle(7, now=60.0), usage.unused([w], 30.0, 60.0, busy=()), usage.unused([w], 30.0, 60.0, busy=("ann",))
    (40.0, [7], [])
    """

    def __init__(self) -> None:
        #: By table, when it was used last (seconds, monotonic).
        self._at: dict[int, float] = {}
        #: By node and table, how many requests there were by the node's last report; a table is here only if it is in `_at`.
        self._counts: dict[tuple[int, int], int] = {}
        #: By node, when it has reported last.
        self._reported: dict[int, float] = {}
        self._next_look = 0.0

    def used(self, table: int, now: float) -> None:
        """A table was made, or looked up, or used."""
        self._at[table] = now

    def heard(self, node: int, tables: Mapping[str, Any], now: float) -> None:
        """A node has reported on its tables; those that were dropped, and are on their way out there, do not count."""
        self._reported[node] = now
        for name, report in tables.items():
            table, count = int(name) if is_number(name) else 0, report.get("uses", 0)
            if table in self._at and type(count) is int and count != self._counts.get((node, table), 0):
                self._counts[node, table] = count
                self._at[table] = now

    def forget(self, table: int) -> None:
        """A table was dropped."""
        self._at.pop(table, None)
        for key in [key for key in self._counts if key[1] == table]:
            del self._counts[key]

    def idle(self, table: int, now: float) -> float:
        """Seconds since a table was used. A coordinator that has begun anew counts from when it first looks."""
        return max(0.0, now - self._at.setdefault(table, now))

    def is_due(self, now: float) -> bool:
        """Whether it is time to look for tables that nobody uses."""
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_EVERY
        return True

    def seen(self, nodes: Iterable[int], now: float) -> float:
        """Until when all uses at these nodes are known: when the one that is silent for longest has reported last."""
        return min((self._reported.get(node, -math.inf) for node in nodes), default=now)

    def unused(self, tables: Iterable[TableSpec], ttl: float, now: float, busy: Container[str]) -> list[int]:
        """Ids of tables that nobody has used for `ttl` seconds.

        Parameters
        ----------
        tables : iterable of TableSpec
        ttl : float
            Seconds.
        now : float
            Until when it is known; see `seen`.
        busy : container of str
            Owners of which a worker group runs or waits: what they have made for it may be needed yet.
        """
        return [spec.table for spec in tables if self.idle(spec.table, now) >= ttl and owner_of(spec.name) not in busy]

    def renew(self, now: float) -> None:
        """Nobody was heard for some time: all tables count as used now."""
        self._at = dict.fromkeys(self._at, now)

    def shift(self, seconds: float) -> None:
        """So much time counts for nobody: the coordinator itself did not run."""
        self._at = {table: at + seconds for table, at in self._at.items()}
        self._reported = {node: at + seconds for node, at in self._reported.items()}


__all__ = ["LOOK_EVERY", "Usage"]
