"""Summaries of classifiers: metrics by label and of all labels, and for two classes the curves of their scores."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from sparkps.mllib.summaries import plots
from sparkps.mllib.summaries.base import Summary
from sparkps.mllib.summaries.confusion import Confusion
from sparkps.mllib.summaries.training import TrainingSummary

if TYPE_CHECKING:
    from pyspark.sql import Column


Array = NDArray[Any]

#: Bins of equal width that probabilities are put into to see whether they are true.
CALIBRATION_BINS = 20


class ClassificationSummary(Summary):
    """Results of a classifier.

    Rows count by their weight where `predictions` has the weight column.
    """

    @property
    def _weight(self) -> Column:
        from pyspark.sql import functions as sf

        return super()._weight if self._weight_name in self.predictions.columns else sf.lit(1.0)

    @cached_property
    def _cells(self) -> list[tuple[float, float, float]]:
        """Label, prediction, and weight of the rows that have both."""
        from pyspark.sql import functions as sf

        columns = self._label.alias("label"), self._column(self.predictionCol).alias("prediction"), self._weight.alias("weight")
        counted = self._rated.select(*columns).groupBy("label", "prediction").agg(sf.sum("weight"))
        return [(row[0], row[1], row[2]) for row in counted.collect()]

    @cached_property
    def _confusion(self) -> Confusion:
        return Confusion.of(self._cells)

    @property
    def labels(self) -> list[float]:
        """Labels that occur, ascending: the order of all metrics by label."""
        return _floats(self._confusion.labels)

    # ---- by label ------------------------------------------------------------------------------------------------------

    @property
    def truePositiveRateByLabel(self) -> list[float]:
        """Share of each label's rows that are predicted as it."""
        return _floats(self._confusion.recall)

    @property
    def falsePositiveRateByLabel(self) -> list[float]:
        """Share of the rows of other labels that are predicted as each label."""
        return _floats(self._confusion.false_positive_rate)

    @property
    def precisionByLabel(self) -> list[float]:
        """Share of the rows predicted as each label that have it."""
        return _floats(self._confusion.precision)

    @property
    def recallByLabel(self) -> list[float]:
        """Share of each label's rows that are predicted as it."""
        return _floats(self._confusion.recall)

    def fMeasureByLabel(self, beta: float = 1.0) -> list[float]:
        """F-measure of each label."""
        return _floats(self._confusion.f_measure(beta))

    # ---- of all labels -------------------------------------------------------------------------------------------------

    @property
    def accuracy(self) -> float:
        """Share of the rows whose label is predicted."""
        return self._confusion.accuracy

    @property
    def weightedTruePositiveRate(self) -> float:
        """True positive rate, by the weight of each label's rows."""
        return self._confusion.mean(self._confusion.recall)

    @property
    def weightedFalsePositiveRate(self) -> float:
        """False positive rate, by the weight of each label's rows."""
        return self._confusion.mean(self._confusion.false_positive_rate)

    @property
    def weightedRecall(self) -> float:
        """Recall, by the weight of each label's rows."""
        return self._confusion.mean(self._confusion.recall)

    @property
    def weightedPrecision(self) -> float:
        """Precision, by the weight of each label's rows."""
        return self._confusion.mean(self._confusion.precision)

    def weightedFMeasure(self, beta: float = 1.0) -> float:
        """F-measure, by the weight of each label's rows."""
        return self._confusion.mean(self._confusion.f_measure(beta))

    def _plots(self) -> dict[str, Any]:
        return {**super()._plots(), "confusion": self._plot_confusion}

    def _plot_confusion(self, ax: Any) -> None:
        plots.confusion(ax, self._cells)


class ClassificationTrainingSummary(ClassificationSummary, TrainingSummary):
    """How a classifier was trained, and its results on the rows of the training."""


class ProbabilisticClassificationSummary(ClassificationSummary):
    """Results of a classifier that gives probabilities."""

    _needs = ("predictionCol", "probabilityCol")

    @property
    def probabilityCol(self) -> str:
        """Column of `predictions` with the probability of each class, as a vector."""
        return str(self._model.getProbabilityCol())


