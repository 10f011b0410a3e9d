"""What a primary ships to a node that holds copies of its buckets: its log, entry by entry.

An entry travels as a request does (see `data`), with other numbers around it: the id of the primary as ``session``, the number of
the entry, from 1 and without gaps, as ``seq``, and as ``acked`` the generation of the log: one that begins anew has a higher one. The
receiver takes entries in order, acknowledges them (`Shipped`) when it has
them, and carries them out in that order. What an entry says has been decided by the primary: it is no question any more.

Sets of buckets are as `wire.buckets.to_bytes` writes them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sparkps.wire.effects import ShardClock
from sparkps.wire.marks import WriterMark
from sparkps.wire.messages.base import DataMessage
from sparkps.wire.messages.data import FunctionCall, Member, Op


class LogEntry(DataMessage, frozen=True, array_like=True):
    """Base of all entries."""


# ---- what changes rows -------------------------------------------------------------------------------------------------


class ShipWrite(LogEntry, frozen=True, tag=45):
    """Pushes, adds and assigns, in the buckets where they are new. Arrays: those of each `Op` in order.

    Of a session: ``writer`` and ``stamp`` are its id and the number of its call. Of a rank: ``member``.
    """

    ops: list[Op]
    #: Of each operation: the buckets that it writes.
    buckets: list[bytes]
    writer: int = 0
    stamp: int = 0
    member: Member | None = None


class ShipCall(LogEntry, frozen=True, tag=46):
    """Built-in server functions, some of which write, on some buckets."""

    calls: list[FunctionCall]
    buckets: bytes
    writer: int = 0
    stamp: int = 0
    member: Member | None = None


class ShipHold(LogEntry, frozen=True, tag=47):
    """A user's function has its turn at these shards; what it writes follows as `ShipRows` with the same ``hold``."""

    hold: int
    #: Numbers in whose order its tables are changed.
    orders: list[int]
    buckets: bytes


class ShipRows(LogEntry, frozen=True, tag=48):
    """What a user's function has written, and answered. Arrays: slots (int32) and rows of each change, then the answer's."""

    hold: int
    #: (table, bucket) of each change.
    changes: list[tuple[int, int]]
    writer: int
    stamp: int
    buckets: bytes
    #: First table of the call: its marks say that it was carried out.
    table: int


class ShipClose(LogEntry, frozen=True, tag=49):
    """BSP: a clock closes in these buckets."""

    group: int
    clock: int
    buckets: bytes


# ---- what changes logical time -----------------------------------------------------------------------------------------


class ShipTick(LogEntry, frozen=True, tag=50):
    """A rank's clock is done, or the rank."""

    member: Member
    state: bytes | None
    finish: bool


class ShipTakeover(LogEntry, frozen=True, tag=51):
    """A new incarnation has the rank."""

    member: Member


class ShipSettle(LogEntry, frozen=True, tag=52):
    """It goes on after ``member.clock``."""

    member: Member
    state: bytes | None


class ShipEnd(LogEntry, frozen=True, tag=55):
    """A worker group is over: nothing of it is taken any more. If it has failed, what is buffered goes; else all is closed that was
    led here to the end, and what is due in buckets that were given up is for their new primary.
    """

    group: int
    failed: bool


class ShipForget(LogEntry, frozen=True, tag=53):
    """A session will repeat nothing any more."""

    writer: int


class ShipGiven(LogEntry, frozen=True, tag=56):
    """Others lead these buckets: what comes after this says nothing of what writers have written there."""

    buckets: bytes


# ---- whole buckets -----------------------------------------------------------------------------------------------------


class KeptWrite(msgspec.Struct, frozen=True, array_like=True):
    """BSP: a write of a clock that is open, in one bucket. Arrays: those of the `Op`."""

    clock: int
    rank: int
    ordinal: int
    op: Op | None
    #: Server functions in place of an operation.
    calls: list[FunctionCall] = []


class GroupShare(msgspec.Struct, frozen=True, array_like=True):
    """What one worker group has in a bucket."""

    group: int
    clock: ShardClock
    #: In the order in which they are summed.
    kept: list[KeptWrite]


class ShipBucket(LogEntry, frozen=True, tag=54):
    """A bucket as it is: all that later entries go on from.

    Arrays: those of its kept writes, group by group, then of its answers, then its rows'.
    """

    bucket: int
    #: Of the placement by which it is sent; a node that has another one does not take it.
    epoch: int
    marks: list[WriterMark]
    groups: list[GroupShare]
    #: As `ps_nodes.tables.bucket_rows.BucketRows.header` writes it.
    rows: Any
    #: Of calls that read and write: group and rank, or 0 and the session; the stamp; how many arrays it gave.
    answers: list[tuple[int, int, int, int]] = []


# ---- answers -----------------------------------------------------------------------------------------------------------


class Shipped(DataMessage, frozen=True, tag=42):
    """All entries up to this number of the log are here."""

    node: int
    generation: int
    seq: int
    #: The node has no memory for new rows: what was shipped it takes, and there should not be more.
    full: bool = False


class NotKept(DataMessage, frozen=True, tag=44):
    """An entry of the log could not be carried out: the copies here do not count. A new log may begin."""

    node: int
    generation: int


class NotShipped(DataMessage, frozen=True, tag=43):
    """The sender was declared dead: nobody takes anything of it any more. ``epoch``: of the placement that says so."""

    epoch: int
