"""Server functions from the client's side: one request per node for a whole sequence of calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sparkps.client.futures import Future
from sparkps.errors import ProtocolError
from sparkps.wire import messages as m
from sparkps.wire.control import FindTable
from sparkps.wire.functions import Part, build_call, combine, spec_of
from sparkps.wire.messages import FunctionCall

if TYPE_CHECKING:
    from sparkps.client.session import Session
    from sparkps.client.tables import Table


def table_id(session: Session, table: str | Table) -> int:
    """Id of a table given by name or handle."""
    if not isinstance(table, str):
        return table.spec.table
    found: int = session.control.request(FindTable(0, table)).spec.table
    return found


def call_functions(session: Session, calls: Sequence[tuple[Table, str, dict[str, Any]]]) -> list[Any]:
    """Run server functions one after the other, in one round trip to all nodes.

    Parameters
    ----------
    session : Session
        Under its membership, if it has one: the calls wait for the group's clock as pulls do.
    calls : sequence of (table, function, arguments)
        Every bucket runs all of them, in order; what one writes the next one reads.

    Returns
    -------
    list
        The result of each call; see `sparkps.wire.functions`.
    """
    built = [build_call(name, table.spec.table, args, lambda t: table_id(session, t)) for table, name, args in calls]
    member = session.member.wire(write=False) if session.member else None
    answers: list[list[Any]] = []
    names = ", ".join(dict.fromkeys(call.function for call in built))
    future: Future[list[Any]] = Future(session, f"call of {names}", lambda: _results(built, answers))
    session._calls += 1
    number = session._calls
    for node in session.routing.nodes:
        session.send(
            future,
            node,
            lambda s, q, acked, epoch: m.Call(s, q, acked, epoch, built, member, number, session.limit),
            [],
            lambda _, arrays: answers.append(arrays),
            down=1,
        )
    return future.result()


def call_function(table: Table, function: str, args: dict[str, Any]) -> Any:
    """See `Table.call`."""
    return call_functions(table.session(), [(table, function, args)])[0]


def _results(calls: list[FunctionCall], answers: list[list[Any]]) -> list[Any]:
    results, at = [], 0
    for call in calls:
        size = 1 + spec_of(call.function).arrays
        parts: list[Part] = [arrays[at : at + size] for arrays in answers]
        if any(len(part) != size for part in parts):
            raise ProtocolError(f"An answer to {call.function!r} must have {size} arrays.", function=call.function)
        results.append(combine(call.function, call.args, parts))
        at += size
    return results
