"""The tables of a node and the operations on them. Thread-safe: shards lock themselves, the directory of tables has a lock.

No operation outlives what it points to: whoever works on tables has them *in use*. A table that is dropped meanwhile is
unknown to others at once, and keeps its place in its index until the last one lets go of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import InvalidInput, ProtocolError, TableMismatch, UnknownTable
from sparkps.kernels import ahead
from sparkps.ps_nodes.dense import DenseTable
from sparkps.ps_nodes.index import KeyIndex
from sparkps.ps_nodes.keysets import KeyChunk, NodeKeySet
from sparkps.ps_nodes.sparse import SparseTable
from sparkps.specs import NUM_BUCKETS, TableSpec
from sparkps.wire.buckets import bits_of, buckets_in
from sparkps.wire.messages import NO_KEYSET, Op, OpCode

Array = NDArray[Any]
Table = SparseTable | DenseTable

_INT64 = np.dtype(np.int64)

#: Kernels that tables call besides that of their optimizer. They are loaded with the first table: later there may be no memory.
KERNELS = tuple(f"{ahead.TIER}.{name}" for name in ("lookup", "rows", "merging", "vectors"))
#: Most operations of one step: each pull has a frame of the answer.
MOST_OPS = 4095


class KeySetMissing(Exception):
    """A request names a key set, or a chunk of one, that the session has not registered here."""

    def __init__(self, keyset: int) -> None:
        super().__init__(keyset)
        self.keyset = keyset


_SPARSE_VERBS = {OpCode.PUSH: SparseTable.push, OpCode.ADD: SparseTable.add, OpCode.ASSIGN: SparseTable.assign}
_DENSE_VERBS = {OpCode.PUSH: DenseTable.push, OpCode.ADD: DenseTable.add, OpCode.ASSIGN: DenseTable.assign}


@dataclass(slots=True)
class Target:
    """One operation, checked against the tables: it cannot be refused any more."""

    code: OpCode
    table: Table
    #: Keys of a sparse table.
    chunk: KeyChunk | None
    #: Bucket range of a dense table.
    start: int
    stop: int
    #: Of a write: (n, dim), or flat for a dense table.
    values: Array | None

    def read(self) -> Array:
        """The rows of a pull."""
        if self.chunk is None:
            assert isinstance(self.table, DenseTable)
            return self.table.gather(self.start, self.stop)
        assert isinstance(self.table, SparseTable)
        slots, keys = self.chunk.for_reading()
        return self.table.gather(keys, slots, self.chunk.runs)

    def write(self) -> None:
        """Apply at once: a push, add or assign outside BSP."""
        assert self.values is not None
        if self.chunk is None:
            assert isinstance(self.table, DenseTable)
            _DENSE_VERBS[self.code](self.table, self.start, self.stop, self.values)
            return
        assert isinstance(self.table, SparseTable)
        _SPARSE_VERBS[self.code](self.table, self.chunk.for_writing(), self.chunk.runs, self.values)

    @property
    def size(self) -> int:
        """Keys, or elements of a dense table."""
        if self.chunk is None:
            assert isinstance(self.table, DenseTable)
            return self.table.elements(self.start, self.stop)
        return self.chunk.size

    @property
    def tables(self) -> list[Table]:
        """The table, as a list."""
        return [self.table]

    @property
    def changed(self) -> list[int]:
        """Id of the table that a write changes, as a list."""
        return [self.table.spec.table]

    @property
    def mask(self) -> int:
        """Buckets of this node that the operation touches, as bits."""
        if self.chunk is None:
            assert isinstance(self.table, DenseTable)
            return self.table.mask_in(self.start, self.stop)
        return self.chunk.mask

    @property
    def nbytes(self) -> int:
        """Bytes that a write keeps while it is buffered."""
        assert self.values is not None
        keys = self.chunk.keys if self.chunk is not None and not self.chunk.registered else None
        return self.values.nbytes + (0 if keys is None else keys.nbytes)

    def only(self, buckets: int) -> list[Target]:
        """The same write in those of its buckets that are among `buckets` (bits)."""
        if buckets == self.mask:
            return [self]
        assert self.values is not None
        if self.chunk is not None:
            kept = np.repeat(bits_of(buckets)[self.chunk.runs[0]], np.diff(self.chunk.runs[1]))
            return [Target(self.code, self.table, self.chunk.only(kept), 0, 0, np.ascontiguousarray(self.values[kept]))]
        assert isinstance(self.table, DenseTable)
        targets, at = [], 0
        for bucket in buckets_in(self.mask):
            size = self.table.elements(bucket, bucket + 1)
            if buckets >> bucket & 1:
                targets.append(Target(self.code, self.table, None, bucket, bucket + 1, self.values[at : at + size]))
            at += size
        return targets

    def prepare(self) -> None:
        """Find or make the rows of a write: what needs memory is done before anything is changed."""
        if self.chunk is not None:
            self.chunk.for_writing()

    @staticmethod
    def apply_sum(targets: Sequence[Target], clock: int) -> None:
        """Apply writes of one kind to one table once: their sum per key, in the order given (of assigns the last stays)."""
        table, code = targets[0].table, targets[0].code
        if isinstance(table, DenseTable):
            table.apply_sum([(t.start, t.stop, t.values) for t in targets if t.values is not None], code, clock)
            return
        parts = [(t.chunk.for_writing(), t.chunk.runs, t.values) for t in targets if t.chunk and t.values is not None]
        table.apply_sum(parts, code, clock)


class Use:
    """Some tables in use, until `release`; a context manager. Made by `Store.use`."""

    __slots__ = ("_store", "tables")

    def __init__(self, store: Store, tables: list[Table]) -> None:
        self._store = store
        self.tables = tables

    def release(self) -> None:
        """Let go of the tables; does nothing the second time."""
        tables, self.tables = self.tables, []
        if tables:
            self._store.release(tables)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Store:
    """Tables by id, and the key indexes that they share.

    Parameters
    ----------
    buckets : sequence of int
        The buckets that this node holds, ascending.
    """

    def __init__(self, buckets: Sequence[int]) -> None:
        self.buckets = np.asarray(buckets, np.int32)
        #: Owner: `_lock` for changes; reads are of a plain dict.
        self.tables: dict[int, Table] = {}
        self._indexes: dict[int, KeyIndex] = {}
        #: Names of dropped tables, for those who still ask for them; owner: `_lock`.
        self._dropped: dict[int, str] = {}
        #: How many work on each table, by its id; tables that nobody uses are not in it. Owner: `_lock`.
        self._users: dict[int, int] = {}
        #: Tables that were dropped while somebody used them, and are freed by the last one. Owner: `_lock`.
        self._leaving: dict[int, Table] = {}
        #: Held for moments only, by every request.
        self._lock = threading.Lock()
        #: Held by whoever creates or drops; taken before `_lock`.
        self._changing = threading.Lock()

    # ---- the directory -------------------------------------------------------------------------------------------------

    def create(self, spec: TableSpec) -> None:
        """Create a table; a second call with the same specification does nothing."""
        with self._changing:
            have = self.tables.get(spec.table)
            if have is not None:
                if have.spec != spec:
                    raise TableMismatch(f"Table {spec.table} must be {have.spec}. Got {spec} instead.", table=spec.name)
                return
            ahead.load(spec.dtype, *KERNELS)
            made = DenseTable(spec, self.buckets) if spec.kind == "dense" else self._sparse(spec)
            with self._lock:
                self.tables[spec.table] = made

    def _sparse(self, spec: TableSpec) -> SparseTable:
        index = self._indexes.get(spec.index)
        if index is None:
            index = self._indexes[spec.index] = KeyIndex(self.buckets)
        table = SparseTable(spec, index)
        index.attach(table)
        return table

    def drop(self, table_id: int) -> int:
        """Forget a table, and free it when nobody uses it; returns the id of its index if no table has that any more, else 0."""
        with self._changing:
            with self._lock:
                table = self.tables.pop(table_id, None)
                if table is None:
                    return 0
                self._dropped[table_id] = table.spec.name
                used = table_id in self._users
                if used:
                    self._leaving[table_id] = table
            if not used:
                table.free()
            if isinstance(table, DenseTable):
                return 0
            if any(isinstance(t, SparseTable) and t.index is table.index for t in self.tables.values()):
                return 0
            self._indexes.pop(table.spec.index, None)
            return table.spec.index

    def use(self, table_ids: Iterable[int]) -> Use:
        """The tables of these ids, in use from now on; one that is named twice is in use twice.

        Raises
        ------
        UnknownTable
        """
        users = self._users
        with self._lock:
            tables = [self.tables.get(table_id) or self.table(table_id) for table_id in table_ids]
            for table in tables:
                table_id = table.spec.table
                users[table_id] = users.get(table_id, 0) + 1
        return Use(self, tables)

    def use_again(self, tables: Iterable[Table]) -> Use:
        """Those of `tables` that were not dropped since, in use from now on."""
        with self._lock:
            left = [table for table in tables if self.tables.get(table.spec.table) is table]
            for table in left:
                self._users[table.spec.table] = self._users.get(table.spec.table, 0) + 1
        return Use(self, left)

    def release(self, tables: Sequence[Table]) -> None:
        """Somebody lets go of tables; the last one frees those that were dropped. See `Use`."""
        unused, users = [], self._users
        with self._lock:
            for table in tables:
                table_id = table.spec.table
                left = users[table_id] - 1
                if left:
                    users[table_id] = left
                    continue
                del users[table_id]
                if self._leaving and self._leaving.pop(table_id, None) is not None:
                    unused.append(table)
        for table in unused:
            table.free()

    def table(self, table_id: int) -> Table:
        """The table of that id."""
        table = self.tables.get(table_id)
        if table is None:
            name = self._dropped.get(table_id)
            if name is not None:
                raise UnknownTable(f"Table {name!r} must exist on the tier. It was dropped.", table=name)
            raise UnknownTable(f"Table number {table_id} must exist on the tier. It was never created.", table=table_id)
        return table

    def index(self, index_id: int) -> KeyIndex:
        """The key index of that id."""
        index = self._indexes.get(index_id)
        if index is None:
            raise UnknownTable(
                f"Key index {index_id} must belong to a table on the tier. Its tables were dropped.", index=index_id
            )
        return index

    # ---- operations ----------------------------------------------------------------------------------------------------

    def targets(self, ops: list[Op], arrays: list[Array], keysets: dict[int, NodeKeySet]) -> list[Target]:
        """Check a step's operations with their arrays; nothing is changed. The caller has the tables in use.

        Raises
        ------
        UnknownTable, InvalidInput, ProtocolError, KeySetMissing
        """
        if not 0 < len(ops) <= MOST_OPS:
            raise ProtocolError(f"A step must have between 1 and {MOST_OPS} operations. Got {len(ops)} instead.")
        left = iter(arrays)
        try:
            targets = [self._target(op, left, keysets) for op in ops]
        except StopIteration:
            raise ProtocolError(
                f"A step of {len(ops)} operations must bring the arrays of all. Got {len(arrays)} arrays."
            ) from None
        if next(left, None) is not None:
            raise ProtocolError(
                f"A step of {len(ops)} operations must bring their arrays only. Got {len(arrays)} arrays."
            )
        return targets

    def answer_bytes(self, ops: list[Op], arrays: list[Array], keysets: dict[int, NodeKeySet]) -> int:
        """Bytes that the pulls among a step's operations will answer with, about; for what is wrong with them nothing."""
        total = 0
        for op in ops:
            if op.code != OpCode.PULL:
                continue
            table = self.tables.get(op.table)
            if table is None:
                continue
            if isinstance(table, DenseTable):
                rows = table.elements(op.start, op.stop) if 0 <= op.start < op.stop <= NUM_BUCKETS else 0
            elif op.keyset == NO_KEYSET:
                rows = max([len(array) for array in arrays if array.ndim], default=0)
            else:
                keyset = keysets.get(op.keyset)
                chunk = keyset.chunks.get(op.start) if keyset is not None else None
                rows = chunk.size if chunk is not None else 0
            total += rows * table.row_bytes
        return total

    def _target(self, op: Op, arrays: Any, keysets: dict[int, NodeKeySet]) -> Target:
        try:
            code = OpCode(op.code)
        except ValueError:
            raise ProtocolError(
                f"An operation must be one of {[c.value for c in OpCode]}. Got {op.code} instead."
            ) from None
        table = self.table(op.table)
        if isinstance(table, DenseTable):
            return self._dense_target(code, op, table, arrays)
        if op.keyset == NO_KEYSET:
            chunk = KeyChunk(table.index, _keys(next(arrays), table.spec))
        else:
            keyset = keysets.get(op.keyset)
            found = keyset.chunks.get(op.start) if keyset is not None and keyset.index_id == table.spec.index else None
            if found is None:
                raise KeySetMissing(op.keyset)
            chunk = found
        values = None
        if code != OpCode.PULL:
            values = next(arrays)
            _check(values, (chunk.size, table.spec.dim), table)
        return Target(code, table, chunk, 0, 0, values)

    def _dense_target(self, code: OpCode, op: Op, table: DenseTable, arrays: Any) -> Target:
        if not 0 <= op.start < op.stop <= NUM_BUCKETS:
            raise ProtocolError(
                f"A bucket range must lie in [0, {NUM_BUCKETS}]. Got [{op.start}, {op.stop}).", table=table.spec.name
            )
        values = None
        if code != OpCode.PULL:
            values = next(arrays)
            _check(values, (table.elements(op.start, op.stop),), table)
        return Target(code, table, None, op.start, op.stop, values)

    def export(self, table_id: int, bucket: int, start: int, limit: int) -> list[Array]:
        """Keys and rows of one bucket from slot `start` on, at most `limit`; copies."""
        if start < 0 or limit < 1:
            raise ProtocolError(
                f"An export must start at a slot >= 0 and ask for at least 1 row. Got start {start}, limit {limit}.",
                table=table_id,
            )
        with self.use([table_id]) as use:
            return self._export(use.tables[0], bucket, start, limit)

    def _export(self, table: Table, bucket: int, start: int, limit: int) -> list[Array]:
        if bucket not in self.buckets:
            raise InvalidInput(f"Bucket {bucket} must be on this node.", bucket=bucket, table=table.spec.name)
        if isinstance(table, DenseTable):
            first, last = table.range_of(bucket)
            a, b = min(last, first + start), min(last, first + start + limit)
            return [
                np.arange(a, b, dtype=np.int64),
                table.gather(bucket, bucket + 1)[a - first : b - first].reshape(-1, 1),
            ]
        rows = table.rows_of(bucket)
        stop = min(len(rows), start + limit)
        return [table.index.keys_of(bucket)[start:stop].copy(), rows[start:stop].copy()]

    def report(self) -> dict[str, dict[str, int]]:
        """Rows and bytes of each table, by id."""
        report = {}
        for table_id, table in list(self.tables.items()):
            if isinstance(table, DenseTable):
                rows = table.elements(0, NUM_BUCKETS)
            else:
                rows = int(table.index.counts().sum())
            report[str(table_id)] = {"rows": rows, "bytes": table.nbytes()}
        return report

    def index_bytes(self) -> int:
        """Bytes of all key indexes."""
        return sum(index.nbytes() for index in list(self._indexes.values()))


def _keys(keys: Array, spec: TableSpec) -> NDArray[np.int64]:
    if keys.dtype != _INT64 or keys.ndim != 1:
        raise InvalidInput(
            f"The keys of table {spec.name!r} must be int64 of shape (n,). Got {keys.dtype} of shape {keys.shape}.",
            table=spec.name,
        )
    return keys


def _check(values: Array, shape: tuple[int, ...], table: Table) -> None:
    if values.dtype != table.dtype or values.shape != shape:
        name = table.spec.name
        raise InvalidInput(
            f"The values for table {name!r} must be {table.dtype} of shape {shape}. Got {values.dtype} of shape {values.shape}.",
            table=name,
        )
