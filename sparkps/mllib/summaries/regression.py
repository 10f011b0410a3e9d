"""Summaries of linear regression: errors, shares of variance, and how sure the coefficients are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pyspark.errors import UnsupportedOperationException

from sparkps.mllib.summaries import plots
from sparkps.mllib.summaries.base import Summary
from sparkps.mllib.summaries.distributions import student_t_two_sided
from sparkps.mllib.summaries.training import TrainingSummary

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Array = NDArray[Any]

#: Bins of a histogram of residuals, and of each side of that of labels and predictions.
_BINS, _GRID = 60, 50


@dataclass(frozen=True)
class _Sums:
    """Weighted sums over rows, y the label, p the prediction and e = y - p; squares of y about its mean."""

    rows: float
    weight: float
    weight_squares: float
    about_mean: float
    label_squares: float
    explained: float
    squares: float
    absolute: float
    least: float
    largest: float


class RegressionSummary(Summary):
    """Results of a regression."""

    @cached_property
    def _triples(self) -> DataFrame:
        """Label, prediction and weight of each row: y, p, w."""
        prediction = self._column(self.predictionCol).cast("double")
        return self._rated.select(self._label.alias("y"), prediction.alias("p"), self._weight.alias("w"))

    @cached_property
    def _sums(self) -> _Sums:
        from pyspark.sql import functions as sf

        # In two passes: squares about a mean that is not known yet lose their digits.
        first = self._triples.agg(sf.sum(sf.expr("w * y")), sf.sum("w")).first()
        assert first is not None
        mean = (first[0] or 0.0) / (first[1] or math.nan)
        e = "(y - p)"
        terms = {
            "rows": "count_if(w != 0)", "weight": "sum(w)", "weight_squares": "sum(w * w)", "about_mean": "sum(w * (y - m) * (y - m))",
            "label_squares": "sum(w * y * y)", "explained": "sum(w * (p - m) * (p - m))", "squares": f"sum(w * {e} * {e})",
            "absolute": f"sum(w * abs({e}))", "least": f"min({e} * sqrt(w))", "largest": f"max({e} * sqrt(w))",
        }  # fmt: skip
        found = self._triples.withColumn("m", sf.lit(mean)).agg(*(sf.expr(term).alias(name) for name, term in terms.items())).first()
        assert found is not None
        return _Sums(**{name: math.nan if value is None else value for name, value in found.asDict().items()})

    @property
    def explainedVariance(self) -> float:
        """Mean square by which predictions differ from the mean label."""
        return self._sums.explained / self._sums.weight

    @property
    def meanAbsoluteError(self) -> float:
        """Mean of |label - prediction|."""
        return self._sums.absolute / self._sums.weight

    @property
    def meanSquaredError(self) -> float:
        """Mean of (label - prediction)²."""
        return self._sums.squares / self._sums.weight

    @property
    def rootMeanSquaredError(self) -> float:
        """Root of the mean squared error."""
        return math.sqrt(self.meanSquaredError)

    @property
    def r2(self) -> float:
        """Coefficient of determination: the share of the labels' squares, about their mean or of a model without intercept about 0, that
        is no error.

        With weights that are not 1 the squares about the mean are, as pyspark.ml has them, the unbiased variance times weight - 1.
        """
        sums = self._sums
        if not self._has_intercept:
            return _one_minus(sums.squares, sums.label_squares)
        effective = sums.weight - sums.weight_squares / sums.weight
        return _one_minus(sums.squares, sums.about_mean / effective * (sums.weight - 1.0) if effective else 0.0)

    @cached_property
    def residuals(self) -> DataFrame:
        """DataFrame of label - prediction."""
        return self._triples.selectExpr("y - p as residuals")

    @property
    def numInstances(self) -> int:
        """Rows of `predictions` whose weight is not 0."""
        return int(self._sums.rows)

    @property
    def _has_intercept(self) -> bool:
        """A model that has no Param for it, as a deep one, has biases."""
        return not self._model.hasParam("fitIntercept") or bool(self._model.getOrDefault("fitIntercept"))

    # ---- plots ---------------------------------------------------------------------------------------------------------

    def _plots(self) -> dict[str, Any]:
        return {**super()._plots(), "residuals": self._plot_residuals, "predicted": self._plot_predicted}

    def _plot_residuals(self, ax: Any) -> None:
        frame = self._triples.selectExpr("y - p as e", "w").where("e is not null and not isnan(e)")
        (lowest, highest) = _ends(frame, "e")
        width = (highest - lowest) / _BINS or 1.0
        bins = frame.groupBy(_bin("e", lowest, width, _BINS).alias("bin")).sum("w").collect()
        plots.residuals(ax, lowest, width, _filled(bins, _BINS), self.rootMeanSquaredError)

    def _plot_predicted(self, ax: Any) -> None:
        frame = self._triples.where("y is not null and p is not null and not isnan(y) and not isnan(p)")
        spans = [_ends(frame, name) for name in ("y", "p")]
        lowest, highest = min(span[0] for span in spans), max(span[1] for span in spans)
        width = (highest - lowest) / _GRID or 1.0
        cell = _bin("p", lowest, width, _GRID) * _GRID + _bin("y", lowest, width, _GRID)
        cells = frame.groupBy(cell.alias("bin")).sum("w").collect()
        plots.predicted(ax, lowest, highest, _filled(cells, _GRID * _GRID).reshape(_GRID, _GRID))


class RegressionTrainingSummary(RegressionSummary, TrainingSummary):
    """How a regression was trained, and its results on the rows of the training."""


class LinearRegressionSummary(RegressionSummary):
    """Results of a linear regression."""

    @property
    def r2adj(self) -> float:
        """R² that counts the coefficients: 1 - (1 - R²)·(n - i) / (n - features - i), i = 1 with an intercept and else 0."""
        n, intercept = self.numInstances, int(self._has_intercept)
        left = n - self._model.numFeatures - intercept
        return 1.0 - (1.0 - self.r2) * (n - intercept) / left if left else math.nan

    @property
    def degreesOfFreedom(self) -> int:
        """Rows less coefficients."""
        return self.numInstances - int(self._model.numFeatures) - int(self._has_intercept)

    @property
    def devianceResiduals(self) -> list[float]:
        """The least and the largest of all residuals, times the root of their weights."""
        return [self._sums.least, self._sums.largest]

    @property
    def _inverse_diagonal(self) -> list[float]:
        """See `TrainingHistory`; only trainings have it."""
        return []

    @cached_property
    def coefficientStandardErrors(self) -> list[float]:
        """Standard errors of the coefficients, and last of the intercept; of trainings with the solver ``normal``.

        Raises
        ------
        UnsupportedOperationException
            The solver gives none, or these are other rows than those of the training.
        """
        self._check_statistics("Std. Error of coefficients")
        dispersion = self._sums.squares / self.degreesOfFreedom if self.degreesOfFreedom else math.nan
        return [math.sqrt(dispersion * each) if each >= 0 else math.nan for each in self._inverse_diagonal]

    @property
    def tValues(self) -> list[float]:
        """Coefficients, and last the intercept, by their standard errors. Raises as these do."""
        self._check_statistics("t-statistic")
        return _floats(_quotients(estimates(self._model), self.coefficientStandardErrors))

    @property
    def pValues(self) -> list[float]:
        """Two-sided p-values of the t-values, from Student's t distribution. Raises as these do."""
        self._check_statistics("p-value")
        return _floats(student_t_two_sided(self.tValues, self.degreesOfFreedom))

    def _check_statistics(self, what: str) -> None:
        if not self._inverse_diagonal:
            raise UnsupportedOperationException(f"No {what} available for this {type(self._model).__name__}")


