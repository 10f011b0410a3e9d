"""Handles of tables: small, picklable, usable in any UDF or closure.

A handle finds the tier by itself wherever it is unpickled. Pushes through a handle outside `PSContext.run` are exactly-once per
client session only: when Spark runs a task again, what its first attempt pushed stays applied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparkps.client import values as check
from sparkps.client.calls import call_function
from sparkps.client.error_feedback import FEEDBACK_BYTES, ErrorFeedback
from sparkps.client.futures import Future
from sparkps.client.grouping import Grouping
from sparkps.client.items import Item, dense_items, keys_per_piece, sparse_items
from sparkps.client.keyset import KeySet
from sparkps.client.pulls import Pull
from sparkps.client.session import Session, connect
from sparkps.errors import InvalidInput
from sparkps.specs import TableSpec
from sparkps.wire.encodings import NAMED, Encoding
from sparkps.wire.messages.control import DropTable, TierAddress
from sparkps.wire.messages.data import OpCode

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Array = NDArray[Any]


class Table:
    """What sparse and dense tables have in common.

    Parameters
    ----------
    address : TierAddress
        The tier.
    spec : TableSpec
        The table as the coordinator created it.
    """

    def __init__(self, address: TierAddress, spec: TableSpec) -> None:
        self.address = address
        self.spec = spec
        self._bound: Session | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.address, self.spec)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec.name!r}, dtype={self.spec.dtype!r}, tier={self.address.tier_id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and (self.address.tier_id, self.spec.table) == (other.address.tier_id, other.spec.table)

    def __hash__(self) -> int:
        return hash((self.address.tier_id, self.spec.table))

    @property
    def name(self) -> str:
        """The table's name on its tier: where several owners share one, ``owner/name``."""
        return self.spec.name

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of the rows."""
        return np.dtype(self.spec.dtype)

    def bind(self, session: Session) -> Table:
        """This table through `session`: inside a worker group, under its clock. Pickling drops the binding."""
        make, given = self.__reduce__()
        bound: Table = make(*given)
        bound._bound = session
        return bound

    def session(self) -> Session:
        """The session that calls of this handle use: the bound one, or this thread's."""
        return self._bound or connect(self.address)

    def call(self, function: str, **args: Any) -> Any:
        """Run a server function on this table, next to the data.

        Parameters
        ----------
        function : str
            ``sum``, ``dot`` (``other=``), ``axpy`` (``alpha=``, ``x=``), ``scale``, ``norm1``, ``norm2``, ``min``, ``max``, ``nnz``,
            ``topk`` (``k=``), ``fill``, ``copy``, ... or the name of a function registered by `PSContext.function`.
        **args
            Plain values; other tables of the same table group by name or handle.

        Returns
        -------
        What the function's partials combine to, in bucket order: independent of the number of nodes.

        Raises
        ------
        FunctionFailed
            It raised on a node; nothing was changed there.
        DeadlineExceeded
            It took too long; nothing was changed where it had not ended.

        Notes
        -----
        Under a worker group, built-in functions that write go through the rank's clock as pushes do; a function of one's own may
        only read there.

        Examples
        --------
        >>> w.call("norm2")                     # doctest: +SKIP
        3.7416573867739413
        """
        return call_function(self, function, args)

    def drop(self) -> None:
        """Free the table on all nodes. Later calls through any handle raise `UnknownTable`."""
        self.session().control.request(DropTable(0, self.spec.name, self.spec.table))

    def _write(self, what: str, items: Any) -> Future[None]:
        session = self.session()
        future: Future[None] = Future(session, f"{what} of table {self.spec.name!r}", lambda: None)
        session.remember(future)
        session.steps(future, items)
        return future


