"""Whose turn it is to change which shards: the order of writes at every shard. Pure: no lock, no thread.

Whoever wants to change some shards enters; it may begin when all who entered before it with one of its shards have left. So
writes to one shard are carried out one after the other in the order in which they entered, and those to different ones
side by side. Nobody holds one shard while it waits for another, so nobody waits for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

T = TypeVar("T")

#: Shards: by the number in whose order they are changed (of a table, or of an index that tables share), buckets as an int with one
#: bit per bucket.
ShardSet = Mapping[int, int]


class Turns(Generic[T]):
    """Turns at the shards of one node.

    Examples
    --------
    >>> turns = Turns[str]()
    >>> turns.enter({1: 0b011}, "a"), turns.enter({1: 0b110}, "b"), turns.enter({1: 0b100}, "c"), turns.enter({2: 0b1}, "d")
    (True, False, False, True)
    >>> turns.leave({1: 0b011})
    ['b']
    >>> turns.leave({1: 0b110})
    ['c']
    """

    def __init__(self) -> None:
        #: Shards that are being changed; no table is in it without a bucket.
        self._busy: dict[int, int] = {}
        #: Those who wait, in the order in which they entered, with their shards.
        self._waiting: list[tuple[ShardSet, T]] = []
        #: Shards of all who wait.
        self._wanted: dict[int, int] = {}

    def enter(self, shards: ShardSet, who: T) -> bool:
        """Whether `who` may begin now; otherwise `leave` names it when it may."""
        if (self._busy and _meet(shards, self._busy)) or (self._wanted and _meet(shards, self._wanted)):
            self._waiting.append((shards, who))
            _add(self._wanted, shards)
            return False
        _add(self._busy, shards)
        return True

    def leave(self, shards: ShardSet) -> list[T]:
        """Whoever had these shards is done; those who may begin now, in order."""
        busy = self._busy
        for table, buckets in shards.items():
            left = busy.get(table, 0) & ~buckets
            if left:
                busy[table] = left
            else:
                busy.pop(table, None)
        if not self._waiting:
            return []
        next_ones: list[T] = []
        waiting, self._waiting, self._wanted = self._waiting, [], {}
        for wanted, who in waiting:
            if self.enter(wanted, who):
                next_ones.append(who)
        return next_ones

    @property
    def is_idle(self) -> bool:
        """Whether nobody has a shard, or waits for one."""
        return not (self._busy or self._waiting)

    def __len__(self) -> int:
        """Number of those who wait."""
        return len(self._waiting)

    def validate(self) -> None:
        """Asserts the invariants written at the fields."""
        before, wanted = dict(self._busy), dict[int, int]()
        for shards, _ in self._waiting:
            assert _meet(shards, before), "nobody waits without a reason"
            _add(before, shards)
            _add(wanted, shards)
        assert wanted == self._wanted
        assert all(self._busy.values())


def _meet(one: ShardSet, other: ShardSet) -> bool:
    return any(buckets & other.get(table, 0) for table, buckets in one.items())


def _add(to: dict[int, int], shards: ShardSet) -> None:
    for table, buckets in shards.items():
        if buckets:
            to[table] = to.get(table, 0) | buckets
