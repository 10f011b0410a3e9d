"""Distributions of generalized linear models: what labels may be, and how they vary about their mean.

Deviances, starting means and AIC are those of pyspark.ml, which follows R's `glm`. All functions take and give float64 (n,).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.data.labels import FiniteLabels, LabelRule, RangeLabels
from sparkps.mllib.linear.special import log_gamma

Array = NDArray[Any]

#: Means stay so far within their range.
EPSILON = 1e-16

#: Least starting mean of a label that may be 0.
_LEAST_START = 0.1


class Distribution(ABC):
    """How labels vary about their mean μ: with variance V(μ)·dispersion / weight. Picklable."""

    #: As the Param `family` has it.
    name: ClassVar[str]
    #: Names of the links that go with it, the default first.
    links: ClassVar[tuple[str, ...]] = ()
    #: What labels must be.
    label_rule: LabelRule
    #: Whether the dispersion is 1, and not estimated.
    fixed_dispersion: ClassVar[bool] = False

    @abstractmethod
    def first_mean(self, labels: Array, weights: Array) -> Array:
        """Where iterations start."""

    @abstractmethod
    def variance(self, mean: Array) -> Array:
        """V(μ)."""

    @abstractmethod
    def deviance(self, labels: Array, mean: Array, weights: Array) -> Array:
        """Of each row: twice what the log likelihood lacks of the best, in units of the dispersion."""

    @abstractmethod
    def aic(self, labels: Array, mean: Array, weights: Array, deviance: float, total: float) -> float:
        """A part of Akaike's criterion that sums over rows, but for `aic_of` and twice the number of parameters.

        Parameters
        ----------
        labels, mean, weights : ndarray of shape (n,)
        deviance : float
            Of all rows.
        total : float
            Weight of all rows.
        """

    def aic_of(self, deviance: float, rows: int) -> float:
        """What is added once to the sum of `aic`, of a deviance of so many rows."""
        return 0.0

    def project(self, mean: Array) -> Array:
        """Into the range that means have."""
        return np.clip(mean, EPSILON, np.finfo(np.float64).max)


class Gaussian(Distribution):
    """Normal: V = 1."""

    name = "gaussian"
    links = ("identity", "log", "inverse")
    label_rule = FiniteLabels()

    def first_mean(self, labels: Array, weights: Array) -> Array:
        """See `Distribution`."""
        return labels

    def variance(self, mean: Array) -> Array:
        """See `Distribution`."""
        return np.ones(len(mean))

    def deviance(self, labels: Array, mean: Array, weights: Array) -> Array:
        """See `Distribution`."""
        made: Array = weights * (labels - mean) ** 2
        return made

    def aic(self, labels: Array, mean: Array, weights: Array, deviance: float, total: float) -> float:
        """See `Distribution`."""
        with np.errstate(divide="ignore"):  # with a row of weight 0 it is infinite, as pyspark.ml's
            return -float(np.log(weights).sum())

    def aic_of(self, deviance: float, rows: int) -> float:
        """See `Distribution`. A line through every row has likelihood without end: -inf, as pyspark.ml says."""
        spread = math.log(deviance / rows * 2.0 * math.pi) if deviance > 0.0 else -math.inf
        return rows * (spread + 1.0) + 2.0

    def project(self, mean: Array) -> Array:
        """See `Distribution`."""
        most = np.finfo(np.float64).max
        return np.clip(mean, -most, most)


class Binomial(Distribution):
    """Share of successes: V = μ (1 - μ)."""

    name = "binomial"
    links = ("logit", "probit", "cloglog")
    label_rule = RangeLabels(0.0, 1.0)
    fixed_dispersion = True

    def first_mean(self, labels: Array, weights: Array) -> Array:
        """See `Distribution`."""
        made: Array = (weights * labels + 0.5) / (weights + 1.0)
        return made

    def variance(self, mean: Array) -> Array:
        """See `Distribution`."""
        return mean * (1.0 - mean)

    def deviance(self, labels: Array, mean: Array, weights: Array) -> Array:
        """See `Distribution`."""
        made: Array = 2.0 * weights * (_y_log(labels, mean) + _y_log(1.0 - labels, 1.0 - mean))
        return made

    def aic(self, labels: Array, mean: Array, weights: Array, deviance: float, total: float) -> float:
        """See `Distribution`."""
        n, k = np.floor(weights + 0.5), np.floor(labels * weights + 0.5)
        ways = log_gamma(n + 1.0) - log_gamma(k + 1.0) - log_gamma(n - k + 1.0)
        return -2.0 * float(np.sum(ways + k * np.log(mean) + (n - k) * np.log1p(-mean)))

    def project(self, mean: Array) -> Array:
        """See `Distribution`."""
        return np.clip(mean, EPSILON, 1.0 - EPSILON)


class Poisson(Distribution):
    """Counts: V = μ."""

    name = "poisson"
    links = ("log", "identity", "sqrt")
    label_rule = RangeLabels(0.0)
    fixed_dispersion = True

    def first_mean(self, labels: Array, weights: Array) -> Array:
        """See `Distribution`."""
        return np.maximum(labels, _LEAST_START)

    def variance(self, mean: Array) -> Array:
        """See `Distribution`."""
        return mean

    def deviance(self, labels: Array, mean: Array, weights: Array) -> Array:
        """See `Distribution`."""
        made: Array = 2.0 * weights * (_y_log(labels, mean) - (labels - mean))
        return made

    def aic(self, labels: Array, mean: Array, weights: Array, deviance: float, total: float) -> float:
        """See `Distribution`."""
        counts = np.floor(labels)
        return -2.0 * float(np.sum(weights * (counts * np.log(mean) - mean - log_gamma(counts + 1.0))))


class Gamma(Distribution):
    """Positive quantities: V = μ²."""

    name = "gamma"
    links = ("inverse", "identity", "log")
    label_rule = RangeLabels(0.0, above=True)

    def first_mean(self, labels: Array, weights: Array) -> Array:
        """See `Distribution`."""
        return labels

    def variance(self, mean: Array) -> Array:
        """See `Distribution`."""
        return mean * mean

    def deviance(self, labels: Array, mean: Array, weights: Array) -> Array:
        """See `Distribution`."""
        made: Array = -2.0 * weights * (np.log(labels / mean) - (labels - mean) / mean)
        return made

    def aic(self, labels: Array, mean: Array, weights: Array, deviance: float, total: float) -> float:
        """See `Distribution`."""
        dispersion = deviance / total
        shape, scale = 1.0 / dispersion, mean * dispersion
        density = (shape - 1.0) * np.log(labels) - labels / scale - shape * np.log(scale) - math.lgamma(shape)
        return -2.0 * float(np.sum(weights * density))

    def aic_of(self, deviance: float, rows: int) -> float:
        """See `Distribution`."""
        return 2.0


@dataclass(frozen=True)
class Tweedie(Distribution):
    """V = μ^p, with p neither 0, 1 nor 2, which are the normal, the Poisson and the gamma distribution."""

    power: float
    name = "tweedie"

    @property
    def label_rule(self) -> LabelRule:  # type: ignore[override]
        """See `Distribution`: from 0 on, or above it."""
        return RangeLabels(0.0, above=self.power >= 2.0)

    def first_mean(self, labels: Array, weights: Array) -> Array:
        """See `Distribution`."""
        return np.where(labels == 0.0, _LEAST_START, labels)

    def variance(self, mean: Array) -> Array:
        """See `Distribution`."""
        made: Array = np.power(mean, self.power)
        return made

    def deviance(self, labels: Array, mean: Array, weights: Array) -> Array:
        """See `Distribution`."""
        p = self.power
        held = np.maximum(labels, _LEAST_START) if p < 2.0 else labels
        first = labels * (held ** (1.0 - p) - mean ** (1.0 - p)) / (1.0 - p)
        made: Array = 2.0 * weights * (first - (labels ** (2.0 - p) - mean ** (2.0 - p)) / (2.0 - p))
        return made

    def aic(self, labels: Array, mean: Array, weights: Array, deviance: float, total: float) -> float:
        """Tweedie's density has no closed form.

        Raises
        ------
        NotImplementedError
        """
        raise NotImplementedError("No AIC available for the tweedie family")


def _y_log(y: Array, mean: Array) -> Array:
    """y·log(y / μ), and 0 for y = 0."""
    made: Array = y * np.log(np.where(y > 0.0, y, mean) / mean)
    return made


#: By name, as the Param `family` has it; those of `tweedie_of` besides.
DISTRIBUTIONS: dict[str, Distribution] = {each.name: each for each in (Gaussian(), Binomial(), Poisson(), Gamma())}


def tweedie_of(power: float) -> Distribution:
    """The distribution of V = μ^power.

    Parameters
    ----------
    power : float
        0, or at least 1.

    Examples
    --------
    >>> tweedie_of(1.0).name, tweedie_of(1.5)
    ('poisson', Tweedie(power=1.5))
    """
    known = {0.0: "gaussian", 1.0: "poisson", 2.0: "gamma"}.get(power)
    return DISTRIBUTIONS[known] if known else Tweedie(power)


__all__ = ["DISTRIBUTIONS", "EPSILON", "Binomial", "Distribution", "Gamma", "Gaussian", "Poisson", "Tweedie", "tweedie_of"]
