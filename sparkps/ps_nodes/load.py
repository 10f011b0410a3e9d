"""How much each bucket of a node has to do: what the coordinator balances nodes by."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.ps_nodes.tables.directory import Table
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.buckets import bits_of, listed

#: Of so many requests one is looked at for its buckets, and counts for all: to look takes longer than to count. A prime, so that requests
#: which come by turns, as pulls and pushes do, are looked at by turns, too.
EVERY = 13

#: So many different sets of buckets are remembered before they are added up: requests of one session touch the same ones again and again.
MOST_SETS = 256


class Load:
    """Requests of a node, and of its buckets. Thread-safe."""

    def __init__(self) -> None:
        #: Steps and calls that were carried out, about: threads that count at the same moment may be seen in either order.
        self.requests = 0
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        #: Shares of requests by bucket: one that touches four buckets counts a quarter in each. Owner: `_lock`.
        self._shares: NDArray[np.float64] = np.zeros(NUM_BUCKETS)
        #: Requests that were looked at since these were added up, by their buckets (bits). Owner: `_lock`.
        self._seen: dict[int, int] = {}

    def count(self) -> bool:
        """One more request; whether `took` shall be told its buckets."""
        number = self.requests = next(self._numbers)
        return number % EVERY == 0

    def took(self, buckets: int) -> None:
        """The buckets (bits) of a request that is looked at."""
        with self._lock:
            self._seen[buckets] = self._seen.get(buckets, 0) + 1
            if len(self._seen) > MOST_SETS:
                self._add_up()

    def _add_up(self) -> None:
        for buckets, times in self._seen.items():
            if buckets:
                self._shares[bits_of(buckets)] += EVERY * times / buckets.bit_count()
        self._seen.clear()

    def report(self, buckets: int, tables: Iterable[Table]) -> dict[str, Any]:
        """Bytes of rows and share of all requests so far, of each of these buckets (bits); see `wire.messages.control.Heartbeat`."""
        numbers = listed(buckets)
        nbytes = np.zeros(len(numbers), np.int64)
        for table in tables:
            nbytes += table.sizes(numbers) * (table.key_bytes // table.spec.dim)
        with self._lock:
            self._add_up()
            shares = self._shares[numbers]
        return {"buckets": numbers.tolist(), "bytes": nbytes.tolist(), "requests": np.rint(shares).astype(np.int64).tolist()}


__all__ = ["EVERY", "MOST_SETS", "Load"]
