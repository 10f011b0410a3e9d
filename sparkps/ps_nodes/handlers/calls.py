"""Requests to run server functions: built-in ones, which change shards as writes do, and users' own, on threads of theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sparkps.errors import DeadlineExceeded, ProtocolError, TierError
from sparkps.ps_nodes import functions
from sparkps.ps_nodes.clock_buffers import Write
from sparkps.ps_nodes.handlers import rows
from sparkps.ps_nodes.handlers.once import Once, UserWrite
from sparkps.ps_nodes.handlers.table import handles
from sparkps.ps_nodes.replication import shipping
from sparkps.ps_nodes.shards import Entry
from sparkps.ps_nodes.state import ServerState
from sparkps.ps_nodes.tables.directory import Use
from sparkps.ps_nodes.work import Work
from sparkps.wire.buckets import buckets_in, listed, unpacked
from sparkps.wire.messages import data as m

#: Seconds after which nobody waits for a user's function, whatever its caller says.
LONGEST_CALL = 86_400.0


@handles(m.Call)
def call(state: ServerState, work: Work) -> None:
    """Carry out a `Call`; the tables are in use until it is answered."""
    message: m.Call = work.message
    buckets = _buckets(state, message)
    if state.load.count():
        state.load.took(buckets)
    use = state.tables.use([table for each in message.calls for table in each.tables])
    try:
        prepared = functions.prepare(message.calls, state.tables.by_id)
        state.tables.note([table.spec.table for table in prepared.tables])
        if state.serving.missing:
            state.serving.check((table.spec, buckets) for table in prepared.tables)
        if _waits(state, work, prepared):
            use.release()
            return
        if prepared.users:
            _call_user(state, work, prepared, buckets, use)
        elif prepared.writes:
            _call_writing(state, work, prepared, buckets, use)
        else:
            found = prepared.run(listed(buckets))
            if message.epoch != state.epoch:  # rows may have left while they were read
                raise TierError("A call must go to the primary of its buckets. They have moved: it is sent again.")
            work.done(found, record=True)
            use.release()
    except BaseException:
        use.release()
        raise


def _buckets(state: ServerState, message: m.Call) -> int:
    """The buckets on which it runs, as bits."""
    asked = unpacked(message.buckets) if message.buckets else state.bucket_bits
    if asked & ~state.bucket_bits:
        raise ProtocolError(
            f"The buckets of a call must be this node's. Got {list(buckets_in(asked & ~state.bucket_bits))} as well.", node=state.node
        )
    return asked


def _waits(state: ServerState, work: Work, prepared: functions.Prepared) -> bool:
    """Whether a call of a member is now parked behind the clock. What only writes waits no more than a push does."""
    member = work.message.member
    if member is None:
        return False
    if not _acts_at_once(state, member):
        return not prepared.only_writes and rows.waits(state, work, member)
    # A solver reads what it writes: what follows a call that may write must not overtake it.
    return rows.waits(state, work, member, passes=not (prepared.writes or prepared.users))


def _acts_at_once(state: ServerState, member: m.Member | None) -> bool:
    """Whether what a call changes is changed now: outside groups, and for a driver-side solver."""
    return member is None or state.group(member.group).acts_at_once(member)


def _call_writing(state: ServerState, work: Work, prepared: functions.Prepared, buckets: int, use: Use) -> None:
    """Built-in functions of which some write: a change like any other; only where they act at once may others read."""
    if prepared.only_writes:
        answer = [listed(buckets) for _ in work.message.calls]
        rows.write(state, work, Write.of_call(prepared, buckets), use, answer)
        return
    member = work.message.member
    if not _acts_at_once(state, member):
        raise ProtocolError(
            "The functions of one call of a worker must all write, or all read: what they write counts when the clock does."
            f" Got {', '.join(each.function for each in work.message.calls)}; call them one by one."
        )
    once = Once(state, work, buckets)
    changed = dict.fromkeys([table.order for table in prepared.tables], buckets)  # what is read must be the same at every copy

    def make(new: int) -> Entry:
        def done(arrays: Any, error: BaseException | None) -> None:
            use.release()
            once.answer(entry.places, new, arrays, error)

        entry = Entry(changed, lambda: prepared.run(listed(new)) if new else None, done, new, buckets & ~new)
        return entry

    entry, its_turn, new = once.order(prepared.written[0].spec.table, make)
    shipping.ship_call(state.copies, entry.places, prepared, new, once.session, once.stamp, member)
    if its_turn:
        state.shards.carry_out(entry)
    else:
        work.hold()


def _call_user(state: ServerState, work: Work, prepared: functions.Prepared, buckets: int, use: Use) -> None:
    """A user's function: on a thread of its own, on copies; what it has changed is written at its end."""
    read_only = not _acts_at_once(state, work.message.member)

    name = work.message.calls[0].function
    limit = min(max(0.0, work.message.limit), LONGEST_CALL)

    def start(where: Any, then: Callable[[Any, BaseException | None], None]) -> None:
        seconds = work.since + limit - state.now()
        if seconds <= 0 < limit:
            raise DeadlineExceeded(
                f"Function {name!r} must have its turn within {limit:g} s (`spark.sparkps.requestTimeout`). It waited for others that"
                " change the same tables, and was not begun.",
                function=name,
            )
        use.mark_call()
        state.users.start(lambda: prepared.compute(where, read_only), seconds, then, use.release, name=name)

    if read_only:
        start(listed(buckets), lambda outcome, error: _answer(work, None if error else outcome.arrays, error))
        return
    UserWrite(state, work, prepared, buckets, start, use).begin()


def _answer(work: Work, arrays: Any, error: BaseException | None) -> None:
    if error is None:
        work.done(arrays, record=True)
    else:
        work.fail(error)