class SparseTable(Table):
    """A sparse table: any int64 key has a row of `dim` values, which appears when it is first written.

    Examples
    --------
    >>> w = ps.sparse_table("w", dim=2)         # doctest: +SKIP
    >>> w.add([7, 7, -1], [[1, 0], [1, 0], [0, 5]]); w.pull([7, 8])  # doctest: +SKIP
    array([[2., 0.],
           [0., 0.]], dtype=float32)
    """

    def __init__(self, address: TierAddress, spec: TableSpec, transport: str = "float32", feedback_bytes: int = FEEDBACK_BYTES) -> None:
        super().__init__(address, spec)
        self._transport = transport, feedback_bytes
        #: How rows and gradients travel.
        self.encoding = _encoding_of(spec, transport)
        #: What pushes have lost on their way; None: they lose nothing.
        self._feedback = ErrorFeedback(spec.dim, self.encoding, feedback_bytes) if self.encoding else None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.address, self.spec, *self._transport)

    def over(self, transport: str, feedback_bytes: int = FEEDBACK_BYTES) -> SparseTable:
        """This table, with rows that are pulled and gradients that are pushed in fewer bytes on their way; the nodes hold float32.

        Rows are rounded to the nearest. What a gradient loses is added to the next one of its key that this handle pushes
        (`ErrorFeedback`); a copy of the handle, in another process or bound to another session, begins with nothing left over. `add` and
        `assign` are exact.

        Parameters
        ----------
        transport : {"float32", "float16", "bfloat16", "int8"}
            "int8" has a scale for each row. float16 cannot say numbers beyond 65,504, nor tell those below 6e-8 from zero.
        feedback_bytes : int
            Most memory for what gradients have lost; 0: it is not kept.

        Raises
        ------
        InvalidInput
            There is no such transport, or the table is not of float32.

        Examples
        --------
        >>> w.over("bfloat16").push([7], [[1.0, 0.5]])    # doctest: +SKIP
        """
        made = SparseTable(self.address, self.spec, transport, feedback_bytes)
        made._bound = self._bound
        return made

    @property
    def dim(self) -> int:
        """Values per row."""
        return self.spec.dim

    def register(self, keys: ArrayLike) -> KeySet:
        """Register keys that will be used again and again: later calls carry values alone."""
        keyset = KeySet(self, check.check_keys(self.spec, keys))
        keyset.registration()
        return keyset

    def pull(self, keys: ArrayLike | KeySet) -> Array:
        """Read rows.

        Parameters
        ----------
        keys : array_like of shape (n,), int64
            Any order, duplicates allowed.

        Returns
        -------
        ndarray of shape (n, dim), the table's dtype
            In the order of `keys`; a key that was never written reads as its initial row.
        """
        return self.pull_async(keys).result()

    def pull_async(self, keys: ArrayLike | KeySet, out: Array | None = None) -> Future[Array]:
        """As `pull`, without waiting."""
        session = self.session()
        pull = Pull(self, keys, out)
        future: Future[Array] = Future(session, f"pull of table {self.spec.name!r}", pull.result)
        session.steps(future, pull.items)
        return future

    def push(self, keys: ArrayLike | KeySet, grads: ArrayLike) -> None:
        """Apply gradients through the table's optimizer; gradients of one key are summed first.

        Parameters
        ----------
        keys : array_like of shape (n,), int64
        grads : array_like of shape (n, dim)

        Raises
        ------
        InvalidInput
            Wrong dtype or shape; nothing was applied.
        NonFiniteValues
            NaN or infinity; nothing was applied.
        """
        self.push_async(keys, grads).result()

    def push_async(self, keys: ArrayLike | KeySet, grads: ArrayLike) -> Future[None]:
        """As `push`, without waiting. The arrays must not change until the future is done: they may be sent as they lie."""
        return self._write("push", self.writes(OpCode.PUSH, keys, grads))

    def add(self, keys: ArrayLike | KeySet, deltas: ArrayLike) -> None:
        """rows += deltas, past the optimizer; parameters as for `push`."""
        self._write("add", self.writes(OpCode.ADD, keys, deltas)).result()

    def add_async(self, keys: ArrayLike | KeySet, deltas: ArrayLike) -> Future[None]:
        """As `add`, without waiting."""
        return self._write("add", self.writes(OpCode.ADD, keys, deltas))

    def assign(self, keys: ArrayLike | KeySet, rows: ArrayLike) -> None:
        """rows = rows; of a key that appears twice the last row stays. Optimizer state is left as it is."""
        self._write("assign", self.writes(OpCode.ASSIGN, keys, rows)).result()

    def to_dataframe(self) -> DataFrame:
        """All rows as a DataFrame (key bigint, row array<float or double>); executors read the tier in parallel.

        The rows are read when an action runs, once per action.
        """
        from sparkps.client.frames import to_dataframe

        return to_dataframe(self)

    def writes(self, code: OpCode, keys: ArrayLike | KeySet, values: ArrayLike) -> Iterator[Item]:
        """The items of a write, made as they are asked for."""
        what = {OpCode.PUSH: "gradients", OpCode.ADD: "deltas", OpCode.ASSIGN: "rows"}[code]
        if isinstance(keys, KeySet):
            rows = check.check_values(self.spec, values, what, keys.keys)
            registration = keys.registration()
            combined = self._combined(registration.grouping, rows, code, what)
            sent, encoding = self._sent(code, registration.grouping, keys.keys, combined)
            return registration.items(self.spec, code, sent, None, encoding)
        checked = check.check_keys(self.spec, keys)
        rows = check.check_values(self.spec, values, what, checked)
        session = self.session()
        routing = session.routing
        grouping = Grouping.of(checked, routing)
        combined = self._combined(grouping, rows, code, what)
        most = keys_per_piece(self.spec, len(grouping.keys), session.settings.chunk_bytes)
        sent, encoding = self._sent(code, grouping, checked, combined)
        return sparse_items(routing, self.spec, code, grouping, sent, None, most, encoding)

    def _sent(self, code: OpCode, grouping: Grouping, keys: Array, combined: Array) -> tuple[Array, Encoding]:
        """Rows of a write as they go out, and how they are written."""
        if self._feedback is None or code != OpCode.PUSH:
            return combined, Encoding.PLAIN
        distinct = keys if grouping.inverse is None else grouping.keys
        return self._feedback.encoded(distinct, combined), self.encoding

    def _combined(self, grouping: Grouping, rows: Array, code: OpCode, what: str) -> Array:
        """Rows of a write, one per distinct key; each is finite, and so must their sums be."""
        combined = grouping.combine(rows, last=code == OpCode.ASSIGN)
        if combined is not rows and code != OpCode.ASSIGN:
            check.check_sums(self.spec, combined, what, grouping.keys)
        return combined


