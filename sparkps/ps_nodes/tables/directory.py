"""The tables of a node, and who uses them. Thread-safe: shards lock themselves, the directory of tables has a lock.

No operation outlives what it points to: whoever works on tables has them *in use*. A table that is dropped meanwhile is
unknown to others at once, and keeps its place in its index until the last one lets go of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import InvalidInput, ProtocolError, TableMismatch, UnknownTable
from sparkps.kernels import ahead
from sparkps.ps_nodes.tables.dense import DenseShards
from sparkps.ps_nodes.tables.index import KeyIndex
from sparkps.ps_nodes.tables.sparse import SparseShards
from sparkps.specs import TableSpec

#: What a node holds of a table.
Table = SparseShards | DenseShards

#: Kernels that tables call besides that of their optimizer. They are loaded with the first table: later there may be no memory.
KERNELS = tuple(f"{ahead.TIER}.{name}" for name in ("lookup", "rows", "merging", "vectors"))


class Use:
    """Some tables in use, until `release`; a context manager. Made by `Tables.use`."""

    __slots__ = ("_directory", "tables")

    def __init__(self, directory: Tables, tables: list[Table]) -> None:
        self._directory = directory
        self.tables = tables

    def release(self) -> None:
        """Let go of the tables; does nothing the second time."""
        tables, self.tables = self.tables, []
        if tables:
            self._directory.release(tables)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Tables:
    """The tables of a node by id, who uses them, and the key indexes that they share.

    Parameters
    ----------
    buckets : sequence of int
        The buckets that this node holds, ascending.
    """

    def __init__(self, buckets: Sequence[int]) -> None:
        self.buckets = np.asarray(buckets, np.int32)
        #: Owner: `_lock` for changes; reads are of a plain dict.
        self.by_id: dict[int, Table] = {}
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
            have = self.by_id.get(spec.table)
            if have is not None:
                if have.spec != spec:
                    raise TableMismatch(f"Table {spec.table} must be {have.spec}. Got {spec} instead.", table=spec.name)
                return
            ahead.load_kept(spec.dtype, *KERNELS)
            made = DenseShards(spec, self.buckets) if spec.kind == "dense" else self._sparse(spec)
            with self._lock:
                self.by_id[spec.table] = made

    def _sparse(self, spec: TableSpec) -> SparseShards:
        index = self._indexes.get(spec.index)
        if index is None:
            index = self._indexes[spec.index] = KeyIndex(self.buckets)
        table = SparseShards(spec, index)
        index.attach(table)
        return table

    def drop(self, table_id: int) -> int:
        """Forget a table, and free it when nobody uses it; returns the id of its index if no table has that any more, else 0."""
        with self._changing:
            with self._lock:
                table = self.by_id.pop(table_id, None)
                if table is None:
                    return 0
                self._dropped[table_id] = table.spec.name
                used = table_id in self._users
                if used:
                    self._leaving[table_id] = table
            if not used:
                table.free()
            if table.index is None or any(other.index is table.index for other in self.by_id.values()):
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
            tables = [self.by_id.get(table_id) or self.table(table_id) for table_id in table_ids]
            for table in tables:
                table_id = table.spec.table
                users[table_id] = users.get(table_id, 0) + 1
        return Use(self, tables)

    def use_again(self, tables: Iterable[Table]) -> Use:
        """Those of `tables` that were not dropped since, in use from now on."""
        with self._lock:
            left = [table for table in tables if self.by_id.get(table.spec.table) is table]
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
        table = self.by_id.get(table_id)
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

    # ---- looking at them ---------------------------------------------------------------------------------------------------

    def export(self, table_id: int, bucket: int, start: int, limit: int) -> list[NDArray[Any]]:
        """Keys and rows of one bucket from slot `start` on, at most `limit`; copies."""
        if start < 0 or limit < 1:
            raise ProtocolError(
                f"An export must start at a slot >= 0 and ask for at least 1 row. Got start {start}, limit {limit}.",
                table=table_id,
            )
        with self.use([table_id]) as use:
            (table,) = use.tables
            if bucket not in self.buckets:
                raise InvalidInput(f"Bucket {bucket} must be on this node.", bucket=bucket, table=table.spec.name)
            return table.export(bucket, start, limit)

    def report(self) -> dict[str, dict[str, int]]:
        """Rows and bytes of each table, by id."""
        return {
            str(table_id): {"rows": table.row_count(), "bytes": table.nbytes()}
            for table_id, table in list(self.by_id.items())
        }

    def index_bytes(self) -> int:
        """Bytes of all key indexes."""
        return sum(index.nbytes() for index in list(self._indexes.values()))
