"""Server functions at the node: what runs on each bucket next to the data.

What the built-in ones do is in `built_in`. A user's function gets one `Shard` after the other (`shard_copies`), on a thread of
its own (`user_functions`). Names, arguments and the way partials become a result are in `wire.function_specs`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np
from numpy.typing import NDArray

from sparkps.errors import FunctionFailed, InvalidInput, ProtocolError, UnknownTable
from sparkps.ps_nodes import shard_copies
from sparkps.ps_nodes.built_in import RUNNERS
from sparkps.ps_nodes.shard_copies import Outcome, Shard
from sparkps.ps_nodes.tables.dense import DenseShards
from sparkps.ps_nodes.tables.directory import Table
from sparkps.ps_nodes.tables.sparse import SparseShards
from sparkps.ps_nodes.user_functions import raised
from sparkps.wire.functions import BUILT_IN, MAX_ANSWER_BYTES, answer_bytes, check, check_allowed
from sparkps.wire.messages.data import FunctionCall

Arrays = list[NDArray[Any]]
Buckets = NDArray[np.int32]

#: Most calls of one request: their answers fit into one message.
MAX_CALLS = 1024

#: Users' functions by name; owner: `_users_lock` for changes.
_users: dict[str, Callable[..., Any]] = {}
_users_lock = threading.Lock()


def taken_in(name: str, blob: bytes) -> Callable[..., Any]:
    """The function that a blob holds. This is the one place where a node unpickles what has come over the network.

    Raises
    ------
    FunctionFailed
    """
    try:
        function = cloudpickle.loads(blob)
    except BaseException as error:  # importing what it needs runs code: it may say sys.exit()
        raise FunctionFailed(
            f"Function {name!r} must be importable on the nodes. It is not there: {raised(name, error).message}",
            function=name,
        ) from error
    if not callable(function):
        raise FunctionFailed(f"Function {name!r} must be callable. Got {type(function).__name__} instead.", function=name)
    made: Callable[..., Any] = function
    return made


def register(name: str, blob: bytes, allowed: bool = True) -> None:
    """Make a user's function known under `name`, in place of an older one.

    Parameters
    ----------
    name : str
        Not the name of a built-in function.
    blob : bytes
        The function as cloudpickle gives it: ``fn(shard, **arguments)``, returning a number, an array of one shape for all
        buckets, or None.
    allowed : bool
        Whether the tier takes functions of users.
    """
    check_allowed(name, allowed)
    if name in BUILT_IN:
        raise InvalidInput(f"A function must not have a built-in's name. Got {name!r}; choose another.", function=name)
    function = taken_in(name, blob)
    with _users_lock:
        _users[name] = function


@dataclass(frozen=True)
class _Call:
    """One call, checked."""

    call: FunctionCall
    #: In the order of the call; one may be there more than once.
    tables: list[Table]
    #: A user's function; None for a built-in.
    user: Callable[..., Any] | None


@dataclass(frozen=True)
class Prepared:
    """Calls that have been checked against the tables: they cannot be refused any more."""

    calls: tuple[_Call, ...]

    @property
    def writes(self) -> bool:
        """Whether a built-in among them writes."""
        return bool(self.written)

    @property
    def users(self) -> bool:
        """Whether it is a call of a user's function: then it is the only one."""
        return any(each.user is not None for each in self.calls)

    @property
    def only_writes(self) -> bool:
        """Whether all of them are built-ins that write, so that there is nothing to answer but that it is done."""
        return all(each.user is None and BUILT_IN[each.call.function].writes for each in self.calls)

    @property
    def tables(self) -> list[Table]:
        """All tables that are read or written, each once."""
        return _once(table for each in self.calls for table in each.tables)

    @property
    def written(self) -> list[Table]:
        """The tables that built-ins write, each once."""
        return _once(each.tables[0] for each in self.calls if each.user is None and BUILT_IN[each.call.function].writes)

    def run(self, buckets: Sequence[int] | Buckets) -> Arrays:
        """Carry out built-ins one after the other; what one writes the next one reads. Any thread.

        Parameters
        ----------
        buckets : sequence of int
            The buckets to work on, ascending.

        Returns
        -------
        list of ndarray
            For each call: the buckets (int32), then the arrays of its partials (`FunctionSpec.arrays`).
        """
        assert not self.users, "a user's function is computed, then committed"
        where = np.asarray(buckets, np.int32)
        arrays: Arrays = []
        for each in self.calls:
            arrays += [where, *RUNNERS[each.call.function](each.tables, each.call.args, where)]
        return arrays

    def compute(self, buckets: Sequence[int] | Buckets, read_only: bool) -> Outcome:
        """Carry out a user's function; no table changes before ``commit()`` of what comes back.

        The caller keeps other writers from the buckets from before this until after `commit`. Without a commit (a function that
        failed, or that nobody waits for any more) a call has changed nothing.

        Parameters
        ----------
        buckets : sequence of int
            The buckets to work on, ascending.
        read_only : bool
            Whether the function may only read, as a rank's call of it.

        Raises
        ------
        FunctionFailed
            The function raised, wrote though it may only read, or gave what cannot be answered.
        DeadlineExceeded
            It runs on a thread of `UserThreads`, and its deadline has passed.
        """
        (only,) = self.calls
        assert only.user is not None, "built-ins are run"
        args = {name: value for name, value in only.call.args.items() if name != "tables"}
        where = np.asarray(buckets, np.int32)
        return shard_copies.compute(only.call.function, only.user, args, self.tables, where, read_only)


