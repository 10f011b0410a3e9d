"""What tables have grown by, and what they will grow by for writes that were accepted and are not in them yet.

A write that is kept for its clock, or waits for its turn, gets its rows later, when it can be refused no more. Until then its keys
hold a *promise*: keys that may be new, by bucket. A promise is over when nobody holds it any more: the keys have got their slots,
or the write was dropped, whatever the reason.

Far from a node's limit promises are only noted, at their worst; near it each is counted by bucket (`KeyIndex.promised`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sparkps.ps_nodes.tables.index import KeyIndex

#: Runs of keys of one bucket each: buckets int32 (r,), ascending, and offsets int64 (r + 1,).
Runs = tuple[NDArray[np.int32], NDArray[np.int64]]

#: Arrays of a bucket grow by this factor: tables may come to that much of what they have, and of what is promised.
FACTOR = 1.5


#: What a promise is for: its index, buckets (r,) and, from 0 on, the sum of their keys that may be new, (r + 1,); and bytes at worst.
_Noted = tuple["KeyIndex", NDArray[np.int32], NDArray[np.int64], int]


class Promise:
    """Room for the new keys of a write, as long as somebody holds it."""

    __slots__ = ("_noted", "_over")

    def __init__(self, noted: _Noted, over: deque[_Noted]) -> None:
        self._noted = noted
        self._over = over

    def __del__(self) -> None:
        self._over.append(self._noted)  # no lock: this may come at any moment, in any thread


class Growth:
    """Growth of all tables of a node, past and promised. Thread-safe.

    Parameters
    ----------
    alarm : callable
        Called when tables may come to more than `mark` allows.
    """

    def __init__(self, alarm: Callable[[], None] = lambda: None) -> None:
        self._alarm = alarm
        #: Held for moments. Owner of all below: this.
        self.lock = threading.Lock()
        #: Bytes by which arrays of keys and rows have grown, ever.
        self.grown = 0
        #: Bytes of all promises at their worst.
        self.worst = 0
        #: Where the alarm is due, as `pressure` counts.
        self.mark = 1 << 62
        #: Promises that are not counted by bucket.
        self._plain: dict[int, _Noted] = {}
        #: Promises that are over, and are taken off by whoever comes next. Any thread appends.
        self._over: deque[_Noted] = deque()

    def grew(self, nbytes: int) -> None:
        """An array of keys or rows has taken the place of a smaller one."""
        with self.lock:
            self.grown += nbytes
            due = self.pressure > self.mark
        if due:
            self._alarm()

    @property
    def pressure(self) -> float:
        """What comes to be compared with `mark`: growth so far may go on to `FACTOR`."""
        return FACTOR * self.grown + self.worst

    def promise(self, index: KeyIndex, runs: Runs, keys: int, kept: int, *, in_any_case: bool = False) -> Promise | None:
        """Room for keys all of which may be new, noted at its worst.

        Parameters
        ----------
        index : KeyIndex
        runs : (buckets, offsets)
            Where the keys of each bucket are.
        keys : int
            How many there are.
        kept : int
            Bytes of the write itself, until it is done.
        in_any_case : bool
            Whether there is room or not: another node has accepted it.

        Returns
        -------
        Promise or None
            None: it must be counted, for there may not be enough; the alarm is given.
        """
        worst = int(FACTOR * keys * index.key_bytes) + kept
        noted = index, runs[0], runs[1], worst
        with self.lock:
            if self._over:
                self.settle()
            due = FACTOR * self.grown + self.worst + worst > self.mark
            if in_any_case or not due:
                self._plain[id(noted)] = noted
                self.worst += worst
        if due:
            self._alarm()
            if not in_any_case:
                return None
        return Promise(noted, self._over)

    def count(self, index: KeyIndex, buckets: NDArray[np.int32], counts: NDArray[np.int64]) -> Promise:
        """Room for so many new keys of each bucket. Under the lock."""
        sums = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        worst = int(FACTOR * int(sums[-1]) * index.key_bytes)
        self.worst += worst
        index.promised[buckets] += counts
        return Promise((index, buckets, sums, worst), self._over)

    def settle(self) -> None:
        """Take off what is over. Under the lock."""
        while self._over:
            noted = self._over.popleft()
            index, buckets, sums, worst = noted
            self.worst -= worst
            if self._plain.pop(id(noted), None) is None:
                index.promised[buckets] -= np.diff(sums)

    def count_all(self) -> None:
        """Count what was only noted. Under the lock."""
        self.settle()
        while self._plain:
            _, (index, buckets, sums, _) = self._plain.popitem()
            index.promised[buckets] += np.diff(sums)


__all__ = ["FACTOR", "Growth", "Promise"]
