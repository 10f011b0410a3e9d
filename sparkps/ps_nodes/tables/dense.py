"""The shards of a dense table on a node: the flattened elements of the ranges that its buckets are.

Each bucket has an array of its own with one plane after the other, so that buckets come and go. Verbs take a set of buckets as
bits and their elements, concatenated in ascending order of the buckets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.kernels import layout, lookup, rows
from sparkps.kernels.compiled import words_of
from sparkps.kernels.updates import UPDATES
from sparkps.ps_nodes.tables.buffers import allocate, pointer_table
from sparkps.ps_nodes.tables.optimizers import rule_of
from sparkps.ps_nodes.tables.sparse import StepCounter, law_of
from sparkps.ps_nodes.tables.watching import Watched
from sparkps.specs import NUM_BUCKETS, TableSpec
from sparkps.wire.buckets import bits_of, buckets_in, mask_of, mask_of_range
from sparkps.wire.placement import dense_bounds

Array = NDArray[Any]
Runs = tuple[NDArray[np.int32], NDArray[np.int64]]

#: One request's share of a sum: buckets as bits, values.
DensePart = tuple[int, Array]

_NO_SLOTS = np.empty(0, np.int32)

#: Most sets of buckets of which a table remembers where their elements lie; clients ask for the same few.
_MOST_RUNS = 32


class DenseShards(Watched):
    """What a node holds of a dense table: the elements in its buckets. Thread-safe.

    Clipping by the row's norm takes as a row what one bucket holds of a run along the last axis.

    Parameters
    ----------
    spec : TableSpec
    buckets : sequence of int
        The buckets that the node holds at first.
    """

    #: A dense table has no keys.
    index: None = None

    def __init__(self, spec: TableSpec, buckets: Sequence[int] | NDArray[np.int32]) -> None:
        self.spec = spec
        #: Changes of shards with the same number are ordered.
        self.order = spec.table
        self.dtype = np.dtype(spec.dtype)
        self.row_bytes = self.dtype.itemsize
        self.rule = rule_of(spec.optimizer)
        self.key_bytes = spec.bytes_of_key(self.rule.planes)
        self.plane_dtypes = (self.dtype,) * self.rule.planes
        #: First element of each of the 256 buckets, and the table's size.
        self._first = dense_bounds(spec.size)
        self._sizes = np.diff(self._first)
        #: Buckets that have elements, here or elsewhere, as bits.
        self._filled = mask_of(np.flatnonzero(self._sizes).astype(np.int32))
        #: Buckets that are here and have elements, as bits.
        self.held = 0
        #: By bucket: the planes of its elements, one after the other.
        self._blocks: list[Array] = [np.empty(0, self.dtype)] * NUM_BUCKETS
        #: By set of buckets: which they are, and where their elements begin in the values of a request.
        self._known_runs: dict[int, Runs] = {}
        #: Pointer tables: of the planes; and of counts and lock words, which own the elements of their bucket.
        self.heads, self.lock_heads = pointer_table(), pointer_table()
        self.law = law_of(spec, self.rule, self.heads)
        self.steps = StepCounter(self.rule, self.heads)
        self._update = UPDATES[self.rule.kernel].of(spec.dtype)
        self._words = words_of(spec.dtype)
        self.hold(mask_of(np.asarray(buckets, np.int32)))

    # ---- buckets that come and go ----------------------------------------------------------------------------------

    def hold(self, buckets: int) -> None:
        """These buckets are here from now on, with their first elements; those that are here already stay as they are."""
        for bucket in buckets_in(buckets & self._filled & ~self.held):
            self.begin(bucket)
        self.held |= buckets & self._filled

    def let_go(self, buckets: int) -> None:
        """These buckets are not here any more; `free_buckets` must follow when nobody reads them."""
        self.held &= ~buckets

    def free_buckets(self, buckets: int) -> None:
        """Give back the memory of buckets that are not here."""
        for bucket in buckets_in(buckets & self._filled & ~self.held):
            self._point(bucket, np.empty(0, self.dtype))

    def begin(self, bucket: int, step: int = 0) -> None:
        """The elements of a bucket as they are at first; the next step is number `step`."""
        size = int(self._sizes[bucket])
        self.replaced(bucket)
        if not len(self._blocks[bucket]):  # else they were let go a moment ago, and may still be read
            self._point(bucket, allocate(size * self.rule.planes, self.dtype, size * self.rule.planes))
        planes = self._blocks[bucket].reshape(self.rule.planes, size)
        rows.begin_elements.of(self.spec.dtype)(int(self._first[bucket]), *self.law, planes[0])
        for plane, value in zip(planes[1:], self.rule.state, strict=True):
            plane.fill(value)
        self.steps.set(bucket, step)
        self.written(np.array([bucket], np.int32))

    def _point(self, bucket: int, block: Array) -> None:
        """`block` holds the planes of a bucket from now on."""
        size = len(block) // self.rule.planes
        where = np.array([bucket], np.int32)
        lookup.lock_buckets(self.lock_heads, where)
        try:
            for plane in range(self.rule.planes):
                self.heads[bucket, layout.PLANE + plane] = block[plane * size :].ctypes.data if size else 0
            self.heads[bucket, layout.ROOM] = self.lock_heads[bucket, layout.COUNT] = size
        finally:
            lookup.unlock_buckets(self.lock_heads, where)
        self._blocks[bucket] = block

    def replace(self, bucket: int, planes: Sequence[Array], step: int) -> None:
        """A bucket that is here gets these planes, of shape (elements,) each, and this number of steps."""
        size = int(self._sizes[bucket])
        self.replaced(bucket)
        for number, plane in enumerate(planes if size else ()):
            self._blocks[bucket][number * size : (number + 1) * size] = plane
        self.steps.set(bucket, step)

    # ---- ranges ----------------------------------------------------------------------------------------------------

    def range_of(self, bucket: int) -> tuple[int, int]:
        """First element of a bucket, and the one past its last."""
        return int(self._first[bucket]), int(self._first[bucket + 1])

    def filled_in(self, start: int, stop: int, among: int) -> int:
        """Those of the buckets [start, stop) that are in `among` and have elements; all as bits."""
        return self._filled & among & mask_of_range(start, stop)

    def elements(self, buckets: int) -> int:
        """Number of elements of these buckets."""
        return int(self.runs(buckets)[1][-1])

    def runs(self, buckets: int) -> Runs:
        """The numbers of these buckets, and where the elements of each begin among those of all: see `KeyIndex.runs`."""
        found = self._known_runs.get(buckets)
        if found is None:
            numbers = np.flatnonzero(bits_of(buckets & self._filled)).astype(np.int32)
            found = numbers, np.concatenate([[0], np.cumsum(self._sizes[numbers])]).astype(np.int64)
            if len(self._known_runs) >= _MOST_RUNS:
                self._known_runs.clear()
            self._known_runs[buckets] = found
        return found

    # ---- verbs -----------------------------------------------------------------------------------------------------

    def gather(self, buckets: int) -> Array:
        """Elements of these buckets, flat: a copy."""
        runs = self.runs(buckets)
        out = np.empty(int(runs[1][-1]), self.dtype)
        rows.read_elements.of(self.spec.dtype)(self.heads, self.lock_heads, *runs, out)
        return out

    def push(self, buckets: int, grads: Array) -> None:
        """One optimizer step of each of these buckets."""
        self._step(self.runs(buckets), grads, None)

    def add(self, buckets: int, values: Array) -> None:
        """elements += values."""
        self._write(self.runs(buckets), values, 1)

    def assign(self, buckets: int, values: Array) -> None:
        """elements = values."""
        self._write(self.runs(buckets), values, 0)

    def apply_sum(self, parts: Sequence[DensePart], mode: int, step: int | None = None) -> None:
        """Apply the sum of several writes once; see `SparseShards.apply_sum`. Parts are (buckets, values)."""
        runs, values = self._merged(parts, mode)
        if mode == layout.MODE_PUSH:
            self._step(runs, values, step)
        else:
            self._write(runs, values, int(mode == layout.MODE_ADD))

    def _merged(self, parts: Sequence[DensePart], mode: int) -> tuple[Runs, Array]:
        if len(parts) == 1:
            return self.runs(parts[0][0]), parts[0][1]
        union = 0
        for buckets, _ in parts:
            union |= buckets
        runs, seen = self.runs(union), 0
        sums = np.empty(int(runs[1][-1]))
        for buckets, values in parts:
            for place, piece, fresh in self._segments(buckets, union, seen):
                if fresh or mode == layout.MODE_ASSIGN:
                    sums[place] = values[piece]  # not added to 0.0: -0.0 stays what it is
                else:
                    sums[place] += values[piece]
            seen |= buckets
        return runs, sums.astype(self.dtype)

    def _segments(self, buckets: int, union: int, seen: int) -> Iterator[tuple[slice, slice, bool]]:
        """Where the elements of `buckets` lie among those of `union`, where among their own, and whether they were not `seen`."""
        (numbers, offsets), (among, starts) = self.runs(buckets), self.runs(union)
        at, fresh = np.searchsorted(among, numbers), ~bits_of(seen)[numbers]
        borders = np.flatnonzero((np.diff(at) != 1) | (fresh[1:] != fresh[:-1])) + 1
        for first, last in pairwise([0, *borders.tolist(), len(numbers)] if len(numbers) else []):
            place = slice(int(starts[at[first]]), int(starts[at[last - 1] + 1]))
            yield place, slice(int(offsets[first]), int(offsets[last])), bool(fresh[first])

    def _step(self, runs: Runs, grads: Array, step: int | None) -> None:
        if self.rule.clips:
            clipped = np.empty_like(grads)
            rows.clip.of(self.spec.dtype)(grads, self._row_starts(runs), *self.rule.bounds, clipped)
            grads = clipped
        self.changing(runs[0])
        hyper, advance = self.steps.next(runs[0], step)
        self._update(self.heads, self.lock_heads, *runs, _NO_SLOTS, grads.reshape(-1, 1), hyper, advance, self._words)

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
        self.changing(runs[0])
        scatter = rows.scatter.of(self.spec.dtype)
        scatter(self.heads, self.lock_heads, *runs, _NO_SLOTS, values.reshape(-1, 1), adding, self._words)
        self.written(runs[0])

    # ---- for server functions --------------------------------------------------------------------------------------

    def sizes(self, buckets: NDArray[np.int32]) -> NDArray[np.int64]:
        """Number of values in each of `buckets`."""
        sizes: NDArray[np.int64] = self.lock_heads[buckets, layout.COUNT]
        return sizes

    def written(self, buckets: NDArray[np.int32]) -> None:
        """To be called after all elements of `buckets` were written without the table's own verbs."""
        if self.rule.dual:
            hyper, nowhere = self.steps.at(buckets), np.zeros(len(buckets) + 1, np.int64)
            kernel = rows.rebase_duals.of(self.spec.dtype)
            kernel(self.heads, self.lock_heads, buckets, nowhere, _NO_SLOTS, hyper, 1, self._words, self._words)

    def keys_of(self, bucket: int) -> NDArray[np.int64]:
        """Positions of a bucket's elements in the flattened table."""
        return np.arange(*self.range_of(bucket), dtype=np.int64)

    def rows_of(self, bucket: int) -> Array:
        """Elements of a bucket as rows of one value: ndarray of shape (count, 1), a view."""
        return self.plane_of(bucket, 0)

    def values_of(self, rows: Array) -> Array:
        """Rows as they lie, as the table's dtype has them."""
        return rows

    def plane_of(self, bucket: int, plane: int) -> Array:
        """Elements (plane 0) or optimizer state of a bucket: ndarray of shape (count, 1), a view."""
        block = self._blocks[bucket]
        size = len(block) // self.rule.planes
        return block[plane * size : (plane + 1) * size].reshape(-1, 1)

    # ---- looking at it ---------------------------------------------------------------------------------------------

    def row_count(self, buckets: int) -> int:
        """Elements in these buckets (bits)."""
        return self.elements(self.held & buckets)

    def export(self, bucket: int, start: int, limit: int) -> list[Array]:
        """Positions and elements of one bucket from its element `start` on, at most `limit`; copies."""
        first, last = self.range_of(bucket)
        a, b = min(last, first + start), min(last, first + start + limit)
        elements = self.gather(1 << bucket)[a - first : b - first]
        return [np.arange(a, b, dtype=np.int64), elements.reshape(-1, 1)]

    # ---- memory ----------------------------------------------------------------------------------------------------

    def nbytes(self) -> int:
        """Bytes of elements and state."""
        return self.heads.nbytes + self.lock_heads.nbytes + int(self.heads[:, layout.ROOM].sum()) * self.key_bytes

    def free(self) -> None:
        """Nothing to leave: memory goes when the last request that uses the table lets go of it."""
