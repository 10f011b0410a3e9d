"""The kernel of objectives with several margins a row: loss and gradient over all rows of a chunk.

A row's entries are as in `data.kernels`. Each entry is met twice, for the margins and for the gradient; what it touches lies together:
coefficients and gradient of a feature, one behind the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from sparkps.kernels.compiled import FLOATS, Kernel, array, given, inlined, kernel
from sparkps.kernels.intrinsics import data, prefetch

_I32, _F64 = types.int32, types.float64

#: Entries whose coefficients are asked for ahead of their use, and the values of coefficients from which on that pays.
_AHEAD, _FAR = 24, 1 << 19

#: A loss of one row: (margins, label, derivatives) -> loss. Writes the derivative by each margin.
RowLoss = Callable[[Any, float, Any], float]


def fused_many(name: str, loss: RowLoss) -> Kernel:
    """The kernel of a loss of several margins: sums and gradient in one go over the rows.

    Parameters
    ----------
    name : str
        Names the kernel's file in the cache.
    loss : RowLoss
        The kernel counts as declared by the module of this function.

    Returns
    -------
    Kernel
        For values of float32 and float64.
    """
    of_row = inlined(loss)

    def run(
        indptr: Any, ids: Any, values: Any, labels: Any, weights: Any, offsets: Any, state: Any, bias: Any, totals: Any
    ) -> None:
        """Adds to the gradient ``state[:, 1]`` of the weighted sum of losses at the coefficients ``state[:, 0]``.

        Adds to `totals` the weighted sums of losses and of their derivatives by each margin. A row's offset is part of all margins.
        """
        outputs = bias.shape[0]
        ones, plain, shifted = values.shape[0] == 0, weights.shape[0] == 0, offsets.shape[0] > 0
        ahead = _AHEAD if state.size > _FAR else 0
        stop = ids.shape[0]
        margins, derivatives = np.empty(outputs), np.empty(outputs)
        for r in range(labels.shape[0]):
            first, last = np.int64(indptr[r]), np.int64(indptr[r + 1])
            for k in range(outputs):
                margins[k] = bias[k] + (offsets[r] if shifted else 0.0)
            for e in range(first, last):
                if ahead and e + ahead < stop:
                    for part in range(0, 2 * outputs, 8):  # numbers of a cache line
                        prefetch(data(state), 2 * outputs * np.int64(ids[e + ahead]) + part)
                value = 1.0 if ones else np.float64(values[e])
                for k in range(outputs):
                    margins[k] += value * state[ids[e], 0, k]
            weight = 1.0 if plain else weights[r]
            totals[0] += weight * of_row(margins, labels[r], derivatives)
            for k in range(outputs):
                derivatives[k] *= weight
                totals[1 + k] += derivatives[k]
            for e in range(first, last):
                value = 1.0 if ones else np.float64(values[e])
                for k in range(outputs):
                    state[ids[e], 1, k] += value * derivatives[k]

    run.__qualname__ = run.__name__ = name
    run.__module__ = loss.__module__
    made: Kernel = kernel(
        lambda t: (
            given(_I32), given(_I32), given(t), given(_F64), given(_F64), given(_F64), array(_F64, 3), given(_F64), array(_F64)
        ),
        dtypes=FLOATS,
    )(run)
    return made


__all__ = ["RowLoss", "fused_many"]