def prepare(calls: Sequence[FunctionCall], tables: Mapping[int, Table]) -> Prepared:
    """Check calls; nothing is changed.

    Parameters
    ----------
    calls : sequence of FunctionCall
    tables : mapping
        All tables of the node by id.

    Raises
    ------
    UnknownTable
        A table was dropped, or never created.
    InvalidInput
        No such function; arguments or tables that do not fit it; or a user's function beside other calls.
    ProtocolError
        Too many calls.
    """
    if len(calls) > MAX_CALLS:
        raise ProtocolError(f"A request must have at most {MAX_CALLS} calls of server functions. Got {len(calls)}.")
    prepared = Prepared(tuple(_checked(call, tables) for call in calls))
    if prepared.users and len(calls) > 1:
        raise InvalidInput(
            "A user's function must be called in a request of its own: it changes everything or nothing. Got"
            f" {', '.join(sorted({call.function for call in calls}))} in one; call one after the other."
        )
    total = sum(answer_bytes(each.call) for each in prepared.calls)
    if total > MAX_ANSWER_BYTES:
        raise InvalidInput(
            f"The answer to a request must have at most {MAX_ANSWER_BYTES} bytes. Got calls that give {total}; send fewer at once."
        )
    return prepared


def run(calls: Sequence[FunctionCall], tables: Mapping[int, Table], buckets: Sequence[int] | Buckets) -> Arrays:
    """Prepare calls and carry them out at once, on this thread; see `Prepared.run`. A user's function may write."""
    prepared = prepare(calls, tables)
    if not prepared.users:
        return prepared.run(buckets)
    outcome = prepared.compute(buckets, read_only=False)
    outcome.commit()
    return outcome.arrays


def _once(tables: Iterable[Table]) -> list[Table]:
    return list({id(table): table for table in tables}.values())


def _checked(call: FunctionCall, tables: Mapping[int, Table]) -> _Call:
    """A call with its tables: all of them share an index, or are dense and of one shape."""
    user = None if call.function in BUILT_IN else _users.get(call.function)
    name = call.function[:80]
    if user is None and call.function not in BUILT_IN:
        known = ", ".join(sorted([*BUILT_IN, *list(_users)]))
        raise InvalidInput(f"A server function must be one of {known}. Got {name!r}.", function=name)
    call = check(call)
    operands = []
    for table_id in call.tables:
        if table_id not in tables:
            raise UnknownTable(
                f"Table {table_id} must exist on the tier. It was dropped, or never created.", table=table_id
            )
        operands.append(tables[table_id])
    if not operands:
        raise InvalidInput(f"{name!r} must be called on a table. Got none.", function=name)
    first = operands[0]
    if user is None:
        _check_storage(call, operands)
    if call.function == "take_column":
        _check_taken(call, first, operands[1])
        return _Call(call, operands, user)
    for other in operands[1:]:
        if not _aligned(first, other):
            raise InvalidInput(
                f"The tables of {name!r} must be sparse, of one group and dim, or dense and of one shape. Got"
                f" {first.spec.name!r} and {other.spec.name!r}; create them with the same `group`.",
                function=name,
                table=other.spec.name,
            )
    if call.function in ("column_dots", "column_axpy"):
        _check_columns(call, first)
    return _Call(call, operands, user)


def _check_storage(call: FunctionCall, tables: Sequence[Table]) -> None:
    """Built-ins go over rows as they lie, and most know float32 and float64 only."""
    storages = {table.spec.storage for table in tables}
    if storages == {""} or call.function == "topk" or (call.function == "copy" and len(storages) == 1):
        return
    raise InvalidInput(
        f"The tables of {call.function!r} must lie as float32 or float64 on the nodes. Got"
        f" {', '.join(f'{table.spec.name!r} ({table.spec.stored})' for table in tables)}: create them without `storage`. Rows in 16 bits"
        " are for 'topk', for 'copy' to a table of the same storage, and for functions of your own.",
        function=call.function,
        table=tables[0].spec.name,
    )


def _check_columns(call: FunctionCall, table: Table) -> None:
    """Functions by column are for sparse tables, whose rows lie whole in a bucket, and take a factor for each column."""
    if not isinstance(table, SparseShards):
        raise InvalidInput(
            f"The tables of {call.function!r} must be sparse. Got {table.spec.name!r}.", function=call.function, table=table.spec.name
        )
    factors = call.args.get("alphas")
    if factors is not None and len(factors) != table.spec.dim:
        raise InvalidInput(
            f"{call.function!r} must get one of `alphas` for each of the {table.spec.dim} columns of {table.spec.name!r}."
            f" Got {len(factors)}.",
            function=call.function,
            table=table.spec.name,
        )


def _check_taken(call: FunctionCall, target: Table, source: Table) -> None:
    """Columns are taken from a sparse table to one of the same group that has as many of them."""
    sparse = isinstance(target, SparseShards) and isinstance(source, SparseShards) and target.index is source.index
    if not sparse or not call.args["column"] + target.spec.dim <= source.spec.dim:
        raise InvalidInput(
            f"The tables of 'take_column' must be sparse and of one group, and the second must have as many columns from `column` on as the"
            f" first has. Got column {call.args['column']} of {source.spec.name!r} (dim {source.spec.dim}) for {target.spec.name!r} (dim"
            f" {target.spec.dim}).",
            function=call.function,
            table=source.spec.name,
        )


def _aligned(first: Table, other: Table) -> bool:
    if isinstance(first, SparseShards) and isinstance(other, SparseShards):
        return first.index is other.index and first.spec.dim == other.spec.dim
    return isinstance(first, DenseShards) and isinstance(other, DenseShards) and first.spec.shape == other.spec.shape


__all__ = ["MAX_CALLS", "Outcome", "Prepared", "Shard", "prepare", "register", "run"]
