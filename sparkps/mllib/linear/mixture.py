"""The loss of a mixture of logistic regressions, a large-scale piecewise linear model (Gai et al. 2017, arXiv 1704.05194, equation 5).

A row has 2m margins: u_1 .. u_m divide the space of features softly into m regions, v_1 .. v_m are the logarithms of the odds of label 1
in each. With π = softmax(u), the probability of label 1 is Σ π_i / (1 + exp(-v_i)).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sparkps.initializers import Initializer, Normal
from sparkps.mllib.data.labels import BinaryLabels, LabelRule
from sparkps.mllib.data.store import Chunk
from sparkps.mllib.linear.many import ManyMargins
from sparkps.mllib.linear.many_kernel import fused_many
from sparkps.mllib.linear.scoring import BinaryScorer
from sparkps.mllib.models.classes import class_of_two
from sparkps.mllib.models.links import mixture
from sparkps.mllib.solvers.objective import LabelSums, Start

Array = NDArray[Any]


def row_loss(margins: Any, label: float, derivatives: Any) -> float:
    """-log of the probability of a row's label (see `many_kernel.RowLoss`), without overflow.

    With q_i the probability of the label in region i, and r_i = π_i·q_i / Σ π_j·q_j the share of the region in it, the derivatives are
    π_i - r_i by u_i, and r_i·(σ(v_i) - y) by v_i.

    Parameters
    ----------
    margins : ndarray of float64, shape (2m,)
    label : float
    derivatives : ndarray of float64, shape (2m,)
        Result: by each margin.
    """
    regions = margins.shape[0] // 2
    sign = 1.0 if label > 0.0 else -1.0
    top = margins[0]
    best = -math.inf
    for i in range(regions):
        top = max(top, margins[i])
        odds = sign * margins[regions + i]
        # log q_i, kept where the derivative will be
        derivatives[regions + i] = -math.log1p(math.exp(-odds)) if odds > 0.0 else odds - math.log1p(math.exp(odds))
        best = max(best, margins[i] + derivatives[regions + i])
    gates, joint = 0.0, 0.0
    for i in range(regions):
        gates += math.exp(margins[i] - top)
        joint += math.exp(margins[i] + derivatives[regions + i] - best)
    for i in range(regions):
        share = math.exp(margins[i] + derivatives[regions + i] - best) / joint
        derivatives[regions + i] = -sign * share * -math.expm1(derivatives[regions + i])
        derivatives[i] = math.exp(margins[i] - top) / gates - share
    loss: float = math.log(gates) + top - math.log(joint) - best
    return loss


@dataclass(frozen=True)
class Mixture(ManyMargins):
    """A mixture of logistic regressions. Its optimum is one of many: training begins at small random coefficients.

    Examples
    --------
    >>> Mixture(outputs=4).start(LabelSums(weight=4.0, labels=1.0, squares=1.0)).intercepts.round(4).tolist()
    [0.0, 0.0, -1.0986, -1.0986]
    """

    #: Standard deviation of the first coefficients.
    std: float = 0.1

    kernel = fused_many("mixture_loss_and_gradient", row_loss)
    label_rule: ClassVar[LabelRule] = BinaryLabels()
    metrics = ("areaUnderROC", "logLoss")

    @property
    def classes(self) -> int:
        """See `Objective`: labels are not counted apart."""
        return 0

    @property
    def initializer(self) -> Initializer:  # type: ignore[override]  # of the others it is one for all
        """See `Objective`."""
        return Normal(0.0, self.std)

    def start(self, sums: LabelSums) -> Start:
        """Every region with the odds of all labels; where all labels are equal, it is certain."""
        regions = self.outputs // 2
        positive, rest = sums.labels, sums.weight - sums.labels
        solved = "" if positive > 0 and rest > 0 else "all labels are equal"
        odds = math.log(positive / rest) if not solved else math.copysign(math.inf, positive - rest)
        return Start(np.repeat([0.0, odds], regions), solved)

    def scores(self, chunk: Chunk, rows: Array, bias: Array) -> Array:
        """See `MeasuredObjective`: the logarithms of the odds."""
        return odds_of(super().scores(chunk, rows, bias))


def odds_of(margins: Array) -> Array:
    """Logarithms of the odds of label 1, float64 (n,), of margins (n, 2m).

    Examples
    --------
    >>> odds_of(np.array([[0.0, 0.0, 2.0, 2.0]])).round(9).tolist()    # two regions that agree
    [2.0]
    """
    both = mixture(margins)
    with np.errstate(divide="ignore"):
        odds: Array = np.log(both[:, 1]) - np.log(both[:, 0])
    return odds


@dataclass(frozen=True)
class MixtureScorer(BinaryScorer):
    """``raw`` (the logarithms of the odds, [-l, l]), ``probability`` and ``prediction`` of a mixture."""

    def of_margins(self, margin: Array) -> Mapping[str, Array]:
        """See `LinearScorer`."""
        both, odds = mixture(margin), odds_of(margin)
        return {
            "raw": np.stack([-odds, odds], axis=1),
            "probability": both,
            "prediction": class_of_two(both[:, 1], self.threshold),
        }


__all__ = ["Mixture", "MixtureScorer", "row_loss"]
