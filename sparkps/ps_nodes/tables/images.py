"""Tables as they are at one moment, though writes go on: what a checkpoint copies bucket by bucket.

Nothing is copied when an image is taken. A row that is changed before its bucket is copied is kept aside first, as it was (a
*before-image*: Gray and Reuter, *Transaction Processing*, 1993, section 10.3), once. Rows of keys that come later lie behind the
others, so that the number of rows tells them apart.

Whoever changes rows tells the image before (`keep`, `keep_all`), and has their buckets to itself meanwhile; so has who takes one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import CheckpointError
from sparkps.kernels import images, layout
from sparkps.kernels.compiled import words_of
from sparkps.ps_nodes.tables.bucket_rows import BucketRows, TableRows
from sparkps.ps_nodes.tables.changes import Buckets, Changed, Runs
from sparkps.ps_nodes.tables.dense import DenseShards
from sparkps.ps_nodes.tables.index import KeyIndex
from sparkps.ps_nodes.tables.sparse import SparseShards
from sparkps.ps_nodes.tables.taken_buckets import TableChanges, TakenBucket, is_little
from sparkps.specs import NUM_BUCKETS

Array = NDArray[Any]


#: Whether there is memory for so many bytes more.
HasRoom = Callable[[int], bool]

#: Bytes that are kept aside between two looks at the room that there is.
LOOK_AT_ROOM = 1 << 20


class TableImage:
    """One table in some buckets, as each is when it is begun.

    Parameters
    ----------
    table : SparseShards or DenseShards
    has_room : callable
        Whether there is memory for so many bytes more.
    """

    def __init__(self, table: SparseShards | DenseShards, has_room: HasRoom = lambda nbytes: True) -> None:
        self.table: Any = table
        self._has_room = has_room
        #: By bucket: rows, and steps of the optimizer's schedule.
        self.counts = np.zeros(NUM_BUCKETS, np.int64)
        self._steps = np.zeros(NUM_BUCKETS, np.int64)
        self._is_watched = np.zeros(NUM_BUCKETS, bool)
        #: Buckets that were kept aside as a whole.
        self._whole: dict[int, tuple[Array, ...]] = {}
        #: There was no memory to keep something aside.
        self.is_torn = False

    def begin(self, bucket: int) -> None:
        """The image has the bucket as it is now."""
        self.counts[bucket] = self.table.lock_heads[bucket, layout.COUNT]
        self._steps[bucket] = self.table.steps.of(bucket)
        self._is_watched[bucket] = True

    def version(self, bucket: int) -> int:
        """Of the bucket's content: right after `begin`."""
        version: int = self.table.watch().versions.of(bucket, int(self.counts[bucket]))
        return version

    def since(self, bucket: int) -> int:
        """Number of the content since which changes are known; 0: they are not."""
        return 0

    def keep(self, slots: NDArray[np.int32], runs: Runs) -> None:
        """Rows are about to be changed."""
        self.keep_all(runs[0])

    def keep_all(self, buckets: Buckets) -> None:
        """Any row of these buckets may be about to be changed."""
        for bucket in buckets[self._is_watched[buckets]].tolist():
            try:
                if not self._has_room(int(self.counts[bucket]) * self.table.key_bytes):
                    raise MemoryError
                self._whole[bucket] = self._copied(bucket)
            except MemoryError:
                self._tear()
                return
            self.let_be(bucket)

    def take(self, bucket: int) -> TableRows:
        """The bucket as it was. Once; it is not watched any more."""
        planes = self._whole.pop(bucket, None) or self._copied(bucket)
        self.let_be(bucket)
        is_dense = self.table.index is None
        if is_dense:
            planes = tuple(plane.reshape(-1) for plane in planes)
        return TableRows(0 if is_dense else self.table.spec.index, int(self._steps[bucket]), planes)

    def take_changes(self, bucket: int) -> TableChanges | None:
        """What has changed in the bucket until then, in place of `take`; None: too much."""
        return None

    def let_be(self, bucket: int) -> None:
        """The bucket is not needed any more, but for what was kept of it as a whole."""
        self._is_watched[bucket] = False

    def leave(self, bucket: int) -> None:
        """The bucket is not needed any more, whether it was taken or not."""
        self.let_be(bucket)

    @property
    def nbytes(self) -> int:
        """Bytes that are kept aside."""
        return sum(plane.nbytes for planes in list(self._whole.values()) for plane in planes)

    def _copied(self, bucket: int) -> tuple[Array, ...]:
        count = int(self.counts[bucket])
        return tuple(self.table.plane_of(bucket, plane)[:count].copy() for plane in range(self.table.rule.planes))

    def _tear(self) -> None:
        """The write must go on, without what should have been kept."""
        self.is_torn = True
        self._is_watched[:] = False
        self._whole = {}


