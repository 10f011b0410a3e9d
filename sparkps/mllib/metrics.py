"""Metrics of the rows of all workers together, never per worker: each worker's part is a small array, and parts add up.

A worker makes the parts of its rows, `MetricSet.parts`, and adds them to a dense table; who pulls the sum knows the metric of all rows,
`MetricSet.values`. Nothing depends on which worker had which row, but for the rounding of sums.

Examples
--------
>>> metrics = MetricSet.named(["logLoss", "areaUnderROC"])
>>> mine = metrics.parts(np.array([2.0, -1.0]), np.array([1.0, 0.0]))
>>> other = metrics.parts(np.array([0.5]), np.array([0.0]))
>>> {name: round(value, 4) for name, value in metrics.values(mine + other).items()}
{'logLoss': 0.4714, 'areaUnderROC': 1.0}
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_NO_WEIGHTS = np.empty(0)


class GlobalMetric(ABC):
    """A figure of rows that is a function of sums over them."""

    #: As pyspark.ml's evaluators name it.
    name: ClassVar[str]
    #: Whether it grows as the model gets better.
    larger_is_better: ClassVar[bool] = False
    #: Sums that it takes.
    size: ClassVar[int] = 2

    @abstractmethod
    def parts(self, margins: Array, labels: Array, weights: Array = _NO_WEIGHTS) -> Array:
        """The sums over some rows, float64 (size,).

        Parameters
        ----------
        margins : ndarray of float64, (n,) or (n, outputs)
            Of a regression: what it predicts.
        labels : ndarray of float64, (n,)
        weights : ndarray of float64, (n,), or empty: all 1
        """

    @abstractmethod
    def value(self, parts: Array) -> float:
        """The metric of the rows whose sums these are; not a number where they say nothing of it."""


class MeanLogLoss(GlobalMetric):
    """Mean of -log p(label): of two classes with one margin m, log(1 + exp(m)) - y·m; of K classes by the softmax of their margins.

    pyspark.ml's evaluator cuts probabilities off at 1e-15, so that it gives less where a wrong margin is above 34.

    Examples
    --------
    >>> metric = MeanLogLoss()
    >>> round(metric.value(metric.parts(np.zeros((1, 4)), np.array([3.0]))), 6)    # log 4
    1.386294
    """

    name = "logLoss"

    def parts(self, margins: Array, labels: Array, weights: Array = _NO_WEIGHTS) -> Array:
        """See `GlobalMetric`."""
        if margins.ndim == 1 or margins.shape[1] == 1:
            m = margins.reshape(-1)
            losses = np.log1p(np.exp(-np.abs(m))) + np.maximum(m, 0.0) - labels * m
        else:
            highest = margins.max(axis=1)
            sums = np.log(np.exp(margins - highest[:, None]).sum(axis=1))
            losses = sums + highest - margins[np.arange(len(margins)), labels.astype(np.int64)]
        return _sums(losses, weights)

    def value(self, parts: Array) -> float:
        """See `GlobalMetric`."""
        return _mean(parts)


class Accuracy(GlobalMetric):
    """Share of rows whose label is predicted: with one margin label 1 where it is above `threshold`, else the label of the highest.

    Examples
    --------
    >>> metric = Accuracy()
    >>> metric.value(metric.parts(np.array([0.3, -2.0]), np.array([1.0, 1.0])))
    0.5
    """

    name = "accuracy"
    larger_is_better = True

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = threshold

    def parts(self, margins: Array, labels: Array, weights: Array = _NO_WEIGHTS) -> Array:
        """See `GlobalMetric`."""
        one = margins.ndim == 1 or margins.shape[1] == 1
        predicted = margins.reshape(-1) > self.threshold if one else margins.argmax(axis=1)
        return _sums((predicted == labels).astype(np.float64), weights)

    def value(self, parts: Array) -> float:
        """See `GlobalMetric`."""
        return _mean(parts)


class MeanSquare(GlobalMetric):
    """Mean squared error."""

    name = "mse"

    def parts(self, margins: Array, labels: Array, weights: Array = _NO_WEIGHTS) -> Array:
        """See `GlobalMetric`."""
        return _sums((margins.reshape(-1) - labels) ** 2, weights)

    def value(self, parts: Array) -> float:
        """See `GlobalMetric`."""
        return _mean(parts)


class RootMeanSquare(MeanSquare):
    """Root of the mean squared error.

    Examples
    --------
    >>> metric = RootMeanSquare()
    >>> metric.value(metric.parts(np.array([3.0, 0.0]), np.array([0.0, 4.0]), np.array([1.0, 0.0])))
    3.0
    """

    name = "rmse"

    def value(self, parts: Array) -> float:
        """See `GlobalMetric`."""
        return math.sqrt(_mean(parts))


class MeanAbsolute(GlobalMetric):
    """Mean absolute error."""

    name = "mae"

    def parts(self, margins: Array, labels: Array, weights: Array = _NO_WEIGHTS) -> Array:
        """See `GlobalMetric`."""
        return _sums(np.abs(margins.reshape(-1) - labels), weights)

    def value(self, parts: Array) -> float:
        """See `GlobalMetric`."""
        return _mean(parts)


class AreaUnderROC(GlobalMetric):
    """Area under the ROC curve: how often a row of label 1 has a higher margin than one of label 0; ties count half.

    Margins are counted in bins whose width is `RELATIVE_WIDTH` of |margin| + 2^-10, for |margin| up to 2^20; larger ones share the last
    bins. Pairs of rows within a bin count as ties, each of which may be wrong by a half: `error_bound` says how far off that can be for
    the rows at hand, and half the largest share of the rows of a label that a bin has is never exceeded. In fact the pairs of a bin are
    nearly as often in one order as in the other, and the error is far smaller.

    Examples
    --------
    >>> metric = AreaUnderROC()
    >>> parts = metric.parts(np.array([3.0, 1.0, -1.0, 0.5]), np.array([1.0, 1.0, 0.0, 0.0]))
    >>> metric.value(parts), metric.error_bound(parts)
    (1.0, 0.0)
    """

    name = "areaUnderROC"
    larger_is_better = True

    #: Bins of each sign, so many that parts take 64 KiB; and width of a bin by its distance from -2^-10, or 2^-10.
    HALF = 1 << 11
    _FINEST = 2.0**-10
    _STEP = math.log1p(2.0**20 / _FINEST) / HALF
    RELATIVE_WIDTH = math.expm1(_STEP)

    #: Bins of label 0, then those of label 1.
    size = 4 * HALF

    def parts(self, margins: Array, labels: Array, weights: Array = _NO_WEIGHTS) -> Array:
        """See `GlobalMetric`."""
        margins = margins.reshape(-1)
        known = ~np.isnan(margins)  # a fit that diverges is refused for its coefficients, in words of its own
        bins = self.bins(margins[known]) + 2 * self.HALF * (labels[known] > 0)
        return np.bincount(bins, weights[known] if len(weights) else None, minlength=self.size).astype(np.float64)

    @classmethod
    def bins(cls, margins: Array) -> Array:
        """The bin of each margin, int64 (n,): from 0 for the lowest to ``2·HALF - 1``."""
        distance = np.floor(np.log1p(np.abs(margins) / cls._FINEST) / cls._STEP)
        steps = np.minimum(distance, cls.HALF - 1).astype(np.int64)
        return np.where(margins < 0, cls.HALF - 1 - steps, cls.HALF + steps)

    def value(self, parts: Array) -> float:
        """See `GlobalMetric`."""
        below, above = self._by_label(parts)
        pairs = below.sum() * above.sum()
        if not pairs > 0:
            return math.nan
        return float(above @ (np.cumsum(below) - 0.5 * below)) / float(pairs)

    def error_bound(self, parts: Array) -> float:
        """How far `value` may be from the area of the margins themselves: half the share of pairs that fall within a bin."""
        below, above = self._by_label(parts)
        pairs = below.sum() * above.sum()
        return float(0.5 * (below @ above) / pairs) if pairs > 0 else math.nan

    def _by_label(self, parts: Array) -> tuple[Array, Array]:
        return parts[: 2 * self.HALF], parts[2 * self.HALF :]


#: By name.
METRICS: dict[str, type[GlobalMetric]] = {
    each.name: each for each in (AreaUnderROC, MeanLogLoss, Accuracy, RootMeanSquare, MeanSquare, MeanAbsolute)
}


@dataclass(frozen=True)
class MetricSet:
    """Several metrics whose parts are one array. Picklable."""

    metrics: tuple[GlobalMetric, ...]

    @classmethod
    def named(cls, names: Iterable[str]) -> MetricSet:
        """Those of these names, in their order.

        Raises
        ------
        KeyError
            There is none of a name.
        """
        return cls(tuple(METRICS[name]() for name in names))

    @property
    def size(self) -> int:
        """Length of the parts: the shape of the table that adds them up."""
        return sum(metric.size for metric in self.metrics)

    def parts(self, margins: Array, labels: Array, weights: Array = _NO_WEIGHTS) -> Array:
        """The sums over some rows, float64 (size,); see `GlobalMetric.parts`."""
        made = [metric.parts(margins, labels, weights) for metric in self.metrics]
        return np.concatenate(made) if made else np.empty(0)

    def values(self, parts: Array) -> dict[str, float]:
        """By name, the metrics of the rows whose sums these are."""
        ends = np.cumsum([metric.size for metric in self.metrics])
        return {metric.name: metric.value(parts[end - metric.size : end]) for metric, end in zip(self.metrics, ends, strict=True)}


def _sums(values: Array, weights: Array) -> Array:
    """Σ weight·value, and Σ weight."""
    if len(weights):
        return np.array([float(weights @ values), float(weights.sum())])
    return np.array([float(values.sum()), float(len(values))])


def _mean(parts: Array) -> float:
    total, weight = (float(each) for each in parts)
    return total / weight if weight > 0 else math.nan


__all__ = [
    "METRICS", "Accuracy", "AreaUnderROC", "GlobalMetric", "MeanAbsolute", "MeanLogLoss", "MeanSquare", "MetricSet", "RootMeanSquare",
]  # fmt: skip
