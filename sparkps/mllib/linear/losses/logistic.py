"""The logistic loss: log(1 + exp(m)) - y·m of margin m and label y in {0, 1}, with derivative 1/(1 + exp(-m)) - y."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparkps.mllib.data.labels import BinaryLabels
from sparkps.mllib.linear.loss import Loss
from sparkps.mllib.linear.loss_kernel import fused
from sparkps.mllib.solvers.objective import LabelSums, Start
from sparkps.mllib.solvers.row_by_row import row_by_row

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


def block(margins: Any, labels: Any, count: int, powers: Any, losses: Any, derivatives: Any) -> None:
    """Logistic loss log(1 + exp(m)) - y·m of each margin m and label y, and its derivative by m, without overflow (see `Block`).

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


def flow(margin: float, label: float, time: float) -> float:
    """Change of a margin along dm/dt = -derivative (see `row_by_row.Flow`).

    With z = ±m, positive on the label's side, z + exp(z) grows as the time does: Newton's method finds z, from above.
    """
    sign = 2.0 * label - 1.0
    start = sign * margin
    if start > 30.0:  # exp(z) is as good as all of z + exp(z)
        return sign * time * math.exp(-start)
    reached = start + math.exp(start) + time
    z = start + time / (1.0 + math.exp(start))
    if reached > 1.0:
        z = min(z, math.log(reached))
    for _ in range(20):
        power = math.exp(z)
        change = (z + power - reached) / (1.0 + power)
        z -= change
        if abs(change) < 1e-9:
            break
    return sign * (z - start)


class Logistic(Loss, name="logistic"):
    """Two classes: the margin is the logarithm of the odds of label 1."""

    label_rule = BinaryLabels()
    kernel = fused("logistic_loss_and_gradient", block)
    online = row_by_row("logistic_row_by_row", block, flow)
    link = "sigmoid"
    metrics = ("areaUnderROC", "logLoss")

    def start(self, sums: LabelSums) -> Start:
        """The intercept that is best without features; where all labels are equal it is infinite, and the solution.

        Examples
        --------
        >>> Logistic().start(LabelSums(weight=4.0, labels=3.0, squares=3.0)).intercepts[0] == math.log(3)
        np.True_
        >>> start = Logistic().start(LabelSums(weight=4.0, labels=0.0, squares=0.0))
        >>> start.intercepts.tolist(), start.solved
        ([-inf], 'all labels are equal')
        """
        positive, weight = sums.labels, sums.weight
        if positive in (0.0, weight):
            return Start(np.array([math.inf if positive else -math.inf]), solved="all labels are equal")
        return Start(np.array([math.log(positive / (weight - positive))]))

    def curvature(self, sums: LabelSums) -> float:
        """See `CurvedObjective`: p·(1 - p), half as much as without features since most rows come to be surer.

        Examples
        --------
        >>> Logistic().curvature(LabelSums(weight=4.0, labels=2.0, squares=2.0))
        0.125
        """
        positive = sums.labels / sums.weight
        return 0.5 * positive * (1.0 - positive)


__all__ = ["Logistic", "block", "flow"]
