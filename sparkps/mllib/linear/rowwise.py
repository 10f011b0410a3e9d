"""Losses whose rows numpy computes, between two compiled passes over the features: those with a formula too long to be fused, or with
parameters of their own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from sparkps.kernels.compiled import FLOATS, array, given, kernel
from sparkps.mllib.data.store import Chunk
from sparkps.mllib.linear.loss import Loss
from sparkps.mllib.linear.margins import margins_of

Array = NDArray[Any]

_I32, _F64 = types.int32, types.float64

#: Rows whose temporary vectors exist at a time.
_ROWS = 1 << 16


@kernel(lambda t: (given(_I32), given(_I32), given(t), given(_F64), array(_F64)), dtypes=FLOATS)
def add_weighted_rows(indptr: Any, ids: Any, values: Any, residuals: Any, gradient: Any) -> None:
    """Adds Σ residual·x to `gradient`; of an empty array of values all are 1."""
    for r in range(residuals.shape[0]):
        for k in range(indptr[r], indptr[r + 1]):
            gradient[ids[k]] += residuals[r] if values.shape[0] == 0 else residuals[r] * values[k]


class RowwiseLoss(Loss):
    """A loss of a row's margin, its label, and further parameters that all rows share."""

    @property
    def kernels(self) -> tuple[str, ...]:
        """See `Objective`."""
        return (__name__,)

    @abstractmethod
    def of_rows(self, margins: Array, labels: Array, scalars: Array) -> tuple[Array, Array, Array]:
        """Losses and derivatives of rows of weight 1.

        Parameters
        ----------
        margins, labels : ndarray of shape (n,), float64
        scalars : ndarray of shape (scalars,), float64

        Returns
        -------
        losses, derivatives : ndarray of shape (n,)
            Derivatives by the margin.
        by_scalars : ndarray of shape (n, scalars)
        """

    def loss_and_gradient(self, chunks: Iterable[Chunk], state: Array, bias: Array) -> tuple[float, Array]:
        """See `Objective`."""
        coefficients, gradient = np.ascontiguousarray(state[:, 0, 0]), np.zeros(len(state))
        total, derivatives = 0.0, np.zeros(1 + self.scalars)
        for whole in chunks:
            for begin in range(0, len(whole), _ROWS):
                chunk = whole.rows(begin, min(begin + _ROWS, len(whole)))
                losses, slopes, by_scalars = self.of_rows(margins_of(chunk, coefficients, float(bias[0])), chunk.labels, bias[1:])
                weights = chunk.weights if len(chunk.weights) else np.ones(len(chunk))
                residuals = weights * slopes
                total += float(weights @ losses)
                derivatives += np.append(residuals.sum(), weights @ by_scalars)
                add_weighted_rows.of(chunk.values.dtype)(chunk.indptr, chunk.ids, chunk.values, residuals, gradient)
        state[:, 1, 0] += gradient
        return total, derivatives


__all__ = ["RowwiseLoss"]
