"""Huber's loss with a scale that is estimated along with the coefficients, and that makes it robust in any unit of the labels.

Owen, A robust hybrid of lasso and ridge regression, Contemporary Mathematics 443 (2007), section 4. With z = (y - m) / σ of margin m
and label y, the loss is ½ σ (1 + z²) where |z| <= ε, and ½ σ (1 + 2 ε |z| - ε²) elsewhere: convex in m and σ together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.data.labels import FiniteLabels
from sparkps.mllib.linear.rowwise import RowwiseLoss
from sparkps.mllib.solvers.objective import UNVARYING, LabelSums, Start

Array = NDArray[Any]


@dataclass(frozen=True)
class ConcomitantHuber(RowwiseLoss):
    """The margin is what is predicted. Its one further parameter is log σ, so that no bound is needed to keep σ above 0.

    Parameters
    ----------
    epsilon : float
        Above 1; the larger, the more rows count by their square.

    Examples
    --------
    >>> losses, slopes, by_scale = ConcomitantHuber(2.0).of_rows(np.array([1.0, 9.0]), np.zeros(2), np.zeros(1))
    >>> losses.tolist(), slopes.tolist(), by_scale.ravel().tolist()
    ([1.0, 16.5], [1.0, 2.0], [0.0, -1.5])
    """

    epsilon: float = 1.35

    label_rule = FiniteLabels()
    scalars: ClassVar[int] = 1
    metrics = ("rmse", "mae")
    of_residuals = True

    def start(self, sums: LabelSums) -> Start:
        """At the mean and the deviation of the labels; where they do not vary the mean is the solution, and the scale is 1."""
        mean = sums.labels / sums.weight
        variance = sums.squares / sums.weight - mean**2
        if variance <= 1e-14 * sums.squares / sums.weight:
            return Start(np.array([mean]), solved=UNVARYING, scalars=np.zeros(1))
        return Start(np.array([mean]), scalars=np.array([0.5 * math.log(variance)]))

    def of_rows(self, margins: Array, labels: Array, scalars: Array) -> tuple[Array, Array, Array]:
        """See `RowwiseLoss`."""
        scale, epsilon = math.exp(scalars[0]), self.epsilon
        z = (margins - labels) / scale
        size = np.abs(z)
        near = size <= epsilon
        losses = 0.5 * scale * (1.0 + np.where(near, z * z, 2.0 * epsilon * size - epsilon**2))
        slopes = np.clip(z, -epsilon, epsilon)
        by_scale = 0.5 * scale * (1.0 - np.where(near, z * z, epsilon**2))
        return losses, slopes, by_scale[:, None]


__all__ = ["ConcomitantHuber"]
