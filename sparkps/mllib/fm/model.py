"""Fitted factorization machines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pyspark.ml.linalg import DenseMatrix, DenseVector, Vector, Vectors

from sparkps.errors import InvalidInput
from sparkps.mllib.coefficients import LocalCoefficients, brought_here
from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.fm.field_aware import FieldAwareScorer
from sparkps.mllib.fm.scoring import MachineClassifierScorer, MachineScorer
from sparkps.mllib.fm.spark_model import spark_machine
from sparkps.mllib.models.fitted import FittedModel
from sparkps.mllib.models.source import ScoredRows
from sparkps.mllib.params.factorization import FactorParams, MachineColumnSetters
from sparkps.mllib.params.fields import FieldParams
from sparkps.mllib.params.setters import PredictionSetters

#: Most elements of a matrix of Spark.
_MAX_MATRIX = (1 << 31) - 1


class MachineModel(FittedModel, FactorParams, PredictionSetters):
    """A fitted factorization machine; as it is here, its margin is the prediction: regression.

    See `FittedModel` for where the coefficients are: of each feature its linear one, then its factors.
    """

    _kind = "machine"
    #: Class of pyspark.ml that is alike, by its name there.
    _in_spark: ClassVar[str] = ""

    @property
    def intercept(self) -> float:
        """Intercept."""
        return float(self.facts_["intercepts"][0])

    @property
    def linear(self) -> Vector:
        """Linear coefficients, a vector of Spark; all are 0 without `fitLinear`.

        Raises
        ------
        InvalidInput
            There are more features than a vector can have: use `weights`.
        """
        if not self.getFitLinear():
            return Vectors.sparse(self.numFeatures, {})
        return DenseVector(self._dense(0, 1)[:, 0])

    @property
    def factors(self) -> DenseMatrix:
        """Factors, a row a feature.

        Raises
        ------
        InvalidInput
            There are more than a matrix can have: use `weights`.
        """
        values = self._dense(1, self.coefficients_.dim)
        transposed: Any = 1  # shown as Spark shows it
        return DenseMatrix(len(values), values.shape[1], values.reshape(-1), transposed)

    def _dense(self, first: int, last: int) -> NDArray[Any]:
        """Columns [first, last) of the coefficients of all features."""
        size = self.numFeatures
        if size * (last - first) > _MAX_MATRIX:
            raise InvalidInput(
                f"A matrix of Spark must have at most {_MAX_MATRIX} elements. Got {size} features with {last - first} values each; use"
                " `model.weights`, a DataFrame of the coefficients that are not 0."
            )
        held = self.coefficients_
        held = held if isinstance(held, LocalCoefficients) else brought_here(held.table)
        values = np.zeros((size, last - first))
        values[held.keys] = held.values[:, first:last]
        return values

    def toSpark(self) -> Any:
        """The same model of pyspark.ml, where its coefficients fit in a matrix."""
        return spark_machine(self, self._in_spark)

    def _scorer(self, held: Any, **of: Any) -> MachineScorer:
        return MachineScorer(held, intercept=self.intercept, linear=self.getFitLinear(), **of)


class MachineClassificationModel(MachineModel, MachineColumnSetters):
    """A fitted factorization machine whose margin is the logarithm of the odds of label 1."""

    _parts = {"rawPredictionCol": "raw", "probabilityCol": "probability", "predictionCol": "prediction"}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}: uid={self.uid}, numClasses={self.numClasses}, numFeatures={self.numFeatures},"
            f" factorSize={self.getFactorSize()}, fitLinear={self.getFitLinear()}, fitIntercept={self.getFitIntercept()}"
        )

    @property
    def link_(self) -> str:
        """See `FittedModel.link_`."""
        return "sigmoid"

    @property
    def numClasses(self) -> int:
        """Number of classes: 2."""
        return 2

    @property
    def _classes(self) -> int:
        return 2

    def predictRaw(self, value: Vector) -> DenseVector:
        """Raw prediction of one vector: [-margin, margin]."""
        return Vectors.dense(self._part_of(value, "raw"))

    def predictProbability(self, value: Vector) -> DenseVector:
        """Probability of each label for one vector."""
        return Vectors.dense(self._part_of(value, "probability"))

    def _scorer(self, held: Any, **of: Any) -> MachineClassifierScorer:
        return MachineClassifierScorer(
            held, intercept=self.intercept, linear=self.getFitLinear(), thresholds=self._two_thresholds(), **of
        )

    def _two_thresholds(self) -> list[float] | None:
        """As they are set; None: the more probable label is predicted."""
        thresholds = list(self.getThresholds()) if self.isDefined(self.thresholds) else None
        if thresholds is not None and len(thresholds) != 2:
            raise InvalidParam(f"The `thresholds` of a model of two classes must be 2. Got {thresholds}.", param="thresholds")
        return thresholds


class FieldMachineClassificationModel(MachineClassificationModel, FieldParams):
    """A fitted field-aware factorization machine; the row of a feature in `factors` has those for field 0, then those for field 1, ..."""

    _kind = "field machine"

    @property
    def _rows(self) -> ScoredRows:
        return replace(super()._rows, fields="source" in self.facts_)

    def _scorer(self, held: Any, **of: Any) -> FieldAwareScorer:
        starts = () if "source" in self.facts_ else tuple(self.getFieldStarts())
        return FieldAwareScorer(
            held, intercept=self.intercept, linear=self.getFitLinear(), thresholds=self._two_thresholds(), starts=starts,
            factors=self.getFactorSize(), normal=self.getNormalizeRows(), **of,
        )  # fmt: skip

    def toSpark(self) -> Any:
        """There is none."""
        raise NotImplementedError(f"pyspark.ml has no model like a {type(self).__name__}: use this one's `transform`")


__all__ = ["FieldMachineClassificationModel", "MachineClassificationModel", "MachineModel"]
