"""Reading and writing rows by slot, and checks and clipping of values.

How rows lie is told by the type of the empty array `words` (`compiled.words_of`); values come and go as the table's dtype has them.
With `slots` empty a kernel works on a dense table's bucket: all its elements in order, as one long row.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types

from sparkps.kernels.compiled import FLOATS, HALVES, HEADS, array, given, inlined, kernel, values_of
from sparkps.kernels.halves import NEAREST, load, salt_of, store, stored
from sparkps.kernels.initial import draw, dual_of
from sparkps.kernels.intrinsics import address_of, copy_bytes, data, like_at, lock, prefetch, unlock
from sparkps.kernels.layout import COUNT, LAW_A, LAW_B, LAW_KIND, LAW_SEED, OWN, PLANE, RATE, STEP
from sparkps.kernels.layout import L1 as RATE_L1
from sparkps.kernels.layout import L2 as RATE_L2
from sparkps.kernels.lookup import lock_word

#: Rows whose memory is asked for ahead of their turn.
AHEAD = 96

#: How rows lie.
ROWS = (*FLOATS, *HALVES)


@inlined
def prefetch_row(rows: Any, slots: Any, i: int, end: int, dim: int, per_line: int) -> None:
    """Asks for the row of key ``i + AHEAD``."""
    if i + AHEAD < end:
        start = np.int64(slots[i + AHEAD]) * dim
        for column in range(0, dim, per_line):
            prefetch(rows, start + column)


@inlined
def _read_run(rows: Any, slots: Any, begin: int, end: int, target: Any, dim: int, per_line: int) -> int:
    missing = 0
    for i in range(begin, end):
        prefetch_row(rows, slots, i, end, dim, per_line)
        slot = np.int64(slots[i])
        if slot < 0:
            missing += 1
        else:
            for column in range(dim):
                target[i * dim + column] = load(rows, slot * dim + column)
    return missing


@inlined
def _begin_missing(slots: Any, keys: Any, law_ints: Any, law_floats: Any, target: Any, dim: int, words: Any) -> None:
    kind, seed = law_ints[0, LAW_KIND], law_ints[0, LAW_SEED]
    for i in range(slots.shape[0]):
        if slots[i] < 0:
            for column in range(dim):
                first = draw(kind, law_floats[0, LAW_A], law_floats[0, LAW_B], seed, keys[i], column)
                target[i * dim + column] = stored(words, first)


@kernel(
    lambda t: (
        HEADS,
        HEADS,
        given(types.int32),
        given(types.int64),
        given(types.int32),
        given(types.int64),
        given(types.int64, 2),
        given(types.float64, 2),
        array(values_of(t), 2),
        given(t),
    ),
    dtypes=ROWS,
)
def gather(
    table: Any, index: Any, buckets: Any, offsets: Any, slots: Any, keys: Any, law_ints: Any, law_floats: Any, out: Any, words: Any
) -> int:
    """Rows by slot; a slot of -1 reads as the first row of its key. Returns how many such rows had no key given."""
    dim = out.shape[1]
    target = data(out)
    missing = 0
    for run in range(buckets.shape[0]):
        word = lock_word(index, buckets[run])
        lock(word)
        rows = like_at(table[buckets[run], PLANE], words)
        if dim == 1:  # a constant, so that the loop over columns goes away
            missing += _read_run(rows, slots, offsets[run], offsets[run + 1], target, 1, 1)
        else:
            missing += _read_run(rows, slots, offsets[run], offsets[run + 1], target, dim, 64 // words.itemsize)
        unlock(word)
    if missing > 0 and keys.shape[0] == slots.shape[0]:
        _begin_missing(slots, keys, law_ints, law_floats, target, dim, words)
        missing = 0
    return missing


@inlined
def _write(source: Any, rows: Any, place: int, begin: int, count: int, adding: int, salt: int) -> None:
    if adding != 0:
        for column in range(count):
            store(rows, place + column, load(rows, place + column) + source[begin + column], salt + column)
    else:
        for column in range(count):
            store(rows, place + column, source[begin + column], NEAREST)


@inlined
def _write_run(
    source: Any, rows: Any, slots: Any, begin: int, end: int, dim: int, per_line: int, adding: int, salt: int
) -> None:
    for i in range(begin, end):
        prefetch_row(rows, slots, i, end, dim, per_line)
        if slots[i] >= 0:
            _write(source, rows, np.int64(slots[i]) * dim, i * dim, dim, adding, salt)


@kernel(
    lambda t: (
        HEADS, HEADS, given(types.int32), given(types.int64), given(types.int32), given(values_of(t), 2), types.int64, given(t)
    ),
    dtypes=ROWS,
)  # fmt: skip
def scatter(table: Any, index: Any, buckets: Any, offsets: Any, slots: Any, values: Any, adding: int, words: Any) -> None:
    """Adds `values` to rows, or with ``adding == 0`` writes them over the rows."""
    dim = values.shape[1]
    source = data(values)
    per_line = 64 // words.itemsize
    for run in range(buckets.shape[0]):
        bucket, begin, end = buckets[run], offsets[run], offsets[run + 1]
        word = lock_word(index, bucket)
        lock(word)
        rows = like_at(table[bucket, PLANE], words)
        salt = salt_of(bucket, table[bucket, STEP])
        if slots.shape[0] == 0:
            _write(source, rows, 0, begin, end - begin, adding, salt)
        elif dim == 1:
            _write_run(source, rows, slots, begin, end, 1, 1, adding, salt)
        else:
            _write_run(source, rows, slots, begin, end, dim, per_line, adding, salt)
        if adding != 0 and words.itemsize == 2:
            table[bucket, STEP] += 1  # so that the next one is rounded by other bits: by the same ones, small sums would stand still
        unlock(word)


@kernel(
    lambda t: (
        HEADS,
        HEADS,
        given(types.int32),
        given(types.int64),
        given(types.int32),
        given(types.float64, 2),
        types.int64,
        given(values_of(t)),
        given(t),
    ),
    dtypes=ROWS,
)
def rebase_duals(
    table: Any, index: Any, buckets: Any, offsets: Any, slots: Any, hyper: Any, dim: int, like: Any, words: Any
) -> None:
    """Makes FTRL's z agree with rows that were written; without slots with all rows of the buckets."""
    for run in range(buckets.shape[0]):
        bucket = buckets[run]
        word = lock_word(index, bucket)
        lock(word)
        rows = like_at(table[bucket, PLANE], words)
        duals = like_at(table[bucket, PLANE + 1], like)
        squares = like_at(table[bucket, PLANE + 2], like)
        h = run if hyper.shape[0] > 1 else 0
        rate, l1, l2, beta = hyper[h, RATE], hyper[h, RATE_L1], hyper[h, RATE_L2], hyper[h, OWN]
        whole = slots.shape[0] == 0
        count = index[bucket, COUNT] if whole else offsets[run + 1] - offsets[run]
        for i in range(count):
            slot = np.int64(i) if whole else np.int64(slots[offsets[run] + i])
            for place in range(slot * dim, (slot + 1) * dim):
                slope = (beta + math.sqrt(np.float64(squares[place]))) / rate + l2
                duals[place] = dual_of(np.float64(load(rows, place)), slope, l1)
        unlock(word)