class DenseTable(Table):
    """A dense table of a fixed shape, split by ranges of its flattened elements.

    Examples
    --------
    >>> theta = ps.dense_table("theta", shape=(2, 3))   # doctest: +SKIP
    >>> theta.add(np.ones((2, 3))); theta.pull().sum()  # doctest: +SKIP
    6.0
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents of the table."""
        return self.spec.shape

    def pull(self) -> Array:
        """Read the table: ndarray of its shape and dtype."""
        return self.pull_async().result()

    def pull_async(self) -> Future[Array]:
        """As `pull`, without waiting."""
        session = self.session()
        out, items = self.pull_items()
        future: Future[Array] = Future(
            session, f"pull of table {self.spec.name!r}", lambda: out.reshape(self.spec.shape)
        )
        session.steps(future, items)
        return future

    def pull_items(self) -> tuple[Array, list[Item]]:
        """The items of a pull, and the flat array that they fill."""
        session = self.session()
        out = np.empty(self.spec.size, self.spec.dtype)
        return out, list(dense_items(session.routing, self.spec, OpCode.PULL, None, out, session.settings.chunk_bytes))

    def push(self, grads: ArrayLike) -> None:
        """Apply gradients, an array of the table's shape, through the table's optimizer."""
        self.push_async(grads).result()

    def push_async(self, grads: ArrayLike) -> Future[None]:
        """As `push`, without waiting."""
        return self._write("push", self.writes(OpCode.PUSH, grads))

    def add(self, deltas: ArrayLike) -> None:
        """elements += deltas, past the optimizer."""
        self._write("add", self.writes(OpCode.ADD, deltas)).result()

    def add_async(self, deltas: ArrayLike) -> Future[None]:
        """As `add`, without waiting."""
        return self._write("add", self.writes(OpCode.ADD, deltas))

    def assign(self, values: ArrayLike) -> None:
        """elements = values. Optimizer state is left as it is."""
        self._write("assign", self.writes(OpCode.ASSIGN, values)).result()

    def writes(self, code: OpCode, values: ArrayLike) -> list[Item]:
        """The items of a write."""
        what = {OpCode.PUSH: "gradients", OpCode.ADD: "deltas", OpCode.ASSIGN: "values"}[code]
        flat = check.check_elements(self.spec, values, what)
        session = self.session()
        return list(dense_items(session.routing, self.spec, code, flat, None, session.settings.chunk_bytes))


