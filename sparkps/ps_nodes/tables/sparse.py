"""The shards of a sparse table on a node: rows and optimizer state of the keys of one index, bucket by bucket.

Plane 0 holds the rows, perhaps in 16 bits (`TableSpec.storage`), further planes the optimizer's state, each (room, dim) per bucket, in
slot order. All verbs take slots that the index gave, and one kernel call does all buckets.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.kernels import layout, lookup, merging, rows
from sparkps.kernels.compiled import words_of
from sparkps.kernels.updates import UPDATES
from sparkps.ps_nodes.tables.buffers import GrowthSeries, allocate, pointer_table
from sparkps.ps_nodes.tables.index import KeyIndex, Runs
from sparkps.ps_nodes.tables.optimizers import UpdateRule, rule_of
from sparkps.ps_nodes.tables.watching import Watched
from sparkps.specs import NUM_BUCKETS, TableSpec
from sparkps.wire.buckets import bits_of
from sparkps.wire.encodings import NAMED, decoded

Array = NDArray[Any]

#: One request's share of a sum: slots, runs, values (n, dim).
SparsePart = tuple[NDArray[np.int32], Runs, Array]

_ROOMS = GrowthSeries(8, 1.5)

_NO_KEYS = np.empty(0, np.int64)
_NO_SLOTS = np.empty(0, np.int32)


def law_of(
    spec: TableSpec, rule: UpdateRule, heads: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How rows of a table begin, for the kernels: int64 (1, 8) and float64 (1, 8) (`kernels.layout`)."""
    ints, floats = np.zeros((1, 8), np.int64), np.zeros((1, 8), np.float64)
    fans = (spec.shape[0], spec.shape[-1]) if spec.shape else (spec.dim, spec.dim)
    kind, a, b = spec.init.law(max(fans[0], 1), max(fans[1], 1))
    seed = ((spec.seed + (1 << 63)) & ((1 << 64) - 1)) - (1 << 63)
    ints[0, layout.LAW_HEADS] = heads.ctypes.data
    ints[0, layout.LAW_DIM] = spec.dim
    ints[0, layout.LAW_STORED] = layout.STORED[spec.stored]
    ints[0, layout.LAW_PLANES] = rule.planes
    ints[0, layout.LAW_KIND] = kind
    ints[0, layout.LAW_SEED] = seed
    ints[0, layout.LAW_DUAL] = rule.dual
    floats[0, layout.LAW_A], floats[0, layout.LAW_B] = a, b
    floats[0, layout.LAW_STATE1 : layout.LAW_STATE1 + len(rule.state)] = rule.state
    floats[0, layout.LAW_SLOPE], floats[0, layout.LAW_L1] = rule.slope, rule.optimizer.l1
    return ints, floats


class StepCounter:
    """The optimizer steps of each bucket, and the hyper-parameters of the next one. Thread-safe."""

    def __init__(self, rule: UpdateRule, heads: NDArray[np.int64]) -> None:
        self._rule = rule
        #: Steps of each bucket so far, a column of the pointer table. Owner: `_lock` if a step's numbers depend on it, else the
        #: buckets' locks.
        self._steps = heads[:, layout.STEP]
        self._lock = threading.Lock()

    def next(self, buckets: NDArray[np.int32], step: int | None = None) -> tuple[NDArray[np.float64], int]:
        """Hyper-parameters for `buckets`, and by how much the kernel must advance their steps.

        `step` is the step to take, where the caller counts them; steps go on from there.
        """
        if step is not None:
            with self._lock:
                self._steps[buckets] = step + 1
            return self._rule.hyper(np.full(len(buckets), step, np.int64)), 0
        if not self._rule.depends_on_step:
            return self._rule.hyper(self._steps[:1]), 1
        with self._lock:
            steps = self._steps[buckets]
            self._steps[buckets] += 1
        return self._rule.hyper(steps), 0

    def set(self, bucket: int, step: int) -> None:
        """A bucket has made this number of steps."""
        with self._lock:
            self._steps[bucket] = step

    def of(self, bucket: int) -> int:
        """Steps of a bucket so far."""
        return int(self._steps[bucket])

    def at(self, buckets: NDArray[np.int32]) -> NDArray[np.float64]:
        """Hyper-parameters that the next step of `buckets` would have."""
        return self._rule.hyper(self._steps[buckets])


