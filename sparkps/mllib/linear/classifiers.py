"""Models of linear classifiers: of two classes, whose margin has a sign or means a probability, and of several."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pyspark.ml.linalg import DenseVector, Matrix, Vector, Vectors

from sparkps.errors import InvalidInput
from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.linear.matrices import compressed, matrix_of
from sparkps.mllib.linear.model import LinearModel
from sparkps.mllib.linear.scoring import BinaryScorer, LinearScorer, MultinomialScorer, SideScorer
from sparkps.mllib.params.setters import ColumnSetters
from sparkps.mllib.summaries.classes import (
    BinaryClassificationSummary,
    BinaryClassificationTrainingSummary,
    ClassificationSummary,
    ClassificationTrainingSummary,
)


class LinearClassificationModel(LinearModel):
    """A fitted linear classifier of two classes without probabilities: label 1 where the margin is above the `threshold`, a Param."""

    _parts = {"rawPredictionCol": "raw", "predictionCol": "prediction"}
    _kind = "side"
    _evaluation: ClassVar[Any] = BinaryClassificationSummary
    _training: ClassVar[Any] = BinaryClassificationTrainingSummary

    def __repr__(self) -> str:
        return f"{type(self).__name__}: uid={self.uid}, numClasses={self.numClasses}, numFeatures={self.numFeatures}"

    @property
    def numClasses(self) -> int:
        """Number of classes."""
        return int(self.facts_.get("numClasses", max(2, len(self._intercepts))))

    @property
    def _classes(self) -> int:
        return self.numClasses

    def _summary_classes(self) -> tuple[Any, Any]:
        if self.numClasses > 2:
            return ClassificationSummary, ClassificationTrainingSummary
        return super()._summary_classes()

    def predictRaw(self, value: Vector) -> DenseVector:
        """Raw prediction of one vector: of two classes with one margin [-margin, margin], else the margin of each."""
        return Vectors.dense(self._part_of(value, "raw"))

    def _scorer(self, held: Any, **of: Any) -> LinearScorer:
        return SideScorer(held, intercepts=self._intercepts, threshold=self.getOrDefault("threshold"), **of)


class ProbabilisticModel(LinearClassificationModel, ColumnSetters):
    """A fitted linear classifier with probabilities: binomial, of one margin that is the logarithm of the odds of label 1, or multinomial,
    of a margin for each class.
    """

    _parts = {"rawPredictionCol": "raw", "probabilityCol": "probability", "predictionCol": "prediction"}

    @property
    def coefficientMatrix(self) -> Matrix:
        """The coefficients as a matrix: of one row if the model is binomial, else of one for each class.

        Raises
        ------
        InvalidInput
            There are more elements than a matrix can have: use `weights`.
        """
        return matrix_of(self.coefficients_, self.numFeatures, by_row=not self._is_multinomial)

    @property
    def interceptVector(self) -> Vector:
        """The intercepts: of a binomial model one, else of each class."""
        return compressed(self._intercepts)

    @property
    def coefficients(self) -> Vector:
        """Coefficients of a binomial model.

        Raises
        ------
        InvalidInput
            The model is multinomial: use `coefficientMatrix`. Or there are more features than a vector can have: use `weights`.
        """
        if self._is_multinomial:
            raise InvalidInput("Multinomial models contain a matrix of coefficients, use coefficientMatrix instead.")
        return super().coefficients

    @property
    def intercept(self) -> float:
        """Intercept of a binomial model.

        Raises
        ------
        InvalidInput
            The model is multinomial: use `interceptVector`.
        """
        if self._is_multinomial:
            raise InvalidInput("Multinomial models contain a vector of intercepts, use interceptVector instead.")
        return super().intercept

    def predictProbability(self, value: Vector) -> DenseVector:
        """Probability of each label for one vector."""
        return Vectors.dense(self._part_of(value, "probability"))

    @property
    def link_(self) -> str:
        """See `FittedModel.link_`."""
        return "softmax" if self._is_multinomial else "sigmoid"

    @property
    def kind_(self) -> str:
        """See `FittedModel.kind_`."""
        return "multinomial" if self._is_multinomial else "binary"

    @property
    def _is_multinomial(self) -> bool:
        return bool(self.facts_.get("multinomial", len(self._intercepts) > 1))

    def _scorer(self, held: Any, **of: Any) -> LinearScorer:
        shared = {"intercepts": self._intercepts, "link": self.link_, **of}
        if self._is_multinomial:
            return MultinomialScorer(held, thresholds=self._thresholds_of_all(), **shared)
        return BinaryScorer(held, threshold=self.getThreshold(), **shared)

    def _thresholds_of_all(self) -> list[float] | None:
        """One for each class; None: the most probable class is predicted."""
        if not self.isDefined(self.thresholds):
            return None
        given = self.getOrDefault(self.thresholds)
        if len(given) != len(self._intercepts):
            raise InvalidParam(
                f"The `thresholds` of a model must be one for each of its {len(self._intercepts)} classes. Got {len(given)}:"
                f" {np.round(given, 6).tolist()}.",
                param="thresholds",
            )
        return list(given)


__all__ = ["LinearClassificationModel", "ProbabilisticModel"]
