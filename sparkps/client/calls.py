"""Server functions from the client's side: one request per node for a whole sequence of calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sparkps.client.futures import Future
from sparkps.errors import ProtocolError, SparkPSError, UnknownTable
from sparkps.wire.functions import BUILT_IN, Part, build_call, combine, spec_of
from sparkps.wire.messages.control import FindTable
from sparkps.wire.messages.data import FunctionCall

if TYPE_CHECKING:
    from sparkps.client.session import Session
    from sparkps.client.tables import Table


def table_id(session: Session, table: str | Table) -> int:
    """Id of a table given by name or handle. The coordinator is asked for a name once; see `call_functions`."""
    if not isinstance(table, str):
        return table.spec.table
    spec = session.specs.get(table)
    if spec is None:
        spec = session.specs[table] = session.control.request(FindTable(0, session.address.full_name(table))).spec
    return spec.table


def call_functions(session: Session, calls: Sequence[tuple[Table, str, dict[str, Any]]]) -> list[Any]:
    """Run server functions one after the other, in one round trip to all nodes.

    Parameters
    ----------
    session : Session
        Under its membership, if it has one: the calls wait for the group's clock as pulls do, and those that write count as
        pushes.
    calls : sequence of (table, function, arguments)
        Every bucket runs all of them, in order; what one writes the next one reads.

    Returns
    -------
    list
        The result of each call; see `sparkps.wire.functions`.
    """
    known = dict(session.specs)
    built = _built(session, calls)
    answers: list[list[Any]] = []
    try:
        return _run(session, built, answers)
    except UnknownTable:
        for name in known:  # a table of that name may have been dropped, and created anew
            session.specs.pop(name, None)
        anew = _built(session, calls)
        if anew == built or answers:
            raise
        return _run(session, anew, answers)


def _built(session: Session, calls: Sequence[tuple[Table, str, dict[str, Any]]]) -> list[FunctionCall]:
    return [
        build_call(_function(session, name), table.spec.table, args, lambda t: table_id(session, t)) for table, name, args in calls
    ]


def _function(session: Session, name: str) -> str:
    """A function by its name on the tier: what is built in is nobody's."""
    return name if name in BUILT_IN else session.address.full_name(name)


def _run(session: Session, calls: list[FunctionCall], answers: list[list[Any]]) -> list[Any]:
    names = ", ".join(dict.fromkeys(call.function for call in calls))
    future: Future[list[Any]] = Future(session, f"call of {names}", lambda: _results(calls, answers))
    session.functions(future, calls, lambda _, arrays: answers.append(arrays))
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
        try:
            results.append(combine(call.function, call.args, parts))
        except SparkPSError:
            raise
        except Exception as error:  # arrays that do not fit each other
            name = call.function
            raise ProtocolError(f"The answers to {name!r} must fit each other. They do not: {error}", function=name) from error
        at += size
    return results
