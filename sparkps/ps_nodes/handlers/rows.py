"""Pulls and writes of rows, and the way in that all writes share."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

from sparkps.errors import OutOfNodeMemory, ProtocolError, TierError
from sparkps.ps_nodes.clock_buffers import Write, write_all
from sparkps.ps_nodes.dispatch import INLINE_BYTES
from sparkps.ps_nodes.handlers.table import handles
from sparkps.ps_nodes.replication import shipping
from sparkps.ps_nodes.shards import Entry
from sparkps.ps_nodes.state import ServerState
from sparkps.ps_nodes.tables.directory import Use
from sparkps.ps_nodes.tables.operations import targets_of
from sparkps.ps_nodes.tables.targets import Target
from sparkps.ps_nodes.work import Work
from sparkps.wire.messages import data as m


@handles(m.Step)
def step(state: ServerState, work: Work) -> None:
    """Pulls, or writes, of some tables; they are in use until it is answered."""
    message: m.Step = work.message
    tables = state.tables
    ids = [op.table for op in message.ops]
    # Tables are dropped on the I/O thread alone: what ends there before it returns finds them as they are.
    inline = state.io.is_current
    use = Use(tables, []) if inline else tables.use(ids)
    try:
        targets = targets_of(tables, message.ops, work.arrays, work.session.keysets, state.bucket_bits, keep_keys=state.copies.active)
        tables.note(ids)
        if state.serving.missing:
            state.serving.check((target.table.spec, target.mask) for target in targets)
        if state.load.count():
            state.load.took(functools.reduce(operator.or_, [target.mask for target in targets]))
        writes = [target.values is not None for target in targets]
        if any(writes) and not all(writes):
            raise ProtocolError("The operations of a step must be all pulls or all writes. Got both.")
        if writes[0]:
            if state.memory.near:
                _admit(state, message.member, targets)
            change = Write.of_targets(targets)
            if not (inline and _written_at_once(state, work, change)):
                if not state.memory.promise(targets, work.nbytes):
                    _admit(state, message.member, targets)
                use = tables.use(ids) if inline else use
                write(state, work, change, use)
            return
        if message.member is None or not waits(state, work, message.member):
            _pull(state, work, targets)
        use.release()
    except BaseException:
        use.release()
        raise


def _admit(state: ServerState, member: m.Member | None, targets: Sequence[Target]) -> None:
    """See that there is memory for a write, before anybody hears of it. In BSP a clock that lacks one cannot close: its group fails."""
    try:
        state.memory.admit(targets)
        group = state.groups.get(member.group) if member is not None else None
        if group is not None and group.is_synchronous:
            what = f"what ranks of group {group.spec.name!r} push in clocks that are open"
            state.memory.check_bytes(sum(target.nbytes for target in targets), what, targets[0].table.spec.name)
    except OutOfNodeMemory as error:
        group = state.groups.get(member.group) if member is not None else None
        if group is not None and group.is_synchronous:
            group.end(error)
        raise


def _written_at_once(state: ServerState, work: Work, change: Write) -> bool:
    """Whether this was a small write of a session that had nobody to wait for, and is done."""
    if work.message.member is not None or work.size > INLINE_BYTES:
        return False
    taken = state.shards.write_at_once(work.session.id, work.stamp, change.buckets, change.change)
    if taken is None:
        return False
    new, places = taken
    if not places:
        work.done(record=True)
        return True
    shipping.ship_write(state.copies, places, change, new, work.session.id, work.stamp, None)
    state.copies.when_kept(places, lambda: work.done(record=True), work.pass_on)
    return True


def _pull(state: ServerState, work: Work, targets: list[Target]) -> None:
    nbytes = sum([target.size * target.table.row_bytes for target in targets])
    if nbytes > state.settings.max_message_bytes:
        raise ProtocolError(
            f"The rows of a step must have at most {state.settings.max_message_bytes} bytes (`spark.sparkps.maxMessageBytes`)."
            f" Got a step for {nbytes} bytes."
        )
    found = [target.read() for target in targets]
    if work.message.epoch != state.epoch:  # rows may have left while they were read
        raise TierError("A pull must go to the primary of its buckets. They have moved: it is sent again.")
    work.done(found, record=False)


def write(state: ServerState, work: Work, change: Write, use: Use, answer: list[Any] | None = None) -> None:
    """Change the shards once, and acknowledge it when that is done and kept; the tables are in use until then."""
    done = work.told(use.release, answer)
    member = work.message.member
    if member is None:
        _write_of_session(state, work, change, done)
        return
    group = state.group(member.group)
    behind = group.write(member, change, done, lambda: work.parked(member, state.now()), work.hold, work.pass_on)
    if behind:
        use.release()
        work.park(member.clock, behind, passes=False)


def _write_of_session(state: ServerState, work: Work, change: Write, done: Callable[[BaseException | None], None]) -> None:
    found = dict[int, int]()

    def make(new: dict[int, int]) -> Entry:
        found.update(new)
        parts = change.only(new)
        return Entry(change.shards, lambda: write_all(parts), changed)

    def changed(_: Any, error: BaseException | None) -> None:
        if error is None:
            state.copies.when_kept(entry.places, lambda: done(None), work.pass_on)
            return
        for place in entry.places:  # they have carried it out
            state.copies.give_up(place.log)
        done(error)

    entry, its_turn = state.shards.order_once(work.session.id, work.stamp, change.buckets, make)
    if entry.places:
        shipping.ship_write(state.copies, entry.places, change, found, work.session.id, work.stamp, None)
    if its_turn:
        state.shards.carry_out(entry)
    else:
        work.hold()


def waits(state: ServerState, work: Work, member: m.Member, *, passes: bool = True) -> bool:
    """Whether the request is now parked behind the group's clock; with `passes` later ones need not wait for it."""
    waiting = state.group(member.group).gate(member, lambda: work.parked(member, state.now()))
    if waiting is None:
        return False
    work.park(member.clock, waiting, passes=passes)
    return True
