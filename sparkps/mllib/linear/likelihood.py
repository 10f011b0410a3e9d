"""Half the deviance of a generalized linear model: its negative log likelihood, but for what no coefficient changes.

Nelder and Wedderburn, Generalized linear models, Journal of the Royal Statistical Society A 135 (1972).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.data.labels import LabelRule
from sparkps.mllib.data.store import Chunk
from sparkps.mllib.linear.distributions import Distribution
from sparkps.mllib.linear.margins import margins_of
from sparkps.mllib.linear.mean_links import MeanLink
from sparkps.mllib.linear.rowwise import RowwiseLoss
from sparkps.mllib.solvers.objective import LabelSums, Start

Array = NDArray[Any]


@dataclass(frozen=True)
class HalfDeviance(RowwiseLoss):
    """A label varies about the mean μ of its row, and g(μ) is the row's margin; can be minimised by L-BFGS and by reweighting.

    Parameters
    ----------
    distribution : Distribution
    mean_link : MeanLink

    Examples
    --------
    >>> from sparkps.mllib.linear.distributions import DISTRIBUTIONS
    >>> from sparkps.mllib.linear.mean_links import MEAN_LINKS
    >>> counts = HalfDeviance(DISTRIBUTIONS["poisson"], MEAN_LINKS["log"])
    >>> losses, slopes, _ = counts.of_rows(np.zeros(2), np.array([1.0, 3.0]), np.empty(0))
    >>> losses.round(6).tolist(), slopes.tolist()
    ([0.0, 1.295837], [0.0, -2.0])
    """

    distribution: Distribution
    mean_link: MeanLink

    metrics = ("rmse", "mae")

    @property
    def label_rule(self) -> LabelRule:  # type: ignore[override]
        """See `Objective`: the distribution's."""
        return self.distribution.label_rule

    @property
    def kernels(self) -> tuple[str, ...]:
        """See `Objective`."""
        return (*super().kernels, "sparkps.mllib.linear.special")

    @property
    def is_least_squares(self) -> bool:
        """Whether it is half the squared error of the margin: then normal equations give the solution at once."""
        return self.distribution.name == "gaussian" and self.mean_link.name == "identity"

    def mean(self, margins: Array) -> Array:
        """The mean label at each margin, in the distribution's range."""
        return self.distribution.project(self.mean_link.mean(margins))

    def start(self, sums: LabelSums) -> Start:
        """At the margin of the mean label."""
        mean = self.distribution.project(np.array([sums.labels / sums.weight]))
        return Start(self.mean_link.predictor(mean))

    def of_rows(self, margins: Array, labels: Array, scalars: Array) -> tuple[Array, Array, Array]:
        """See `RowwiseLoss`."""
        mean = self.mean(margins)
        losses = 0.5 * self.distribution.deviance(labels, mean, np.ones(len(mean)))
        slopes = (mean - labels) / (self.distribution.variance(mean) * self.mean_link.slope(mean))
        return losses, slopes, np.empty((len(mean), 0))

    def scores(self, chunk: Chunk, rows: Array, bias: Array) -> Array:
        """See `MeasuredObjective`: the means."""
        return self.mean(super().scores(chunk, rows, bias))

    # ---- iterative reweighting -----------------------------------------------------------------------------------------

    def first_responses(self, chunk: Chunk) -> tuple[Array, Array]:
        """See `Reweighted`: the margin of each label, moved to where it has one."""
        weights = chunk.weights if len(chunk.weights) else np.ones(len(chunk))
        mean = self.distribution.project(self.distribution.first_mean(chunk.labels, weights))
        return self.mean_link.predictor(mean) - _offsets(chunk), weights

    def working_responses(self, chunk: Chunk, coefficients: Array, bias: float) -> tuple[Array, Array]:
        """See `Reweighted`: one step of Fisher's scoring."""
        margins = margins_of(chunk, coefficients, bias)
        weights = chunk.weights if len(chunk.weights) else np.ones(len(chunk))
        mean = self.mean(margins)
        slope = self.mean_link.slope(mean)
        responses = margins - _offsets(chunk) + (chunk.labels - mean) * slope
        return responses, weights / (slope**2 * self.distribution.variance(mean))

    def total(self, chunk: Chunk, coefficients: Array, bias: float) -> float:
        """See `Reweighted`: half the deviance."""
        mean = self.mean(margins_of(chunk, coefficients, bias))
        weights = chunk.weights if len(chunk.weights) else np.ones(len(chunk))
        return 0.5 * float(self.distribution.deviance(chunk.labels, mean, weights).sum())


def _offsets(chunk: Chunk) -> Array | float:
    return chunk.offsets if len(chunk.offsets) else 0.0


__all__ = ["HalfDeviance"]
