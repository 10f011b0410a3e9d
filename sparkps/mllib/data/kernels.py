"""Compiled passes over rows in CSR form: key numbering, checks of input rows, scores, statistics of columns.

A row's entries are ``ids[indptr[r]:indptr[r + 1]]`` and the values beside them; an empty array of values says that all are
1, an empty array of weights likewise. Sums are taken in row order, so a pass gives the same bits every time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types

from sparkps.kernels.compiled import FLOATS, array, given, inlined, kernel
from sparkps.kernels.hashing import mix
from sparkps.kernels.intrinsics import data, prefetch

#: Keys, or entries of rows, whose cache lines are asked for ahead of their use.
_AHEAD = 48

_I32, _I64, _F64, _U8, _I8 = types.int32, types.int64, types.float64, types.uint8, types.int8

#: Reasons why a row is refused, in the order in which they are looked for.
(
    OK,
    LABEL_NULL,
    LABEL_WRONG,
    WEIGHT_INVALID,
    OFFSET_INVALID,
    INDICATOR_NULL,
    FEATURES_NULL,
    ENTRY_NULL,
    LENGTHS_DIFFER,
    NEGATIVE_INDEX,
    INDEX_TOO_LARGE,
    NOT_FINITE,
    (SIZE_DIFFERS),
) = range(13)


# ---- numbering of keys -------------------------------------------------------------------------------------------------


@inlined
def _place(entries: Any, mask: int, key: int) -> Any:
    """The place that holds `key`, or the empty one where it belongs; ``entries[place, 1] < 0`` means empty."""
    place = np.int64(mix(key) & np.uint64(mask))
    while entries[place, 1] >= 0 and entries[place, 0] != key:
        place = (place + 1) & mask
    return place


@inlined
def _ask_for(keys: Any, first: int, last: int, entries: Any, mask: int) -> None:
    """Prefetches the places of ``keys[first:last]``."""
    for i in range(first, last):
        prefetch(data(entries), np.int64(2) * np.int64(mix(keys[i]) & np.uint64(mask)))


@kernel(lambda _: (given(_I64), _I64, array(_I64, 2), array(_I64), _I64, array(_I32)))
def number_keys(keys: Any, begin: int, entries: Any, distinct: Any, count: int, ids: Any) -> Any:
    """Numbers ``keys[begin:]`` in order of first appearance: ``ids[i]`` is the number of ``keys[i]``, ``distinct[id]`` its key.

    Stops when `distinct` is full; returns where it stopped and the number of distinct keys.
    """
    mask = entries.shape[0] - 1
    room = distinct.shape[0]
    size = keys.shape[0]
    for block in range(begin, size, _AHEAD):
        stop = min(block + _AHEAD, size)
        _ask_for(keys, block, stop, entries, mask)
        for i in range(block, stop):
            place = _place(entries, mask, keys[i])
            known = entries[place, 1]
            if known < 0:
                if count == room:
                    return i, count
                known = count
                entries[place, 0] = keys[i]
                entries[place, 1] = count
                distinct[count] = keys[i]
                count += 1
            ids[i] = known
    return size, count


@kernel(lambda _: (given(_I64), array(_I64, 2)))
def rehash(keys: Any, entries: Any) -> None:
    """Puts distinct keys, numbered by their position, into empty `entries`."""
    mask = entries.shape[0] - 1
    for block in range(0, keys.shape[0], _AHEAD):
        stop = min(block + _AHEAD, keys.shape[0])
        _ask_for(keys, block, stop, entries, mask)
        for i in range(block, stop):
            place = _place(entries, mask, keys[i])
            entries[place, 0] = keys[i]
            entries[place, 1] = i


@kernel(lambda _: (given(_I64), given(_I64, 2), array(_I32)))
def find_keys(keys: Any, entries: Any, ids: Any) -> None:
    """Numbers of `keys`, -1 for one that has none."""
    mask = entries.shape[0] - 1
    for block in range(0, keys.shape[0], _AHEAD):
        stop = min(block + _AHEAD, keys.shape[0])
        for i in range(block, stop):
            prefetch(data(entries), np.int64(2) * np.int64(mix(keys[i]) & np.uint64(mask)))
        for i in range(block, stop):
            ids[i] = entries[_place(entries, mask, keys[i]), 1]


@kernel(lambda _: (array(_I32), given(_I32)))
def renumber(ids: Any, place: Any) -> None:
    """ids ← place[ids]."""
    for i in range(ids.shape[0]):
        ids[i] = place[ids[i]]


@kernel(lambda _: (given(_I32), given(_I32), array(_I32)))
def lowest_fields(ids: Any, entry_fields: Any, fields: Any) -> None:
    """``fields[ids[i]]`` ← the lower of itself and ``entry_fields[i]``."""
    for i in range(ids.shape[0]):
        fields[ids[i]] = min(fields[ids[i]], entry_fields[i])


@kernel(lambda _: (given(_I32), array(_I32), _I32, array(_I32)))
def distinct_ids(ids: Any, stamps: Any, stamp: int, found: Any) -> int:
    """The distinct ids, in order of appearance, in `found`; returns their number. Ids seen get ``stamps[id] = stamp``."""
    count = 0
    for i in range(ids.shape[0]):
        if stamps[ids[i]] != stamp:
            stamps[ids[i]] = stamp
            found[count] = ids[i]
            count += 1
    return count


@kernel(lambda _: (given(_I32), given(_I32), array(_I32), array(_I32)))
def local_ids(ids: Any, found: Any, places: Any, local: Any) -> None:
    """``local[i]`` is the position of ``ids[i]`` in `found`; `places` is room for one number per id."""
    for i in range(found.shape[0]):
        places[found[i]] = i
    for i in range(ids.shape[0]):
        local[i] = places[ids[i]]


# ---- checks of input rows ----------------------------------------------------------------------------------------------


@kernel(lambda t: (given(_I32), given(_I64), given(t), _I64, array(_I8)), dtypes=FLOATS)
def check_entries(indptr: Any, indices: Any, values: Any, limit: int, codes: Any) -> None:
    """Sets the code of rows that have a negative index, one of at least `limit`, or a value that is not finite.

    Rows that have a code already are left alone.
    """
    for r in range(codes.shape[0]):
        if codes[r] != OK:
            continue
        for k in range(indptr[r], indptr[r + 1]):
            if indices[k] < 0:
                codes[r] = NEGATIVE_INDEX
                break
            if indices[k] >= limit:
                codes[r] = INDEX_TOO_LARGE
                break
            if not math.isfinite(values[k]):
                codes[r] = NOT_FINITE
                break


@kernel(lambda t: (given(t),), dtypes=FLOATS)
def value_kind(values: Any) -> int:
    """0: all are 1. 1: all are exactly representable as float32. 2: neither."""
    kind = 0
    for i in range(values.shape[0]):
        if values[i] != 1.0:
            kind = 1
            if np.float64(np.float32(values[i])) != values[i]:
                return 2
    return kind


@kernel(
    lambda _: (given(_I8), given(_I32), given(_I32), given(_I32), given(_F64), array(_I32), array(_I64), array(_F64))
)
def vectors_to_rows(
    kinds: Any, at: Any, indices: Any, value_at: Any, values: Any, indptr: Any, out_indices: Any, out_values: Any
) -> int:
    """Spark's vectors as sparse rows: kind 0 is sparse, kind 1 is dense, whose zeros are left out. Returns the number of entries."""
    count = 0
    indptr[0] = 0
    for r in range(kinds.shape[0]):
        first = value_at[r]
        for k in range(first, value_at[r + 1]):
            if kinds[r] == 0:
                out_indices[count] = indices[at[r] + k - first]
            elif values[k] == 0.0:
                continue
            else:
                out_indices[count] = k - first
            out_values[count] = values[k]
            count += 1
        indptr[r + 1] = count
    return count


