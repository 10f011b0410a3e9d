"""The shards of a dense table on a node: the flattened elements of the ranges that its buckets are.

Elements of the node's buckets lie one after the other in one array per plane. Verbs take a range of bucket numbers and the
elements of this node's buckets in it, concatenated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.kernels import layout, lookup, rows
from sparkps.kernels.updates import UPDATES
from sparkps.ps_nodes.tables.buffers import allocate, pointer_table
from sparkps.ps_nodes.tables.optimizers import rule_of
from sparkps.ps_nodes.tables.sparse import StepCounter, law_of
from sparkps.specs import NUM_BUCKETS, TableSpec
from sparkps.wire.buckets import mask_of, mask_of_range
from sparkps.wire.placement import dense_range

Array = NDArray[Any]
Runs = tuple[NDArray[np.int32], NDArray[np.int64]]

#: One request's share of a sum: first bucket, bucket past the last, values.
DensePart = tuple[int, int, Array]

_NO_SLOTS = np.empty(0, np.int32)


class DenseShards:
    """What a node holds of a dense table: the elements in its buckets. Thread-safe.

    Clipping by the row's norm takes as a row what one bucket holds of a run along the last axis.

    Parameters
    ----------
    spec : TableSpec
    buckets : sequence of int
        The buckets of this node.
    """

    #: A dense table has no keys.
    index: None = None

    def __init__(self, spec: TableSpec, buckets: Sequence[int] | NDArray[np.int32]) -> None:
        self.spec = spec
        self.dtype = np.dtype(spec.dtype)
        self.row_bytes = self.dtype.itemsize
        self.rule = rule_of(spec.optimizer)
        #: Ascending, the empty ones included.
        self.buckets = np.unique(np.asarray(buckets, np.int32))
        #: First element of each of the 256 buckets, and the table's size.
        self._first = np.array([dense_range(spec.size, b)[0] for b in range(NUM_BUCKETS)] + [spec.size], np.int64)
        sizes = np.zeros(NUM_BUCKETS, np.int64)
        sizes[self.buckets] = np.diff(self._first)[self.buckets]
        #: Place of each bucket's first element in the planes; the last is their length.
        self._places = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._planes = tuple(allocate(int(self._places[-1]), self.dtype) for _ in range(self.rule.planes))
        #: This node's buckets that hold elements, as bits.
        self._held = mask_of(np.flatnonzero(sizes).astype(np.int32))
        #: Pointer tables: of the planes; and of counts and lock words, which own the elements of their bucket.
        self.heads, self.lock_heads = pointer_table(), pointer_table()
        self.lock_heads[:, layout.COUNT] = sizes
        self.heads[:, layout.ROOM] = sizes
        for number, plane in enumerate(self._planes):
            self.heads[:, layout.PLANE + number] = plane.ctypes.data + self._places[:-1] * self.dtype.itemsize
        self.steps = StepCounter(self.rule, self.heads)
        self._update = UPDATES[self.rule.kernel].of(spec.dtype)
        self._begin()

    def _begin(self) -> None:
        law = law_of(self.spec, self.rule, self.heads)
        begin = rows.begin_elements.of(self.spec.dtype)
        for bucket in self.buckets.tolist():
            begin(int(self._first[bucket]), *law, self._planes[0][self._places[bucket] : self._places[bucket + 1]])
        for plane, value in zip(self._planes[1:], self.rule.state, strict=True):
            plane.fill(value)
        self.written(self.buckets)

    # ---- ranges ----------------------------------------------------------------------------------------------------

    def range_of(self, bucket: int) -> tuple[int, int]:
        """First element of a bucket, and the one past its last."""
        return int(self._first[bucket]), int(self._first[bucket + 1])

    def buckets_in(self, start: int, stop: int) -> NDArray[np.int32]:
        """This node's buckets in [start, stop) that hold elements, ascending."""
        inside = self.buckets[np.searchsorted(self.buckets, start) : np.searchsorted(self.buckets, stop)]
        held: NDArray[np.int32] = inside[self.lock_heads[inside, layout.COUNT] > 0]
        return held

    def mask_in(self, start: int, stop: int) -> int:
        """The same as bits."""
        return self._held & mask_of_range(start, stop)

    def elements(self, start: int, stop: int) -> int:
        """Number of elements of this node's buckets in [start, stop)."""
        return int(self._places[stop] - self._places[start])

    def _runs(self, start: int, stop: int) -> Runs:
        buckets = self.buckets_in(start, stop)
        ends = self._places[buckets + 1] - self._places[start]
        return buckets, np.concatenate([[0], ends]).astype(np.int64)

    # ---- verbs -----------------------------------------------------------------------------------------------------

    def gather(self, start: int, stop: int) -> Array:
        """Elements of this node's buckets in [start, stop), flat: a copy."""
        with self._locked(self.buckets_in(start, stop)):
            return self._planes[0][self._places[start] : self._places[stop]].copy()

    def push(self, start: int, stop: int, grads: Array) -> None:
        """One optimizer step of each touched bucket."""
        self._step(self._runs(start, stop), grads, None)

    def add(self, start: int, stop: int, values: Array) -> None:
        """elements += values."""
        self._write(self._runs(start, stop), values, 1)

    def assign(self, start: int, stop: int, values: Array) -> None:
        """elements = values."""
        self._write(self._runs(start, stop), values, 0)

    def apply_sum(self, parts: Sequence[DensePart], mode: int, step: int | None = None) -> None:
        """Apply the sum of several writes once; see `SparseShards.apply_sum`. Parts are (start, stop, values)."""
        runs, values = self._merged(parts, mode)
        if mode == layout.MODE_PUSH:
            self._step(runs, values, step)
        else:
            self._write(runs, values, int(mode == layout.MODE_ADD))

    def _merged(self, parts: Sequence[DensePart], mode: int) -> tuple[Runs, Array]:
        if len(parts) == 1:
            start, stop, values = parts[0]
            return self._runs(start, stop), values
        start, stop = min(part[0] for part in parts), max(part[1] for part in parts)
        first = self._places[start]
        sums = np.zeros(self.elements(start, stop))
        touched = np.zeros(NUM_BUCKETS, bool)
        for begin, end, values in parts:
            place = slice(self._places[begin] - first, self._places[end] - first)
            if mode == layout.MODE_ASSIGN:
                sums[place] = values
            else:
                sums[place] += values
            touched[begin:end] = True
        buckets, offsets = self._runs(start, stop)
        kept = touched[buckets]
        if not kept.all():
            sums = sums[np.repeat(kept, np.diff(offsets))]
            offsets = np.concatenate([[0], np.cumsum(np.diff(offsets)[kept])]).astype(np.int64)
            buckets = buckets[kept]
        return (buckets, offsets), sums.astype(self.dtype)

    def _step(self, runs: Runs, grads: Array, step: int | None) -> None:
        if self.rule.clips:
            clipped = np.empty_like(grads)
            rows.clip.of(self.spec.dtype)(grads, self._row_starts(runs), *self.rule.bounds, clipped)
            grads = clipped
        hyper, advance = self.steps.next(runs[0], step)
        self._update(self.heads, self.lock_heads, *runs, _NO_SLOTS, grads.reshape(-1, 1), hyper, advance)

    def _row_starts(self, runs: Runs) -> NDArray[np.int64]:
        """Where rows along the last axis begin in the values of `runs`; buckets cut rows."""
        buckets, offsets = runs
        width = self.spec.shape[-1] if self.spec.shape else 1
        starts = [np.zeros(0, np.int64)]
        for bucket, offset in zip(buckets.tolist(), offsets[:-1].tolist(), strict=True):
            first, last = self.range_of(bucket)
            borders = np.arange(-(-(first + 1) // width) * width, last, width)
            starts.append(np.concatenate([[first], borders]) - first + offset)
        return np.concatenate([*starts, offsets[-1:]]).astype(np.int64)

    def _write(self, runs: Runs, values: Array, adding: int) -> None:
        scatter = rows.scatter.of(self.spec.dtype)
        scatter(self.heads, self.lock_heads, *runs, _NO_SLOTS, values.reshape(-1, 1), adding)
        self.written(runs[0])

    @contextmanager
    def _locked(self, buckets: NDArray[np.int32]) -> Iterator[None]:
        lookup.lock_buckets(self.lock_heads, buckets)
        try:
            yield
        finally:
            lookup.unlock_buckets(self.lock_heads, buckets)

    # ---- for server functions --------------------------------------------------------------------------------------

    def sizes(self, buckets: NDArray[np.int32]) -> NDArray[np.int64]:
        """Number of values in each of `buckets`."""
        sizes: NDArray[np.int64] = self.lock_heads[buckets, layout.COUNT]
        return sizes

    def written(self, buckets: NDArray[np.int32]) -> None:
        """To be called after all elements of `buckets` were written without the table's own verbs."""
        if self.rule.dual:
            hyper, nowhere = self.steps.at(buckets), np.zeros(len(buckets) + 1, np.int64)
            like = np.empty(0, self.dtype)
            kernel = rows.rebase_duals.of(self.spec.dtype)
            kernel(self.heads, self.lock_heads, buckets, nowhere, _NO_SLOTS, hyper, 1, like)

    def keys_of(self, bucket: int) -> NDArray[np.int64]:
        """Positions of a bucket's elements in the flattened table."""
        return np.arange(*self.range_of(bucket), dtype=np.int64)

    def rows_of(self, bucket: int) -> Array:
        """Elements of a bucket as rows of one value: ndarray of shape (count, 1), a view."""
        return self.plane_of(bucket, 0)

    def plane_of(self, bucket: int, plane: int) -> Array:
        """Elements (plane 0) or optimizer state of a bucket: ndarray of shape (count, 1), a view."""
        return self._planes[plane][self._places[bucket] : self._places[bucket + 1]].reshape(-1, 1)

    # ---- looking at it ---------------------------------------------------------------------------------------------

    def row_count(self) -> int:
        """Elements on this node."""
        return self.elements(0, NUM_BUCKETS)

    def export(self, bucket: int, start: int, limit: int) -> list[Array]:
        """Positions and elements of one bucket from its element `start` on, at most `limit`; copies."""
        first, last = self.range_of(bucket)
        a, b = min(last, first + start), min(last, first + start + limit)
        elements = self.gather(bucket, bucket + 1)[a - first : b - first]
        return [np.arange(a, b, dtype=np.int64), elements.reshape(-1, 1)]

    # ---- memory ----------------------------------------------------------------------------------------------------

    def nbytes(self) -> int:
        """Bytes of elements and state."""
        return self.heads.nbytes + self.lock_heads.nbytes + sum(plane.nbytes for plane in self._planes)

    def free(self) -> None:
        """Nothing to leave: memory goes when the last request that uses the table lets go of it."""
