"""What models of one coefficient a feature share: what they learned, their summary, and where they are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pyspark.ml.linalg import DenseVector, SparseVector, Vector
from pyspark.ml.util import MLWritable

from sparkps.errors import InvalidInput
from sparkps.mllib.coefficients import Coefficients, LocalCoefficients, brought_here
from sparkps.mllib.linear.persistence import ModelReader, ModelWriter, weights_of
from sparkps.mllib.linear.summary import TrainingSummary
from sparkps.mllib.linear.transform import LinearTransformer
from sparkps.mllib.training import Trained

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

#: Most features that a vector of Spark can have.
_MAX_VECTOR = (1 << 31) - 1


class LinearModel(LinearTransformer, MLWritable):
    """A fitted linear model.

    Its coefficients are at the driver where they take at most 64 MiB; else they stay on the tier for as long as the model or
    a copy of it is referred to, and scoring pulls the rows of each batch.
    """

    #: Class of `summary`.
    _summary_class: ClassVar[type[TrainingSummary]] = TrainingSummary

    def __init__(self, coefficients: Coefficients, facts: dict[str, Any]) -> None:
        super().__init__()
        #: Where the coefficients are.
        self.coefficients_ = coefficients
        #: Intercept, number of features, and how training went: what goes into the metadata.
        self.facts_ = facts
        self._summary: TrainingSummary | None = None
        #: What `coefficients` gave.
        self._vector: Vector | None = None

    @classmethod
    def _of(cls, trained: Trained) -> Self:
        figures = trained.figures
        facts = {"intercept": trained.solution.intercept, "numFeatures": figures.num_features, "width": figures.width}
        model = cls(trained.coefficients, facts)
        model._summary = cls._summary_class._of(trained)
        return model

    @classmethod
    def _from_saved(cls, coefficients: Coefficients, facts: dict[str, Any]) -> Self:
        return cls(coefficients, facts)

    # ---- what it learned -----------------------------------------------------------------------------------------------

    @property
    def intercept(self) -> float:
        """Intercept."""
        return float(self.facts_["intercept"])

    @property
    def numFeatures(self) -> int:
        """Number of features."""
        return int(self.facts_["numFeatures"])

    @property
    def coefficients(self) -> Vector:
        """Coefficients as a vector of Spark, in whichever form is smaller.

        Raises
        ------
        InvalidInput
            There are more features than a vector can have: use `weights`.
        """
        if self._vector is None:
            self._vector = self._as_vector()
        return self._vector

    def _as_vector(self) -> Vector:
        if self.numFeatures > _MAX_VECTOR:
            raise InvalidInput(
                f"A vector of Spark must have at most {_MAX_VECTOR} elements. Got {self.numFeatures} features; use `model.weights`, a"
                " DataFrame of the coefficients that are not 0."
            )
        held = self.coefficients_
        if not isinstance(held, LocalCoefficients):
            held = brought_here(held.table)
        if 1.5 * (len(held.keys) + 1) < self.numFeatures:
            return SparseVector(self.numFeatures, held.keys.astype(np.int32), held.values)
        values = np.zeros(self.numFeatures)
        values[held.keys] = held.values
        return DenseVector(values)

    @property
    def weights(self) -> DataFrame:
        """Coefficients that are not 0: key bigint, weight double. For any number of features."""
        from pyspark.sql import SparkSession

        return weights_of(self.coefficients_, SparkSession.builder.getOrCreate())

    @property
    def hasSummary(self) -> bool:
        """Whether there is a `summary`: models that were loaded have none."""
        return self._summary is not None

    @property
    def summary(self) -> Any:
        """How training went.

        Raises
        ------
        RuntimeError
            The model was loaded.
        """
        if self._summary is None:
            raise RuntimeError(f"No training summary available for this {type(self).__name__}")
        return self._summary

    @property
    def link_(self) -> str:
        """What a margin means, by its name in `links.LINKS`; empty: it is the prediction."""
        return ""

    # ---- one vector ----------------------------------------------------------------------------------------------------

    def predict(self, value: Vector) -> float:
        """Prediction of one vector."""
        return self._margin(value)

    def _margin(self, value: Vector) -> float:
        """intercept + Σ x·w of one vector.

        Raises
        ------
        InvalidInput
            The vector has not as many elements as those that the model was trained on.
        """
        if self._width and len(value) != self._width:
            raise InvalidInput(f"A vector must have {self._width} elements, as those of the training had. Got {len(value)} instead.")
        if isinstance(value, SparseVector):
            keys, entries = value.indices.astype(np.int64), np.asarray(value.values)
        else:
            entries = value.toArray()
            keys = np.arange(len(entries), dtype=np.int64)
        ids, held = self.coefficients_.look_up(keys)
        known = ids >= 0
        return float(held[ids[known]] @ entries[known]) + self.intercept

    # ---- elsewhere -----------------------------------------------------------------------------------------------------

    def write(self) -> ModelWriter:
        """The writer of this model."""
        return ModelWriter(self)

    @classmethod
    def read(cls) -> ModelReader:
        """The reader of models."""
        return ModelReader(cls)


__all__ = ["LinearModel"]
