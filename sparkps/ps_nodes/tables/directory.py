"""The tables of a node, and who uses them. Thread-safe: shards lock themselves, the directory of tables has a lock.

No operation outlives what it points to: whoever works on tables has them *in use*. A table that is dropped meanwhile is
unknown to others at once, and keeps its place in its index until the last one lets go of it.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import InvalidInput, ProtocolError, TableMismatch, UnknownTable
from sparkps.kernels import ahead
from sparkps.ps_nodes.tables.bucket_rows import BucketRows, TableRows
from sparkps.ps_nodes.tables.dense import DenseShards
from sparkps.ps_nodes.tables.growth import FACTOR, Growth
from sparkps.ps_nodes.tables.index import KeyIndex
from sparkps.ps_nodes.tables.optimizers import rule_of
from sparkps.ps_nodes.tables.sparse import SparseShards
from sparkps.specs import NUM_BUCKETS, TableSpec
from sparkps.wire.buckets import bits_of, buckets_in, mask_of
from sparkps.wire.placement import dense_bounds

log = logging.getLogger(__name__)

#: What a node holds of a table.
Table = SparseShards | DenseShards

#: Kernels that tables call besides that of their optimizer. They are loaded with the first table: later there may be no memory.
KERNELS = tuple(f"{ahead.TIER}.{name}" for name in ("lookup", "rows", "merging", "vectors", "images"))

#: Types of numbers that most tables have.
_DTYPES = ("float32", "float64")

_NO_KEYS = np.empty(0, np.int64)


def load_ahead() -> None:
    """Load what tables call, as far as it is compiled, while nobody waits: the first table takes a fifth of a second otherwise."""
    try:
        for dtype in _DTYPES:
            ahead.load_kept(dtype, *KERNELS)
    except MemoryError as error:  # whoever makes a table is told
        log.debug("kernels were not loaded ahead: %s", error)


class Use:
    """Some tables in use, until `release`; a context manager. Made by `Tables.use`."""

    __slots__ = ("_directory", "_is_call", "_moves", "tables")

    def __init__(self, directory: Tables, tables: list[Table], moves: int = 0) -> None:
        self._directory = directory
        self._moves = moves
        self._is_call = False
        self.tables = tables

    def mark_call(self) -> None:
        """A user's function runs on them until `release`: however long that takes, they are used."""
        if not self._is_call:
            self._is_call = True
            self._directory.calls(self.tables, 1)

    def release(self) -> None:
        """Let go of the tables; does nothing the second time."""
        tables, self.tables = self.tables, []
        if tables:
            if self._is_call:
                self._directory.calls(tables, -1)
            self._directory.release(tables, self._moves)

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
    buckets : iterable of int
        The buckets that this node holds at first.
    post : callable, optional
        Runs what it is given when nobody works on tables without having them in use: on the I/O thread, now or soon.
    growth : Growth, optional
        Told how tables grow.
    """

    def __init__(
        self,
        buckets: Iterable[int] = (),
        post: Callable[[Callable[[], None]], None] = lambda job: job(),
        growth: Growth | None = None,
    ) -> None:
        self._post = post
        #: Told how tables grow.
        self.growth = Growth() if growth is None else growth
        #: All buckets of which the node has copies, its own and others', as bits. Owner: `_changing`.
        self.held = mask_of(np.fromiter(buckets, np.int32))
        #: Owner: `_lock` for changes; reads are of a plain dict.
        self.by_id: dict[int, Table] = {}
        self._indexes: dict[int, KeyIndex] = {}
        #: How many requests there were of each table, about: any thread adds to it, and one of two at a moment may not be counted.
        self._uses: dict[int, int] = {}
        #: Users' functions that run on each table; see `Use.mark_call`. Owner: `_lock`.
        self._calls: Counter[int] = Counter()
        #: Names of dropped tables, for those who still ask for them; owner: `_lock`.
        self._dropped: dict[int, str] = {}
        #: How many work on each table, by its id; tables that nobody uses are not in it. Owner: `_lock`.
        self._users: dict[int, int] = {}
        #: Tables that were dropped while somebody used them, and are freed by the last one. Owner: `_lock`.
        self._leaving: dict[int, Table] = {}
        #: How often buckets were let go. Owner: `_lock`.
        self._moves = 0
        #: Who began to work on tables before which of these: number of users by `_moves` at that time; no 0. Owner: `_lock`.
        self._users_before: dict[int, int] = {}
        #: By `_moves` before: buckets that were let go then, as bits, and may still be read. Owner: `_lock`.
        self._leaving_buckets: dict[int, int] = {}
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
            for dtype in {spec.dtype, spec.stored}:
                ahead.load_kept(dtype, *KERNELS)
            made = DenseShards(spec, self._numbers()) if spec.kind == "dense" else self._sparse(spec)
            with self._lock:
                self.by_id[spec.table] = made

    def _sparse(self, spec: TableSpec) -> SparseShards:
        index = self._indexes.get(spec.index)
        if index is None:
            index = self._indexes[spec.index] = KeyIndex(self._numbers(), self.growth)
        table = SparseShards(spec, index)
        index.attach(table)
        return table

    def _numbers(self) -> list[int]:
        return list(buckets_in(self.held))

    def drop(self, table_id: int) -> int:
        """Forget a table, and free it when nobody uses it; returns the id of its index if no table has that any more, else 0."""
        with self._changing:
            with self._lock:
                table = self.by_id.pop(table_id, None)
                if table is None:
                    return 0
                self._uses.pop(table_id, None)
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
            return self._begun(tables)

    def note(self, table_ids: Iterable[int]) -> None:
        """A client asks for something of tables that are here: the coordinator is told how often that was."""
        for table_id in table_ids:
            self._uses[table_id] = self._uses.get(table_id, 0) + 1

    def calls(self, tables: Iterable[Table], more: int) -> None:
        """Functions begin to run on tables (1), or have ended (-1)."""
        with self._lock:
            for table in tables:
                self._calls[table.spec.table] += more
            self._calls = +self._calls

    def _begun(self, tables: list[Table]) -> Use:
        moves = self._moves
        if tables:
            self._users_before[moves] = self._users_before.get(moves, 0) + 1
        return Use(self, tables, moves)

    def use_again(self, tables: Iterable[Table]) -> Use:
        """Those of `tables` that were not dropped since, in use from now on."""
        with self._lock:
            left = [table for table in tables if self.by_id.get(table.spec.table) is table]
            for table in left:
                self._users[table.spec.table] = self._users.get(table.spec.table, 0) + 1
            return self._begun(left)

    def release(self, tables: Sequence[Table], moves: int) -> None:
        """Somebody lets go of tables; the last one frees those that were dropped, and buckets that were let go. See `Use`."""
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
            others = self._users_before[moves] - 1
            if others:
                self._users_before[moves] = others
            else:
                del self._users_before[moves]
            idle = bool(self._leaving_buckets) and not others
        for table in unused:
            table.free()
        if idle:
            self._post(self._free_buckets)

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

    # ---- buckets that come and go ----------------------------------------------------------------------------------------

    def hold(self, buckets: int) -> None:
        """These buckets (bits) are here from now on: without keys, and with the first elements of dense tables."""
        with self._changing:
            with self._lock:  # what may still be read goes on being used
                self._leaving_buckets = {moves: left & ~buckets for moves, left in self._leaving_buckets.items()}
            for shards in self._all_shards():
                shards.hold(buckets)
            self.held |= buckets

    def let_go(self, buckets: int) -> None:
        """These buckets (bits) are not here any more.

        The caller sees to it that nobody writes to them, as an `Entry` on their shards does, and that no new request reads them.
        What is being read stays where it is until the last request that had tables in use has ended; then its memory is freed.
        """
        with self._changing:
            self.held &= ~buckets
            for shards in self._all_shards():
                shards.let_go(buckets)
            with self._lock:
                self._leaving_buckets[self._moves] = buckets
                self._moves += 1
        self._post(self._free_buckets)

    def _free_buckets(self) -> None:
        """Free buckets that were let go before all who work on tables now began."""
        with self._changing:
            with self._lock:
                oldest = min(self._users_before, default=self._moves)
                over = [moves for moves in self._leaving_buckets if moves < oldest]
                gone = [self._leaving_buckets.pop(moves) for moves in over]
            for buckets in gone:
                for index in list(self._indexes.values()):
                    index.free(buckets)
                for table in list(self.by_id.values()):
                    if isinstance(table, DenseShards):
                        table.free_buckets(buckets)

    def _all_shards(self) -> list[KeyIndex | DenseShards]:
        dense = [table for table in self.by_id.values() if isinstance(table, DenseShards)]
        return [*self._indexes.values(), *dense]

    def shards_of(self, buckets: int) -> dict[int, int]:
        """All shards in these buckets (bits): what an `Entry` names that needs all tables there."""
        return dict.fromkeys([table.order for table in list(self.by_id.values())], buckets)

    def copy_bucket(self, bucket: int, orders: Container[int] | None = None) -> BucketRows:
        """All that is here of one bucket. The caller keeps writers from it, as an `Entry` on its shards does.

        Parameters
        ----------
        bucket : int
        orders : container of int, optional
            Only tables whose `order` is among these: those that the entry names. Writers of one created since wait for nobody.

        Raises
        ------
        InvalidInput
            The bucket is not here.
        """
        with self._changing:
            self._check_held(bucket)
            tables = self._ordered_by(orders)
            indexes = {number: index for number, index in self._indexes.items() if orders is None or -number in orders}
        keys = {number: index.keys_of(bucket) for number, index in indexes.items()}
        copies = {}
        for number, table in tables.items():
            planes = [table.plane_of(bucket, plane).copy() for plane in range(table.rule.planes)]
            if table.index is None:
                planes = [plane.reshape(-1) for plane in planes]
            copies[number] = TableRows(0 if table.index is None else table.spec.index, table.steps.of(bucket), tuple(planes))
        return BucketRows(bucket, keys, copies)

    def adopt_bucket(self, rows: BucketRows, orders: Container[int] | None = None) -> None:
        """A bucket that is here gets all that `copy_bucket` gave elsewhere, in place of what it has.

        Tables that `rows` lacks begin with first rows for its keys; those that are not here are ignored. The caller keeps all others
        from the bucket; keys may be inserted into other buckets meanwhile. `orders` as for `copy_bucket`.

        Raises
        ------
        InvalidInput
            The bucket is not here.
        TableMismatch
            A table has another shape, dtype or optimizer here. Nothing was changed.
        ProtocolError
            Keys that do not belong into the bucket.
        """
        bucket = rows.bucket
        rows.check()
        with self._changing:
            self._check_held(bucket)
            tables = self._ordered_by(orders)
            for number, table in tables.items():
                _check_fits(table, bucket, rows.tables.get(number))
            for number, index in self._indexes.items():
                if orders is not None and -number not in orders:
                    continue
                begun = [t for t in self.by_id.values() if t.index is index and t.spec.table not in rows.tables]
                index.replace(bucket, rows.keys.get(number, _NO_KEYS), [t for t in begun if isinstance(t, SparseShards)])
            for number, table in tables.items():
                given = rows.tables.get(number)
                if given is not None:
                    table.replace(bucket, given.planes, given.step)
                elif table.index is None and table.held >> bucket & 1:
                    table.begin(bucket)

    def _ordered_by(self, orders: Container[int] | None) -> dict[int, Table]:
        return {number: table for number, table in self.by_id.items() if orders is None or table.order in orders}

    def _check_held(self, bucket: int) -> None:
        if not self.held >> bucket & 1:
            raise InvalidInput(f"Bucket {bucket} must be on this node.", bucket=bucket)

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
            if not 0 <= bucket < NUM_BUCKETS or not self.held >> bucket & 1:
                raise InvalidInput(f"Bucket {bucket} must be on this node.", bucket=bucket, table=table.spec.name)
            return table.export(bucket, start, limit)

    def report(self, buckets: int) -> dict[str, dict[str, int]]:
        """Rows of each table in these buckets (bits), all its bytes, and how many requests there were of it, by id."""
        self.note(list(self._calls))
        return {
            str(table_id): {"rows": table.row_count(buckets), "bytes": table.nbytes(), "uses": self._uses.get(table_id, 0)}
            for table_id, table in list(self.by_id.items())
        }

    def sizes(self) -> tuple[int, int]:
        """Bytes of sparse tables with their indexes, which grow; and of dense ones, which do not."""
        sparse = dense = 0
        for table in list(self.by_id.values()):
            if table.index is None:
                dense += table.nbytes()
            else:
                sparse += table.nbytes()
        return sparse + self.index_bytes(), dense

    def indexes(self) -> list[KeyIndex]:
        """All key indexes."""
        return list(self._indexes.values())

    def bytes_of_new(self, spec: TableSpec) -> int:
        """What a table of this specification would begin with here; 0: it is here."""
        if spec.table in self.by_id:
            return 0
        each = spec.bytes_of_key(rule_of(spec.optimizer).planes)
        if spec.kind == "dense":
            return each * int(np.diff(dense_bounds(spec.size))[bits_of(self.held)].sum())
        index = self._indexes.get(spec.index)
        return 0 if index is None else int(FACTOR * each * int(index.counts().sum()))

    def index_bytes(self) -> int:
        """Bytes of all key indexes."""
        return sum(index.nbytes() for index in list(self._indexes.values()))


def _listed(dtypes: Iterable[np.dtype[Any]]) -> str:
    return ", ".join(map(str, dtypes))


def _check_fits(table: Table, bucket: int, given: TableRows | None) -> None:
    """Whether a table can take the planes that came for it."""
    if given is None:
        return
    first, last = table.range_of(bucket) if isinstance(table, DenseShards) else (0, len(given.planes[0]))
    shape = (last - first,) if table.index is None else (last, table.spec.dim)
    index = 0 if table.index is None else table.spec.index
    got = [(plane.shape, plane.dtype) for plane in given.planes]
    if given.index != index or got != [(shape, dtype) for dtype in table.plane_dtypes]:
        raise TableMismatch(
            f"Bucket {bucket} of table {table.spec.name!r} must have planes of {_listed(table.plane_dtypes)} of shape {shape}."
            f" Got {_listed(dtype for _, dtype in got)} of shape {got[0][0]}: it was made with another specification.",
            table=table.spec.name,
            bucket=bucket,
        )
