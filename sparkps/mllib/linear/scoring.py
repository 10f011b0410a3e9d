"""What linear models predict of rows: functions of their margins, intercept + Σ x·w for each output."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.coefficients import Coefficients
from sparkps.mllib.data.features import Features
from sparkps.mllib.models.classes import class_of, class_of_two
from sparkps.mllib.models.links import LINKS, link_named
from sparkps.mllib.models.scoring import Scorer, margins

Array = NDArray[Any]


@dataclass(frozen=True)
class LinearScorer(Scorer):
    """A score that depends on the margins alone.

    Parameters
    ----------
    intercepts : sequence of K floats
    link : str
        What margins mean, by its name in `links.LINKS`.
    """

    intercepts: Sequence[float] = field(kw_only=True)
    link: str = field(kw_only=True, default="")

    def parts(self, coefficients: Coefficients, features: Features, offsets: Any) -> Mapping[str, Array]:
        """See `Scorer`."""
        return self.of_margins(margins(features, coefficients, self.intercepts) + offsets)

    @abstractmethod
    def of_margins(self, margin: Array) -> Mapping[str, Array]:
        """The parts at each row's margins, float64 (n, K)."""


@dataclass(frozen=True)
class MeanScorer(LinearScorer):
    """``prediction``: the mean that the margin stands for; ``link``: the margin."""

    def of_margins(self, margin: Array) -> Mapping[str, Array]:
        """See `LinearScorer`."""
        return {"prediction": link_named(self.link)(margin[:, 0]), "link": margin[:, 0]}


@dataclass(frozen=True)
class SideScorer(LinearScorer):
    """``raw`` [-margin, margin] and ``prediction``: label 1 where the margin is above a threshold.

    Parameters
    ----------
    threshold : float
    """

    threshold: float = field(kw_only=True)

    def of_margins(self, margin: Array) -> Mapping[str, Array]:
        """See `LinearScorer`."""
        return {"raw": np.hstack([-margin, margin]), "prediction": (margin[:, 0] > self.threshold).astype(np.float64)}


@dataclass(frozen=True)
class BinaryScorer(LinearScorer):
    """``raw`` [-margin, margin], ``probability`` of both labels, and ``prediction``: label 1 where its probability is above a threshold.

    Parameters
    ----------
    threshold : float
    """

    threshold: float = field(kw_only=True)

    def of_margins(self, margin: Array) -> Mapping[str, Array]:
        """See `LinearScorer`."""
        p = LINKS[self.link](margin)
        return {
            "raw": np.hstack([-margin, margin]),
            "probability": np.hstack([1.0 - p, p]),
            "prediction": class_of_two(p[:, 0], self.threshold),
        }


@dataclass(frozen=True)
class MultinomialScorer(LinearScorer):
    """``raw``: a margin for each class; ``probability`` of each, and the class that is ``prediction``.

    Parameters
    ----------
    thresholds : sequence of K floats, optional
        What probabilities are divided by before the largest is chosen.
    """

    thresholds: Sequence[float] | None = field(kw_only=True, default=None)

    def of_margins(self, margin: Array) -> Mapping[str, Array]:
        """See `LinearScorer`."""
        p = LINKS[self.link](margin)
        return {"raw": margin, "probability": p, "prediction": class_of(margin, p, self.thresholds)}


__all__ = ["BinaryScorer", "LinearScorer", "MeanScorer", "MultinomialScorer", "SideScorer"]
