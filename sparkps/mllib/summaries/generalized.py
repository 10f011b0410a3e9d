"""Summaries of generalized linear models: deviances, residuals, and how sure the coefficients are.

The model says what its labels' distribution and its link are: functions of numpy, which are applied to batches of rows where these are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.errors import UnsupportedOperationException

from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.summaries.base import Summary
from sparkps.mllib.summaries.distributions import normal_two_sided, student_t_two_sided
from sparkps.mllib.summaries.regression import estimates
from sparkps.mllib.summaries.training import TrainingSummary

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Array = NDArray[Any]

#: Kinds of residuals.
RESIDUALS = ("deviance", "pearson", "working", "response")

#: Of the margin that all rows have in a model without features: most iterations, and the relative change at which it is found.
_ITERATIONS, _ENOUGH = 50, 1e-10


@dataclass(frozen=True)
class _Residuals:
    """Residuals of one kind, a function of Arrow columns of labels, means and weights. Picklable."""

    kind: str
    distribution: Any
    mean_link: Any

    def __call__(self, labels: pa.Array, means: pa.Array, weights: pa.Array) -> pa.Array:
        y, mean, w = (_numbers(each) for each in (labels, means, weights))
        with np.errstate(all="ignore"):
            return pa.array(self._of(y, mean, w), pa.float64())

    def _of(self, y: Array, mean: Array, w: Array) -> Array:
        if self.kind == "pearson":
            made: Array = (y - mean) * np.sqrt(w) / np.sqrt(self.distribution.variance(mean))
        elif self.kind == "working":
            made = (y - mean) * self.mean_link.slope(mean)
        else:
            size = np.sqrt(np.maximum(self.distribution.deviance(y, mean, w), 0.0))
            made = np.where(y > mean, size, -size)
        return made


@dataclass(frozen=True)
class _Summed:
    """Sums of a function over the rows of a partition: a function for `mapInArrow`. Picklable.

    Parameters
    ----------
    of : callable
        From float64 arrays of labels, means, weights and offsets of some rows to numbers that add up.
    """

    of: Callable[[Array, Array, Array, Array], list[float]]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                with np.errstate(all="ignore"):
                    sums = self.of(*(_numbers(batch.column(i)) for i in range(4)))
                yield pa.record_batch([pa.array([[float(each) for each in sums]], pa.list_(pa.float64()))], ["sums"])


class GeneralizedLinearRegressionSummary(Summary):
    """Results of a generalized linear model."""

    @property
    def _distribution(self) -> Any:
        return self._model._likelihood().distribution

    @property
    def _mean_link(self) -> Any:
        return self._model._likelihood().mean_link

    @property
    def _has_intercept(self) -> bool:
        return bool(self._model.getOrDefault("fitIntercept"))

    @property
    def _offset_name(self) -> str:
        """Empty: there are no offsets."""
        return str(self._model.getOrDefault("offsetCol")) if self._model.isDefined("offsetCol") else ""

    # ---- sums over rows ------------------------------------------------------------------------------------------------

    @cached_property
    def _scored_rows(self) -> DataFrame:
        """Label, mean, weight and offset of each row: y, mean, w, offset."""
        from pyspark.sql import functions as sf

        offset = self._column(self._offset_name).cast("double") if self._offset_name else sf.lit(0.0)
        mean = self._column(self.predictionCol).cast("double")
        return self._rated.select(self._label.alias("y"), mean.alias("mean"), self._weight.alias("w"), offset.alias("offset"))

    def _sum(self, of: Callable[[Array, Array, Array, Array], list[float]]) -> list[float]:
        """What a function of rows adds up to over all of them."""
        found = self._scored_rows.mapInArrow(_Summed(of).__call__, "sums array<double>").collect()
        return [math.fsum(each) if all(map(math.isfinite, each)) else sum(each) for each in zip(*(row.sums for row in found), strict=True)]

    @cached_property
    def _first_sums(self) -> list[float]:
        """Rows, Σ weight, deviance, Σ of squared Pearson residuals, Σ weight·(label - offset)."""
        distribution = self._distribution

        def of(y: Array, mean: Array, w: Array, offset: Array) -> list[float]:
            squares = w * (y - mean) ** 2 / distribution.variance(mean)
            return [len(y), w.sum(), distribution.deviance(y, mean, w).sum(), squares.sum(), (w * (y - offset)).sum()]

        return self._sum(of) or [0.0] * 5

    # ---- figures -------------------------------------------------------------------------------------------------------

    @property
    def numInstances(self) -> int:
        """Rows of `predictions`."""
        return int(self._first_sums[0])

    @property
    def rank(self) -> int:
        """Coefficients, the intercept included."""
        return int(self._model.numFeatures) + int(self._has_intercept)

    @property
    def degreesOfFreedom(self) -> int:
        """Rows less coefficients."""
        return self.numInstances - self.rank

    @property
    def residualDegreeOfFreedom(self) -> int:
        """Rows less coefficients."""
        return self.degreesOfFreedom

    @property
    def residualDegreeOfFreedomNull(self) -> int:
        """Rows, less 1 where there is an intercept."""
        return self.numInstances - int(self._has_intercept)

    def residuals(self, residualsType: str = "deviance") -> DataFrame:
        """Residuals of each row.

        Parameters
        ----------
        residualsType : str
            ``deviance``, ``pearson``, ``working`` or ``response``.

        Raises
        ------
        InvalidParam
            It is none of these.
        """
        from pyspark.sql import functions as sf

        if residualsType not in RESIDUALS:
            must = f"`residualsType` must be one of {', '.join(RESIDUALS)}"
            raise InvalidParam(f"{must}. Got {residualsType!r} instead.", param="residualsType")
        name, numbers = f"{residualsType}Residuals", self._scored_rows
        if residualsType == "response":
            return numbers.selectExpr(f"y - mean as {name}")
        of = _Residuals(residualsType, self._distribution, self._mean_link)
        arrow_udf: Any = getattr(sf, "arrow_udf")  # noqa: B009  # pyspark's stubs do not know it
        return numbers.select(arrow_udf(of.__call__, "double")("y", "mean", "w").alias(name))

    @property
    def deviance(self) -> float:
        """That of the model."""
        return self._first_sums[2]

    @cached_property
    def nullDeviance(self) -> float:
        """That of a model without features, with an intercept where this one has it."""
        distribution, link, margin = self._distribution, self._mean_link, self._null_margin

        def of(y: Array, mean: Array, w: Array, offset: Array) -> list[float]:
            return [distribution.deviance(y, distribution.project(link.mean(margin + offset)), w).sum()]

        return sum(self._sum(of))

    @property
    def _null_margin(self) -> float:
        """The intercept of a model without features."""
        if not self._has_intercept:
            return 0.0
        mean = self._first_sums[4] / self._first_sums[1]
        least_squares = self._distribution.name == "gaussian" and self._mean_link.name == "identity"
        if not self._offset_name or least_squares:
            return float(self._mean_link.predictor(np.array([mean]))[0])
        return self._reweighted_margin()

    def _reweighted_margin(self) -> float:
        """By iteratively reweighted least squares, from where the labels alone would have each row's mean."""
        distribution, link = self._distribution, self._mean_link
        margin: float | None = None
        for _ in range(_ITERATIONS):

            def of(y: Array, mean: Array, w: Array, offset: Array, at: float | None = margin) -> list[float]:
                mu = distribution.project(distribution.first_mean(y, w) if at is None else link.mean(at + offset))
                slope = link.slope(mu)
                weight = w / (slope * slope * distribution.variance(mu))
                return [(weight * (link.predictor(mu) - offset + (y - mu) * slope)).sum(), weight.sum()]

            above, below = self._sum(of)
            before, margin = margin, above / below
            if before is not None and abs(margin - before) <= _ENOUGH * max(1.0, abs(before)):
                break
        assert margin is not None
        return margin

    @property
    def dispersion(self) -> float:
        """1 of distributions whose variance their mean gives, else the mean squared Pearson residual, by the degrees of freedom."""
        return 1.0 if self._distribution.fixed_dispersion else _ratio(self._first_sums[3], self.degreesOfFreedom)

    @cached_property
    def aic(self) -> float:
        """Akaike's information criterion.

        Raises
        ------
        UnsupportedOperationException
            The distribution's density has no closed form.
        """
        distribution, deviance, weight = self._distribution, self.deviance, self._first_sums[1]

        def of(y: Array, mean: Array, w: Array, offset: Array) -> list[float]:
            return [distribution.aic(y, mean, w, deviance, weight)]

        if distribution.name == "tweedie":
            raise UnsupportedOperationException("No AIC available for the tweedie family")
        return sum(self._sum(of)) + float(distribution.aic_of(deviance, self.numInstances)) + 2 * self.rank