class BinaryClassificationSummary(ClassificationSummary):
    """Results of a classifier of two classes.

    The curves are pyspark.ml's own: Spark computes them in the JVM from score, label and weight, with about 1,000 points where there are
    more than 2,000 distinct scores.
    """

    _needs = ("predictionCol", "rawPredictionCol")
    #: Param that names the column of scores.
    _score_param: ClassVar[str] = "rawPredictionCol"

    @property
    def scoreCol(self) -> str:
        """Column of `predictions` with the probability or raw prediction of each class, as a vector."""
        return str(self._model.getOrDefault(self._score_param))

    @cached_property
    def _curves(self) -> Any:
        """Spark's summary of the scores, an object of the JVM."""
        rated = self._rated.select(
            self._column(self.scoreCol).alias("score"),
            self._column(self.predictionCol).alias("prediction"),
            self._label.alias("label"),
            self._weight.alias("weight"),
        )
        jvm: Any = rated.sparkSession._jvm
        # It takes any scores. Those of other classifiers have the same code, and more columns.
        return jvm.org.apache.spark.ml.classification.LinearSVCSummaryImpl(rated._jdf, "score", "prediction", "label", "weight")

    def _curve(self, get: Callable[[Any], Any]) -> DataFrame:
        return DataFrame(get(self._curves), self.predictions.sparkSession)

    @cached_property
    def roc(self) -> DataFrame:
        """The ROC curve: FPR and TPR, from (0, 0) to (1, 1)."""
        return self._curve(lambda curves: curves.roc())

    @cached_property
    def areaUnderROC(self) -> float:
        """Area under the ROC curve."""
        return float(self._curves.areaUnderROC())

    @cached_property
    def pr(self) -> DataFrame:
        """The curve of recall and precision, which begins at recall 0 with the precision of the highest scores."""
        return self._curve(lambda curves: curves.pr())

    @cached_property
    def fMeasureByThreshold(self) -> DataFrame:
        """threshold and F-Measure (β = 1), for thresholds among the scores."""
        return self._curve(lambda curves: curves.fMeasureByThreshold())

    @cached_property
    def precisionByThreshold(self) -> DataFrame:
        """threshold and precision, for thresholds among the scores."""
        return self._curve(lambda curves: curves.precisionByThreshold())

    @cached_property
    def recallByThreshold(self) -> DataFrame:
        """threshold and recall, for thresholds among the scores."""
        return self._curve(lambda curves: curves.recallByThreshold())

    # ---- plots ---------------------------------------------------------------------------------------------------------

    def _plots(self) -> dict[str, Any]:
        kinds = {"roc": self._plot_roc, "pr": self._plot_pr}
        if self._score_param == "probabilityCol":
            kinds["calibration"] = self._plot_calibration
        found = super()._plots()
        last = found.pop("confusion")
        return {**found, **kinds, "confusion": last}

    def _plot_roc(self, ax: Any) -> None:
        plots.roc(ax, _columns(self.roc), self.areaUnderROC)

    def _plot_pr(self, ax: Any) -> None:
        confusion = self._confusion
        positive = float(confusion.weights[confusion.labels == 1.0].sum() / confusion.weights.sum())
        plots.precision_and_recall(ax, _columns(self.pr), positive)

    def _plot_calibration(self, ax: Any) -> None:
        plots.calibration(ax, _columns(self._calibration))

    @property
    def _calibration(self) -> DataFrame:
        """Of each bin of probabilities: mean probability, share of label 1, weight."""
        from pyspark.ml.functions import vector_to_array
        from pyspark.sql import functions as sf

        p = vector_to_array(self._column(self.scoreCol))[1]
        rows = self._rated.select(p.alias("p"), self._label.alias("y"), self._weight.alias("w"))
        bins = rows.groupBy(sf.least(sf.floor(sf.col("p") * CALIBRATION_BINS), sf.lit(CALIBRATION_BINS - 1)).alias("bin"))
        sums = bins.agg(sf.sum("w").alias("w"), sf.sum(sf.expr("w * p")).alias("p"), sf.sum(sf.expr("w * y")).alias("y"))
        return sums.where("w > 0").orderBy("bin").select(sf.expr("p / w"), sf.expr("y / w"), "w")


class BinaryClassificationTrainingSummary(BinaryClassificationSummary, ClassificationTrainingSummary):
    """How a classifier of two classes was trained, and its results on the rows of the training."""


class BinaryProbabilisticSummary(BinaryClassificationSummary, ProbabilisticClassificationSummary):
    """Results of a classifier of two classes that gives probabilities: its curves are of them, and they can be seen to be true or not."""

    _needs = ProbabilisticClassificationSummary._needs
    _score_param = "probabilityCol"


class BinaryProbabilisticTrainingSummary(BinaryProbabilisticSummary, BinaryClassificationTrainingSummary):
    """How such a classifier was trained, and its results on the rows of the training."""


def _columns(frame: DataFrame) -> Array:
    """The columns of a small DataFrame, float64 (columns, rows)."""
    return np.array(frame.collect(), dtype=np.float64).reshape(-1, len(frame.columns)).T


def _floats(values: Array) -> list[float]:
    return [float(each) for each in values]


__all__ = [
    "CALIBRATION_BINS", "BinaryClassificationSummary", "BinaryClassificationTrainingSummary", "BinaryProbabilisticSummary",
    "BinaryProbabilisticTrainingSummary", "ClassificationSummary", "ClassificationTrainingSummary", "ProbabilisticClassificationSummary",
]  # fmt: skip
