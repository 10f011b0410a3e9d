"""What a group's clock answers with: verdicts on pushes, effects of ticks, and the values it hands out.

Plain frozen values, so that the shell around `clock.GroupClock` carries them out and tests compare them.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from sparkps.wire.marks import ShardMark
from sparkps.wire.stored_states import StoredState

#: Bucket numbers, ascending, without repetition.
Buckets = NDArray[np.int32]


class Close(msgspec.Struct, frozen=True):
    """BSP: apply what is buffered for `clock` in some buckets, in rank order, then ordinal order.

    Of each bucket closes come in the order of the clocks. A clock at which nobody pushed to this node closes without a word.
    """

    clock: int
    #: As bits: usually all that the clock has.
    buckets: int


class DropAbove(msgspec.Struct, frozen=True):
    """BSP: forget what is buffered of `rank` for clocks above `clock`."""

    rank: int
    clock: int
    #: Only in these buckets, as bits; None: in all.
    buckets: int | None = None


class Release(msgspec.Struct, frozen=True):
    """Parked pulls may be ready now: ask again."""


RELEASE = Release()

Effect = Close | DropAbove | Release


class Buffer(msgspec.Struct, frozen=True):
    """Verdict on a write: keep it until `clock` closes."""

    clock: int
    #: The buckets in which it is new, as bits: elsewhere it is kept already.
    buckets: int


class Apply(msgspec.Struct, frozen=True):
    """Verdict on a write: apply it now."""

    #: The buckets in which it is new, as bits: elsewhere it was applied before.
    buckets: int


class Duplicate(msgspec.Struct, frozen=True):
    """Verdict on a write: every shard has it; acknowledge it when what it repeats is done, and do nothing."""


Verdict = Buffer | Apply | Duplicate


class Standing(NamedTuple):
    """What a rank has done on one node's shards."""

    #: Highest clock ticked on any of them; -1: none. Of a finished rank: the clock with which it finished.
    clock: int
    #: Stored with that tick.
    state: bytes | None
    finished: bool


class ShardClock(msgspec.Struct, frozen=True):
    """Logical time of one bucket, to move it to another node; lists are by rank where nothing else is said."""

    bucket: int
    #: Highest tick.
    ticked: list[int]
    #: The incarnation that is not fenced; 0: none yet.
    incarnations: list[int]
    #: Clock of the last tick if the rank has finished, else -1.
    finished_at: list[int]
    #: Stored with the highest tick.
    states: list[bytes | None]
    #: Highest clock of a buffered write, -1 if none.
    pushed: list[int]
    #: Clocks with buffered writes, also those that have closed if their writes are not in the tables: they close where it arrives.
    open_clocks: list[int]
    marks: list[ShardMark]
    #: Whether that incarnation has settled.
    settled: list[bool]
    #: BSP: (rank, clock, state) of ticks that not every rank has ticked yet.
    kept_states: list[StoredState] = []
