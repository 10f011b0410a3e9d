"""Kernels around learning row by row: scales of features, and the way of coefficients from the tier's rows to a learner's state and back.

A row of the tier holds coefficient, sum of squared gradients and factor (`optim.Consensus` with three columns); a learner's state is
as in the kernel that learns: coefficient in its unit, sum of squared gradients, scale, and rows that had the feature.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types

from sparkps.kernels.compiled import FLOATS, array, given, kernel

_I32, _F32, _F64 = types.int32, types.float32, types.float64

#: Bins by which `moves` sorts features, two for each power of 2, and the bin of 1.
BINS = 160
_ONE = 80

#: A coefficient that has moved without a gradient, by its penalty, gains this part of its sum of squares.
_LEAST_GAIN = 1e-6


@kernel(lambda t: (given(_I32), given(t), array(_F32)), dtypes=FLOATS)
def magnitudes(ids: Any, values: Any, largest: Any) -> None:
    """Raises `largest` of each feature to the largest magnitude of its values."""
    for k in range(ids.shape[0]):
        largest[ids[k]] = max(largest[ids[k]], np.float32(abs(values[k])))


@kernel(lambda t: (given(_I32), given(t), given(_F32)), dtypes=FLOATS)
def squared_sizes(ids: Any, values: Any, largest: Any) -> float:
    """Sum of (value / largest of its feature)²; no `largest` is 0."""
    total = 0.0
    for k in range(ids.shape[0]):
        size = np.float64(values[k]) / np.float64(largest[ids[k]])
        total += size * size
    return total


@kernel(lambda _: (given(_I32), given(_I32), given(_F64), array(_F64), _F64))
def pass_by(indptr: Any, ids: Any, weights: Any, ages: Any, age: float) -> float:
    """What learning from these rows makes of `ages` (see `row_by_row`), without learning; returns the weight of all rows until then."""
    for row in range(indptr.shape[0] - 1):
        weight = 1.0 if weights.shape[0] == 0 else weights[row]
        if weight == 0.0:
            continue
        age += weight
        for k in range(indptr[row], indptr[row + 1]):
            ages[ids[k]] = age
    return age


@kernel(lambda _: (given(_F32, 2), given(_F32), _F64, array(_F32, 2)))
def enter(rows: Any, scales: Any, unit: float, state: Any) -> None:
    """Rows of the tier into a learner's state; `unit` is that of its margins."""
    for k in range(rows.shape[0]):
        state[k, 0] = np.float32(np.float64(rows[k, 0]) / (np.float64(scales[k]) * unit))
        state[k, 1] = rows[k, 1]
        state[k, 2] = scales[k]
        state[k, 3] = np.float32(0.0)


@kernel(lambda _: (given(_F32, 2), given(_F32, 2), _F64, _F64, array(_F64), array(_F64), array(_F64)))
def moves(rows: Any, state: Any, rate: float, count: float, gained: Any, moved: Any, bins: Any) -> float:
    """How far each coefficient has gone on the way to where its rows want it, by itself: τ₀ of `optim.Consensus` with a factor of 1.

    Parameters
    ----------
    rows : ndarray of shape (n, 3)
        As the tier had them.
    state : ndarray of shape (n, 4)
        As they are now.
    rate : float
    count : float
        Rows that were learned from.
    gained, moved : ndarray of shape (n,)
        Results: what the sum of squares has gained, and τ₀; 0 where nothing has changed.
    bins : ndarray of shape (2·BINS,)
        Results: for each bin of τ₀, sums of τ₀ and of τ₀² times the share of rows that had the feature.

    Returns
    -------
    float
        Sum of the first half of `bins`.
    """
    total = 0.0
    for k in range(rows.shape[0]):
        before, after = np.float64(rows[k, 1]), np.float64(state[k, 1])
        gain = after - before
        if state[k, 3] > 0.0 or gain > 0.0:
            gain = max(gain, _LEAST_GAIN * before)
        gained[k] = gain
        moved[k] = 0.0
        if gain > 0.0:
            each = 2.0 * rate * gain / (math.sqrt(before + gain) + math.sqrt(before))
            moved[k] = each
            share = each * np.float64(state[k, 3]) / count
            place = min(max(int(2.0 * math.log2(each)) + _ONE, 0), BINS - 1)
            bins[place] += share
            bins[BINS + place] += share * each
            total += share
    return total


@kernel(lambda _: (given(_F32, 2), given(_F32, 2), _F64, given(_F64), given(_F64), _F64, array(_F32, 2)))
def leave(rows: Any, state: Any, unit: float, gained: Any, moved: Any, factor: float, pushes: Any) -> None:
    """What the learner pushes (see `optim.Consensus`): of what it has not changed, zeros."""
    for k in range(rows.shape[0]):
        gain = gained[k]
        pushes[k, 0] = pushes[k, 1] = pushes[k, 2] = np.float32(0.0)
        if gain > 0.0:
            before = np.float64(rows[k, 0])
            after = np.float64(state[k, 0]) * np.float64(state[k, 2]) * unit
            wanted = before + (after - before) / -math.expm1(-factor * moved[k])
            pushes[k, 0] = np.float32(gain * wanted)
            pushes[k, 1] = np.float32(gain)
            pushes[k, 2] = np.float32(gain * factor)


__all__ = ["BINS", "enter", "leave", "magnitudes", "moves", "pass_by", "squared_sizes"]
