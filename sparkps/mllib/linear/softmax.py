"""The softmax loss of K classes: log Σ_k exp(m_k) - m_y of margins m and label y, with derivatives p_k - [k = y]."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.data.labels import ClassLabels
from sparkps.mllib.linear.many import ManyMargins
from sparkps.mllib.linear.many_kernel import fused_many
from sparkps.mllib.solvers.objective import LabelSums, Start

Array = NDArray[Any]


def row_loss(margins: Any, label: float, derivatives: Any) -> float:
    """The softmax loss of one row, without overflow (see `RowLoss`).

    Parameters
    ----------
    margins : ndarray of float64, shape (K,)
    label : float
        0 to K - 1.
    derivatives : ndarray of float64, shape (K,)
        Result: by each margin.
    """
    outputs, of_label = margins.shape[0], int(label)
    largest = margins[0]
    for k in range(1, outputs):
        largest = max(largest, margins[k])
    total = 0.0
    for k in range(outputs):
        derivatives[k] = math.exp(margins[k] - largest)
        total += derivatives[k]
    for k in range(outputs):
        derivatives[k] /= total
    derivatives[of_label] -= 1.0
    loss: float = math.log(total) + largest - margins[of_label]
    return loss


class Softmax(ManyMargins):
    """K classes, each with its margin: multinomial logistic regression.

    A constant may be added to all coefficients of a feature, and nothing changes. Without a penalty that tells between them the
    model has those whose mean is 0, and always so for the intercepts, as in pyspark.ml.

    Examples
    --------
    >>> start = Softmax(2).start(LabelSums(weight=8.0, labels=1.0, squares=1.0, classes=np.array([7.0, 1.0])))
    >>> np.exp(2 * start.intercepts).round(9).tolist()    # of 7 + 1 and 1 + 1
    [4.0, 0.25]
    """

    kernel = fused_many("softmax_loss_and_gradient", row_loss)
    metrics = ("logLoss", "accuracy")

    @property
    def label_rule(self) -> ClassLabels:
        """See `Objective`."""
        return ClassLabels(self.outputs)

    def start(self, sums: LabelSums) -> Start:
        """At the logarithms of the classes' weights, each increased by 1 as in pyspark.ml; where there is one class only, it is certain."""
        there = np.flatnonzero(sums.classes)
        if len(there) == 1:
            certain = np.zeros(self.outputs)
            certain[there] = math.inf
            return Start(certain, solved="all labels are equal")
        intercepts = np.log1p(sums.classes)
        return Start(intercepts - intercepts.mean())

    def published(self, rows: Array, *, penalised: bool) -> Array:
        """See `Objective`: with mean 0, unless a penalty has chosen."""
        return rows if penalised else rows - rows.mean(axis=1, keepdims=True)


__all__ = ["Softmax", "row_loss"]
