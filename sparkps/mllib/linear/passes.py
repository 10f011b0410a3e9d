"""The passes in which full-batch training spends its time: loss and gradient of a linear model over all rows of a chunk.

A row's entries are as in `kernels`. Rows are taken in blocks, and a block in three loops: margins, losses, gradient. Each loop
keeps the processor busy in its own way, and that over the losses is vectorized.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from sparkps.kernels.compiled import FLOATS, Kernel, array, given, inlined, kernel
from sparkps.kernels.intrinsics import data, prefetch

_I32, _F64 = types.int32, types.float64

#: Rows of a block.
BLOCK = 64

#: Entries whose coefficients are asked for ahead of their use, and the coefficients from which on that pays: fewer stay in the
#: processor's caches anyway.
_AHEAD, _FAR = 96, 1 << 19


# ---- margins and gradients ---------------------------------------------------------------------------------------------


@inlined
def _margin(first: int, last: int, ids: Any, values: Any, state: Any, bias: float) -> float:
    """bias + Σ x·w of one row; four sums side by side, always the same four, so that additions need not wait for each other."""
    a, b, c, d = bias, 0.0, 0.0, 0.0
    k = first
    while k + 4 <= last:
        a += values[k] * state[2 * np.int64(ids[k])]
        b += values[k + 1] * state[2 * np.int64(ids[k + 1])]
        c += values[k + 2] * state[2 * np.int64(ids[k + 2])]
        d += values[k + 3] * state[2 * np.int64(ids[k + 3])]
        k += 4
    while k < last:
        a += values[k] * state[2 * np.int64(ids[k])]
        k += 1
    return (a + b) + (c + d)


@inlined
def _margin_of_ones(first: int, last: int, ids: Any, state: Any, bias: float) -> float:
    """As `_margin`, where all values are 1."""
    a, b, c, d = bias, 0.0, 0.0, 0.0
    k = first
    while k + 4 <= last:
        a += state[2 * np.int64(ids[k])]
        b += state[2 * np.int64(ids[k + 1])]
        c += state[2 * np.int64(ids[k + 2])]
        d += state[2 * np.int64(ids[k + 3])]
        k += 4
    while k < last:
        a += state[2 * np.int64(ids[k])]
        k += 1
    return (a + b) + (c + d)


@inlined
def _scatter(first: int, last: int, ids: Any, values: Any, state: Any, residual: float) -> None:
    """Adds residual·x of one row to the gradient."""
    for k in range(first, last):
        place = 2 * np.int64(ids[k]) + 1
        state[place] = state[place] + residual * values[k]


@inlined
def _scatter_ones(first: int, last: int, ids: Any, state: Any, residual: float) -> None:
    """As `_scatter`, where all values are 1."""
    for k in range(first, last):
        place = 2 * np.int64(ids[k]) + 1
        state[place] = state[place] + residual


# ---- losses ------------------------------------------------------------------------------------------------------------

#: 1 / ln 2, and ln 2 as a sum whose first part has room for a product with any exponent (Cody and Waite).
_LOG2E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 6.93147180369123816490e-01, 1.90821492927058770002e-10
#: Adding and subtracting it rounds to an integer: 1.5 · 2^52.
_ROUNDER = 6755399441055744.0
#: exp(-708) is the smallest power that is a normal number.
_LEAST = -708.0

#: exp(r) = Σ r^i / i! for |r| <= ln(2) / 2: the 14th term is below 2^-53.
(_E0, _E1, _E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9, _E10, _E11, _E12, _E13) = (
    1.0 / math.factorial(i) for i in range(14)
)

#: log(1 + e) = 2·artanh(s) = s Σ 2/(2i + 1) · s^2i with s = e / (2 + e) <= 1/3: the 17th term is below 2^-53.
(_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8, _L9, _L10, _L11, _L12, _L13, _L14, _L15, _L16) = (
    2.0 / (2 * i + 1) for i in range(17)
)


@kernel(lambda _: (given(_F64), given(_F64), types.int64, array(types.int64), array(_F64), array(_F64)))
def logistic(margins: Any, labels: Any, count: int, powers: Any, losses: Any, derivatives: Any) -> None:
    """Logistic loss log(1 + exp(m)) - y·m of each margin m and label y, and its derivative by m, without overflow.

    Written out in polynomials because a loop over them is vectorized, which one over `math.exp` is not: 4 ns a row instead of 15.
    Both are within 4 units in the last place of `math.exp` and `math.log1p`.

    Parameters
    ----------
    margins, labels : ndarray of float64
    count : int
        How many of them.
    powers : ndarray of int64
        Room for `count` numbers.
    losses, derivatives : ndarray of float64
        Results.
    """
    scales = powers.view(np.float64)
    for i in range(count):
        rounded = (max(-abs(margins[i]), _LEAST) * _LOG2E + _ROUNDER) - _ROUNDER
        powers[i] = (np.int64(rounded) + 1023) << 52  # the bits of 2^rounded
    for i in range(count):
        m = margins[i]
        x = max(-abs(m), _LEAST)
        k = (x * _LOG2E + _ROUNDER) - _ROUNDER
        r = (x - k * _LN2_HIGH) - k * _LN2_LOW
        p = ((((((_E13 * r + _E12) * r + _E11) * r + _E10) * r + _E9) * r + _E8) * r + _E7) * r + _E6
        p = (((((p * r + _E5) * r + _E4) * r + _E3) * r + _E2) * r + _E1) * r + _E0
        e = p * scales[i]
        s = e / (2.0 + e)
        q = s * s
        a = ((((((_L16 * q + _L15) * q + _L14) * q + _L13) * q + _L12) * q + _L11) * q + _L10) * q + _L9
        a = ((((((((a * q + _L8) * q + _L7) * q + _L6) * q + _L5) * q + _L4) * q + _L3) * q + _L2) * q + _L1) * q + _L0
        upper = 1.0 / (1.0 + e)
        losses[i] = a * s + max(m, 0.0) - labels[i] * m
        derivatives[i] = (upper if m > 0 else e * upper) - labels[i]


# ---- the pass ----------------------------------------------------------------------------------------------------------


def linear_pass(name: str, loss: Callable[..., None]) -> Kernel:
    """A fused pass over rows for a loss of margin and label.

    Parameters
    ----------
    name : str
    loss : callable
        As `logistic`: (margins, labels, count, room, losses, derivatives), of a block of rows.
    """
    of_block = inlined(loss)

    def run(
        indptr: Any, ids: Any, values: Any, labels: Any, weights: Any, state: Any, bias: float, totals: Any
    ) -> None:
        """Adds to the gradient ``state[:, 1]`` of the weighted sum of losses at the coefficients ``state[:, 0]``.

        Both stand side by side because each entry needs both: one cache miss instead of two. Adds to `totals` the weighted
        sums of losses and of their derivatives (the gradient of the bias).
        """
        entries, scalars, both = data(ids), data(values), data(state)
        ones, plain = values.shape[0] == 0, weights.shape[0] == 0
        ahead = _AHEAD if state.shape[0] > _FAR else 0
        rows, stop = labels.shape[0], ids.shape[0]
        margins, losses, derivatives = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
        room = np.empty(BLOCK, np.int64)
        summed, slope = 0.0, 0.0
        for begin in range(0, rows, BLOCK):
            end = min(begin + BLOCK, rows)
            for r in range(begin, end):
                first, last = np.int64(indptr[r]), np.int64(indptr[r + 1])
                if ahead:
                    for k in range(first + ahead, min(last + ahead, stop)):
                        prefetch(both, 2 * np.int64(entries[k]))
                if ones:
                    margins[r - begin] = _margin_of_ones(first, last, entries, both, bias)
                else:
                    margins[r - begin] = _margin(first, last, entries, scalars, both, bias)
            of_block(margins, labels[begin:end], end - begin, room, losses, derivatives)
            for r in range(begin, end):
                weight = 1.0 if plain else weights[r]
                residual = weight * derivatives[r - begin]
                summed += weight * losses[r - begin]
                slope += residual
                first, last = np.int64(indptr[r]), np.int64(indptr[r + 1])
                if ones:
                    _scatter_ones(first, last, entries, both, residual)
                else:
                    _scatter(first, last, entries, scalars, both, residual)
        totals[0] += summed
        totals[1] += slope

    run.__qualname__ = run.__name__ = name  # names its file in the cache
    made: Kernel = kernel(
        lambda t: (given(_I32), given(_I32), given(t), given(_F64), given(_F64), array(_F64, 2), _F64, array(_F64)),
        dtypes=FLOATS,
    )(run)
    return made


#: Fused loss and gradient of binary logistic regression.
logistic_pass = linear_pass("logistic_pass", logistic.python)

__all__ = ["BLOCK", "linear_pass", "logistic", "logistic_pass"]
