"""Rows that are about to be changed: kept aside as they were at a moment, and marked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from sparkps.kernels.compiled import HEADS, array, given, inlined, kernel, values_of
from sparkps.kernels.intrinsics import address_of, data, like_at, lock, prefetch, uint8_at, unlock
from sparkps.kernels.layout import PLANE
from sparkps.kernels.lookup import lock_word
from sparkps.kernels.rows import ROWS


@inlined
def _choose(
    table: Any, bucket: int, slots: Any, span: Any, count: int, flags: Any, kept: Any, total: int, rows: Any, states: Any
) -> int:
    """Chooses rows that were there and are not kept yet, and asks for their memory; returns how many are chosen by now."""
    planes, _, dim = states.shape
    for i in range(span[0], span[1]):
        slot = np.int64(slots[i])
        if 0 <= slot < count and flags[slot] == 0:
            flags[slot] = 1
            kept[total] = slots[i]
            total += 1
            prefetch(like_at(table[bucket, PLANE], rows), slot * dim)
            for plane in range(planes):
                prefetch(like_at(table[bucket, PLANE + 1 + plane], states), slot * dim)
    return total


@inlined
def _copy(source: Any, target: Any, kept: Any, begin: int, end: int, dim: int) -> None:
    for i in range(begin, end):
        for column in range(dim):
            target[i * dim + column] = source[np.int64(kept[i]) * dim + column]


@kernel(
    lambda t: (
        HEADS,
        HEADS,
        given(types.int32),
        given(types.int64),
        given(types.int32),
        array(types.int64),
        array(types.int64),
        array(types.int32),
        array(types.int64),
        array(t, 2),
        array(values_of(t), 3),
    ),
    dtypes=ROWS,
)
def keep_rows(
    table: Any,
    index: Any,
    buckets: Any,
    offsets: Any,
    slots: Any,
    counts: Any,
    flags: Any,
    kept: Any,
    ends: Any,
    rows: Any,
    states: Any,
) -> int:
    """Copies the rows of `slots`, in all planes, that are about to be changed for the first time.

    Parameters
    ----------
    table, index : pointer tables
    buckets, offsets, slots
        Runs of slots, bucket by bucket.
    counts : ndarray of shape (256,), int64
        Rows of each bucket that are to be kept: those before.
    flags : ndarray of shape (256,), int64
        By bucket: address of uint8[count], by row whether it is kept; 0: the rows need not be.
    kept : ndarray of shape (n,), int32
        Gets the slots of the rows that are copied: run by run.
    ends : ndarray of shape (runs + 1,), int64
        Gets where the rows of each run begin among these.
    rows : ndarray of shape (n, dim)
        Gets the rows, as they lie (`compiled.words_of`).
    states : ndarray of shape (planes - 1, n, dim)
        Gets the optimizer's state.

    Returns
    -------
    int
        How many are copied.
    """
    planes, room, dim = states.shape
    total = 0
    ends[0] = 0
    for run in range(buckets.shape[0]):
        bucket = buckets[run]
        before = total
        if flags[bucket] != 0:
            word = lock_word(index, bucket)
            lock(word)
            span = offsets[run], offsets[run + 1]
            total = _choose(table, bucket, slots, span, counts[bucket], uint8_at(flags[bucket]), kept, total, rows, states)
            _copy(like_at(table[bucket, PLANE], rows), data(rows), kept, before, total, dim)
            for plane in range(planes):
                target = like_at(address_of(data(states), plane * room * dim), states)
                _copy(like_at(table[bucket, PLANE + 1 + plane], states), target, kept, before, total, dim)
            unlock(word)
        ends[run + 1] = total
    return total


@kernel(lambda _: (given(types.int32), given(types.int64), given(types.int32), given(types.int64), given(types.int64)))
def mark_rows(buckets: Any, offsets: Any, slots: Any, counts: Any, bits: Any) -> None:
    """Sets the bits of rows. Nobody else does so in these buckets meanwhile.

    Parameters
    ----------
    buckets, offsets, slots
        Runs of slots, bucket by bucket.
    counts : ndarray of shape (256,), int64
        Rows of each bucket that have a bit: the first ones; 0 for none.
    bits : ndarray of shape (256,), int64
        By bucket: address of the bits, the lowest of a byte first.
    """
    for run in range(buckets.shape[0]):
        bucket = buckets[run]
        count = counts[bucket]
        if count > 0:
            marks = uint8_at(bits[bucket])
            for i in range(offsets[run], offsets[run + 1]):
                slot = np.int64(slots[i])
                if 0 <= slot < count:
                    marks[slot >> 3] = np.uint8(marks[slot >> 3] | np.uint8(1 << (slot & 7)))


__all__ = ["keep_rows", "mark_rows"]
