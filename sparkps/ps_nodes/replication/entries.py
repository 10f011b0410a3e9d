"""What a node does for each entry of a primary's log: the same as the primary has done, in the buckets that it copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sparkps.errors import ProtocolError, UnknownTable
from sparkps.ps_nodes import functions
from sparkps.ps_nodes.clock_buffers import Part, Write, write_all
from sparkps.ps_nodes.replication import snapshots
from sparkps.ps_nodes.replication.answers import writer_of
from sparkps.ps_nodes.replication.follower import Follower
from sparkps.ps_nodes.replication.holds import Hold
from sparkps.ps_nodes.shard_copies import Change, Outcome, check_slots, checked_rows
from sparkps.ps_nodes.shards import Entry
from sparkps.ps_nodes.tables.directory import Table, Use
from sparkps.ps_nodes.tables.operations import targets_of
from sparkps.ps_nodes.tables.sparse import SparseShards
from sparkps.ps_nodes.tables.targets import Target
from sparkps.ps_nodes.turns import ShardSet
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.buckets import bits_of, buckets_in, listed, unpacked
from sparkps.wire.hashing import buckets_of
from sparkps.wire.marks import stamp_of
from sparkps.wire.messages import log

#: Most functions of users that have their turn at one primary at a time.
MOST_HOLDS = 4096

_Carrier = Callable[[Follower, Any, list[Any]], None]


def carry_out(follower: Follower, message: Any, arrays: list[Any]) -> None:
    """Do what an entry says; changes of rows are ordered before this returns."""
    _CARRIERS[type(message)](follower, message, arrays)


# ---- rows --------------------------------------------------------------------------------------------------------------


def _write(follower: Follower, message: log.ShipWrite, arrays: list[Any]) -> None:
    uses, targets = _targets(follower, message, arrays)
    if not targets:
        _release_all(uses)
        return
    change = Write.of_targets(targets)
    try:
        parts = _taken(follower, change, message.member, message.writer, message.stamp)
    except BaseException:
        _release_all(uses)
        raise
    _apply(follower, change.shards, lambda: write_all(parts), uses, wanted=bool(parts))


def _targets(follower: Follower, message: log.ShipWrite, arrays: list[Any]) -> tuple[list[Use], list[Target]]:
    """The operations on tables that were not dropped since; the tables are in use."""
    uses, targets, at = list[Use](), list[Target](), 0
    try:
        for op, buckets in zip(message.ops, message.buckets, strict=True):
            its = arrays[at : at + (1 if op.stop else 2)]
            at += len(its)
            try:
                uses.append(follower.tables.use([op.table]))
            except UnknownTable:
                continue
            among = unpacked(buckets)
            if among & ~follower.held:
                its = _held_part(uses[-1].tables[0], its, among, follower.held)
                among &= follower.held
            if among:
                targets += targets_of(follower.tables, [op], its, {}, among)
    except BaseException:
        _release_all(uses)
        raise
    return uses, targets


def _release_all(uses: Sequence[Use]) -> None:
    for use in uses:
        use.release()


def _held_part(table: Table, arrays: list[Any], among: int, held: int) -> list[Any]:
    """Of an operation on buckets some of which have been let go of since, what is for the others."""
    if isinstance(table, SparseShards):
        keys, values = arrays
        kept = bits_of(held)[buckets_of(keys)]
        return [np.ascontiguousarray(keys[kept]), np.ascontiguousarray(values[kept])]
    parts, at, (values,) = [], 0, arrays
    for bucket in buckets_in(among):
        first, last = table.range_of(bucket)
        if held >> bucket & 1:
            parts.append(values[at : at + last - first])
        at += last - first
    return [np.concatenate(parts) if parts else values[:0]]


def _taken(follower: Follower, change: Write, member: Any, writer: int, stamp: int) -> Sequence[Part]:
    """The parts of a write that are to be applied now; what is buffered is not among them."""
    if member is None:
        for table, buckets in change.buckets.items():
            follower.marks.take(writer, stamp, table, buckets)
        return change.only(change.buckets)
    group = follower.group(member.group)
    return () if group is None else group.write(member, change)


def _apply(
    follower: Follower,
    shards: ShardSet,
    change: Callable[[], Any],
    uses: Sequence[Use],
    *,
    wanted: bool = True,
    then: Callable[[Any], None] = lambda result: None,
) -> None:
    """Order a change, and carry it out in its turn."""
    if not wanted:
        _release_all(uses)
        return

    def done(result: Any, error: BaseException | None) -> None:
        _release_all(uses)
        if error is not None:
            follower.fail("a change of node %d failed here: %r", follower.source, error)
        else:
            then(result)

    follower.shards.apply(Entry(shards, change, done))


def _call(follower: Follower, message: log.ShipCall, _: list[Any]) -> None:
    member, buckets = message.member, unpacked(message.buckets) & follower.held
    if not buckets:
        return
    use = follower.tables.use([table for each in message.calls for table in each.tables])
    try:
        prepared = functions.prepare(message.calls, follower.tables.by_id)
        change = Write.of_call(prepared, buckets)
        parts = _taken(follower, change, member, message.writer, message.stamp)
    except BaseException:
        use.release()
        raise
    writer = writer_of(message.writer, member)
    stamp = message.stamp if member is None else stamp_of(member.clock, member.ordinal)

    def answer(arrays: Any) -> None:
        if not prepared.only_writes:
            follower.answers.keep(writer, stamp, buckets, arrays)

    _apply(follower, change.shards, lambda: prepared.run(listed(buckets)), [use], wanted=bool(parts), then=answer)


def _hold(follower: Follower, message: log.ShipHold, _: list[Any]) -> None:
    buckets = unpacked(message.buckets) & follower.held
    if message.hold in follower.holds or len(follower.holds) >= MOST_HOLDS:
        raise ProtocolError(f"A function must have its turn once, and at most {MOST_HOLDS} at a time. Got {message.hold}.")

    def done(_: Any, error: BaseException | None) -> None:
        if error is not None:
            follower.fail("rows of a function at node %d could not be written: %r", follower.source, error)

    hold = follower.holds[message.hold] = Hold(dict.fromkeys(message.orders, buckets), done)
    follower.shards.apply(hold.entry)


def _rows(follower: Follower, message: log.ShipRows, arrays: list[Any]) -> None:
    hold = follower.holds.pop(message.hold, None)
    if hold is None:
        raise ProtocolError(f"Rows must be of a function that has its turn. Got those of {message.hold}.")
    try:
        buckets, changes, answer = _brought(follower, message, arrays, hold)
    except BaseException:
        hold.cancel(follower.shards)
        raise
    if buckets:
        follower.marks.take(message.writer, message.stamp, message.table, buckets)

    def write() -> None:
        check_slots(changes)
        Outcome([], changes).commit()
        if buckets:
            follower.answers.keep(message.writer, message.stamp, buckets, answer)

    hold.bring(follower.shards, write)


def _brought(follower: Follower, message: log.ShipRows, arrays: list[Any], hold: Hold) -> tuple[int, list[Change], list[Any]]:
    """What a function has written in buckets that are held, checked; and its answer."""
    if len(arrays) < 2 * len(message.changes):
        raise ProtocolError(f"Rows of {len(message.changes)} changes must come as two arrays each. Got {len(arrays)}.")
    buckets, changes = unpacked(message.buckets) & follower.held, []
    for number, (table_id, bucket) in enumerate(message.changes):
        slots, rows = arrays[2 * number : 2 * number + 2]
        table = follower.tables.by_id.get(table_id)
        if table is None or not 0 <= bucket < NUM_BUCKETS or not follower.held >> bucket & 1:
            continue
        if not hold.entry.shards.get(table.order, 0) >> bucket & 1:
            raise ProtocolError(f"A function must write where it has its turn. Got bucket {bucket} of table {table_id}.", bucket=bucket)
        changes.append(Change(table, bucket, *checked_rows(table, slots, rows)))
    return buckets, changes, arrays[2 * len(message.changes) :]


def _close(follower: Follower, message: log.ShipClose, _: list[Any]) -> None:
    group = follower.group(message.group)
    if group is None:
        return
    closed = group.close(message.clock, unpacked(message.buckets) & follower.held)

    def done(_: Any, error: BaseException | None) -> None:
        closed.release()
        if error is not None:
            follower.fail("clock %d of node %d could not be closed here: %r", message.clock, follower.source, error)

    if closed.shards:
        follower.shards.apply(Entry(closed.shards, lambda: closed.apply(message.clock), done))
    else:
        closed.release()


# ---- logical time ------------------------------------------------------------------------------------------------------


def _tick(follower: Follower, message: log.ShipTick, _: list[Any]) -> None:
    group = follower.group(message.member.group)
    if group is not None:
        group.tick(message.member, message.state, message.finish)


def _takeover(follower: Follower, message: log.ShipTakeover, _: list[Any]) -> None:
    group = follower.group(message.member.group)
    if group is not None:
        group.takeover(message.member)


def _settle(follower: Follower, message: log.ShipSettle, _: list[Any]) -> None:
    group = follower.group(message.member.group)
    if group is not None:
        group.settle(message.member, message.state)


def _end(follower: Follower, message: log.ShipEnd, _: list[Any]) -> None:
    follower.end_group(message.group, message.failed)


def _forget(follower: Follower, message: log.ShipForget, _: list[Any]) -> None:
    follower.marks.forget(message.writer)
    follower.answers.forget(message.writer)


def _given(follower: Follower, message: log.ShipGiven, _: list[Any]) -> None:
    follower.marks.set_apart(unpacked(message.buckets) & follower.held)


_CARRIERS: dict[type[Any], _Carrier] = {
    log.ShipWrite: _write,
    log.ShipCall: _call,
    log.ShipHold: _hold,
    log.ShipRows: _rows,
    log.ShipClose: _close,
    log.ShipTick: _tick,
    log.ShipTakeover: _takeover,
    log.ShipSettle: _settle,
    log.ShipEnd: _end,
    log.ShipForget: _forget,
    log.ShipGiven: _given,
    log.ShipBucket: snapshots.adopt,
}

__all__ = ["carry_out"]
