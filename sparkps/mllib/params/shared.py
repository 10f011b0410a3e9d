"""Params of the linear family: those of pyspark.ml with its defaults and meaning, and a few of ours.

Each mixin adds one Param. Ranges are checked in `fit`, by `check_params`.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from typing import Any, Self, TypeVar

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import (
    HasAggregationDepth,
    HasCheckpointInterval,
    HasElasticNetParam,
    HasFeaturesCol,
    HasFitIntercept,
    HasLabelCol,
    HasMaxBlockSizeInMB,
    HasMaxIter,
    HasPredictionCol,
    HasProbabilityCol,
    HasRawPredictionCol,
    HasRegParam,
    HasSeed,
    HasSolver,
    HasStandardization,
    HasStepSize,
    HasThresholds,
    HasTol,
    HasWeightCol,
)

from sparkps.consistency import ASP, BSP, SSP, Consistency
from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.params.raw_columns import HasRawColumns
from sparkps.mllib.params.row_columns import HasOffsetCol, HasValidationCol

P = TypeVar("P", bound=Params)

log = logging.getLogger(__name__)

#: Solvers that see all rows before each step; those whose gradients an optimizer on the tier applies, and all that see a batch.
FULL_BATCH_SOLVERS = ("lbfgs",)
OPTIMIZER_SOLVERS = ("sgd", "momentum", "adagrad", "adam", "ftrl")
MINI_BATCH_SOLVERS = (*OPTIMIZER_SOLVERS, "online")

#: Rows of one worker in one step where `batchSize` is not set; what is learned row by row does not depend on it, and less is sent with
#: large ones.
BATCH_SIZES = {"online": 20_000}

#: Params without a meaning for the solvers of a kind.
UNUSED = {
    **dict.fromkeys(FULL_BATCH_SOLVERS, ("stepSize", "batchSize", "staleness", "momentum")),
    **dict.fromkeys(MINI_BATCH_SOLVERS, ("tol", "standardization", "momentum")),
    "momentum": ("tol", "standardization"),
    "mixing": ("tol", "standardization", "stepSize", "regParam", "elasticNetParam", "staleness", "momentum"),
}

#: Step size of each solver where `stepSize` is not set. Gradients are means over a batch, so steps are larger than those of rules
#: that take one row at a time; found on two data sets of 120 and of 690,000 features (benchmarks/README.md).
STEP_SIZES = {"sgd": 1.0, "momentum": 0.1, "adagrad": 1.0, "adam": 0.01, "ftrl": 3.0, "online": 0.5}


def _param(name: str, doc: str, converter: Callable[[Any], Any]) -> Any:
    return Param(Params._dummy(), name, doc, typeConverter=converter)


class HasBatchSize(Params):
    """Rows of one worker in one step."""

    batchSize: Param[int] = _param(
        "batchSize", "rows of one worker in one step of a mini-batch solver (>= 1); 20000 for online if not set", TypeConverters.toInt
    )

    def getBatchSize(self) -> int:
        """Gets the value of `batchSize`; where it is not set, what suits the solver."""
        if self.hasParam("solver") and not self.isSet(self.batchSize):
            return BATCH_SIZES.get(self.getOrDefault("solver"), self.getOrDefault(self.batchSize))
        return self.getOrDefault(self.batchSize)


class HasNumWorkers(Params):
    """Number of workers."""

    numWorkers: Param[int] = _param(
        "numWorkers", "number of workers; 0: as many as the cluster runs at once", TypeConverters.toInt
    )

    def getNumWorkers(self) -> int:
        """Gets the value of `numWorkers`."""
        return self.getOrDefault(self.numWorkers)


class HasConsistency(Params):
    """How far workers may run ahead of each other."""

    consistency: Param[str] = _param(
        "consistency", "of the mini-batch solvers: bsp, ssp (bounded by staleness) or asp", TypeConverters.toString
    )
    staleness: Param[int] = _param(
        "staleness", "clocks that a worker may run ahead under ssp (>= 1)", TypeConverters.toInt
    )

    def getConsistency(self) -> str:
        """Gets the value of `consistency`."""
        return self.getOrDefault(self.consistency)

    def getStaleness(self) -> int:
        """Gets the value of `staleness`."""
        return self.getOrDefault(self.staleness)

    def _consistency(self) -> Consistency:
        kinds: dict[str, Callable[[], Consistency]] = {"bsp": BSP, "ssp": lambda: SSP(self.getStaleness()), "asp": ASP}
        return kinds[self.getConsistency().lower()]()


class HasNumFeatures(Params):
    """Declared number of features; of estimators, since a model's `numFeatures` is what it has."""

    numFeatures: Param[int] = _param(
        "numFeatures",
        "number of features: a larger index is an error, and hashes of raw columns are folded to so many; 0: as the rows tell it",
        TypeConverters.toInt,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(numFeatures=0)

    def getNumFeatures(self) -> int:
        """Gets the value of `numFeatures`."""
        return self.getOrDefault(self.numFeatures)


class HasHandleInvalid(Params):
    """What happens with rows that are wrong."""

    handleInvalid: Param[str] = _param(
        "handleInvalid",
        "what happens with a row that is wrong: error, or skip to leave it out",
        TypeConverters.toString,
    )

    def getHandleInvalid(self) -> str:
        """Gets the value of `handleInvalid`."""
        return self.getOrDefault(self.handleInvalid)


class HasDeterministic(Params):
    """Whether the result depends on the rows, the seed and the number of workers alone."""

    deterministic: Param[bool] = _param(
        "deterministic",
        "whether rows are given to workers by their content, so that the model is a function of rows, seed and numWorkers",
        TypeConverters.toBoolean,
    )

    def getDeterministic(self) -> bool:
        """Gets the value of `deterministic`."""
        return self.getOrDefault(self.deterministic)


class HasCheckpoints(HasCheckpointInterval):
    """Where and when a fit writes checkpoints; of estimators.

    A fit with a `checkpointDir` that is killed, and started again with the same Params on the same rows, goes on from its last
    checkpoint. Under bsp it gives what it would have given, bit for bit, if the ranks get the same rows again: from the same files,
    or with `deterministic`. Where buckets are lost with their nodes, it rolls back to its last checkpoint by itself. When it has ended
    well it removes its checkpoints, so that the next fit begins anew. The directory is for one fit at a time: checkpoints of a fit with
    other Params or rows are refused, with what differs.
    """

    checkpointDir: Param[str] = _param(
        "checkpointDir",
        "URL of a directory, one for each fit, where checkpoints of the fit are written: fit again with the same Params to go on from"
        " the last one; if not set or empty, there are none",
        TypeConverters.toString,
    )
    checkpointInterval: Param[int] = _param(
        "checkpointInterval",
        "iterations of L-BFGS, or epochs of a mini-batch solver, from one checkpoint to the next (>= 1), or -1 to disable checkpoints;"
        " ignored if checkpointDir is not set",
        TypeConverters.toInt,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(checkpointInterval=10)

    def getCheckpointDir(self) -> str:
        """Gets the value of `checkpointDir`."""
        return self.getOrDefault(self.checkpointDir)


_FAMILY = (
    "The name of family which is a description of the label distribution to be used in the model. Supported options: auto, binomial,"
    " multinomial"
)


class HasFamily(Params):
    """Label distribution of a logistic regression."""

    family: Param[str] = _param("family", _FAMILY, TypeConverters.toString)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(family="auto")

    def setFamily(self, value: str) -> Self:
        """Sets the value of `family`."""
        return self._set(family=value)

    def getFamily(self) -> str:
        """Gets the value of `family`."""
        return self.getOrDefault(self.family)


class ProbabilisticParams(HasFeaturesCol, HasPredictionCol, HasRawPredictionCol, HasProbabilityCol, HasThresholds):
    """Columns and thresholds of a probabilistic classifier; binary ones have `threshold` as well."""

    threshold: Param[float] = _param(
        "threshold",
        "Threshold in binary classification prediction, in range [0, 1]. If threshold and thresholds are both set, they must match."
        "e.g. if threshold is p, then thresholds must be equal to [1-p, p].",
        TypeConverters.toFloat,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(threshold=0.5)

    def setThreshold(self: P, value: float) -> P:
        """Sets the value of `threshold`, and clears `thresholds`."""
        self._set(threshold=value)
        self.clear(self.getParam("thresholds"))
        return self

    def setThresholds(self: P, value: list[float]) -> P:
        """Sets the value of `thresholds`, and clears `threshold`."""
        self._set(thresholds=value)
        self.clear(self.getParam("threshold"))
        return self

    def getThreshold(self) -> float:
        """The threshold; where `thresholds` are set, the one that they come to."""
        self._checkThresholdConsistency()
        if not self.isSet(self.thresholds):
            return self.getOrDefault(self.threshold)
        return self._implied_threshold()

    def getThresholds(self) -> list[float]:
        """The thresholds; where only `threshold` is set, those that it comes to."""
        self._checkThresholdConsistency()
        if not self.isSet(self.thresholds) and self.isSet(self.threshold):
            value = self.getOrDefault(self.threshold)
            return [1.0 - value, value]
        return self.getOrDefault(self.thresholds)

    def _two_thresholds(self) -> list[float]:
        given = self.getOrDefault(self.thresholds)
        if len(given) != 2:
            raise InvalidParam(f"`thresholds` of a binary classifier must have length 2. Got {given}.", param="thresholds")
        if not sum(given) > 0:
            raise InvalidParam(f"`thresholds` must have a sum above 0. Got {given}.", param="thresholds")
        return given

    def _implied_threshold(self) -> float:
        """Where p(1) / thresholds[1] overtakes p(0) / thresholds[0]: a threshold of 0 makes its label win always."""
        low, high = self._two_thresholds()
        return high / (low + high)

    def _checkThresholdConsistency(self) -> None:
        if self.isSet(self.threshold) and self.isSet(self.thresholds):
            implied = self._implied_threshold()
            value = self.getOrDefault(self.threshold)
            if abs(value - implied) >= 1e-5:
                name = re.sub("(?<=[a-z])(?=[A-Z])", " ", type(self).__name__.removesuffix("Model"))  # pyspark's words are these
                raise InvalidParam(
                    f"{name} getThreshold found inconsistent values for threshold ({value:g}) and thresholds (equivalent to"
                    f" {implied:g}): they must match where both are set. Clear one of them.",
                    param="threshold",
                )


class LinearParams(
    HasOffsetCol,
    HasValidationCol,
    HasRawColumns,
    HasLabelCol,
    HasWeightCol,
    HasHandleInvalid,
    HasDeterministic,
    HasMaxIter,
    HasRegParam,
    HasElasticNetParam,
    HasTol,
    HasFitIntercept,
    HasStandardization,
    HasAggregationDepth,
    HasMaxBlockSizeInMB,
    HasSolver,
    HasStepSize,
    HasSeed,
    HasBatchSize,
    HasNumWorkers,
    HasConsistency,
):
    """Params of an estimator of the linear family.

    `maxIter` counts iterations of L-BFGS, and epochs of the mini-batch solvers; `tol` and `standardization` are those of
    L-BFGS, `stepSize`, `batchSize`, `consistency` and `staleness` those of the others. A step size that is not set is 1.0 for sgd
    and adagrad, 0.1 for momentum, 0.01 for adam, 3.0 for ftrl and 0.5 for online. `aggregationDepth` and
    `maxBlockSizeInMB` are taken for the sake of programs written for pyspark.ml, and change nothing.
    """

    solver: Param[str] = _param(
        "solver",
        f"how to train: auto, {', '.join(FULL_BATCH_SOLVERS)}, or in batches {', '.join(MINI_BATCH_SOLVERS)}, where the estimator has"
        " them; some have others: normal, irls, l-bfgs (its docstring says which)",
        TypeConverters.toString,
    )
    stepSize: Param[float] = _param(
        "stepSize",
        "step size of a mini-batch solver (> 0); by default " + ", ".join(f"{size:g} for {name}" for name, size in STEP_SIZES.items()),
        TypeConverters.toFloat,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(
            maxIter=100, regParam=0.0, elasticNetParam=0.0, tol=1e-6, fitIntercept=True, standardization=True, solver="auto",
            batchSize=1000, numWorkers=0, consistency="bsp", staleness=1, handleInvalid="error",
            deterministic=False, aggregationDepth=2, maxBlockSizeInMB=0.0, seed=0,
        )  # fmt: skip

    def getStepSize(self) -> float:
        """Gets the value of `stepSize`; where it is not set, what suits the solver (`STEP_SIZES`)."""
        if self.isDefined(self.stepSize):
            return self.getOrDefault(self.stepSize)
        return STEP_SIZES.get(self.getOrDefault("solver"), 1.0)


#: What each Param must satisfy, in words and as a test.
_RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "maxIter": ("an int >= 0", lambda v: v >= 0),
    "regParam": ("a float in [0, inf)", lambda v: 0 <= v < math.inf),
    "elasticNetParam": ("a float in [0, 1]", lambda v: 0 <= v <= 1),
    "tol": ("a float >= 0", lambda v: v >= 0),
    "threshold": ("a float in [0, 1]", lambda v: 0 <= v <= 1),
    "thresholds": (
        "floats in [0, inf), at most one of them 0, with a sum above 0",
        lambda v: all(0 <= x < math.inf for x in v) and list(v).count(0.0) <= 1 and sum(v) > 0,
    ),
    "aggregationDepth": ("an int >= 2", lambda v: v >= 2),
    "maxBlockSizeInMB": ("a float >= 0", lambda v: v >= 0),
    "stepSize": ("a float in (0, inf)", lambda v: 0 < v < math.inf),
    "batchSize": ("an int >= 1", lambda v: v >= 1),
    "numWorkers": ("an int >= 0", lambda v: v >= 0),
    "staleness": ("an int >= 1", lambda v: 1 <= v < 1 << 31),
    "ngrams": ("an int >= 1", lambda v: v >= 1),
    "numFeatures": ("an int >= 0", lambda v: 0 <= v < 1 << 63),
    "checkpointInterval": ("an int >= 1, or -1 for no checkpoints", lambda v: v >= 1 or v == -1),
    "consistency": ("one of bsp, ssp, asp", lambda v: v.lower() in ("bsp", "ssp", "asp")),
    "handleInvalid": ("one of error, skip", lambda v: v in ("error", "skip")),
    "earlyStoppingRounds": ("an int >= 0", lambda v: v >= 0),
    "validationTol": ("a float in [0, 1)", lambda v: 0 <= v < 1),
    "seed": ("an int in [-2^63, 2^63)", lambda v: -1 << 63 <= v < 1 << 63),
}


def check_params(estimator: Params, **more: tuple[str, Callable[[Any], bool]]) -> None:
    """Check the ranges of all Params that are set or have a default.

    Parameters
    ----------
    estimator : Params
    **more
        Further Params: what must hold in words, and as a test.

    Raises
    ------
    InvalidParam
        Names the Param, what must hold and what it is.
    """
    for name, (must, holds) in {**_RANGES, **more}.items():
        if estimator.hasParam(name) and estimator.isDefined(name):
            value = estimator.getOrDefault(name)
            if not holds(value):
                raise InvalidParam(
                    f"The `{name}` of {type(estimator).__name__} must be {must}. Got {value!r} instead.", param=name
                )


__all__ = [
    "BATCH_SIZES",
    "FULL_BATCH_SOLVERS",
    "MINI_BATCH_SOLVERS",
    "OPTIMIZER_SOLVERS",
    "STEP_SIZES",
    "UNUSED",
    "HasBatchSize",
    "HasCheckpoints",
    "HasConsistency",
    "HasDeterministic",
    "HasFamily",
    "HasHandleInvalid",
    "HasNumFeatures",
    "HasNumWorkers",
    "LinearParams",
    "ProbabilisticParams",
    "check_params",
]  # fmt: skip