def _encoding_of(spec: TableSpec, transport: str) -> Encoding:
    encoding = NAMED.get(transport)
    if encoding is None:
        raise InvalidInput(f"The transport of table {spec.name!r} must be one of {', '.join(NAMED)}. Got {transport!r}.", table=spec.name)
    if encoding and spec.dtype != "float32":
        raise InvalidInput(
            f"Table {spec.name!r} must be of float32 to travel as {transport}. Got {spec.dtype}: make it with dtype='float32'.",
            table=spec.name,
        )
    return encoding


def pull_together(
    session: Session, wanted: Sequence[KeySet | DenseTable | tuple[SparseTable, ArrayLike]]
) -> list[Array]:
    """Read several tables in one request per node: a step's pulls.

    Parameters
    ----------
    session : Session
        The one that all the tables are bound to.
    wanted : sequence
        Key sets, dense tables, and pairs (sparse table, keys).

    Returns
    -------
    list of ndarray
        As the single pulls would give.
    """
    return pull_together_async(session, wanted).result()


def pull_together_async(
    session: Session, wanted: Sequence[KeySet | DenseTable | tuple[SparseTable, ArrayLike]]
) -> Future[list[Array]]:
    """As `pull_together`, without waiting."""
    builds: list[Any] = []
    items: list[Item] = []
    for one in wanted:
        if isinstance(one, DenseTable):
            out, mine = one.pull_items()
            builds.append(lambda out=out, shape=one.spec.shape: out.reshape(shape))
        else:
            pull = Pull(one.table, one) if isinstance(one, KeySet) else Pull(*one)
            mine = pull.items
            builds.append(pull.result)
        items += mine
    future: Future[list[Array]] = Future(
        session, f"pull of {len(wanted)} tables", lambda: [build() for build in builds]
    )
    session.steps(future, items, together=True)
    return future


def write_together(session: Session, code: OpCode, what: Sequence[tuple[Any, ...]]) -> Future[None]:
    """Write several tables in one request per node: (key set, values), (dense table, values) or (sparse table, keys, values)."""
    items: list[Item] = []
    tables = [one[0].table if isinstance(one[0], KeySet) else one[0] for one in what]
    if len({table.spec.table for table in tables}) < len(tables):
        raise InvalidInput(
            f"A write of several tables must name each once. Got {[table.name for table in tables]} instead."
        )
    for one in what:
        if isinstance(one[0], KeySet):
            items += one[0].table.writes(code, one[0], one[1])
        else:
            items += one[0].writes(code, *one[1:])
    future: Future[None] = Future(session, f"write of {len(what)} tables", lambda: None)
    session.remember(future)
    session.steps(future, items, together=True)
    return future


__all__ = ["DenseTable", "SparseTable", "Table", "pull_together", "pull_together_async", "write_together"]
