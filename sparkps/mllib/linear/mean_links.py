"""Link functions of generalized linear models: g(μ) = η, with η the linear predictor of a row and μ its mean.

McCullagh and Nelder, Generalized Linear Models, 2nd edition, section 2.2.3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.linear.special import normal_cdf, normal_density, normal_quantile
from sparkps.mllib.models.links import sigmoid

Array = NDArray[Any]


class MeanLink(ABC):
    """How a mean and its linear predictor belong together; all take and give float64 (n,). Picklable."""

    #: As the Param `link` has it.
    name: ClassVar[str]

    @abstractmethod
    def predictor(self, mean: Array) -> Array:
        """η = g(μ)."""

    @abstractmethod
    def slope(self, mean: Array) -> Array:
        """g'(μ)."""

    @abstractmethod
    def mean(self, predictor: Array) -> Array:
        """μ of η."""


@dataclass(frozen=True)
class Power(MeanLink):
    """η = μ^p, and log μ for p = 0.

    Examples
    --------
    >>> Power(-1.0).mean(np.array([4.0])).tolist(), Power(0.0).predictor(np.array([1.0])).tolist()
    ([0.25], [0.0])
    """

    power: float

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of the Param, or "power" where it has none."""
        return {1.0: "identity", 0.0: "log", -1.0: "inverse", 0.5: "sqrt"}.get(self.power, "power")

    def predictor(self, mean: Array) -> Array:
        """See `MeanLink`."""
        if self.power == 1.0:
            return mean
        made: Array = np.log(mean) if self.power == 0.0 else np.power(mean, self.power)
        return made

    def slope(self, mean: Array) -> Array:
        """See `MeanLink`."""
        made: Array = 1.0 / mean if self.power == 0.0 else self.power * np.power(mean, self.power - 1.0)
        return made

    def mean(self, predictor: Array) -> Array:
        """See `MeanLink`; a predictor that no mean has gives one that is not a number."""
        if self.power == 1.0:
            return predictor
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            made: Array = np.exp(predictor) if self.power == 0.0 else np.power(predictor, 1.0 / self.power)
        return made


class Logit(MeanLink):
    """η = log(μ / (1 - μ))."""

    name = "logit"

    def predictor(self, mean: Array) -> Array:
        """See `MeanLink`."""
        made: Array = np.log(mean / (1.0 - mean))
        return made

    def slope(self, mean: Array) -> Array:
        """See `MeanLink`."""
        return 1.0 / (mean * (1.0 - mean))

    def mean(self, predictor: Array) -> Array:
        """See `MeanLink`."""
        return sigmoid(predictor)


class Probit(MeanLink):
    """η is the quantile μ of the standard normal distribution."""

    name = "probit"

    def predictor(self, mean: Array) -> Array:
        """See `MeanLink`."""
        return normal_quantile(mean)

    def slope(self, mean: Array) -> Array:
        """See `MeanLink`."""
        return 1.0 / normal_density(normal_quantile(mean))

    def mean(self, predictor: Array) -> Array:
        """See `MeanLink`."""
        return normal_cdf(predictor)


class CLogLog(MeanLink):
    """η = log(-log(1 - μ))."""

    name = "cloglog"

    def predictor(self, mean: Array) -> Array:
        """See `MeanLink`."""
        made: Array = np.log(-np.log1p(-mean))
        return made

    def slope(self, mean: Array) -> Array:
        """See `MeanLink`."""
        made: Array = 1.0 / ((mean - 1.0) * np.log1p(-mean))
        return made

    def mean(self, predictor: Array) -> Array:
        """See `MeanLink`."""
        with np.errstate(over="ignore"):
            made: Array = -np.expm1(-np.exp(predictor))
        return made


#: By name, as the Param `link` has it.
MEAN_LINKS: dict[str, MeanLink] = {
    "identity": Power(1.0),
    "log": Power(0.0),
    "inverse": Power(-1.0),
    "sqrt": Power(0.5),
    "logit": Logit(),
    "probit": Probit(),
    "cloglog": CLogLog(),
}

__all__ = ["MEAN_LINKS", "CLogLog", "Logit", "MeanLink", "Power", "Probit"]