class LinearRegressionTrainingSummary(LinearRegressionSummary, RegressionTrainingSummary):
    """How a linear regression was trained, and its results on the rows of the training."""

    @property
    def _inverse_diagonal(self) -> list[float]:
        return self._history.inverse_diagonal


def estimates(model: Any) -> Array:
    """Coefficients, and last the intercept where one was fitted."""
    found = np.asarray(model.coefficients.toArray(), dtype=np.float64)
    return np.append(found, model.intercept) if model.getOrDefault("fitIntercept") else found


def _quotients(above: Any, below: Any) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.divide(above, below))


def _one_minus(part: float, whole: float) -> float:
    return float(1.0 - _quotients(part, whole))


def _floats(values: Array) -> list[float]:
    return [float(each) for each in values]


def _ends(frame: DataFrame, name: str) -> tuple[float, float]:
    """The least and the largest value of a column."""
    found = frame.selectExpr(f"min({name})", f"max({name})").first()
    assert found is not None
    return (0.0, 0.0) if found[0] is None else (found[0], found[1])


def _bin(name: str, lowest: float, width: float, count: int) -> Any:
    from pyspark.sql import functions as sf

    return sf.least(sf.floor((sf.col(name) - sf.lit(lowest)) / sf.lit(width)), sf.lit(count - 1))


def _filled(bins: list[Any], count: int) -> Array:
    found = np.zeros(count)
    for place, weight in bins:
        found[int(place)] += weight
    return found


__all__ = ["LinearRegressionSummary", "LinearRegressionTrainingSummary", "RegressionSummary", "RegressionTrainingSummary", "estimates"]
