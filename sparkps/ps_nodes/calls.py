"""Requests to run server functions: built-in ones, which change shards as writes do, and users' own, on threads of theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sparkps.errors import DeadlineExceeded, ProtocolError
from sparkps.ps_nodes import functions
from sparkps.ps_nodes.clock_buffers import Write
from sparkps.ps_nodes.shards import LATER, Entry
from sparkps.ps_nodes.store import Use
from sparkps.wire import messages as m

if TYPE_CHECKING:
    from sparkps.ps_nodes.handlers import Handlers
    from sparkps.ps_nodes.service import Work

#: Seconds after which nobody waits for a user's function, whatever its caller says.
LONGEST_CALL = 86_400.0


def call(handlers: Handlers, work: Work) -> None:
    """Carry out a `Call`; the tables are in use until it is answered."""
    message: m.Call = work.message
    use = handlers.store.use([table for each in message.calls for table in each.tables])
    try:
        prepared = functions.prepare(message.calls, handlers.store.tables)
        if _waits(handlers, work, prepared):
            use.release()
            return
        if prepared.users:
            _call_user(handlers, work, prepared, use)
        elif prepared.writes:
            _call_writing(handlers, work, prepared, use)
        else:
            handlers.done(work, prepared.run(handlers.store.buckets), record=True)
            use.release()
    except BaseException:
        use.release()
        raise


def _waits(handlers: Handlers, work: Work, prepared: functions.Prepared) -> bool:
    """Whether a call of a member is now parked behind the clock. What only writes waits no more than a push does."""
    member = work.message.member
    if member is None:
        return False
    if not _acts_at_once(handlers, member):
        return not prepared.only_writes and handlers.waits(work, member)
    # A solver reads what it writes: what follows a call that may write must not overtake it.
    return handlers.waits(work, member, passes=not (prepared.writes or prepared.users))


def _acts_at_once(handlers: Handlers, member: m.Member | None) -> bool:
    """Whether what a call changes is changed now: outside groups, and for a driver-side solver."""
    return member is None or handlers.group(member.group).acts_at_once(member)


def _call_writing(handlers: Handlers, work: Work, prepared: functions.Prepared, use: Use) -> None:
    """Built-in functions of which some write: a change like any other; only where they act at once may others read."""
    if prepared.only_writes:
        answer = [handlers.store.buckets for _ in work.message.calls]
        handlers.write(work, Write.of_call(prepared, handlers.bucket_bits), use, answer)
        return
    if not _acts_at_once(handlers, work.message.member):
        raise ProtocolError(
            "The functions of one call of a worker must all write, or all read: what they write counts when the clock does."
            f" Got {', '.join(each.function for each in work.message.calls)}; call them one by one."
        )

    def done(arrays: Any, error: BaseException | None) -> None:
        use.release()
        _answer(handlers, work, arrays, error)

    changed = dict.fromkeys([table.spec.table for table in prepared.written], handlers.bucket_bits)
    if not handlers.service.shards.apply(Entry(changed, lambda: prepared.run(handlers.store.buckets), done)):
        handlers.service.hold(work)


def _call_user(handlers: Handlers, work: Work, prepared: functions.Prepared, use: Use) -> None:
    """A user's function: on a thread of its own, on copies; what it has changed is written at its end."""
    read_only = not _acts_at_once(handlers, work.message.member)

    name = work.message.calls[0].function
    limit = min(max(0.0, work.message.limit), LONGEST_CALL)

    def start(then: Callable[[Any, BaseException | None], None]) -> None:
        seconds = work.since + limit - handlers.service.now()
        if seconds <= 0 < limit:
            raise DeadlineExceeded(
                f"Function {name!r} must have its turn within {limit:g} s (`spark.sparkps.requestTimeout`). It waited for others that"
                " change the same tables, and was not begun.",
                function=name,
            )
        buckets = handlers.store.buckets
        handlers.service.users.start(lambda: prepared.compute(buckets, read_only), seconds, then, use.release, name=name)

    if read_only:
        start(lambda outcome, error: _answer(handlers, work, None if error else outcome.arrays, error))
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
        handlers.service.shards.finish(entry, arrays, error)

    # Its tables are kept from other writers until it ends, so that nothing of theirs is overwritten; reads go on.
    changed = dict.fromkeys([table.spec.table for table in prepared.tables], handlers.bucket_bits)
    entry = Entry(changed, change, lambda arrays, error: _answer(handlers, work, arrays, error))
    handlers.service.shards.apply(entry)
    handlers.service.hold(work)


def _answer(handlers: Handlers, work: Work, arrays: Any, error: BaseException | None) -> None:
    if error is None:
        handlers.done(work, arrays, record=True)
    else:
        handlers.fail(work, error)
