"""Whose turn it is to change which buckets: the order of writes at every shard. Pure: no lock, no thread.

Whoever wants to change some buckets enters; it may begin when all who entered before it with one of its buckets have left. So
writes to one bucket are carried out one after the other in the order in which they entered, and those to different ones
side by side. Nobody holds one bucket while it waits for another, so nobody waits for ever.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Turns at the buckets of one node. Sets of buckets are ints with one bit per bucket.

    Examples
    --------
    >>> turns = Turns[str]()
    >>> turns.enter(0b011, "a"), turns.enter(0b110, "b"), turns.enter(0b100, "c"), turns.enter(0b1000, "d")
    (True, False, False, True)
    >>> turns.leave(0b011)
    ['b']
    >>> turns.leave(0b110)
    ['c']
    """

    def __init__(self) -> None:
        #: Buckets that are being changed.
        self._busy = 0
        #: Those who wait, in the order in which they entered, with their buckets.
        self._waiting: list[tuple[int, T]] = []
        #: Buckets of all who wait.
        self._wanted = 0

    def enter(self, buckets: int, who: T) -> bool:
        """Whether `who` may begin now; otherwise `leave` names it when it may."""
        if buckets & (self._busy | self._wanted):
            self._waiting.append((buckets, who))
            self._wanted |= buckets
            return False
        self._busy |= buckets
        return True

    def leave(self, buckets: int) -> list[T]:
        """Whoever had these buckets is done; those who may begin now, in order."""
        self._busy &= ~buckets
        if not self._waiting:
            return []
        next_ones: list[T] = []
        left: list[tuple[int, T]] = []
        wanted = 0
        for waiting in self._waiting:
            if waiting[0] & (self._busy | wanted):
                left.append(waiting)
                wanted |= waiting[0]
            else:
                self._busy |= waiting[0]
                next_ones.append(waiting[1])
        self._waiting, self._wanted = left, wanted
        return next_ones

    def __len__(self) -> int:
        """Number of those who wait."""
        return len(self._waiting)

    def validate(self) -> None:
        """Asserts the invariants written at the fields."""
        wanted, before = 0, self._busy
        for buckets, _ in self._waiting:
            assert buckets & before, "nobody waits without a reason"
            before |= buckets
            wanted |= buckets
        assert wanted == self._wanted