@kernel(lambda t: (given(_U8), given(_I32), given(_I64), given(t), array(_I32), array(_I64), array(t)), dtypes=FLOATS)
def keep_rows(
    keep: Any, indptr: Any, indices: Any, values: Any, out_indptr: Any, out_indices: Any, out_values: Any
) -> int:
    """The rows with ``keep[r] != 0``, one behind the other; returns the number of entries. No values are all 1."""
    count = 0
    row = 0
    has_values = values.shape[0] > 0
    out_indptr[0] = 0
    for r in range(keep.shape[0]):
        if keep[r]:
            for k in range(indptr[r], indptr[r + 1]):
                out_indices[count] = indices[k]
                if has_values:
                    out_values[count] = values[k]
                count += 1
            row += 1
            out_indptr[row] = count
    return count


# ---- scores ------------------------------------------------------------------------------------------------------------


@kernel(lambda t: (given(_I32), given(_I32), given(t), given(_F64), _F64, array(_F64)), dtypes=FLOATS)
def margins(indptr: Any, ids: Any, values: Any, coefficients: Any, bias: float, out: Any) -> None:
    """``out[r]`` = bias + Σ x·w; entries with a negative id have coefficient 0."""
    for r in range(out.shape[0]):
        total = bias
        for k in range(indptr[r], indptr[r + 1]):
            if ids[k] >= 0:
                total += coefficients[ids[k]] * (1.0 if values.shape[0] == 0 else values[k])
        out[r] = total