#: Rows of one bucket as they were before one write, among those of others that it kept: slots (n,), planes of rows (n, dim), and where the
#: bucket's begin and end in these.
_Kept = tuple[NDArray[np.int32], tuple[Array, ...], int, int]


class SparseImage(TableImage):
    """The image of a sparse table: rows are kept aside one by one."""

    def __init__(self, table: SparseShards, has_room: HasRoom = lambda nbytes: True) -> None:
        super().__init__(table, has_room)
        #: By bucket: bytes of rows that are kept aside. Since the room was looked at last, in all of them; roughly.
        self._kept_bytes: dict[int, int] = {}
        self._kept_lately = 0
        #: By bucket that is watched and has rows: by row whether it is kept, uint8 (count,); and the addresses of these.
        self._flags: dict[int, NDArray[np.uint8]] = {}
        self._flags_at = np.zeros(NUM_BUCKETS, np.int64)
        #: By bucket.
        self._kept: dict[int, list[_Kept]] = {}
        self._keep_rows = images.keep_rows.of(table.spec.stored)
        self._changes = table.watch().rows
        #: By bucket that is begun and not left: what has changed until then; and the number of the content.
        self._cuts: dict[int, Changed] = {}
        self._numbers: dict[int, int] = {}

    def begin(self, bucket: int) -> None:
        """See `TableImage`."""
        super().begin(bucket)
        self._cuts[bucket] = self._changes.cut(bucket, int(self.counts[bucket]))
        if self.counts[bucket]:
            self._flags[bucket] = flags = np.zeros(self.counts[bucket], np.uint8)
            self._flags_at[bucket] = flags.ctypes.data

    def keep(self, slots: NDArray[np.int32], runs: Runs) -> None:
        """See `TableImage`."""
        if not self._is_watched[runs[0]].any():
            return
        table = self.table
        try:
            kept, ends = np.empty(len(slots), np.int32), np.empty(len(runs[0]) + 1, np.int64)
            rows = np.empty((len(slots), table.spec.dim), words_of(table.spec.stored).dtype)
            states = np.empty((table.rule.planes - 1, *rows.shape), table.dtype)
            heads = table.heads, table.lock_heads
            count = self._keep_rows(*heads, *runs, slots, self.counts, self._flags_at, kept, ends, rows, states)
            if not count:
                return
            planes = (rows.view(table.plane_dtypes[0]), *states)
            if count < len(slots):
                kept, planes = kept[:count].copy(), tuple(plane[:count].copy() for plane in planes)
        except MemoryError:
            self._tear()
            return
        each, starts = 4 + table.key_bytes, ends.tolist()
        for bucket, first, last in zip(runs[0].tolist(), starts, starts[1:], strict=False):
            if last > first:
                self._kept.setdefault(bucket, []).append((kept, planes, first, last))
                self._kept_bytes[bucket] = self._kept_bytes.get(bucket, 0) + each * (last - first)
        self._kept_lately += each * count
        if self._kept_lately > LOOK_AT_ROOM:
            self._kept_lately = 0
            if not self._has_room(0):
                self._tear()

    def version(self, bucket: int) -> int:
        """See `TableImage`."""
        self._numbers[bucket] = number = super().version(bucket)
        return number

    def since(self, bucket: int) -> int:
        """See `TableImage`."""
        return self._cuts[bucket].since

    def let_be(self, bucket: int) -> None:
        """See `TableImage`."""
        super().let_be(bucket)
        self._flags_at[bucket] = 0
        self._flags.pop(bucket, None)

    @property
    def nbytes(self) -> int:
        """See `TableImage`."""
        flags = sum([flags.nbytes for flags in list(self._flags.values())])
        return super().nbytes + flags + sum(list(self._kept_bytes.values()))

    def _copied(self, bucket: int) -> tuple[Array, ...]:
        planes, kept = super()._copied(bucket), self._kept.get(bucket)
        if kept:
            slots = np.concatenate([slots[first:last] for slots, _, first, last in kept])
            for number, plane in enumerate(planes):
                plane[slots] = np.concatenate([before[number][first:last] for _, before, first, last in kept])
        return planes

    def take(self, bucket: int) -> TableRows:
        """See `TableImage`."""
        rows = super().take(bucket)
        self._let_go(bucket)
        cut = self._cuts.pop(bucket)
        if bucket in self._numbers:
            self._changes.taken_whole(bucket, cut, self._numbers[bucket])
        return rows

    def take_changes(self, bucket: int) -> TableChanges | None:
        """See `TableImage`."""
        count = int(self.counts[bucket])
        slots = self._cuts[bucket].slots(count)
        each = self.table.key_bytes
        if not is_little(len(slots) * (each + slots.itemsize), count * each):
            return None
        planes = self._rows_of(bucket, slots)
        self.leave(bucket)
        return TableChanges(slots, int(self._steps[bucket]), planes)

    def _rows_of(self, bucket: int, slots: NDArray[np.int32]) -> tuple[Array, ...]:
        """Some rows of a bucket as they were."""
        whole = self._whole.pop(bucket, None)
        if whole is not None:
            return tuple(plane[slots] for plane in whole)
        planes = tuple(self.table.plane_of(bucket, plane)[slots] for plane in range(self.table.rule.planes))
        for kept, before, first, last in self._kept.pop(bucket, ()):
            places = np.searchsorted(slots, kept[first:last])
            found = np.flatnonzero(slots[np.minimum(places, len(slots) - 1)] == kept[first:last]) if len(slots) else places[:0]
            for plane, own in zip(planes, before, strict=True):
                plane[places[found]] = own[first + found]
        return planes

    def leave(self, bucket: int) -> None:
        """See `TableImage`."""
        super().leave(bucket)
        self._let_go(bucket)
        cut = self._cuts.pop(bucket, None)
        if cut is not None:
            self._changes.not_taken(bucket, cut)

    def _let_go(self, bucket: int) -> None:
        self._kept.pop(bucket, None)
        self._kept_bytes.pop(bucket, None)

    def _tear(self) -> None:
        super()._tear()
        self._flags_at[:] = 0  # flags stay: another write may be using them
        self._kept, self._kept_bytes = {}, {}


