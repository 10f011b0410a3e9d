"""What has changed in a bucket since content that a checkpoint holds as a whole, so that the next one need not write all of it.

Rows of a table are changed in place, and each has a bit; keys of an index are only ever added to. Both begin with the first checkpoint.
Content has a number: who finds the same one in a checkpoint need write nothing.
"""

from __future__ import annotations

import itertools
import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparkps.kernels.images import mark_rows
from sparkps.specs import NUM_BUCKETS

Buckets = NDArray[np.int32]
Runs = tuple[NDArray[np.int32], NDArray[np.int64]]
Bits = NDArray[np.uint8]

_NONE = np.empty(0, np.uint8)

#: Numbers that no other process gives.
_fresh = itertools.count((1 + secrets.randbits(35)) << 27)


class Versions:
    """Numbers for the content of each bucket: the same number means the same content, on all nodes and for ever.

    Examples
    --------
    >>> versions = Versions()
    >>> first = versions.of(3, rows=10)
    >>> versions.of(3, rows=10) == first, versions.of(3, rows=11) == first
    (True, False)
    """

    def __init__(self) -> None:
        #: By bucket: whether it has changed since it got its number. Whoever changes a bucket says so before.
        self.changed = np.ones(NUM_BUCKETS, bool)
        self._numbers = [0] * NUM_BUCKETS
        self._rows = [0] * NUM_BUCKETS

    def of(self, bucket: int, rows: int) -> int:
        """The number of a bucket that nobody is changing, and that has so many rows: a table gets them by writes to others, too."""
        if self.changed[bucket] or self._rows[bucket] != rows:
            self._numbers[bucket], self._rows[bucket] = next(_fresh), rows
            self.changed[bucket] = False
        return self._numbers[bucket]


@dataclass(frozen=True, eq=False)
class Changed:
    """What has changed in a bucket until a moment, at which all begins anew."""

    #: Number of the content since which that is known; 0: it is not.
    since: int
    #: Rows of that content, and the bit of each: uint8, the lowest of a byte first.
    rows: int
    bits: Bits
    #: The bits of rows that change after that moment.
    after: Bits

    def slots(self, count: int) -> NDArray[np.int32]:
        """The rows of `count` that have changed or come: ndarray of shape (n,), int32, ascending."""
        changed = np.flatnonzero(np.unpackbits(self.bits, count=self.rows, bitorder="little")).astype(np.int32)
        return np.concatenate([changed, np.arange(self.rows, count, dtype=np.int32)])


class ChangedRows:
    """Which rows of a table have changed, by bucket. Whoever calls has the bucket to itself.

    Examples
    --------
    >>> rows, one = ChangedRows(), (np.array([3], np.int32), np.array([0, 1]))
    >>> rows.taken_whole(3, rows.cut(3, count=5), number=77)
    >>> rows.mark(np.array([4], np.int32), one)
    >>> found = rows.cut(3, count=7)
    >>> found.since, found.slots(7).tolist()
    (77, [4, 5, 6])
    """

    def __init__(self) -> None:
        self._since = [0] * NUM_BUCKETS
        #: By bucket: rows that have bits, where these are, and what keeps them.
        self._rows, self._at = np.zeros(NUM_BUCKETS, np.int64), np.zeros(NUM_BUCKETS, np.int64)
        self._bits: list[Bits] = [_NONE] * NUM_BUCKETS

    def mark(self, slots: NDArray[np.int32], runs: Runs) -> None:
        """Rows are about to change."""
        mark_rows(*runs, slots, self._rows, self._at)

    def forget(self, buckets: Buckets) -> None:
        """Any rows of these buckets may change."""
        for bucket in buckets[self._rows[buckets] > 0].tolist():
            self._keep(bucket, 0, 0, _NONE)

    def cut(self, bucket: int, count: int) -> Changed:
        """What has changed until now, when the bucket has `count` rows. One of `taken_whole` and `not_taken` must follow."""
        found = Changed(self._since[bucket], int(self._rows[bucket]), self._bits[bucket], np.zeros(count + 7 >> 3, np.uint8))
        self._keep(bucket, 0, count, found.after)
        return found

    def taken_whole(self, bucket: int, cut: Changed, number: int) -> None:
        """The content as of the cut, of this number, is in a checkpoint: from now on changes since then are known."""
        if self._bits[bucket] is cut.after:
            self._since[bucket] = number

    def not_taken(self, bucket: int, cut: Changed) -> None:
        """A checkpoint has taken none of it, or its changes alone: they count on."""
        if self._bits[bucket] is cut.after:
            self._keep(bucket, cut.since, cut.rows, cut.bits | cut.after[: len(cut.bits)])

    def _keep(self, bucket: int, since: int, rows: int, bits: Bits) -> None:
        self._bits[bucket], self._at[bucket] = bits, bits.ctypes.data
        self._since[bucket], self._rows[bucket] = since, rows


class KeyVersions(Versions):
    """Versions of the keys of each bucket, which are added to, and otherwise come and go as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self._taken = [(0, 0)] * NUM_BUCKETS

    def of(self, bucket: int, rows: int) -> int:
        """See `Versions`."""
        if self.changed[bucket]:
            self._taken[bucket] = (0, 0)
        return super().of(bucket, rows)

    def taken(self, bucket: int) -> tuple[int, int]:
        """Number and keys of the content that a checkpoint has taken as a whole, and that was only added to since; 0 for none."""
        return self._taken[bucket]

    def taken_whole(self, bucket: int, number: int, rows: int) -> None:
        """A checkpoint has the content of this number. One that has come since shows in `changed`."""
        self._taken[bucket] = (number, rows)


__all__ = ["Buckets", "Changed", "ChangedRows", "KeyVersions", "Runs", "Versions"]