class SparseShards(Watched):
    """What a node holds of a sparse table: its rows for the keys of `index`. Thread-safe.

    Parameters
    ----------
    spec : TableSpec
    index : KeyIndex
        The caller attaches the table to it.
    """

    def __init__(self, spec: TableSpec, index: KeyIndex) -> None:
        self.spec = spec
        self.index = index
        #: Changes of shards with the same number are ordered: slots are given by whoever comes first, to all tables of an index.
        self.order = -spec.index
        self.dtype = np.dtype(spec.dtype)
        self.row_bytes = spec.dim * self.dtype.itemsize
        self.rule = rule_of(spec.optimizer)
        self.key_bytes = spec.bytes_of_key(self.rule.planes)
        #: Of rows and of the planes of state, as they lie; and the same of rows for kernels.
        self.plane_dtypes = tuple(np.dtype(each) for each in spec.plane_dtypes(self.rule.planes))
        self._words = words_of(spec.stored)
        #: Pointer table; owner of a row: the bucket's lock word, in the index's pointer table.
        self.heads = pointer_table()
        self.law = law_of(spec, self.rule, self.heads)
        self.steps = StepCounter(self.rule, self.heads)
        self._planes: list[tuple[Array, ...]] = [()] * NUM_BUCKETS
        self._gather = rows.gather.of(spec.stored)
        self._scatter = rows.scatter.of(spec.stored)
        self._update = UPDATES[self.rule.kernel].of(spec.stored)

    # ---- verbs -----------------------------------------------------------------------------------------------------

    def gather(
        self, keys: NDArray[np.int64] | None, slots: NDArray[np.int32], runs: Runs, out: Array | None = None
    ) -> Array:
        """Rows by slot.

        Parameters
        ----------
        keys : ndarray of shape (n,), int64, or None
            Needed only if a slot is -1: such a row reads as the first row of its key.
        slots : ndarray of shape (n,), int32
        runs : (buckets, offsets)
        out : ndarray of shape (n, dim), optional

        Returns
        -------
        ndarray of shape (n, dim)
        """
        if out is None:
            out = np.empty((len(slots), self.spec.dim), self.dtype)
        given = _NO_KEYS if keys is None else keys
        keyless = self._gather(self.heads, self.index.heads, runs[0], runs[1], slots, given, *self.law, out, self._words)
        assert keyless == 0, "a slot of -1 without its key"
        return out

    def push(self, slots: NDArray[np.int32], runs: Runs, grads: Array) -> None:
        """One optimizer step of each touched bucket on gradients of shape (n, dim)."""
        self._step(slots, runs, grads, None)

    def add(self, slots: NDArray[np.int32], runs: Runs, values: Array) -> None:
        """rows += values, of shape (n, dim)."""
        self.changing_rows(slots, runs)
        self._scatter(self.heads, self.index.heads, runs[0], runs[1], slots, values, 1, self._words)
        self._rebase(slots, runs)

    def assign(self, slots: NDArray[np.int32], runs: Runs, values: Array) -> None:
        """rows = values, of shape (n, dim)."""
        self.changing_rows(slots, runs)
        self._scatter(self.heads, self.index.heads, runs[0], runs[1], slots, values, 0, self._words)
        self._rebase(slots, runs)

    def apply_sum(self, parts: Sequence[SparsePart], mode: int, step: int | None = None) -> None:
        """Apply the sum of several writes once, as a clock's close does.

        Parameters
        ----------
        parts : sequence of (slots, runs, values)
            In the order in which a row's values are summed, in float64.
        mode : int
            `OpCode.PUSH`: one optimizer step on the sums; `OpCode.ADD`: the sums are added; `OpCode.ASSIGN`: the last value of
            a row is written.
        step : int, optional
            The optimizer step to take (the clock); without it each bucket's own count.
        """
        if mode == layout.MODE_ASSIGN:
            for part in parts:
                self.assign(*part)
        elif mode == layout.MODE_ADD and self.dtype == np.float64:  # rows are as exact as the sum would be
            for part in parts:
                self.add(*part)
        else:
            slots, runs, values = self._merged(parts)
            if mode == layout.MODE_PUSH:
                self._step(slots, runs, values, step)
            else:
                self.add(slots, runs, values)

    def _step(self, slots: NDArray[np.int32], runs: Runs, grads: Array, step: int | None) -> None:
        if self.rule.clips:
            clipped = np.empty_like(grads)
            starts = np.arange(0, grads.size + 1, self.spec.dim)
            rows.clip.of(self.spec.dtype)(grads.reshape(-1), starts, *self.rule.bounds, clipped.reshape(-1))
            grads = clipped
        if len(slots):  # no slots would mean a dense table's whole buckets
            self.changing_rows(slots, runs)
            hyper, advance = self.steps.next(runs[0], step)
            self._update(self.heads, self.index.heads, runs[0], runs[1], slots, grads, hyper, advance, self._words)

    def _merged(self, parts: Sequence[SparsePart]) -> SparsePart:
        if len(parts) == 1:
            return parts[0]
        total = sum(len(slots) for slots, _, _ in parts)
        described = np.empty((len(parts), merging.PART_WIDTH), np.int64)
        for row, (slots, (buckets, offsets), values) in zip(described, parts, strict=True):
            row[:] = (buckets.ctypes.data, offsets.ctypes.data, slots.ctypes.data, values.ctypes.data, len(buckets))
        most = int(self.index.heads[:, layout.COUNT].max())
        buckets, offsets = np.empty(NUM_BUCKETS, np.int32), np.empty(NUM_BUCKETS + 1, np.int64)
        slots, sums = np.empty(total, np.int32), np.empty((total, self.spec.dim), self.dtype)
        room = np.empty(min(most, total) * self.spec.dim)
        position = np.full(most, -1, np.int32)
        count = merging.merge.of(self.spec.dtype)(described, position, room, buckets, offsets, slots, sums)
        distinct = int(offsets[count])
        return slots[:distinct], (buckets[:count], offsets[: count + 1]), sums[:distinct]

    def _rebase(self, slots: NDArray[np.int32], runs: Runs) -> None:
        if self.rule.dual:
            hyper = self.steps.at(runs[0])
            like = np.empty(0, self.dtype)
            kernel = rows.rebase_duals.of(self.spec.stored)
            kernel(self.heads, self.index.heads, runs[0], runs[1], slots, hyper, self.spec.dim, like, self._words)

    # ---- for server functions --------------------------------------------------------------------------------------

    @property
    def lock_heads(self) -> NDArray[np.int64]:
        """The pointer table that holds the buckets' lock words."""
        return self.index.heads

    def sizes(self, buckets: NDArray[np.int32]) -> NDArray[np.int64]:
        """Number of values in each of `buckets`."""
        sizes: NDArray[np.int64] = self.index.heads[buckets, layout.COUNT] * self.spec.dim
        return sizes

    def written(self, buckets: NDArray[np.int32]) -> None:
        """To be called after all rows of `buckets` were written without the table's own verbs."""
        self._rebase(_NO_SLOTS, (buckets, np.zeros(len(buckets) + 1, np.int64)))

    def keys_of(self, bucket: int) -> NDArray[np.int64]:
        """Keys of a bucket in slot order."""
        return self.index.keys_of(bucket)

    def rows_of(self, bucket: int) -> Array:
        """Rows of a bucket in slot order: ndarray of shape (count, dim), of the table's dtype."""
        return self.values_of(self.plane_of(bucket, 0))

    def values_of(self, rows: Array) -> Array:
        """Rows as they lie, of shape (n, dim), as the table's dtype has them."""
        return decoded(rows, NAMED[self.spec.storage]) if self.spec.storage else rows

    def plane_of(self, bucket: int, plane: int) -> Array:
        """Rows as they lie (plane 0), or optimizer state of a bucket: ndarray of shape (count, dim), a view."""
        count = int(self.index.heads[bucket, layout.COUNT])  # before the planes: they only grow
        planes = self._planes[bucket]
        if not planes:
            return np.empty((0, self.spec.dim), self.plane_dtypes[plane])
        return planes[plane][: count * self.spec.dim].reshape(count, self.spec.dim)

    # ---- looking at it ---------------------------------------------------------------------------------------------

    def row_count(self, buckets: int) -> int:
        """Rows in these buckets (bits)."""
        return int(self.index.counts()[bits_of(buckets)].sum())

    def export(self, bucket: int, start: int, limit: int) -> list[Array]:
        """Keys and rows of one bucket from slot `start` on, at most `limit`; copies."""
        rows = self.plane_of(bucket, 0)
        stop = min(len(rows), start + limit)
        return [self.index.keys_of(bucket)[start:stop].copy(), self.values_of(rows[start:stop].copy())]

    # ---- memory ----------------------------------------------------------------------------------------------------

    def room(self, buckets: NDArray[np.int32]) -> NDArray[np.int64]:
        """Rows that `buckets` have room for."""
        rooms: NDArray[np.int64] = self.heads[buckets, layout.ROOM]
        return rooms

    def make_room(self, bucket: int, need: int) -> None:
        """Room for `need` rows in a bucket; the index calls it, and nobody inserts meanwhile."""
        room = _ROOMS.at_least(bucket, need)
        planes = tuple(allocate(room * self.spec.dim, dtype, need * self.spec.dim) for dtype in self.plane_dtypes)
        addresses = np.array([plane.ctypes.data for plane in planes], np.int64)
        row_bytes = np.array([self.spec.dim * dtype.itemsize for dtype in self.plane_dtypes], np.int64)
        lookup.move_planes(self.heads, self.index.heads, bucket, addresses, room, row_bytes)
        before, self._planes[bucket] = self._planes[bucket], planes
        self.index.growth.grew(sum(plane.nbytes for plane in planes) - sum(plane.nbytes for plane in before))

    def to_come(self, need: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        """What arrays of each bucket will grow by for so many rows, and bytes of the largest that will be replaced.

        Parameters
        ----------
        need : ndarray of shape (256,), int64
        """
        room, each = self.heads[:, layout.ROOM], self.key_bytes
        grows = need > room
        return np.where(grows, _ROOMS.all_at_least(need) - room, 0) * each, int((grows * room).max()) * each

    def begin(self, bucket: int, step: int = 0) -> None:
        """A bucket without rows; the next step is number `step`."""
        self.replaced(bucket)
        self.steps.set(bucket, step)

    def free_bucket(self, bucket: int) -> None:
        """Give back the memory of a bucket that nobody reads any more; the index calls it."""
        nothing = np.zeros(self.rule.planes, np.int64)
        lookup.move_planes(self.heads, self.index.heads, bucket, nothing, 0, nothing)
        self._planes[bucket] = ()

    def replace(self, bucket: int, planes: Sequence[Array], step: int) -> None:
        """The rows of a bucket get these planes, of shape (count, dim) each, and the bucket this number of steps."""
        self.replaced(bucket)
        for number, plane in enumerate(planes if len(planes[0]) else ()):
            self.plane_of(bucket, number)[:] = plane
        self.steps.set(bucket, step)

    def nbytes(self) -> int:
        """Bytes of rows and state, without the index."""
        return self.heads.nbytes + int(self.heads[:, layout.ROOM].sum()) * self.key_bytes

    def free(self) -> None:
        """Leave the table group. Memory goes when the last request that uses the table lets go of it."""
        self.index.detach(self)

    def validate(self, bucket: int, count: int) -> None:
        """Checks what must hold of a bucket with `count` keys; for tests."""
        assert self.heads[bucket, layout.ROOM] >= count
        for number, plane in enumerate(self._planes[bucket]):
            assert self.heads[bucket, layout.PLANE + number] == plane.ctypes.data
            assert len(plane) == self.heads[bucket, layout.ROOM] * self.spec.dim
