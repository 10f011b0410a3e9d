"""Losses of linear models: compiled passes over rows that give loss and gradient at once.

With margin m = b + Σ x·w and label y in {0, 1}, the logistic loss of a row is log(1 + exp(m)) - y·m and its derivative by m
is 1/(1 + exp(-m)) - y.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.data.store import Chunk
from sparkps.mllib.linear import passes


@dataclass(frozen=True)
class Loss:
    """A loss that depends on a row's margin and label alone.

    Parameters
    ----------
    name : str
        Its name in `LOSSES`.
    """

    name: str

    def add_up(self, chunks: Iterable[Chunk], state: NDArray[Any], bias: float) -> tuple[float, float]:
        """Weighted sums over all rows, in their order.

        Parameters
        ----------
        chunks : iterable of Chunk
        state : ndarray of shape (keys, 2), float64
            ``state[:, 0]`` holds the coefficients; the gradient is added to ``state[:, 1]``.
        bias : float

        Returns
        -------
        loss : float
        derivative : float
            Sum of the losses' derivatives by the margin: the gradient of the bias.

        Examples
        --------
        >>> chunk = Chunk(np.array([1.0]), np.empty(0), np.array([0, 1], np.int32), np.zeros(1, np.int32), np.array([2.0]))
        >>> state = np.zeros((1, 2))
        >>> loss, derivative = LOGISTIC.add_up([chunk], state, 0.0)
        >>> round(loss, 12), derivative, state[0, 1].item()    # the loss is log(2)
        (0.69314718056, -0.5, -1.0)
        """
        run = _PASSES[self.name]
        totals = np.zeros(2)
        for chunk in chunks:
            run.of(chunk.values.dtype)(
                chunk.indptr, chunk.ids, chunk.values, chunk.labels, chunk.weights, state, float(bias), totals
            )
        return float(totals[0]), float(totals[1])


#: Compiled pass of each loss by name.
_PASSES = {"logistic": passes.logistic_pass}

LOGISTIC = Loss("logistic")

#: All losses by name.
LOSSES = {loss.name: loss for loss in (LOGISTIC,)}

__all__ = ["LOGISTIC", "LOSSES", "Loss"]
