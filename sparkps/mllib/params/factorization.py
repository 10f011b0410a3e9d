"""Params of factorization machines: those of pyspark.ml with its defaults and meaning, and a few of ours."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Self

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import (
    HasFitIntercept,
    HasLabelCol,
    HasMaxIter,
    HasProbabilityCol,
    HasRawPredictionCol,
    HasRegParam,
    HasSeed,
    HasSolver,
    HasStepSize,
    HasThresholds,
    HasTol,
    HasWeightCol,
)

from sparkps.mllib.params.shared import (
    OPTIMIZER_SOLVERS,
    HasBatchSize,
    HasConsistency,
    HasDeterministic,
    HasHandleInvalid,
    HasNumWorkers,
)

#: Solvers that see all rows, or a share of them, before each step.
DESCENT_SOLVERS = ("adamW", "gd")

#: Step size of each mini-batch solver where `stepSize` is not set; found on generated rows of 100,000 features. On a9a ten epochs with them
#: give AUC 0.901 to 0.903 and log loss 0.325 to 0.328 on the test rows; there two or three times the step does better by 0.001.
STEP_SIZES = {"sgd": 0.3, "momentum": 0.03, "adagrad": 0.1, "adam": 0.01, "ftrl": 0.3}


class HasFactors(Params):
    """What the factors of a feature are, and how they begin."""

    factorSize: Param[int] = Param(
        Params._dummy(),
        "factorSize",
        "Dimensionality of the factor vectors, which are used to get pairwise interactions between variables",
        typeConverter=TypeConverters.toInt,
    )
    initStd: Param[float] = Param(
        Params._dummy(), "initStd", "standard deviation of initial coefficients", typeConverter=TypeConverters.toFloat
    )
    fitLinear: Param[bool] = Param(
        Params._dummy(), "fitLinear", "whether to fit linear term (aka 1-way term)", typeConverter=TypeConverters.toBoolean
    )

    def getFactorSize(self) -> int:
        """Gets the value of `factorSize`."""
        return self.getOrDefault(self.factorSize)

    def getInitStd(self) -> float:
        """Gets the value of `initStd`."""
        return self.getOrDefault(self.initStd)

    def getFitLinear(self) -> bool:
        """Gets the value of `fitLinear`."""
        return self.getOrDefault(self.fitLinear)


class FactorParams(
    HasFactors, HasLabelCol, HasWeightCol, HasHandleInvalid, HasDeterministic, HasMaxIter, HasRegParam, HasTol, HasFitIntercept,
    HasSolver, HasStepSize, HasSeed, HasBatchSize, HasNumWorkers, HasConsistency,
):  # fmt: skip
    """Params of factorization machines and of their models.

    `maxIter` counts iterations of gd and adamW, and epochs of the mini-batch solvers; `tol` and `miniBatchFraction` are those of the
    first, `batchSize`, `consistency` and `staleness` those of the others.
    """

    miniBatchFraction: Param[float] = Param(
        Params._dummy(),
        "miniBatchFraction",
        "fraction of the input data set that should be used for one iteration of gradient descent",
        typeConverter=TypeConverters.toFloat,
    )  # fmt: skip
    solver: Param[str] = Param(
        Params._dummy(),
        "solver",
        f"how to train: {', '.join(DESCENT_SOLVERS)} (as pyspark.ml), or in batches {', '.join(OPTIMIZER_SOLVERS)}",
        typeConverter=TypeConverters.toString,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(
            factorSize=8, fitIntercept=True, fitLinear=True, regParam=0.0, miniBatchFraction=1.0, initStd=0.01, maxIter=100,
            stepSize=1.0, tol=1e-6, solver="adamW", seed=0, batchSize=1000, numWorkers=0, consistency="bsp", staleness=1,
            handleInvalid="error", deterministic=False,
        )  # fmt: skip

    def getMiniBatchFraction(self) -> float:
        """Gets the value of `miniBatchFraction`."""
        return self.getOrDefault(self.miniBatchFraction)


#: What must hold of these Params, in words and as a test.
RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "factorSize": ("an int >= 1", lambda v: 1 <= v < 1 << 16),
    "initStd": ("a float in (0, inf)", lambda v: 0 < v < math.inf),
    "miniBatchFraction": ("a float in (0, 1]", lambda v: 0 < v <= 1),
}

#: Solvers, with the Params that have no meaning for each.
SOLVERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(DESCENT_SOLVERS, ("batchSize", "staleness", "momentum")),
    **dict.fromkeys(OPTIMIZER_SOLVERS, ("tol", "miniBatchFraction", "momentum")),
    "momentum": ("tol", "miniBatchFraction"),
}


class FactorSetters(FactorParams):
    """Setters of what other estimators do not have."""

    def setFactorSize(self, value: int) -> Self:
        """Sets the value of `factorSize`."""
        return self._set(factorSize=value)

    def setFitLinear(self, value: bool) -> Self:
        """Sets the value of `fitLinear`."""
        return self._set(fitLinear=value)

    def setInitStd(self, value: float) -> Self:
        """Sets the value of `initStd`."""
        return self._set(initStd=value)

    def setMiniBatchFraction(self, value: float) -> Self:
        """Sets the value of `miniBatchFraction`."""
        return self._set(miniBatchFraction=value)


class MachineColumnSetters(HasRawPredictionCol, HasProbabilityCol, HasThresholds):
    """Setters of the columns and thresholds of a classifier, which has no single `threshold`; for estimators and models."""

    def setRawPredictionCol(self, value: str) -> Self:
        """Sets the value of `rawPredictionCol`."""
        return self._set(rawPredictionCol=value)

    def setProbabilityCol(self, value: str) -> Self:
        """Sets the value of `probabilityCol`."""
        return self._set(probabilityCol=value)

    def setThresholds(self, value: list[float]) -> Self:
        """Sets the value of `thresholds`."""
        return self._set(thresholds=value)


__all__ = ["DESCENT_SOLVERS", "RANGES", "SOLVERS", "STEP_SIZES", "FactorParams", "FactorSetters", "HasFactors", "MachineColumnSetters"]