@kernel(lambda t: (types.int64, given(types.int64, 2), given(types.float64, 2), array(t)), dtypes=FLOATS)
def begin_elements(first: int, law_ints: Any, law_floats: Any, out: Any) -> None:
    """First values of the dense elements `first`, `first` + 1, ..."""
    for i in range(out.shape[0]):
        out[i] = draw(
            law_ints[0, LAW_KIND], law_floats[0, LAW_A], law_floats[0, LAW_B], law_ints[0, LAW_SEED], first + i, 0
        )


@kernel(lambda t: (HEADS, HEADS, given(types.int32), given(types.int64), array(t)), dtypes=FLOATS)
def read_elements(table: Any, index: Any, buckets: Any, offsets: Any, out: Any) -> None:
    """Copies the elements of a dense table's buckets to ``out[offsets[i]:offsets[i + 1]]``."""
    target = data(out)
    for run in range(buckets.shape[0]):
        word = lock_word(index, buckets[run])
        lock(word)
        nbytes = (offsets[run + 1] - offsets[run]) * out.itemsize
        copy_bytes(address_of(target, offsets[run]), table[buckets[run], PLANE], nbytes)
        unlock(word)


@kernel(lambda t: (given(t, 2),), dtypes=FLOATS)
def all_finite(values: Any) -> bool:
    """Whether no value is NaN or infinite."""
    source = data(values)
    strange = 0
    for i in range(values.size):
        strange += source[i] - source[i] != 0.0
    return strange == 0


@kernel(lambda t: (given(t), given(types.int64), types.float64, types.float64, array(t)), dtypes=FLOATS)
def clip(values: Any, starts: Any, bound: float, norm: float, out: Any) -> None:
    """Brings values into [-bound, bound], then rows to at most the Euclidean norm `norm`; infinity leaves them.

    Row i is ``values[starts[i]:starts[i + 1]]``.
    """
    for row in range(starts.shape[0] - 1):
        squares = 0.0
        for i in range(starts[row], starts[row + 1]):
            value = min(max(np.float64(values[i]), -bound), bound)
            squares += value * value
            out[i] = value
        length = math.sqrt(squares)
        if length > norm:
            for i in range(starts[row], starts[row + 1]):
                out[i] = min(max(np.float64(values[i]), -bound), bound) * (norm / length)
