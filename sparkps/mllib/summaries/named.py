"""The summaries of classifiers by the names that pyspark.ml gives them."""

from __future__ import annotations

from typing import Self

from sparkps.mllib.summaries.classes import (
    BinaryClassificationSummary,
    BinaryClassificationTrainingSummary,
    BinaryProbabilisticSummary,
    ClassificationSummary,
    ClassificationTrainingSummary,
    ProbabilisticClassificationSummary,
)


class LogisticRegressionSummary(ProbabilisticClassificationSummary):
    """Results of a logistic regression."""


class LogisticRegressionTrainingSummary(LogisticRegressionSummary, ClassificationTrainingSummary):
    """How a logistic regression was trained, and its results on the rows of the training."""


class BinaryLogisticRegressionSummary(BinaryClassificationSummary, LogisticRegressionSummary):
    """Results of a logistic regression of two classes."""

    _needs = LogisticRegressionSummary._needs
    _score_param = "probabilityCol"


class BinaryLogisticRegressionTrainingSummary(BinaryLogisticRegressionSummary, LogisticRegressionTrainingSummary):
    """How a logistic regression of two classes was trained, and its results on the rows of the training."""


class LinearSVCSummary(BinaryClassificationSummary):
    """Results of a linear support vector machine."""


class LinearSVCTrainingSummary(LinearSVCSummary, BinaryClassificationTrainingSummary):
    """How a linear support vector machine was trained, and its results on the rows of the training."""

    def __call__(self) -> Self:
        """Itself: in pyspark.ml, the `summary` of these models is a method."""
        return self


class FMClassificationSummary(BinaryProbabilisticSummary):
    """Results of a classifier with factorization machines."""


class FMClassificationTrainingSummary(FMClassificationSummary, BinaryClassificationTrainingSummary):
    """How a classifier with factorization machines was trained, and its results on the rows of the training."""

    def __call__(self) -> Self:
        """Itself: in pyspark.ml, the `summary` of these models is a method."""
        return self


class MultilayerPerceptronClassificationSummary(ClassificationSummary):
    """Results of a multilayer perceptron."""


class MultilayerPerceptronClassificationTrainingSummary(MultilayerPerceptronClassificationSummary, ClassificationTrainingSummary):
    """How a multilayer perceptron was trained, and its results on the rows of the training."""

    def __call__(self) -> Self:
        """Itself: in pyspark.ml, the `summary` of these models is a method."""
        return self


__all__ = [
    "BinaryLogisticRegressionSummary", "BinaryLogisticRegressionTrainingSummary", "FMClassificationSummary",
    "FMClassificationTrainingSummary", "LinearSVCSummary", "LinearSVCTrainingSummary", "LogisticRegressionSummary",
    "LogisticRegressionTrainingSummary", "MultilayerPerceptronClassificationSummary", "MultilayerPerceptronClassificationTrainingSummary",
]  # fmt: skip