class GeneralizedLinearRegressionTrainingSummary(GeneralizedLinearRegressionSummary, TrainingSummary):
    """How a generalized linear model was trained, and its results on the rows of the training. Printed, it is a table."""

    @property
    def numIterations(self) -> int:
        """Iterations; least squares take one."""
        return max(1, self.totalIterations)

    @property
    def solver(self) -> str:
        """Name of the solver that trained."""
        return self._history.solver

    @cached_property
    def coefficientStandardErrors(self) -> list[float]:
        """Standard errors of the coefficients, and last of the intercept.

        Raises
        ------
        UnsupportedOperationException
            The solver gives none.
        """
        self._check_statistics("Std. Error of coefficients")
        variances = [self.dispersion * each for each in self._history.inverse_diagonal]
        return [math.sqrt(each) if each >= 0 else math.nan for each in variances]

    @property
    def tValues(self) -> list[float]:
        """Coefficients, and last the intercept, by their standard errors. Raises as these do."""
        self._check_statistics("t-statistic")
        return [_ratio(*each) for each in zip(estimates(self._model), self.coefficientStandardErrors, strict=True)]

    @property
    def pValues(self) -> list[float]:
        """Two-sided p-values: of the normal distribution where the dispersion is known, else of Student's t. Raises as the above do."""
        self._check_statistics("p-value")
        values = self.tValues
        known = self._distribution.fixed_dispersion
        return [float(each) for each in (normal_two_sided(values) if known else student_t_two_sided(values, self.degreesOfFreedom))]

    def _check_statistics(self, what: str) -> None:
        if not self._history.inverse_diagonal:
            raise UnsupportedOperationException(f"No {what} available for this {type(self._model).__name__}")

    # ---- as a table ----------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        columns: dict[str, list[float]] = {"Estimate": [float(each) for each in estimates(self._model)]}
        if self._history.inverse_diagonal:
            columns |= {"Std Error": self.coefficientStandardErrors, "T Value": self.tValues, "P Value": self.pValues}
        names = self._feature_names()
        order = list(range(len(names)))
        if self._has_intercept:
            names, order = [*names, "(Intercept)"], [len(names), *order]
        lines = [["Feature", *columns], *([names[i], *(_rounded(values[i]) for values in columns.values())] for i in order)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = [" ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "\n".join(["Coefficients:", *table, "", *self._fit_lines()])

    def _fit_lines(self) -> list[str]:
        left = f"on {self.degreesOfFreedom} degrees of freedom"
        deviances = [f"Null deviance: {_rounded(self.nullDeviance)} {left}", f"Residual deviance: {_rounded(self.deviance)} {left}"]
        width = max(map(len, deviances))
        name = self._distribution.name
        taken = f"(Dispersion parameter for {name} family taken to be {_rounded(self.dispersion)})"
        criterion = [] if name == "tweedie" else [f"AIC: {_rounded(self.aic)}"]
        return [taken, *(each.rjust(width) for each in deviances), *criterion]

    def _feature_names(self) -> list[str]:
        """Those that the column of features carries, else numbered ones."""
        count = int(self._model.numFeatures)
        names = [f"{self.featuresCol}_{i}" for i in range(count)]
        if self.featuresCol in self._dataset.columns:
            for attributes in self._dataset.schema[self.featuresCol].metadata.get("ml_attr", {}).get("attrs", {}).values():
                for each in attributes:
                    if each.get("idx", count) < count:
                        names[each["idx"]] = each.get("name", names[each["idx"]])
        return names


def _numbers(column: pa.Array) -> Array:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _ratio(above: float, below: float) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.divide(above, below))


def _rounded(value: float) -> str:
    """With four digits after the point."""
    return str(Decimal(repr(value)).quantize(Decimal("1.0000"), ROUND_HALF_UP)) if math.isfinite(value) else str(value)


__all__ = ["RESIDUALS", "GeneralizedLinearRegressionSummary", "GeneralizedLinearRegressionTrainingSummary"]
