"""The kernel of field-aware factorization machines: a feature has factors for each field that it can meet (Juan et al., RecSys 2016).

A row with entries x has the margin b + Σ w·x + r·Σ over pairs a < b of (v_a,field(b) · v_b,field(a))·x_a·x_b: time grows with the square of
its entries. With `normal`, r is 1 / Σ x², as libffm has it; else 1. A key's coefficients stand side by side: w, then the factors for
field 0, those for field 1, and so on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from sparkps.kernels.compiled import FLOATS, array, given, inlined, kernel
from sparkps.kernels.intrinsics import data
from sparkps.mllib.fm.kernel import log_loss

_I32, _I64, _F64 = types.int32, types.int64, types.float64


@inlined
def _value(values: Any, ones: int, k: int) -> float:
    return 1.0 if ones else np.float64(values[k])


@inlined
def _scale(first: int, last: int, values: Any, ones: int, normal: int) -> float:
    """What the sum over pairs of a row is multiplied by."""
    if not normal:
        return 1.0
    total = 0.0
    for k in range(first, last):
        x = _value(values, ones, k)
        total += x * x
    return 1.0 / total if total > 0.0 else 0.0


@inlined
def _margin(
    first: int, last: int, ids: Any, fields: Any, values: Any, ones: int, flat: Any, stride: int, linear: int, factors: int, scale: float
) -> float:
    """Margin of one row, without the intercept; entries with a negative id have no coefficients."""
    margin = 0.0
    pairs = 0.0
    for a in range(first, last):
        if ids[a] < 0:
            continue
        x = _value(values, ones, a)
        mine = np.int64(ids[a]) * stride
        if linear:
            margin += flat[mine] * x
        for b in range(a + 1, last):
            if ids[b] < 0:
                continue
            left = mine + 1 + np.int64(fields[b]) * factors
            right = np.int64(ids[b]) * stride + 1 + np.int64(fields[a]) * factors
            product = 0.0
            for f in range(factors):
                product += flat[left + f] * flat[right + f]
            pairs += product * x * _value(values, ones, b)
    return margin + scale * pairs


@inlined
def _scatter(
    first: int, last: int, ids: Any, fields: Any, values: Any, ones: int, flat: Any, dim: int, linear: int, factors: int, scale: float,
    residual: float,
) -> None:  # fmt: skip
    """Adds the gradient of one row, behind the coefficients of each of its keys."""
    for a in range(first, last):
        x = _value(values, ones, a)
        mine = np.int64(ids[a]) * 2 * dim
        if linear:
            flat[mine + dim] += residual * x
        for b in range(a + 1, last):
            left = mine + 1 + np.int64(fields[b]) * factors
            right = np.int64(ids[b]) * 2 * dim + 1 + np.int64(fields[a]) * factors
            slope = residual * scale * x * _value(values, ones, b)
            for f in range(factors):
                one, other = flat[left + f], flat[right + f]
                flat[left + dim + f] += slope * other
                flat[right + dim + f] += slope * one


@kernel(
    lambda t: (
        given(_I32), given(_I32), given(_I32), given(t), given(_F64), given(_F64), given(_F64), array(_F64, 3), _I64, _I64, _I64, _F64,
        array(_F64),
    ),
    dtypes=FLOATS,
)
def loss_and_gradient(
    indptr: Any, ids: Any, fields: Any, values: Any, labels: Any, weights: Any, offsets: Any, state: Any, factors: int, linear: int,
    normal: int, bias: float, totals: Any,
) -> None:  # fmt: skip
    """Adds to the gradient ``state[:, 1]`` of the weighted sum of logistic losses at the coefficients ``state[:, 0]``.

    ``fields[k]`` is the field of entry k. Adds to `totals` the weighted sums of losses and of their derivatives by the margin.
    """
    entries, groups, scalars, flat = data(ids), data(fields), data(values), data(state)
    ones, plain, level = values.shape[0] == 0, weights.shape[0] == 0, offsets.shape[0] == 0
    dim = np.int64(state.shape[2])
    for r in range(labels.shape[0]):
        weight = 1.0 if plain else weights[r]
        if weight == 0.0:
            continue
        first, last = np.int64(indptr[r]), np.int64(indptr[r + 1])
        scale = _scale(first, last, scalars, ones, normal)
        margin = _margin(first, last, entries, groups, scalars, ones, flat, 2 * dim, linear, factors, scale)
        cost, slope = log_loss(margin + (bias if level else bias + offsets[r]), labels[r])
        totals[0] += weight * cost
        totals[1] += weight * slope
        _scatter(first, last, entries, groups, scalars, ones, flat, dim, linear, factors, scale, weight * slope)


@kernel(
    lambda t: (given(_I32), given(_I32), given(_I32), given(t), given(_F64, 2), _I64, _I64, _I64, _F64, array(_F64)), dtypes=FLOATS
)
def margins(
    indptr: Any, ids: Any, fields: Any, values: Any, rows: Any, factors: int, linear: int, normal: int, bias: float, out: Any
) -> None:
    """The margin of each row of data, of coefficients `rows` (n, dim); entries with a negative id have none."""
    entries, groups, scalars, flat, ones = data(ids), data(fields), data(values), data(rows), values.shape[0] == 0
    for r in range(out.shape[0]):
        first, last = np.int64(indptr[r]), np.int64(indptr[r + 1])
        scale = _scale(first, last, scalars, ones, normal)
        out[r] = bias + _margin(first, last, entries, groups, scalars, ones, flat, rows.shape[1], linear, factors, scale)


__all__ = ["loss_and_gradient", "margins"]
