"""Params of multilayer perceptrons: those of pyspark.ml with its defaults, and a few of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from pyspark.ml.linalg import Vector
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import (
    HasBlockSize,
    HasLabelCol,
    HasMaxIter,
    HasSeed,
    HasSolver,
    HasStepSize,
    HasTol,
    HasWeightCol,
)

from sparkps.mllib.params.shared import HasBatchSize, HasConsistency, HasDeterministic, HasHandleInvalid, HasNumWorkers


class MultilayerParams(
    HasLabelCol, HasWeightCol, HasHandleInvalid, HasDeterministic, HasMaxIter, HasTol, HasSolver, HasStepSize, HasSeed, HasBlockSize,
    HasBatchSize, HasNumWorkers, HasConsistency,
):  # fmt: skip
    """Params of multilayer perceptrons and of their models.

    `stepSize` is that of gd. `blockSize` is taken for the sake of programs written for pyspark.ml, and changes nothing.
    """

    layers: Param[list[int]] = Param(
        Params._dummy(),
        "layers",
        "Sizes of layers from input layer to output layer E.g., Array(780, 100, 10) means 780 inputs, one hidden layer with 100 neurons and"
        " output layer of 10 neurons.",
        typeConverter=TypeConverters.toListInt,
    )
    solver: Param[str] = Param(
        Params._dummy(),
        "solver",
        "The solver algorithm for optimization. Supported options: l-bfgs, gd.",
        typeConverter=TypeConverters.toString,
    )
    initialWeights: Param[Vector] = Param(
        Params._dummy(), "initialWeights", "The initial weights of the model.", typeConverter=TypeConverters.toVector
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(
            maxIter=100, tol=1e-6, blockSize=128, stepSize=0.03, solver="l-bfgs", seed=0, batchSize=1000, numWorkers=0, consistency="bsp",
            staleness=1, handleInvalid="error", deterministic=False,
        )  # fmt: skip

    def getLayers(self) -> list[int]:
        """Gets the value of `layers`."""
        return self.getOrDefault(self.layers)

    def getInitialWeights(self) -> Vector:
        """Gets the value of `initialWeights`."""
        return self.getOrDefault(self.initialWeights)


class MultilayerSetters(MultilayerParams):
    """Setters of what other estimators do not have."""

    def setLayers(self, value: list[int]) -> Self:
        """Sets the value of `layers`."""
        return self._set(layers=value)

    def setInitialWeights(self, value: Vector) -> Self:
        """Sets the value of `initialWeights`."""
        return self._set(initialWeights=value)

    def setBlockSize(self, value: int) -> Self:
        """Sets the value of `blockSize`."""
        return self._set(blockSize=value)


#: What must hold of these Params, in words and as a test.
RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "layers": (
        "two ints >= 1 or more: the number of features, sizes of hidden layers, the number of classes",
        lambda v: len(v) >= 2 and all(1 <= size < 1 << 31 for size in v),
    ),
    "blockSize": ("an int >= 1", lambda v: v >= 1),
}

#: Solvers, with the Params that have no meaning for each.
SOLVERS: dict[str, tuple[str, ...]] = {
    "l-bfgs": ("stepSize", "batchSize", "staleness", "momentum"),
    "gd": ("batchSize", "staleness", "momentum"),
}

__all__ = ["RANGES", "SOLVERS", "MultilayerParams", "MultilayerSetters"]
