"""A loss that the package does not have, as its one module: what a new loss takes. sqrt(1 + (m - y)²) - 1, for regression."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparkps.mllib.data.labels import FiniteLabels
from sparkps.mllib.linear.loss import Loss
from sparkps.mllib.linear.loss_kernel import fused
from sparkps.mllib.solvers.objective import LabelSums, Start


def block(margins: Any, labels: Any, count: int, room: Any, losses: Any, derivatives: Any) -> None:
    """The loss of each margin and label, and its derivative."""
    for i in range(count):
        apart = margins[i] - labels[i]
        root = math.sqrt(1.0 + apart * apart)
        losses[i] = root - 1.0
        derivatives[i] = apart / root


class PseudoHuber(Loss, name="pseudo_huber"):
    """Labels are numbers, and the margin is what is predicted."""

    label_rule = FiniteLabels()
    kernel = fused("pseudo_huber_loss_and_gradient", block)

    def start(self, sums: LabelSums) -> Start:
        """At the mean; where labels do not vary, it is the solution."""
        mean = sums.labels / sums.weight
        return Start(np.array([mean]), solved="labels do not vary" if sums.squares == mean * sums.labels else "")
