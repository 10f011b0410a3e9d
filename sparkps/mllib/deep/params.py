"""Params of deep estimators and their models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import (
    HasFeaturesCol,
    HasLabelCol,
    HasMaxIter,
    HasPredictionCol,
    HasProbabilityCol,
    HasRawPredictionCol,
    HasSeed,
    HasThresholds,
    HasWeightCol,
)

from sparkps.client.row_cache import CACHE_BYTES
from sparkps.config import FRACTION, is_fraction
from sparkps.mllib.deep.devices import DEVICES
from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.params.row_columns import HasValidationCol
from sparkps.mllib.params.shared import (
    HasBatchSize,
    HasCheckpoints,
    HasConsistency,
    HasDeterministic,
    HasHandleInvalid,
    HasNumWorkers,
)
from sparkps.mllib.params.stopping import HasEarlyStopping
from sparkps.nn.tables import STORAGES, TRANSPORTS
from sparkps.optim import Optimizer


def _param(name: str, doc: str, converter: Callable[[Any], Any]) -> Any:
    return Param(Params._dummy(), name, doc, typeConverter=converter)


def an_optimizer(value: Any) -> Any:
    """`value`, which must be one of `sparkps.optim`."""
    if not isinstance(value, Optimizer):
        raise TypeError(f"An optimizer must be one of sparkps.optim, as Adam(1e-3). Got {value!r}.")
    return value


def checked_thresholds(params: HasThresholds, classes: int) -> list[float] | None:
    """The `thresholds` of an estimator or a model of so many classes, 0: it is no classifier; None: none are set.

    Raises
    ------
    InvalidParam
        They are not one for each class.
    """
    if not params.isDefined(params.thresholds):
        return None
    given, name = list(params.getThresholds()), type(params).__name__
    if not classes:
        raise InvalidParam(
            f"The `thresholds` of {name} must not be set: it does not choose among classes. Got {given}; clear them.", param="thresholds"
        )
    if len(given) != classes:
        raise InvalidParam(
            f"The `thresholds` of {name} must be one for each of its {classes} classes. Got {len(given)}: {given}.", param="thresholds"
        )
    return given


class DeepModelParams(
    HasFeaturesCol, HasLabelCol, HasWeightCol, HasPredictionCol, HasRawPredictionCol, HasProbabilityCol, HasThresholds, HasHandleInvalid
):
    """Params of a fitted model: the columns that it reads and adds."""

    def setFeaturesCol(self, value: str) -> Self:
        """Sets the value of `featuresCol`."""
        return self._set(featuresCol=value)

    def setLabelCol(self, value: str) -> Self:
        """Sets the value of `labelCol`."""
        return self._set(labelCol=value)

    def setPredictionCol(self, value: str) -> Self:
        """Sets the value of `predictionCol`."""
        return self._set(predictionCol=value)

    def setRawPredictionCol(self, value: str) -> Self:
        """Sets the value of `rawPredictionCol`."""
        return self._set(rawPredictionCol=value)

    def setProbabilityCol(self, value: str) -> Self:
        """Sets the value of `probabilityCol`."""
        return self._set(probabilityCol=value)

    def setThresholds(self, value: list[float]) -> Self:
        """Sets the value of `thresholds`."""
        return self._set(thresholds=value)

    def setHandleInvalid(self, value: str) -> Self:
        """Sets the value of `handleInvalid`."""
        return self._set(handleInvalid=value)


class DeepParams(
    DeepModelParams,
    HasMaxIter,
    HasSeed,
    HasValidationCol,
    HasBatchSize,
    HasNumWorkers,
    HasConsistency,
    HasDeterministic,
    HasCheckpoints,
    HasEarlyStopping,
):
    """Params of an estimator.

    Rows are read from `categoricalCols` (strings, integers, booleans, numbers, or arrays of these, hashed to 63 bits) and `numericCols`,
    or from one column of vectors, `featuresCol`, each of whose non-zeros is a category that weighs its value. `maxIter` counts epochs.
    """

    # What others share with solvers that are no networks, in the words of those that are.
    maxIter: Param[int] = _param("maxIter", "epochs: how often all rows are learned from (>= 0)", TypeConverters.toInt)
    batchSize: Param[int] = _param("batchSize", "rows of one worker in one step (>= 1)", TypeConverters.toInt)
    consistency: Param[str] = _param(
        "consistency",
        "how far workers may run ahead of each other: bsp (all step together), ssp (as far as staleness says) or asp (each as it can)",
        TypeConverters.toString,
    )
    checkpointInterval: Param[int] = _param(
        "checkpointInterval",
        "epochs from one checkpoint to the next (>= 1), or -1 to disable checkpoints; ignored if checkpointDir is not set",
        TypeConverters.toInt,
    )
    earlyStoppingRounds: Param[int] = _param(
        "earlyStoppingRounds",
        "epochs without a better validation loss after which training ends, or 0 to go on; ignored if validationIndicatorCol is not set",
        TypeConverters.toInt,
    )
    categoricalCols: Param[list[str]] = _param(
        "categoricalCols", "columns whose values are categories, or arrays of categories: bags", TypeConverters.toListString
    )
    numericCols: Param[list[str]] = _param("numericCols", "columns of numbers", TypeConverters.toListString)
    optimizer: Param[Any] = _param("optimizer", "of dense parameters, one of sparkps.optim, with its schedule", an_optimizer)
    dense: Param[str] = _param(
        "dense",
        "where dense parameters are: ps (on the tier, which applies their optimizer) or allreduce (every worker has them, and gradients are"
        " summed among the workers; needs consistency='bsp')",
        TypeConverters.toString,
    )
    syncBatchNorm: Param[bool] = _param(
        "syncBatchNorm",
        "whether batch normalization layers normalise by the rows of all workers in a step, not by those of each (needs dense='allreduce')",
        TypeConverters.toBoolean,
    )
    modelParallel: Param[str] = _param(
        "modelParallel",
        "how the module is divided among the workers: none (each has all of it), pipeline (each has a stage of a torch.nn.Sequential, or of"
        " a module with `layers()`) or fsdp (each has its rows of every parameter)",
        TypeConverters.toString,
    )
    pipelineSchedule: Param[str] = _param(
        "pipelineSchedule",
        "of modelParallel='pipeline': gpipe (all parts of a batch forward, then all backward) or 1f1b (one forward, one backward, which"
        " keeps fewer activations)",
        TypeConverters.toString,
    )
    microBatches: Param[int] = _param(
        "microBatches", "of modelParallel='pipeline': parts of the rows of a step that are in it one behind the other (>= 1)",
        TypeConverters.toInt,
    )  # fmt: skip
    accumulationSteps: Param[int] = _param(
        "accumulationSteps",
        "parts in which a batch goes through the module, whose gradients are added up before anything is pushed (>= 1)",
        TypeConverters.toInt,
    )
    amp: Param[bool] = _param("amp", "whether the module computes in bfloat16 where torch.autocast does", TypeConverters.toBoolean)
    prefetch: Param[int] = _param(
        "prefetch",
        "batches whose rows are asked for ahead, under asp, and under ssp as far as the staleness allows it (>= 0)",
        TypeConverters.toInt,
    )
    cacheClocks: Param[int] = _param(
        "cacheClocks",
        "clocks for which workers use rows of embeddings again before they pull them anew, under asp, and under ssp as far as the"
        " staleness allows it beside prefetch (>= 0)",
        TypeConverters.toInt,
    )
    cacheBytes: Param[int] = _param(
        "cacheBytes", "most bytes of the rows of one table that a worker keeps for cacheClocks, keys included (>= 0)", TypeConverters.toInt
    )
    transport: Param[str] = _param(
        "transport",
        f"how rows and gradients of embeddings travel to and from the nodes, of tables that do not say it: {', '.join(TRANSPORTS)}",
        TypeConverters.toString,
    )
    storage: Param[str] = _param(
        "storage",
        f"how rows of embeddings lie on the nodes, of tables that do not say it: {', '.join(STORAGES)}. In 16 bits they take half of the"
        " memory, and what the optimizer keeps with them stays float32",
        TypeConverters.toString,
    )
    device: Param[str] = _param(
        "device", "where workers compute: auto (the GPU that Spark gives them; the CPU where none is asked for), cpu or cuda",
        TypeConverters.toString,
    )  # fmt: skip
    gpusPerWorker: Param[float] = _param(
        "gpusPerWorker",
        "GPUs of one worker, or its share of one, as 0.5: two workers on a GPU; where it is not set as spark.sparkps.worker.gpus says",
        TypeConverters.toFloat,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(
            maxIter=1, batchSize=1024, numWorkers=0, consistency="bsp", staleness=1, deterministic=False, seed=0, handleInvalid="error",
            dense="ps", syncBatchNorm=False, modelParallel="none", pipelineSchedule="1f1b", microBatches=4, accumulationSteps=1,
            amp=False, prefetch=1, cacheClocks=0, cacheBytes=CACHE_BYTES, transport="float32", storage="float32", device="auto",
        )  # fmt: skip

    def setCategoricalCols(self, value: list[str]) -> Self:
        """Sets the value of `categoricalCols`."""
        return self._set(categoricalCols=value)

    def setNumericCols(self, value: list[str]) -> Self:
        """Sets the value of `numericCols`."""
        return self._set(numericCols=value)

    def setOptimizer(self, value: Any) -> Self:
        """Sets the value of `optimizer`."""
        return self._set(optimizer=value)

    def setMaxIter(self, value: int) -> Self:
        """Sets the value of `maxIter`."""
        return self._set(maxIter=value)

    def setBatchSize(self, value: int) -> Self:
        """Sets the value of `batchSize`."""
        return self._set(batchSize=value)

    def setNumWorkers(self, value: int) -> Self:
        """Sets the value of `numWorkers`."""
        return self._set(numWorkers=value)

    def setConsistency(self, value: str) -> Self:
        """Sets the value of `consistency`."""
        return self._set(consistency=value)

    def setStaleness(self, value: int) -> Self:
        """Sets the value of `staleness`."""
        return self._set(staleness=value)

    def setSeed(self, value: int) -> Self:
        """Sets the value of `seed`."""
        return self._set(seed=value)

    def setWeightCol(self, value: str) -> Self:
        """Sets the value of `weightCol`."""
        return self._set(weightCol=value)

    def setDeterministic(self, value: bool) -> Self:
        """Sets the value of `deterministic`."""
        return self._set(deterministic=value)

    def setCheckpointDir(self, value: str) -> Self:
        """Sets the value of `checkpointDir`."""
        return self._set(checkpointDir=value)

    def setCheckpointInterval(self, value: int) -> Self:
        """Sets the value of `checkpointInterval`."""
        return self._set(checkpointInterval=value)

    def setDense(self, value: str) -> Self:
        """Sets the value of `dense`."""
        return self._set(dense=value)

    def setSyncBatchNorm(self, value: bool) -> Self:
        """Sets the value of `syncBatchNorm`."""
        return self._set(syncBatchNorm=value)

    def setModelParallel(self, value: str) -> Self:
        """Sets the value of `modelParallel`."""
        return self._set(modelParallel=value)

    def setPipelineSchedule(self, value: str) -> Self:
        """Sets the value of `pipelineSchedule`."""
        return self._set(pipelineSchedule=value)

    def setMicroBatches(self, value: int) -> Self:
        """Sets the value of `microBatches`."""
        return self._set(microBatches=value)

    def setAccumulationSteps(self, value: int) -> Self:
        """Sets the value of `accumulationSteps`."""
        return self._set(accumulationSteps=value)

    def setAmp(self, value: bool) -> Self:
        """Sets the value of `amp`."""
        return self._set(amp=value)

    def setPrefetch(self, value: int) -> Self:
        """Sets the value of `prefetch`."""
        return self._set(prefetch=value)

    def setCacheClocks(self, value: int) -> Self:
        """Sets the value of `cacheClocks`."""
        return self._set(cacheClocks=value)

    def setCacheBytes(self, value: int) -> Self:
        """Sets the value of `cacheBytes`."""
        return self._set(cacheBytes=value)

    def setTransport(self, value: str) -> Self:
        """Sets the value of `transport`."""
        return self._set(transport=value)

    def setStorage(self, value: str) -> Self:
        """Sets the value of `storage`."""
        return self._set(storage=value)

    def setDevice(self, value: str) -> Self:
        """Sets the value of `device`."""
        return self._set(device=value)

    def setGpusPerWorker(self, value: float) -> Self:
        """Sets the value of `gpusPerWorker`."""
        return self._set(gpusPerWorker=value)

    def getCategoricalCols(self) -> list[str]:
        """Gets the value of `categoricalCols`."""
        return self.getOrDefault(self.categoricalCols)

    def getNumericCols(self) -> list[str]:
        """Gets the value of `numericCols`."""
        return self.getOrDefault(self.numericCols)

    def getOptimizer(self) -> Any:
        """Gets the value of `optimizer`."""
        return self.getOrDefault(self.optimizer)

    def getDense(self) -> str:
        """Gets the value of `dense`."""
        return self.getOrDefault(self.dense)

    def getSyncBatchNorm(self) -> bool:
        """Gets the value of `syncBatchNorm`."""
        return self.getOrDefault(self.syncBatchNorm)

    def getModelParallel(self) -> str:
        """Gets the value of `modelParallel`."""
        return self.getOrDefault(self.modelParallel)

    def getPipelineSchedule(self) -> str:
        """Gets the value of `pipelineSchedule`."""
        return self.getOrDefault(self.pipelineSchedule)

    def getMicroBatches(self) -> int:
        """Gets the value of `microBatches`."""
        return self.getOrDefault(self.microBatches)

    def getAccumulationSteps(self) -> int:
        """Gets the value of `accumulationSteps`."""
        return self.getOrDefault(self.accumulationSteps)

    def getAmp(self) -> bool:
        """Gets the value of `amp`."""
        return self.getOrDefault(self.amp)

    def getPrefetch(self) -> int:
        """Gets the value of `prefetch`."""
        return self.getOrDefault(self.prefetch)

    def getCacheClocks(self) -> int:
        """Gets the value of `cacheClocks`."""
        return self.getOrDefault(self.cacheClocks)

    def getCacheBytes(self) -> int:
        """Gets the value of `cacheBytes`."""
        return self.getOrDefault(self.cacheBytes)

    def getTransport(self) -> str:
        """Gets the value of `transport`."""
        return self.getOrDefault(self.transport)

    def getStorage(self) -> str:
        """Gets the value of `storage`."""
        return self.getOrDefault(self.storage)

    def getDevice(self) -> str:
        """Gets the value of `device`."""
        return self.getOrDefault(self.device)

    def getGpusPerWorker(self) -> float:
        """Gets the value of `gpusPerWorker`; it has no default."""
        return self.getOrDefault(self.gpusPerWorker)


#: Of Params that only deep estimators have: what must hold, in words and as a test.
RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "accumulationSteps": ("an int >= 1", lambda v: v >= 1),
    "dense": ("one of ps, allreduce", lambda v: v in ("ps", "allreduce")),
    "modelParallel": ("one of none, pipeline, fsdp", lambda v: v in ("none", "pipeline", "fsdp")),
    "pipelineSchedule": ("one of gpipe, 1f1b", lambda v: v in ("gpipe", "1f1b")),
    "microBatches": ("an int >= 1", lambda v: v >= 1),
    "prefetch": ("an int >= 0", lambda v: v >= 0),
    "cacheClocks": ("an int >= 0", lambda v: v >= 0),
    "cacheBytes": ("an int >= 0", lambda v: v >= 0),
    "transport": (f"one of {', '.join(TRANSPORTS)}", lambda v: v in TRANSPORTS),
    "storage": (f"one of {', '.join(STORAGES)}", lambda v: v in STORAGES),
    "device": (f"one of {', '.join(DEVICES)}", lambda v: v in DEVICES),
    "gpusPerWorker": (FRACTION, is_fraction),
}


__all__ = ["RANGES", "DeepModelParams", "DeepParams", "an_optimizer", "checked_thresholds"]
