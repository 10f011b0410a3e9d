"""The hinge loss of linear support vector machines: max(0, 1 - s·m) of margin m, with s = 2y - 1 of label y in {0, 1}."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparkps.mllib.data.labels import BinaryLabels
from sparkps.mllib.linear.loss import Loss
from sparkps.mllib.linear.loss_kernel import fused
from sparkps.mllib.solvers.objective import LabelSums, Start
from sparkps.mllib.solvers.row_by_row import row_by_row


def block(margins: Any, labels: Any, count: int, room: Any, losses: Any, derivatives: Any) -> None:
    """Hinge loss of each margin and label, and a subgradient of it: -s where s·m < 1, else 0 (see `Block`)."""
    for i in range(count):
        sign = 2.0 * labels[i] - 1.0
        lacks = 1.0 - sign * margins[i]
        inside = lacks > 0.0
        losses[i] = lacks if inside else 0.0
        derivatives[i] = -sign if inside else 0.0


def flow(margin: float, label: float, time: float) -> float:
    """Change of a margin along dm/dt = -derivative: towards the label's side, until the loss is 0 (see `row_by_row.Flow`)."""
    sign = 2.0 * label - 1.0
    return sign * min(time, max(1.0 - sign * margin, 0.0))


class Hinge(Loss, name="hinge"):
    """Two classes; the margin is on the side of the class, and has no probability."""

    label_rule = BinaryLabels()
    kernel = fused("hinge_loss_and_gradient", block)
    online = row_by_row("hinge_row_by_row", block, flow)
    metrics = ("areaUnderROC", "accuracy")

    def start(self, sums: LabelSums) -> Start:
        """At 0, as in pyspark.ml: it has no best intercept where both classes weigh the same."""
        return Start(np.zeros(1))

    def curvature(self, sums: LabelSums) -> float:
        """See `CurvedObjective`: of a loss with a kink, how many margins lie about it."""
        return 0.25


__all__ = ["Hinge", "block", "flow"]
