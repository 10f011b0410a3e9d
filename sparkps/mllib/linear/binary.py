"""Linear classifiers of two classes with probabilities: their threshold, columns and scores."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import numpy as np
from pyspark.ml.linalg import DenseMatrix, DenseVector, Vector, Vectors

from sparkps.mllib.linear.estimator import LinearEstimator
from sparkps.mllib.linear.loss import Loss, loss_named
from sparkps.mllib.linear.model import LinearModel
from sparkps.mllib.linear.scoring import BinaryScorer
from sparkps.mllib.params.setters import ColumnSetters

M = TypeVar("M", bound="BinaryClassificationModel")


class BinaryClassifier(LinearEstimator[M], ColumnSetters):
    """Trains a `BinaryClassificationModel`."""

    def _check_together(self) -> None:
        self._checkThresholdConsistency()


class BinaryClassificationModel(LinearModel, ColumnSetters):
    """A fitted linear model whose margins mean probabilities."""

    _parts = {"rawPredictionCol": "raw", "probabilityCol": "probability", "predictionCol": "prediction"}
    _num_classes = 2
    #: Name of the loss that says what margins mean.
    _loss: ClassVar[str]

    def __repr__(self) -> str:
        return f"{type(self).__name__}: uid={self.uid}, numClasses={self.numClasses}, numFeatures={self.numFeatures}"

    @property
    def numClasses(self) -> int:
        """Number of classes: 2."""
        return self._num_classes

    @property
    def coefficientMatrix(self) -> DenseMatrix:
        """The coefficients as a matrix of one row."""
        return DenseMatrix(1, self.numFeatures, self.coefficients.toArray(), True)

    @property
    def interceptVector(self) -> DenseVector:
        """The intercept as a vector."""
        return Vectors.dense([self.intercept])

    @property
    def link_(self) -> str:
        """See `LinearModel.link_`."""
        return self._objective().link

    def predictRaw(self, value: Vector) -> DenseVector:
        """Raw prediction of one vector: [-margin, margin]."""
        margin = self._margin(value)
        return Vectors.dense([-margin, margin])

    def predictProbability(self, value: Vector) -> DenseVector:
        """Probability of each label for one vector."""
        p = float(self._objective().probabilities(np.array([self.predictRaw(value)[1]]))[0])
        return Vectors.dense([1.0 - p, p])

    def predict(self, value: Vector) -> float:
        """Label of one vector."""
        return float(self.predictProbability(value)[1] > self.getThreshold())

    def _objective(self) -> Loss:
        return loss_named(self._loss)()

    def _scorer(self, held: Any) -> BinaryScorer:
        return BinaryScorer(
            held,
            self.intercept,
            self.getFeaturesCol(),
            self._width,
            probabilities=self._objective().probabilities,
            threshold=self.getThreshold(),
        )


__all__ = ["BinaryClassificationModel", "BinaryClassifier"]
