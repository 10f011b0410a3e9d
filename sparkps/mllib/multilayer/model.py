"""Fitted multilayer perceptrons."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from pyspark.ml.linalg import DenseVector, Vector, Vectors

from sparkps.errors import InvalidInput
from sparkps.mllib.coefficients import LocalCoefficients, brought_here
from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.models.fitted import FittedModel
from sparkps.mllib.models.layers import Layer, count_of, layers_of
from sparkps.mllib.multilayer.scoring import MultilayerScorer
from sparkps.mllib.multilayer.spark_model import spark_multilayer
from sparkps.mllib.params.factorization import MachineColumnSetters
from sparkps.mllib.params.multilayer import MultilayerParams
from sparkps.mllib.params.setters import PredictionSetters

#: Most elements of a vector of Spark.
_MAX_VECTOR = (1 << 31) - 1


class MultilayerModel(FittedModel, MultilayerParams, PredictionSetters, MachineColumnSetters):
    """A fitted multilayer perceptron: the coefficients of a feature are its weights in the first layer.

    See `FittedModel` for where these are. First biases, and all that comes after them, are at the driver.
    """

    _parts = {"rawPredictionCol": "raw", "probabilityCol": "probability", "predictionCol": "prediction"}
    _kind = "multilayer"

    def __repr__(self) -> str:
        sizes = f"numLayers={len(self._sizes)}, numClasses={self.numClasses}, numFeatures={self.numFeatures}"
        return f"{type(self).__name__}: uid={self.uid}, {sizes}"

    @property
    def link_(self) -> str:
        """See `FittedModel.link_`."""
        return "softmax"

    @property
    def numClasses(self) -> int:
        """Number of classes: outputs of the last layer."""
        return self._sizes[-1]

    @property
    def _sizes(self) -> list[int]:
        """Values between the layers; of a model that has learned nothing, those of one that has no features."""
        return [int(size) for size in self.facts_.get("layers", (0, 1))]

    @property
    def _classes(self) -> int:
        return self.numClasses

    @property
    def weights(self) -> DenseVector:  # type: ignore[override]  # as in pyspark.ml: that of other models has rows of features
        """Weights and biases of all layers: of each its weights, input after input, then its biases.

        Raises
        ------
        InvalidInput
            There are more than a vector of Spark can have.
        """
        sizes = self._sizes
        if count_of(sizes) > _MAX_VECTOR:
            raise InvalidInput(
                f"A vector of Spark must have at most {_MAX_VECTOR} elements. Got {count_of(sizes)} weights of {sizes}."
            )
        held: Any = self.coefficients_
        held = held if isinstance(held, LocalCoefficients) else brought_here(held.table)
        first = np.zeros(sizes[:2])
        first[held.keys] = held.values
        return DenseVector(
            np.concatenate([first.reshape(-1), self.facts_["intercepts"], self.facts_.get("scalars", [])])
        )

    def predictRaw(self, value: Vector) -> DenseVector:
        """Raw prediction of one vector: the margin of each class."""
        return Vectors.dense(self._part_of(value, "raw"))

    def predictProbability(self, value: Vector) -> DenseVector:
        """Probability of each label for one vector."""
        return Vectors.dense(self._part_of(value, "probability"))

    def toSpark(self) -> Any:
        """The same model of pyspark.ml, where its weights fit in a vector."""
        return spark_multilayer(self)

    def _scorer(self, held: Any, **of: Any) -> MultilayerScorer:
        make = partial(
            MultilayerScorer, biases=self.facts_["intercepts"], layers=self._later, thresholds=self._thresholds()
        )
        return make(held, **of)

    @property
    def _later(self) -> list[Layer]:
        """Layers after the first."""
        return layers_of(np.array(self.facts_.get("scalars", []), np.float64), self._sizes[1:])

    def _thresholds(self) -> list[float] | None:
        """As they are set; None: the most probable label is predicted."""
        thresholds = list(self.getThresholds()) if self.isDefined(self.thresholds) else None
        if thresholds is not None and len(thresholds) != self.numClasses:
            raise InvalidParam(
                f"The `thresholds` of a model of {self.numClasses} classes must be {self.numClasses}. Got {thresholds}.",
                param="thresholds",
            )
        return thresholds


__all__ = ["MultilayerModel"]
