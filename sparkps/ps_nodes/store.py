"""The tables of a node and the operations on them. Thread-safe: shards lock themselves, the directory of tables has a lock."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import InvalidInput, ProtocolError, TableMismatch, UnknownTable
from sparkps.ps_nodes.dense import DenseTable
from sparkps.ps_nodes.index import KeyIndex
from sparkps.ps_nodes.keysets import KeyChunk, NodeKeySet
from sparkps.ps_nodes.sparse import SparseTable
from sparkps.specs import NUM_BUCKETS, TableSpec
from sparkps.wire.messages import NO_KEYSET, Op, OpCode

Array = NDArray[Any]


class KeySetMissing(Exception):
    """A request names a key set, or a chunk of one, that the session has not registered here."""

    def __init__(self, keyset: int) -> None:
        super().__init__(keyset)
        self.keyset = keyset


@dataclass(slots=True)
class Target:
    """One operation, checked against the tables: it cannot be refused any more."""

    code: OpCode
    table: SparseTable | DenseTable
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
            dense = {OpCode.PUSH: self.table.push, OpCode.ADD: self.table.add, OpCode.ASSIGN: self.table.assign}[
                self.code
            ]
            dense(self.start, self.stop, self.values)
            return
        assert isinstance(self.table, SparseTable)
        sparse = {OpCode.PUSH: self.table.push, OpCode.ADD: self.table.add, OpCode.ASSIGN: self.table.assign}[self.code]
        sparse(self.chunk.for_writing(), self.chunk.runs, self.values)

    @property
    def size(self) -> int:
        """Keys, or elements of a dense table."""
        if self.chunk is None:
            assert isinstance(self.table, DenseTable)
            return self.table.elements(self.start, self.stop)
        return self.chunk.size

    def buckets(self) -> NDArray[np.int32]:
        """Buckets of this node that the operation touches, ascending."""
        if self.chunk is None:
            assert isinstance(self.table, DenseTable)
            return self.table.buckets_in(self.start, self.stop)
        return self.chunk.runs[0]

    def only(self, mask: NDArray[np.bool_]) -> list[Target]:
        """The same write in those of its `buckets` where the mask is True."""
        assert self.values is not None
        if self.chunk is not None:
            kept = np.repeat(mask, np.diff(self.chunk.runs[1]))
            return [Target(self.code, self.table, self.chunk.only(kept), 0, 0, np.ascontiguousarray(self.values[kept]))]
        assert isinstance(self.table, DenseTable)
        targets, at = [], 0
        for bucket, wanted in zip(self.buckets().tolist(), mask.tolist(), strict=True):
            size = self.table.elements(bucket, bucket + 1)
            if wanted:
                targets.append(Target(self.code, self.table, None, bucket, bucket + 1, self.values[at : at + size]))
            at += size
        return targets

    @staticmethod
    def apply_sum(targets: Sequence[Target], clock: int) -> None:
        """Apply writes of one kind to one table once: their sum per key, in the order given (of assigns the last stays)."""
        table, code = targets[0].table, targets[0].code
        if isinstance(table, DenseTable):
            table.apply_sum([(t.start, t.stop, t.values) for t in targets if t.values is not None], code, clock)
            return
        parts = [(t.chunk.for_writing(), t.chunk.runs, t.values) for t in targets if t.chunk and t.values is not None]
        table.apply_sum(parts, code, clock)


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
        self.tables: dict[int, SparseTable | DenseTable] = {}
        self._indexes: dict[int, KeyIndex] = {}
        #: Names of dropped tables, for those who still ask for them; owner: `_lock`.
        self._dropped: dict[int, str] = {}
        self._lock = threading.Lock()

    # ---- the directory -------------------------------------------------------------------------------------------------

    def create(self, spec: TableSpec) -> None:
        """Create a table; a second call with the same specification does nothing."""
        with self._lock:
            have = self.tables.get(spec.table)
            if have is not None:
                if have.spec != spec:
                    raise TableMismatch(f"Table {spec.table} must be {have.spec}. Got {spec} instead.", table=spec.name)
                return
            if spec.kind == "dense":
                self.tables[spec.table] = DenseTable(spec, self.buckets)
                return
            index = self._indexes.get(spec.index)
            if index is None:
                index = self._indexes[spec.index] = KeyIndex(self.buckets)
            table = SparseTable(spec, index)
            index.attach(table)
            self.tables[spec.table] = table

    def drop(self, table_id: int) -> int:
        """Free a table; returns the id of its index if no table uses that any more, else 0."""
        with self._lock:
            table = self.tables.pop(table_id, None)
            if table is None:
                return 0
            self._dropped[table_id] = table.spec.name
            table.free()
            if isinstance(table, DenseTable):
                return 0
            table.index.detach(table)
            if any(isinstance(t, SparseTable) and t.index is table.index for t in self.tables.values()):
                return 0
            self._indexes.pop(table.spec.index, None)
            return table.spec.index

    def table(self, table_id: int) -> SparseTable | DenseTable:
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
        """Check a step's operations with their arrays; nothing is changed.

        Raises
        ------
        UnknownTable, InvalidInput, ProtocolError, KeySetMissing
        """
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
            table = self.tables.get(op.table)
            if table is None or op.code != OpCode.PULL:
                continue
            if isinstance(table, DenseTable):
                rows = table.elements(op.start, op.stop) if 0 <= op.start < op.stop <= NUM_BUCKETS else 0
            elif op.keyset == NO_KEYSET:
                rows = max((array.shape[0] for array in arrays if array.ndim), default=0)
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
            _check(values, (chunk.size, table.spec.dim), table.spec)
        return Target(code, table, chunk, 0, 0, values)

    def _dense_target(self, code: OpCode, op: Op, table: DenseTable, arrays: Any) -> Target:
        if not 0 <= op.start < op.stop <= NUM_BUCKETS:
            raise ProtocolError(
                f"A bucket range must lie in [0, {NUM_BUCKETS}]. Got [{op.start}, {op.stop}).", table=table.spec.name
            )
        values = None
        if code != OpCode.PULL:
            values = next(arrays)
            _check(values, (table.elements(op.start, op.stop),), table.spec)
        return Target(code, table, None, op.start, op.stop, values)

    def export(self, table_id: int, bucket: int, start: int, limit: int) -> list[Array]:
        """Keys and rows of one bucket from slot `start` on, at most `limit`; copies."""
        table = self.table(table_id)
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
    if keys.dtype != np.int64 or keys.ndim != 1:
        raise InvalidInput(
            f"The keys of table {spec.name!r} must be int64 of shape (n,). Got {keys.dtype} of shape {keys.shape}.",
            table=spec.name,
        )
    return keys


def _check(values: Array, shape: tuple[int, ...], spec: TableSpec) -> None:
    if values.dtype != spec.dtype or values.shape != shape:
        raise InvalidInput(
            f"The values for table {spec.name!r} must be {spec.dtype} of shape {shape}. Got {values.dtype} of shape {values.shape}.",
            table=spec.name,
        )
