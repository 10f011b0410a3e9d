"""Requests to run server functions: built-in ones, which change shards as writes do, and users' own, on threads of theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sparkps.errors import DeadlineExceeded, ProtocolError
from sparkps.ps_nodes import functions
from sparkps.ps_nodes.clock_buffers import Write
from sparkps.ps_nodes.handlers import rows
from sparkps.ps_nodes.handlers.table import handles
from sparkps.ps_nodes.shards import LATER, Entry
from sparkps.ps_nodes.state import ServerState
from sparkps.ps_nodes.tables.directory import Use
from sparkps.ps_nodes.work import Work
from sparkps.wire.messages import data as m

#: Seconds after which nobody waits for a user's function, whatever its caller says.
LONGEST_CALL = 86_400.0


@handles(m.Call)
def call(state: ServerState, work: Work) -> None:
    """Carry out a `Call`; the tables are in use until it is answered."""
    message: m.Call = work.message
    use = state.tables.use([table for each in message.calls for table in each.tables])
    try:
        prepared = functions.prepare(message.calls, state.tables.by_id)
        if _waits(state, work, prepared):
            use.release()
            return
        if prepared.users:
            _call_user(state, work, prepared, use)
        elif prepared.writes:
            _call_writing(state, work, prepared, use)
        else:
            work.done(prepared.run(state.buckets), record=True)
            use.release()
    except BaseException:
        use.release()
        raise


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


def _call_writing(state: ServerState, work: Work, prepared: functions.Prepared, use: Use) -> None:
    """Built-in functions of which some write: a change like any other; only where they act at once may others read."""
    if prepared.only_writes:
        answer = [state.buckets for _ in work.message.calls]
        rows.write(state, work, Write.of_call(prepared, state.bucket_bits), use, answer)
        return
    if not _acts_at_once(state, work.message.member):
        raise ProtocolError(
            "The functions of one call of a worker must all write, or all read: what they write counts when the clock does."
            f" Got {', '.join(each.function for each in work.message.calls)}; call them one by one."
        )

    def done(arrays: Any, error: BaseException | None) -> None:
        use.release()
        _answer(work, arrays, error)

    changed = dict.fromkeys([table.spec.table for table in prepared.written], state.bucket_bits)
    if not state.shards.apply(Entry(changed, lambda: prepared.run(state.buckets), done)):
        work.hold()


def _call_user(state: ServerState, work: Work, prepared: functions.Prepared, use: Use) -> None:
    """A user's function: on a thread of its own, on copies; what it has changed is written at its end."""
    read_only = not _acts_at_once(state, work.message.member)

    name = work.message.calls[0].function
    limit = min(max(0.0, work.message.limit), LONGEST_CALL)

    def start(then: Callable[[Any, BaseException | None], None]) -> None:
        seconds = work.since + limit - state.now()
        if seconds <= 0 < limit:
            raise DeadlineExceeded(
                f"Function {name!r} must have its turn within {limit:g} s (`spark.sparkps.requestTimeout`). It waited for others that"
                " change the same tables, and was not begun.",
                function=name,
            )
        buckets = state.buckets
        state.users.start(lambda: prepared.compute(buckets, read_only), seconds, then, use.release, name=name)

    if read_only:
        start(lambda outcome, error: _answer(work, None if error else outcome.arrays, error))
        return

    def change() -> Any:
        try:
            start(computed)
        except BaseException:
            use.release()
            raise
        return LATER

    def computed(outcome: Any, error: BaseException | None) -> None:
        arrays = None
        if error is None:
            try:
                outcome.commit()
                arrays = outcome.arrays
            except BaseException as raised:
                error = raised
        state.shards.finish(entry, arrays, error)

    # Its tables are kept from other writers until it ends, so that nothing of theirs is overwritten; reads go on.
    changed = dict.fromkeys([table.spec.table for table in prepared.tables], state.bucket_bits)
    entry = Entry(changed, change, lambda arrays, error: _answer(work, arrays, error))
    state.shards.apply(entry)
    work.hold()


def _answer(work: Work, arrays: Any, error: BaseException | None) -> None:
    if error is None:
        work.done(arrays, record=True)
    else:
        work.fail(error)
