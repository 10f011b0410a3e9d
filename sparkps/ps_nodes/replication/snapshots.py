"""A whole bucket on its way to another node: its rows, and all logical time of it, as they are between two entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from sparkps.errors import ProtocolError, TierError
from sparkps.ps_nodes import functions
from sparkps.ps_nodes.clock_buffers import CallPart, Kept
from sparkps.ps_nodes.replication.answers import Answered
from sparkps.ps_nodes.replication.replica_group import Share
from sparkps.ps_nodes.replication.shipping import calls_of
from sparkps.ps_nodes.shards import Entry
from sparkps.ps_nodes.tables.bucket_rows import BucketRows
from sparkps.ps_nodes.tables.directory import Tables
from sparkps.ps_nodes.tables.operations import targets_of
from sparkps.specs import MAX_RANKS, GroupSpec
from sparkps.wire.marks import MAX_CLOCK, ORDINAL_BITS, WriterMark
from sparkps.wire.messages import log
from sparkps.wire.messages.data import Op
from sparkps.wire.shard_times import check_shard_clock

if TYPE_CHECKING:
    from sparkps.ps_nodes.replication.follower import Follower
    from sparkps.ps_nodes.state import ServerState


class _Changed(Exception):
    """A worker group was opened, or a table created, between two looks."""


def send_bucket(
    state: ServerState, bucket: int, target: int, epoch: int, then: Callable[[BaseException | None], None]
) -> None:
    """Make a copy of a bucket at `target`; `then` is called when it is there, and gets every change from then on.

    A copy is made under one placement: another one ends it. It gets its place when users' functions that change the bucket have ended: who
    writes to another table, or waits for `target`, shall not wait for them, too.
    """
    bit = 1 << bucket
    state.shards.when_done(state.tables.shards_of(bit), lambda: _send_bucket(state, bucket, target, epoch, then))


def _send_bucket(
    state: ServerState, bucket: int, target: int, epoch: int, then: Callable[[BaseException | None], None]
) -> None:
    bit, marks, shares = 1 << bucket, list[WriterMark](), list[Share]()
    places: list[Any] = []
    answers: list[Answered] = []
    groups = [group for _, group in sorted(state.groups.items())]

    def look() -> None:
        if state.epoch != epoch:
            raise _given_up(target)
        if any(group not in groups for group in state.groups.values()) or state.tables.shards_of(bit) != entry.shards:
            raise _Changed
        state.copies.begin(target, bit)
        places.extend(state.copies.reserve_at(target, bit))
        marks.extend(state.shards.marks.export(bucket))
        shares.extend(group.share_of(bucket) for group in groups)

    def copy() -> Any:
        answers.extend(state.answers.export(bucket))
        return state.tables.copy_bucket(bucket, entry.shards)

    def copied(rows: Any, error: BaseException | None) -> None:
        if error is not None:
            state.copies.give_up_at(target)
            then(error)
            return
        state.copies.ship(places, lambda _: made(bucket, epoch, marks, shares, rows, answers))

        def kept() -> None:
            state.copies.caught_up(target, bit)
            # Changes that were taken behind it, and that nobody has waited for there, are still on their way.
            state.copies.when_kept(state.copies.all_so_far(bit), arrived)

        def arrived() -> None:
            then(None if state.copies.copied_by(target)[1] & bit else _given_up(target))

        state.copies.when_kept([place.awaiting() for place in places], kept)

    entry = Entry(state.tables.shards_of(bit), copy, copied)
    try:
        with ExitStack() as still:
            for group in groups:
                still.enter_context(group.still())
            its_turn = state.shards.order_with(entry, look)
    except _Changed:
        state.pool.submit(_send_bucket, state, bucket, target, epoch, then)
        return
    except Exception as error:  # whatever it is, what was begun is given up, and the coordinator plans anew
        if places:
            state.copies.give_up_at(target)
        then(error)
        return
    if its_turn:
        state.shards.carry_out(entry)


def send_buckets(
    state: ServerState, buckets: Sequence[int], target: int, then: Callable[[BaseException | None], None]
) -> None:
    """Make copies of some buckets at `target`, one after the other; `then` is called when all have caught up."""
    left, epoch = list(buckets), state.epoch

    def one(error: BaseException | None) -> None:
        if error is not None:
            then(error)
            return
        while left:
            bucket = left.pop(0)
            if not state.copies.copied_by(target)[1] >> bucket & 1:
                state.pool.submit(send_bucket, state, bucket, target, epoch, one)
                return
        then(None)

    one(None)


def _given_up(target: int) -> TierError:
    return TierError(
        f"A node must stay up, and the placement as it is, while a copy is made there. Node {target} was given up.", node=target
    )


def made(
    bucket: int,
    epoch: int,
    marks: list[WriterMark],
    shares: Sequence[Share],
    rows: BucketRows,
    answers: Sequence[Answered] = (),
) -> tuple[log.ShipBucket, list[Any]]:
    """The entry that brings a bucket to a node that copies it, with its arrays."""
    groups, arrays = [], list[Any]()
    for share in shares:
        writes = []
        for each in share.kept:
            write, its = _kept_write(each)
            writes.append(write)
            arrays += its
        groups.append(log.GroupShare(share.group, share.clock, writes))
    described = [(group, number, stamp, len(given)) for group, number, stamp, given in answers]
    for _, _, _, given in answers:
        arrays += given
    return log.ShipBucket(bucket, epoch, marks, groups, rows.header(), described), [*arrays, *rows.arrays()]


def _kept_write(kept: Kept) -> tuple[log.KeptWrite, list[Any]]:
    part = kept.part
    if isinstance(part, CallPart):
        return log.KeptWrite(kept.clock, kept.rank, kept.ordinal, None, calls_of(part.prepared)), []
    op, arrays = part.shipped()
    return log.KeptWrite(kept.clock, kept.rank, kept.ordinal, op), arrays


def adopt(follower: Follower, message: log.ShipBucket, arrays: list[Any]) -> None:
    """A bucket has come: the follower goes on from it."""
    tables, bucket, at = follower.tables, message.bucket, 0
    if not follower.is_at(message.epoch):
        return  # the placement has changed since
    follower.check_source(bucket)
    if follower.held >> bucket & 1:
        follower.drop(bucket)
    tables.hold(1 << bucket)
    shares = []
    for told in message.groups:
        known = follower.groups.get(told.group)
        check_share(told, bucket, follower.spec_of(told.group) if known is None else known.spec)
        kept = list[Kept]()
        for write in told.kept:
            its = arrays[at : at + _arrays_of(write)]
            at += len(its)
            kept += _kept(tables, bucket, write, its)
        shares.append(Share(told.group, told.clock, kept))
    answers = []
    for group_number, rank, stamp, count in message.answers:
        writer = rank if group_number == 0 else (group_number, rank)
        answers.append((writer, stamp, check_answer(arrays[at : at + max(0, count)], bucket)))
        at += len(answers[-1][2])
    rows = BucketRows.of(message.rows, arrays[at:])
    if rows.bucket != bucket:
        raise ProtocolError(f"The rows of a bucket must be its own. Got those of {rows.bucket}.", bucket=bucket)
    follower.bring(bucket, message.marks, shares)
    for writer, stamp, given in answers:
        follower.answers.keep(writer, stamp, 1 << bucket, given)

    def done(_: Any, error: BaseException | None) -> None:
        if error is not None:
            follower.fail("bucket %d of node %d could not be taken over: %r", bucket, follower.source, error)

    shards = tables.shards_of(1 << bucket)
    follower.shards.apply(Entry(shards, lambda: tables.adopt_bucket(rows, shards), done))


def check_share(told: log.GroupShare, bucket: int, spec: GroupSpec | None) -> None:
    """Refuse what a group is said to have in a bucket, if that cannot be.

    Raises
    ------
    ProtocolError
    """
    if spec is not None:
        check_shard_clock(told.clock, bucket, spec)
    ranks = MAX_RANKS if spec is None else spec.num_ranks
    for write in told.kept:
        if not (0 <= write.rank < ranks and 0 <= write.clock < MAX_CLOCK and 0 <= write.ordinal < 1 << ORDINAL_BITS):
            raise ProtocolError(
                f"A write that is kept must be of a rank in [0, {ranks}), with a clock in [0, {MAX_CLOCK}) and an ordinal in"
                f" [0, {1 << ORDINAL_BITS}). Got rank {write.rank}, clock {write.clock} and ordinal {write.ordinal}.",
                group=told.group,
            )


def check_answer(arrays: list[Any], bucket: int) -> list[Any]:
    """The arrays of an answer on one bucket: its number, then what was given, for each function.

    Raises
    ------
    ProtocolError
    """
    if not arrays or arrays[0].dtype != "int32" or arrays[0].tolist() != [bucket]:
        raise ProtocolError(f"An answer must begin with the number of its bucket, {bucket}. It does not.", bucket=bucket)
    return arrays


def _arrays_of(write: log.KeptWrite) -> int:
    if write.op is None:
        return 0
    return 1 if write.op.stop else 2


def _kept(tables: Tables, bucket: int, write: log.KeptWrite, arrays: list[Any]) -> list[Kept]:
    """What is buffered, as this node keeps it; of a table that was dropped, nothing."""
    if write.op is None:
        if any(table not in tables.by_id for call in write.calls for table in call.tables):
            return []
        prepared = functions.prepare(write.calls, tables.by_id)
        return [Kept(write.clock, write.rank, write.ordinal, CallPart(prepared, 1 << bucket))]
    op: Op = write.op
    if op.table not in tables.by_id:
        return []
    (target,) = targets_of(tables, [op], arrays, {}, 1 << bucket)
    return [Kept(write.clock, write.rank, write.ordinal, target)]


__all__ = ["adopt", "made", "send_bucket", "send_buckets"]
