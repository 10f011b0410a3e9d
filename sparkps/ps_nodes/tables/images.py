"""Tables as they are at one moment, though writes go on: what a checkpoint copies bucket by bucket.

Nothing is copied when an image is taken. A row that is changed before its bucket is copied is kept aside first, as it was (a
*before-image*: Gray and Reuter, *Transaction Processing*, 1993, section 10.3), once. Rows of keys that come later lie behind the
others, so that the number of rows tells them apart.

Whoever changes rows tells the image before (`keep`, `keep_all`), and has their buckets to itself meanwhile; so has who takes one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import CheckpointError
from sparkps.kernels import images, layout
from sparkps.ps_nodes.tables.bucket_rows import BucketRows, TableRows
from sparkps.ps_nodes.tables.dense import DenseShards
from sparkps.ps_nodes.tables.index import KeyIndex
from sparkps.ps_nodes.tables.sparse import SparseShards
from sparkps.ps_nodes.tables.watching import Buckets, Runs
from sparkps.specs import NUM_BUCKETS

Array = NDArray[Any]


class TableImage:
    """One table in some buckets, as each is when it is begun.

    Parameters
    ----------
    table : SparseShards or DenseShards
    """

    def __init__(self, table: SparseShards | DenseShards) -> None:
        self.table: Any = table
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

    def keep(self, slots: NDArray[np.int32], runs: Runs) -> None:
        """Rows are about to be changed."""
        self.keep_all(runs[0])

    def keep_all(self, buckets: Buckets) -> None:
        """Any row of these buckets may be about to be changed."""
        for bucket in buckets[self._is_watched[buckets]].tolist():
            try:
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

    def let_be(self, bucket: int) -> None:
        """The bucket is not needed any more, but for what was kept of it as a whole."""
        self._is_watched[bucket] = False

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


#: Rows of one bucket as they were before one write, among those of others that it kept: slots (n,), rows (planes, n, dim), and where the
#: bucket's begin and end in these.
_Kept = tuple[NDArray[np.int32], Array, int, int]


class SparseImage(TableImage):
    """The image of a sparse table: rows are kept aside one by one."""

    def __init__(self, table: SparseShards) -> None:
        super().__init__(table)
        #: By bucket that is watched and has rows: by row whether it is kept, uint8 (count,); and the addresses of these.
        self._flags: dict[int, NDArray[np.uint8]] = {}
        self._flags_at = np.zeros(NUM_BUCKETS, np.int64)
        #: By bucket.
        self._kept: dict[int, list[_Kept]] = {}
        self._keep_rows = images.keep_rows.of(table.spec.dtype)

    def begin(self, bucket: int) -> None:
        """See `TableImage`."""
        super().begin(bucket)
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
            rows = np.empty((table.rule.planes, len(slots), table.spec.dim), table.dtype)
            heads = table.heads, table.lock_heads
            count = self._keep_rows(*heads, *runs, slots, self.counts, self._flags_at, kept, ends, rows)
            if not count:
                return
            if count < len(slots):
                kept, rows = kept[:count].copy(), rows[:, :count].copy()
        except MemoryError:
            self._tear()
            return
        starts = ends.tolist()
        for bucket, first, last in zip(runs[0].tolist(), starts, starts[1:], strict=False):
            if last > first:
                self._kept.setdefault(bucket, []).append((kept, rows, first, last))

    def let_be(self, bucket: int) -> None:
        """See `TableImage`."""
        super().let_be(bucket)
        self._flags_at[bucket] = 0
        self._flags.pop(bucket, None)

    @property
    def nbytes(self) -> int:
        """See `TableImage`."""
        flags = sum(flags.nbytes for flags in list(self._flags.values()))
        each: int = 4 + self.table.row_bytes * self.table.rule.planes
        kept = sum(last - first for some in list(self._kept.values()) for _, _, first, last in list(some))
        return super().nbytes + flags + each * kept

    def _copied(self, bucket: int) -> tuple[Array, ...]:
        planes, kept = super()._copied(bucket), self._kept.get(bucket)
        if kept:
            slots = np.concatenate([slots[first:last] for slots, _, first, last in kept])
            for number, plane in enumerate(planes):
                plane[slots] = np.concatenate([rows[number, first:last] for _, rows, first, last in kept])
        return planes

    def take(self, bucket: int) -> TableRows:
        """See `TableImage`."""
        rows = super().take(bucket)
        self._kept.pop(bucket, None)
        return rows

    def _tear(self) -> None:
        super()._tear()
        self._flags_at[:] = 0  # flags stay: another write may be using them
        self._kept = {}


class NodeImage:
    """Some tables of a node, as each bucket is when it is begun.

    Parameters
    ----------
    tables : sequence of SparseShards or DenseShards
        They must be in use until `end`.
    """

    def __init__(self, tables: Sequence[SparseShards | DenseShards]) -> None:
        self._images: dict[int, TableImage] = {}
        #: By number of the index.
        self._of_indexes: dict[int, tuple[KeyIndex, TableImage]] = {}
        for table in tables:
            made = self._images[table.spec.table] = SparseImage(table) if isinstance(table, SparseShards) else TableImage(table)
            if isinstance(table, SparseShards):
                self._of_indexes[table.spec.index] = table.index, made
        for image in self._images.values():
            image.table.watch().image = image

    def begin(self, bucket: int) -> None:
        """The image has the bucket as it is now. Nobody may be changing it."""
        for image in self._images.values():
            image.begin(bucket)

    def versions(self, bucket: int) -> tuple[dict[int, int], dict[int, int]]:
        """Versions of what a bucket has, in each table and in each index, by their ids. After `begin`, before anybody changes it."""
        tables = {number: image.version(bucket) for number, image in self._images.items()}
        indexes = {
            number: index.watch().of(bucket, int(image.counts[bucket])) for number, (index, image) in self._of_indexes.items()
        }
        return tables, indexes

    @property
    def nbytes(self) -> int:
        """Bytes that are kept aside."""
        return sum(image.nbytes for image in self._images.values())

    def take(self, bucket: int, tables: Collection[int], indexes: Iterable[int]) -> BucketRows:
        """A bucket as it was, in some tables and with the keys of some indexes. Once.

        Raises
        ------
        CheckpointError
            There was no memory to keep aside what was changed since.
        """
        keys = {}
        for number in indexes:
            index, image = self._of_indexes[number]
            keys[number] = index.keys_of(bucket)[: int(image.counts[bucket])]
        found = {number: image.take(bucket) for number, image in self._images.items() if number in tables}
        for image in self._images.values():
            image.let_be(bucket)
        if any(image.is_torn for image in self._images.values()):
            raise CheckpointError(
                "A checkpoint must have memory for rows that are changed while it is written, as they were. There was none: give nodes more"
                " (`spark.sparkps.nodeMemory`), or write to a faster disk."
            )
        return BucketRows(bucket, keys, found)

    def end(self) -> None:
        """Nothing is kept aside any more. Any number of times."""
        for image in self._images.values():
            watcher = image.table.watch()
            if watcher.image is image:
                watcher.image = None


__all__ = ["NodeImage", "SparseImage", "TableImage"]
