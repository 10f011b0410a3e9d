"""The sum of a clock's parts: what the ranks pushed, slot by slot, in a fixed order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from sparkps.kernels.compiled import FLOATS, array, given, inlined, kernel
from sparkps.kernels.intrinsics import data, int32_at, int64_at, like_at
from sparkps.specs import NUM_BUCKETS

#: Columns of the table of parts: addresses of buckets, offsets, slots and values, and the number of runs.
PART_BUCKETS, PART_OFFSETS, PART_SLOTS, PART_VALUES, PART_RUNS, PART_WIDTH = range(6)


@inlined
def _take_run(
    slots: Any,
    values: Any,
    begin: int,
    end: int,
    dim: int,
    position: Any,
    touched: int,
    out_slots: Any,
    sums: Any,
) -> int:
    for i in range(begin, end):
        slot = slots[i]
        at = np.int64(position[slot])
        fresh = at < 0
        if fresh:
            at = np.int64(touched)
            touched += 1
            position[slot] = np.int32(at)
            out_slots[at] = slot
        if fresh:
            for column in range(dim):
                sums[at * dim + column] = np.float64(values[i * dim + column])
        else:
            for column in range(dim):
                sums[at * dim + column] += np.float64(values[i * dim + column])
    return touched


@kernel(
    lambda t: (
        given(types.int64, 2),
        array(types.int32),
        array(types.float64),
        array(types.int32),
        array(types.int64),
        array(types.int32),
        array(t, 2),
    ),
    dtypes=FLOATS,
)
def merge(
    parts: Any, position: Any, sums: Any, out_buckets: Any, out_offsets: Any, out_slots: Any, out_values: Any
) -> int:
    """Sums parts per slot in their order; returns the number of runs.

    `position` holds -1 for every slot of any bucket, before and after; `sums` has room for the most slots of one bucket.
    """
    dim = out_values.shape[1]
    cursor = np.zeros(parts.shape[0], np.int64)
    runs, total = 0, 0
    out_offsets[0] = 0
    for bucket in range(NUM_BUCKETS):
        touched = 0
        slots_out = int32_at(np.int64(out_slots.ctypes.data) + total * 4)
        for part in range(parts.shape[0]):
            at = cursor[part]
            if at < parts[part, PART_RUNS] and int32_at(parts[part, PART_BUCKETS])[at] == bucket:
                offsets = int64_at(parts[part, PART_OFFSETS])
                slots = int32_at(parts[part, PART_SLOTS])
                values = like_at(parts[part, PART_VALUES], out_values)
                touched = _take_run(
                    slots, values, offsets[at], offsets[at + 1], dim, position, touched, slots_out, sums
                )
                cursor[part] += 1
        if touched > 0:
            target = data(out_values)
            for i in range(touched * dim):
                target[total * dim + i] = sums[i]
            for i in range(touched):
                position[slots_out[i]] = np.int32(-1)
            total += touched
            out_buckets[runs] = bucket
            runs += 1
            out_offsets[runs] = total
    return runs