class NodeImage:
    """Some tables of a node, as each bucket is when it is begun: all tables at once, or those of one shard after the other.

    Parameters
    ----------
    tables : sequence of SparseShards or DenseShards
        They must be in use until `end`.
    has_room : callable
        Whether there is memory for so many bytes more.
    """

    def __init__(self, tables: Sequence[SparseShards | DenseShards], has_room: HasRoom = lambda nbytes: True) -> None:
        self._images: dict[int, TableImage] = {}
        #: By number of the index.
        self._of_indexes: dict[int, tuple[KeyIndex, TableImage]] = {}
        #: By bucket and number of the index: versions of its keys.
        self._key_versions: dict[tuple[int, int], int] = {}
        for table in tables:
            made = SparseImage(table, has_room) if isinstance(table, SparseShards) else TableImage(table, has_room)
            self._images[table.spec.table] = made
            if isinstance(table, SparseShards):
                self._of_indexes[table.spec.index] = table.index, made
        #: Of the tables' shards: tables that share an index share these, too.
        self.orders = list(dict.fromkeys([table.order for table in tables]))
        for image in self._images.values():
            image.table.watch().image = image

    def _in(self, order: int | None) -> dict[int, TableImage]:
        """Images of the tables in shards of this order, by id; None: all."""
        return {number: image for number, image in self._images.items() if order is None or image.table.order == order}

    def begin(self, bucket: int, order: int | None = None) -> None:
        """The image has the bucket as it is now. Nobody may be changing it."""
        for image in self._in(order).values():
            image.begin(bucket)

    def versions(self, bucket: int, order: int | None = None) -> tuple[dict[int, int], dict[int, int]]:
        """Versions of what a bucket has, in each table and in each index, by their ids. After `begin`, before anybody changes it."""
        images = self._in(order)
        indexes = {}
        for number, (index, image) in self._of_indexes.items():
            if image.table.spec.table in images:
                indexes[number] = self._key_versions[bucket, number] = index.watch().of(bucket, int(image.counts[bucket]))
        return {number: image.version(bucket) for number, image in images.items()}, indexes

    def since(self, bucket: int) -> tuple[dict[int, int], dict[int, int]]:
        """Versions since which it is known what has changed, as `versions`; 0: it is not. After `versions`, before `take`."""
        tables = {number: image.since(bucket) for number, image in self._images.items()}
        return tables, {number: index.watch().taken(bucket)[0] for number, (index, _) in self._of_indexes.items()}

    @property
    def nbytes(self) -> int:
        """Bytes that are kept aside."""
        return sum(image.nbytes for image in self._images.values())

    def take(
        self, bucket: int, tables: Collection[int], indexes: Iterable[int], changes: Collection[int] = (), more: Collection[int] = (),
        *, order: int | None = None,
    ) -> TakenBucket:  # fmt: skip
        """A bucket as it was, in some tables and with the keys of some indexes. Once.

        Parameters
        ----------
        bucket : int
        tables, indexes : collection of int
            Ids of what to take.
        changes, more : collection of int
            Ids of those of which what has changed, or come, will do.
        order : int, optional
            Only what is in shards of this order.

        Raises
        ------
        CheckpointError
            There was no memory to keep aside what was changed since.
        """
        images = self._in(order)
        mine = [number for number, (_, image) in self._of_indexes.items() if image.table.spec.table in images]
        more_keys = {number: come for number in mine if number in more and (come := self._new_keys(bucket, number)) is not None}
        keys = {number: self._keys(bucket, number) for number in indexes if number in mine and number not in more_keys}
        changed = {n: found for n, image in images.items() if n in changes and (found := image.take_changes(bucket)) is not None}
        whole = {number: image.take(bucket) for number, image in images.items() if number in tables and number not in changed}
        for image in images.values():
            image.leave(bucket)
        if any(image.is_torn for image in images.values()):
            raise CheckpointError(
                "A checkpoint must have memory for rows that are changed while it is written, as they were. There was none: give nodes more"
                " (`spark.sparkps.nodeMemory`), or write to a faster disk."
            )
        return TakenBucket(BucketRows(bucket, keys, whole), changed, more_keys)

    def _keys(self, bucket: int, number: int) -> NDArray[np.int64]:
        """All keys of a bucket."""
        index, image = self._of_indexes[number]
        keys = index.keys_of(bucket)[: int(image.counts[bucket])]
        if (bucket, number) in self._key_versions:
            index.watch().taken_whole(bucket, self._key_versions[bucket, number], len(keys))
        return keys

    def _new_keys(self, bucket: int, number: int) -> NDArray[np.int64] | None:
        """Keys that have come; None: too many."""
        index, image = self._of_indexes[number]
        before, count = index.watch().taken(bucket)[1], int(image.counts[bucket])
        if not is_little(8 * (count - before), 8 * count):
            return None
        return index.keys_of(bucket)[before:count].copy()

    def end(self) -> None:
        """Nothing is kept aside any more. Any number of times."""
        for image in self._images.values():
            watcher = image.table.watch()
            if watcher.image is image:
                watcher.image = None


__all__ = ["HasRoom", "NodeImage", "SparseImage", "TableImage"]
