"""Half the squared error: ½ (m - y)² of margin m and label y, in units of the labels' standard deviation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import InvalidInput
from sparkps.mllib.data.labels import FiniteLabels
from sparkps.mllib.data.store import Chunk
from sparkps.mllib.linear.loss import Loss
from sparkps.mllib.linear.loss_kernel import fused
from sparkps.mllib.linear.margins import margins_of
from sparkps.mllib.solvers.objective import UNVARYING, LabelSums, Start
from sparkps.mllib.solvers.ranks import not_finite
from sparkps.mllib.solvers.row_by_row import row_by_row

#: A variance below this fraction of the mean square is rounding: the labels are all equal.
_CONSTANT = 1e-14


def block(margins: Any, labels: Any, count: int, room: Any, losses: Any, derivatives: Any) -> None:
    """½ (m - y)² of each margin m and label y, and its derivative m - y (see `Block`)."""
    for i in range(count):
        apart = margins[i] - labels[i]
        losses[i] = 0.5 * apart * apart
        derivatives[i] = apart


def flow(margin: float, label: float, time: float) -> float:
    """Change of a margin along dm/dt = label - m (see `row_by_row.Flow`)."""
    return (margin - label) * math.expm1(-time)


@dataclass(frozen=True)
class Squared(Loss, name="squared"):
    """The margin is what is predicted.

    Informed of the labels, it is a loss of labels and margins divided by the labels' standard deviation, as in pyspark.ml: steps, tests
    of convergence and penalties do not depend on the labels' unit. What a solver finds is brought back by `published`.

    Parameters
    ----------
    fit_intercept, penalised : bool
        Whether the model has an intercept, and a penalty.
    """

    fit_intercept: bool = True
    penalised: bool = False
    #: What labels are divided by.
    unit: float = 1.0

    label_rule = FiniteLabels()
    kernel = fused("squared_loss_and_gradient", block)
    online = row_by_row("squared_row_by_row", block, flow)
    metrics = ("rmse", "mae")
    of_residuals = True

    def informed(self, sums: LabelSums) -> Self:
        """The loss in units of the labels' deviation; of labels that are all equal, in units of their size.

        Examples
        --------
        >>> Squared().informed(LabelSums(weight=3.0, labels=6.0, squares=14.0, weight_squares=3.0)).unit    # of 1, 2 and 3
        1.0
        """
        return replace(self, unit=_deviation(sums) or abs(sums.labels / sums.weight) or 1.0)

    def penalties(self, l1: float, l2: float) -> tuple[float, float]:
        """In the same units as the loss."""
        return l1 / self.unit, l2 / self.unit

    def start(self, sums: LabelSums) -> Start:
        """At the mean, which is the solution where all labels are equal.

        Raises
        ------
        InvalidInput
            All labels are equal, there is no intercept, and there is a penalty.
        """
        mean = sums.labels / sums.weight
        if _deviation(sums) > 0.0:
            return Start(np.array([mean / self.unit]))
        if self.penalised and not self.fit_intercept and mean != 0.0:
            raise InvalidInput(
                f"`regParam` must be 0 where all labels are equal and there is no intercept. Got labels of {mean:g}; set"
                " fitIntercept=True or regParam=0.",
                param="regParam",
            )
        return Start(np.array([mean]), solved=UNVARYING)

    def curvature(self, sums: LabelSums) -> float:
        """See `CurvedObjective`: the same everywhere."""
        return 1.0

    def published(self, rows: NDArray[Any], *, penalised: bool) -> NDArray[Any]:
        """In units of the labels as they are."""
        return rows * self.unit

    def loss_and_gradient(
        self, chunks: Iterable[Chunk], state: NDArray[Any], bias: NDArray[Any]
    ) -> tuple[float, NDArray[Any]]:
        """See `Objective`; margins are in the loss's own unit."""
        if self.unit == 1.0:
            return super().loss_and_gradient(chunks, state, bias)
        scaled = (replace(chunk, labels=chunk.labels / self.unit, offsets=chunk.offsets / self.unit) for chunk in chunks)
        return super().loss_and_gradient(scaled, state, bias)

    def scores(self, chunk: Chunk, rows: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
        """See `MeasuredObjective`: what is predicted, in units of the labels as they are."""
        return margins_of(chunk, np.ascontiguousarray(rows[:, 0]) * self.unit, float(bias[0]) * self.unit)


def _deviation(sums: LabelSums) -> float:
    """Standard deviation of the labels, without bias; 0 where they are all equal but for rounding."""
    if not math.isfinite(sums.squares):
        raise not_finite("Got labels whose squares add up to more than a float64 holds.")
    freedom = sums.weight - sums.weight_squares / sums.weight
    spread = sums.squares - sums.labels**2 / sums.weight
    return math.sqrt(spread / freedom) if spread > _CONSTANT * sums.squares and freedom > 0 else 0.0


__all__ = ["Squared", "block", "flow"]
