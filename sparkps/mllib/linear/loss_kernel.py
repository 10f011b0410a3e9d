"""The kernel in which training spends its time: loss and gradient of a linear model over all rows of a chunk, for any loss.

A row's entries are as in `data.kernels`. Rows are taken in blocks, and a block in three loops: margins, losses, gradient. Each
loop keeps the processor busy in its own way, and that over the losses is vectorized.
"""

from __future__ import annotations

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


# ---- the kernel --------------------------------------------------------------------------------------------------------

#: A loss over a block of rows: (margins, labels, count, room, losses, derivatives). Writes the loss of each of the first
#: `count` rows and its derivative by the margin; `room` is int64 of the same length, to use as one likes.
Block = Callable[[Any, Any, int, Any, Any, Any], None]


def fused(name: str, loss: Block) -> Kernel:
    """The kernel of a loss: sums and gradient in one go over the rows.

    Parameters
    ----------
    name : str
        Names the kernel's file in the cache.
    loss : Block
        The kernel counts as declared by the module of this function.

    Returns
    -------
    Kernel
        For values of float32 and float64.
    """
    of_block = inlined(loss)

    def run(
        indptr: Any, ids: Any, values: Any, labels: Any, weights: Any, offsets: Any, state: Any, bias: float, totals: Any
    ) -> None:
        """Adds to the gradient ``state[:, 1]`` of the weighted sum of losses at the coefficients ``state[:, 0]``.

        Both stand side by side because each entry needs both: one cache miss instead of two. Adds to `totals` the weighted
        sums of losses and of their derivatives (the gradient of the bias). A row's offset, 0 where there are none, is part of its margin.
        """
        entries, scalars, both = data(ids), data(values), data(state)
        ones, plain, shifted = values.shape[0] == 0, weights.shape[0] == 0, offsets.shape[0] > 0
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
                if shifted:
                    margins[r - begin] += offsets[r]
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

    run.__qualname__ = run.__name__ = name
    run.__module__ = loss.__module__
    made: Kernel = kernel(
        lambda t: (
            given(_I32), given(_I32), given(t), given(_F64), given(_F64), given(_F64), array(_F64, 2), _F64, array(_F64)
        ),
        dtypes=FLOATS,
    )(run)
    return made


__all__ = ["BLOCK", "Block", "fused"]
