"""The softmax loss of K classes: log Σ_k exp(m_k) - m_y of margins m and label y, with derivatives p_k - [k = y]."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.kernels.compiled import inlined
from sparkps.mllib.data.labels import ClassLabels
from sparkps.mllib.linear.many import ManyMargins
from sparkps.mllib.linear.many_kernel import fused_many
from sparkps.mllib.solvers.objective import LabelSums, Start
from sparkps.mllib.solvers.row_by_row_many import row_by_row_many

Array = NDArray[Any]

#: Probabilities below it are rounding.
_LEAST = 1e-17

#: Lines that are drawn for a way, steps of Newton's method, and the change of the log-odds below which a line will do.
_LINES, _MOST_STEPS, _CLOSE = 3, 60, 1e-3


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


def flow(label: float, derivatives: Any, time: float, changes: Any) -> None:
    """Changes of the margins along dm/dt = -derivatives (see `row_by_row_many.Flow`).

    On the way exp(-m_c) of each other class grows by the same number α(t), so that with p the probabilities at first

        m_c = m_c(0) - log(1 + α·p_c) for c ≠ y;  m_y = m_y(0) + Q, Q = Σ_c log(1 + α·p_c);  dQ/dt = 1 / (1 + o)

    where o are the odds of the label, p_y·exp(Q) / Σ_c p_c/(1 + α·p_c). Their logarithm is nearly a line in Q, for two classes exactly:
    with its slope s, s·Q + o(0)·(exp(s·Q) - 1) = s·t. Then the line is drawn anew to where that leads.

    Parameters
    ----------
    label : float
    derivatives : ndarray of float64, shape (K,)
        Where the way begins: p_k - [k = label].
    time : float
        Above 0.
    changes : ndarray of float64, shape (K,)
        Result.
    """
    outputs, of_label = derivatives.shape[0], int(label)
    rest, squares = 0.0, 0.0
    for k in range(outputs):
        changes[k] = 0.0
        if k != of_label:
            rest += derivatives[k]
            squares += derivatives[k] * derivatives[k]
    if not rest > _LEAST:
        return
    odds, slope = max(1.0 + derivatives[of_label], _LEAST) / rest, 1.0 + squares / (rest * rest)
    gained, power = 0.0, 0.0
    for _ in range(_LINES):
        gained = _along(odds, slope * time) / slope
        power = math.log(gained / rest)
        left = rest
        for _ in range(_MOST_STEPS):  # Newton's method for log α: it comes from above after its first step
            alpha, found, by_power, left = math.exp(power), 0.0, 0.0, 0.0
            for k in range(outputs):
                if k != of_label:
                    odd = alpha * derivatives[k]
                    found += math.log1p(odd)
                    by_power += odd / (1.0 + odd)
                    left += derivatives[k] / (1.0 + odd)
            if abs(found - gained) < 1e-7 * gained:
                break
            power += (gained - found) / by_power
        anew = 1.0 + math.log(rest / left) / gained
        if abs(anew - slope) * gained < _CLOSE:
            break
        slope = anew
    alpha, total = math.exp(power), 0.0
    for k in range(outputs):
        if k != of_label:
            change = math.log1p(alpha * derivatives[k])
            changes[k] = -change
            total += change
    changes[of_label] = total


@inlined
def _along(odds: float, time: float) -> float:
    """The z with z + odds·(exp(z) - 1) = time, by Newton's method from above."""
    z = min(time, math.log1p(time / odds)) if odds > 0.0 else time
    for _ in range(_MOST_STEPS):
        more = math.expm1(z)
        change = (z + odds * more - time) / (1.0 + odds * (1.0 + more))
        z -= change
        if abs(change) <= 1e-9 * z:
            break
    return z


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
    online = row_by_row_many("softmax_row_by_row", row_loss, flow)
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

    def curvature(self, sums: LabelSums) -> float:
        """See `CurvedObjective`: as of two classes, in the mean over all of them.

        Examples
        --------
        >>> Softmax(2).curvature(LabelSums(weight=8.0, labels=4.0, squares=4.0, classes=np.array([4.0, 4.0])))
        0.125
        """
        shares = sums.classes / sums.weight
        return 0.5 * float((shares * (1.0 - shares)).mean())

    def published(self, rows: Array, *, penalised: bool) -> Array:
        """See `Objective`: with mean 0, unless a penalty has chosen."""
        return rows if penalised else rows - rows.mean(axis=1, keepdims=True)


__all__ = ["Softmax", "flow", "row_loss"]
