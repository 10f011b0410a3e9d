"""The kernel in which factorization machines train: loss and gradient over all rows of a chunk, in time linear in its entries.

A row with entries x has the margin b + Σ w·x + ½ Σ_f ((Σ v_f·x)² - Σ (v_f·x)²): the sum over all pairs of features of the dot
product of their factors, with no loop over pairs (Rendle, ICDM 2010, lemma 3.1). A key's coefficients stand side by side: w, then
its factors. Additions are made in the order of pyspark.ml's, so that equal steps give equal bits.
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

#: Entries whose coefficients are asked for ahead of their use, values of a cache line, and values of all coefficients from which on
#: that pays: fewer stay in the processor's caches anyway.
_AHEAD, _LINE, _FAR = 8, 8, 1 << 20

#: A loss of one row: (margin, label) -> (loss, derivative by the margin).
RowLoss = Callable[[Any, Any], Any]


@inlined
def log_loss(margin: float, label: float) -> Any:
    """log(1 + exp(-margin)) for label 1 and log(1 + exp(margin)) for label 0, and the derivative by the margin."""
    signed = -margin if label > 0.0 else margin
    loss = signed + math.log1p(math.exp(-signed)) if signed > 0.0 else math.log1p(math.exp(signed))
    return loss, 1.0 / (1.0 + math.exp(-margin)) - label


@inlined
def square_error(margin: float, label: float) -> Any:
    """(margin - label)², and its derivative by the margin."""
    apart = margin - label
    return apart * apart, 2.0 * apart


@inlined
def _ask_for(flat: Any, place: int, width: int) -> None:
    for line in range(0, width, _LINE):
        prefetch(flat, place + line)


@inlined
def _margin(
    first: int, last: int, ids: Any, values: Any, ones: int, flat: Any, stride: int, linear: int, factors: int, room: Any, bias: float
) -> float:
    """Margin of one row; leaves the sums of v·x per factor in the first half of `room`, those of their squares in the second."""
    margin = bias
    for f in range(2 * factors):
        room[f] = 0.0
    for k in range(first, last):
        if ids[k] < 0:
            continue
        x = 1.0 if ones else np.float64(values[k])
        place = np.int64(ids[k]) * stride
        if linear:
            margin += flat[place] * x
        for f in range(factors):
            part = flat[place + 1 + f] * x
            room[f] += part
            room[factors + f] += part * part
    for f in range(factors):
        margin += 0.5 * (room[f] * room[f] - room[factors + f])
    return margin


@inlined
def _scatter(
    first: int, last: int, ids: Any, values: Any, ones: int, flat: Any, dim: int, factors: int, linear: int, room: Any, residual: float
) -> None:
    """Adds the gradient of one row, behind the coefficients of each of its keys."""
    for k in range(first, last):
        x = 1.0 if ones else np.float64(values[k])
        place = np.int64(ids[k]) * 2 * dim
        if linear:
            flat[place + dim] += residual * x
        for f in range(factors):
            slope = x * room[f] - flat[place + 1 + f] * x * x
            flat[place + dim + 1 + f] += residual * slope


def fused(name: str, loss: RowLoss) -> Kernel:
    """The kernel of a loss: sums and gradient in one go over the rows.

    Parameters
    ----------
    name : str
        Names the kernel's file in the cache.
    loss : RowLoss
        Inlined.

    Returns
    -------
    Kernel
        For values of float32 and float64: (indptr, ids, values, labels, weights, offsets, state, linear, bias, totals).
    """

    def run(
        indptr: Any, ids: Any, values: Any, labels: Any, weights: Any, offsets: Any, state: Any, linear: int, bias: float, totals: Any
    ) -> None:
        """Adds to the gradient ``state[:, 1]`` of the weighted sum of losses at the coefficients ``state[:, 0]``.

        Without `linear` the first coefficient of a key does not count, and gets no gradient. Adds to `totals` the weighted sums
        of losses and of their derivatives by the margin.
        """
        entries, scalars, flat = data(ids), data(values), data(state)
        ones, plain, level = values.shape[0] == 0, weights.shape[0] == 0, offsets.shape[0] == 0
        dim = np.int64(state.shape[2])
        factors, stride, stop = dim - 1, 2 * dim, ids.shape[0]
        ahead = _AHEAD if state.size > _FAR else 0
        held = np.empty(2 * factors + 1)
        room = data(held)
        for r in range(labels.shape[0]):
            weight = 1.0 if plain else weights[r]
            if weight == 0.0:
                continue
            first, last = np.int64(indptr[r]), np.int64(indptr[r + 1])
            if ahead:  # the rows of the next row of data: those of this one were asked for with the last
                for k in range(last, min(2 * last - first + ahead, stop)):
                    _ask_for(flat, np.int64(entries[k]) * stride, stride)
            begun = bias if level else bias + offsets[r]
            margin = _margin(first, last, entries, scalars, ones, flat, stride, linear, factors, room, begun)
            cost, slope = loss(margin, labels[r])
            residual = weight * slope
            totals[0] += weight * cost
            totals[1] += residual
            _scatter(first, last, entries, scalars, ones, flat, dim, factors, linear, room, residual)

    run.__qualname__ = run.__name__ = name
    made: Kernel = kernel(
        lambda t: (
            given(_I32), given(_I32), given(t), given(_F64), given(_F64), given(_F64), array(_F64, 3), types.int64, _F64, array(_F64),
        ),
        dtypes=FLOATS,
    )(run)
    return made


LOSSES = {"log": fused("fm_log_loss", log_loss), "square": fused("fm_square_error", square_error)}


@kernel(lambda t: (given(_I32), given(_I32), given(t), given(_F64, 2), types.int64, _F64, array(_F64)), dtypes=FLOATS)
def margins(indptr: Any, ids: Any, values: Any, rows: Any, linear: int, bias: float, out: Any) -> None:
    """The margin of each row of data, of coefficients `rows` (n, dim); entries with a negative id have none.

    Without `linear` the first coefficient of a key does not count.
    """
    entries, scalars, flat, ones = data(ids), data(values), data(rows), values.shape[0] == 0
    dim = np.int64(rows.shape[1])
    held = np.empty(2 * dim)
    for r in range(out.shape[0]):
        first, last = np.int64(indptr[r]), np.int64(indptr[r + 1])
        out[r] = _margin(first, last, entries, scalars, ones, flat, dim, linear, dim - 1, data(held), bias)


__all__ = ["LOSSES", "RowLoss", "fused", "log_loss", "margins", "square_error"]