@kernel(lambda t: (given(_I32), given(_I32), given(t), given(_F64, 2), given(_F64), array(_F64, 2)), dtypes=FLOATS)
def margins_of_many(indptr: Any, ids: Any, values: Any, coefficients: Any, biases: Any, out: Any) -> None:
    """``out[r, j]`` = biases[j] + Σ x·w of output j, each with the sums of `margins`, to the same bits."""
    outputs, scalars, rows = out.shape[1], data(values), data(coefficients)
    ones = values.shape[0] == 0
    totals = np.empty(outputs)
    for r in range(out.shape[0]):
        for j in range(outputs):
            totals[j] = biases[j]
        for k in range(indptr[r], indptr[r + 1]):
            if ids[k] >= 0:
                x = 1.0 if ones else np.float64(scalars[k])
                first = np.int64(ids[k]) * outputs
                for j in range(outputs):
                    totals[j] += rows[first + j] * x
        for j in range(outputs):
            out[r, j] = totals[j]


# ---- coordinates -------------------------------------------------------------------------------------------------------


@kernel(lambda _: (given(_F64, 2), given(_F64), array(_F64, 3)))
def enter(x: Any, inverse: Any, state: Any) -> None:
    """Coefficients of the raw features, x·inverse, into ``state[:, 0]``; the gradient ``state[:, 1]`` becomes 0."""
    for k in range(x.shape[0]):
        for output in range(x.shape[1]):
            state[k, 0, output] = x[k, output] * inverse[k]
            state[k, 1, output] = 0.0


@kernel(lambda _: (given(_F64, 2), given(_F64), given(_F64), _F64, given(_F64, 3), array(_F64, 2)))
def leave(x: Any, inverse: Any, penalty: Any, scale: float, state: Any, gradient: Any) -> float:
    """gradient = scale·inverse·``state[:, 1]`` + penalty·x; returns ½ Σ penalty·x²."""
    total = 0.0
    for k in range(x.shape[0]):
        for output in range(x.shape[1]):
            pull = penalty[k] * x[k, output]
            total += pull * x[k, output]
            gradient[k, output] = scale * inverse[k] * state[k, 1, output] + pull
    return 0.5 * total


# ---- statistics of columns ---------------------------------------------------------------------------------------------


@kernel(lambda t: (given(_I32), given(_I32), given(t), given(_F64), array(_F64, 2)), dtypes=FLOATS)
def column_sums(indptr: Any, ids: Any, values: Any, weights: Any, sums: Any) -> None:
    """Adds Σ weight·x to ``sums[:, 0]`` and Σ weight over the entries to ``sums[:, 1]``."""
    for r in range(indptr.shape[0] - 1):
        weight = 1.0 if weights.shape[0] == 0 else weights[r]
        for k in range(indptr[r], indptr[r + 1]):
            sums[ids[k], 0] += weight if values.shape[0] == 0 else weight * values[k]
            sums[ids[k], 1] += weight


@kernel(lambda t: (given(_I32), given(_I32), given(t), given(_F64), given(_F64), array(_F64)), dtypes=FLOATS)
def centred_squares(indptr: Any, ids: Any, values: Any, weights: Any, means: Any, squares: Any) -> None:
    """Adds Σ weight·(x - mean)² over the entries to `squares`."""
    for r in range(indptr.shape[0] - 1):
        weight = 1.0 if weights.shape[0] == 0 else weights[r]
        for k in range(indptr[r], indptr[r + 1]):
            apart = (1.0 if values.shape[0] == 0 else values[k]) - means[ids[k]]
            squares[ids[k]] += weight * apart * apart
