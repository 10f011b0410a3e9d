"""Estimators of deep models: any module of torch, its embeddings on the tier."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import torch
from pyspark import keyword_only
from pyspark.ml import Estimator
from pyspark.ml.util import DefaultParamsWritable
from torch import nn

from sparkps.driver_bridge.spark.master import Master
from sparkps.errors import InvalidInput
from sparkps.mllib.deep.columns import DeepColumns, InputColumns
from sparkps.mllib.deep.driver import train_deep
from sparkps.mllib.deep.job import DeepJob, pickled, unpickled
from sparkps.mllib.deep.losses import OwnLoss, RowLoss, loss_named
from sparkps.mllib.deep.model import TorchModel
from sparkps.mllib.deep.params import RANGES, DeepParams, checked_thresholds
from sparkps.mllib.deep.persistence import TorchEstimatorReader, TorchEstimatorWriter
from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.metrics import METRICS, GlobalMetric
from sparkps.mllib.models.persistence import EstimatorReader, EstimatorWriter
from sparkps.mllib.params.shared import check_params
from sparkps.nn.flat_optimizer import planes_of
from sparkps.nn.partition import FSDP, PIPELINE, check_sharded, stages_of
from sparkps.nn.tables import tables_of, vocabularies_of
from sparkps.optim import Adam

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

M = TypeVar("M", bound=TorchModel)

#: Losses that `TorchEstimator` knows by name.
_NAMED = ("log", "softmax", "squared")


class DeepEstimator(Estimator[M], DeepParams, DefaultParamsWritable):
    """Trains a module on the tier.

    A subclass names its model, and says what the module is and what its loss. Its ``__init__``, a `keyword_only` one, ends with
    ``self._take(self._input_kwargs)``.
    """

    #: Class of the model.
    _model: ClassVar[type[Any]]
    #: Arguments of the last call of a `keyword_only` method.
    _input_kwargs: dict[str, Any]

    @keyword_only
    def setParams(self, **params: Any) -> Self:
        """Sets Params by name."""
        return self._take(self._input_kwargs)

    def _take(self, given: dict[str, Any]) -> Self:
        given = {name: value for name, value in given.items() if value is not None}
        for name in given:
            if not self.hasParam(name):
                raise TypeError(f"{type(self).__name__} has no Param {name!r}")
        return self._set(**given)

    def write(self) -> EstimatorWriter:
        """The writer of the Params."""
        return EstimatorWriter(self)

    @classmethod
    def read(cls) -> Any:
        """The reader of what `write` writes."""
        return EstimatorReader(cls)  # type: ignore[arg-type]  # every estimator of ours can be read so

    @classmethod
    def load(cls, path: str) -> Self:
        """An estimator that was saved.

        Raises
        ------
        InvalidInput
            There is no such estimator at `path`.
        """
        found: Self = cls.read().load(path)
        return found

    @abstractmethod
    def _made_module(self, inputs: InputColumns) -> nn.Module:
        """What is trained, with the weights that it begins with."""

    @abstractmethod
    def _row_loss(self) -> RowLoss:
        """What is minimised."""

    def _metrics(self) -> tuple[GlobalMetric, ...] | None:
        """What rows for validation are measured by, besides the loss; None: as the loss says."""
        return None

    def _labels(self) -> tuple[str, ...]:
        """Label columns."""
        return (self.getLabelCol(),)

    # ---- fitting -------------------------------------------------------------------------------------------------------

    def _fit(self, dataset: DataFrame) -> M:
        self._check()
        trained = train_deep(dataset, self._job(dataset))
        model: M = self._model._of(trained)
        model._resetUid(self.uid)  # as in pyspark.ml, so that the estimator's Params are the model's, too
        self._copyValues(model)
        model.stepSeconds, model.cacheHitRate = trained.seconds_of_a_step, trained.cached
        model._set_summary(dataset, trained.history)
        return model

    def _check(self) -> None:
        """Raise unless the Params can be trained with."""
        check_params(self, **RANGES)
        if self.getDense() == "allreduce":
            if self.getConsistency().lower() != "bsp":
                raise InvalidParam(
                    f"dense='allreduce' needs consistency='bsp': all workers step together. Got {self.getConsistency()!r}; set dense='ps'.",
                    param="dense",
                )
            try:
                planes_of(self._optimizer())
            except ValueError as error:
                raise InvalidParam(str(error), param="optimizer") from None
        elif self.getSyncBatchNorm():
            raise InvalidParam(
                "syncBatchNorm=True needs dense='allreduce': workers on the tier do not wait for each other within a step. Got"
                f" {self.getDense()!r}.",
                param="syncBatchNorm",
            )
        if self.getModelParallel() != "none":
            self._check_divided()
        loss = self._row_loss()
        checked_thresholds(self, loss.classes)
        if loss.within_batch:
            self._check_whole_batches()

    def _check_divided(self) -> None:
        """Raise unless the other Params suit a module that is divided among the workers."""
        kind = f"modelParallel={self.getModelParallel()!r}"
        if self.getConsistency().lower() != "bsp":
            raise InvalidParam(
                f"{kind} needs consistency='bsp': all workers take each step together. Got {self.getConsistency()!r}.",
                param="consistency",
            )
        if self.getNumWorkers() < 2:
            raise InvalidParam(
                f"{kind} needs a number of workers to divide the module among: `numWorkers` must be set to at least 2. Got"
                f" {self.getNumWorkers()}.",
                param="numWorkers",
            )
        if self.getDense() != "ps":
            raise InvalidParam(
                f"{kind} needs dense='ps': each worker's part is on the tier between its steps. Got {self.getDense()!r}.",
                param="dense",
            )
        if getattr(self._optimizer(), "clip_norm", None) is not None:
            raise InvalidParam(
                f"{kind} needs an optimizer without `clip_norm`: no worker has the whole gradient. Got {self._optimizer()!r}; set"
                " `clip_value` instead.",
                param="optimizer",
            )
        if self.getModelParallel() == PIPELINE and self.getAccumulationSteps() > 1:
            raise InvalidParam(
                f"{kind} has parts of a batch already: set `microBatches`, and leave `accumulationSteps` at 1. Got"
                f" {self.getAccumulationSteps()}.",
                param="accumulationSteps",
            )

    def _check_whole_batches(self) -> None:
        """Raise unless all rows of a worker's batch go through the module together, over which the loss is."""
        parts = "the loss of a row is told from the other rows of its batch, of which a part has fewer"
        if self.getAccumulationSteps() > 1:
            raise InvalidParam(
                f"The `accumulationSteps` of {type(self).__name__} must be 1: {parts}. Got {self.getAccumulationSteps()}; set `batchSize`"
                " or `numWorkers`.",
                param="accumulationSteps",
            )
        if self.getModelParallel() == PIPELINE:
            raise InvalidParam(
                f"The `modelParallel` of {type(self).__name__} must be 'none' or 'fsdp': {parts}. Got {PIPELINE!r}.", param="modelParallel"
            )

    def _check_division(self, module: nn.Module) -> None:
        """Raise unless the module can be divided as `modelParallel` says."""
        try:
            if self.getModelParallel() == PIPELINE:
                stages_of(module, self.getNumWorkers())
            elif self.getModelParallel() == FSDP:
                check_sharded(module)
        except ValueError as error:
            raise InvalidParam(str(error), param="modelParallel") from None

    def _optimizer(self) -> Any:
        return self.getOptimizer() if self.isDefined(self.optimizer) else Adam(1e-3)

    def _job(self, dataset: DataFrame) -> DeepJob:
        inputs = self._inputs(dataset).resolved_in(dataset)
        module = self._made_module(inputs)
        inputs = _for_module(inputs, module)
        self._check_division(module)
        _check_parameters(module)
        master = Master(str(dataset.sparkSession.sparkContext.master))
        return DeepJob(
            uid=self.uid,
            columns=DeepColumns(inputs, self._labels(), self._named("weightCol"), self._validation, self._invalid()),
            module=pickled(module),
            loss=self._row_loss(),
            metrics=self._metrics(),
            optimizer=self._optimizer(),
            epochs=self.getMaxIter(),
            batch_size=self.getBatchSize(),
            consistency=self._consistency(),
            num_workers=self.getNumWorkers() or None,
            deterministic=self.getDeterministic(),
            seed=self.getSeed() % (1 << 63),
            dense=self.getDense(),
            sync_batch_norm=self.getSyncBatchNorm(),
            model_parallel=self.getModelParallel(),
            pipeline_schedule=self.getPipelineSchedule(),
            micro_batches=self.getMicroBatches(),
            accumulation=self.getAccumulationSteps(),
            amp=self.getAmp(),
            prefetch=self.getPrefetch(),
            cache_clocks=self.getCacheClocks(),
            cache_bytes=self.getCacheBytes(),
            transport=self.getTransport(),
            storage=self.getStorage(),
            device=self.getDevice(),
            gpus_per_worker=self._gpus_per_worker(),
            cores=(os.cpu_count() or 1) if master.in_driver else 0,
            early_stopping_rounds=self.getEarlyStoppingRounds(),
            validation_tol=self.getValidationTol(),
            checkpoint_dir=self._named("checkpointDir") if self.getCheckpointInterval() > 0 else "",
            checkpoint_interval=self.getCheckpointInterval(),
            facts={**self._facts(), "storage": self.getStorage()},
        )

    def _gpus_per_worker(self) -> float | None:
        """None: as the setting says."""
        if self.getDevice() == "cpu":  # what stays idle is not asked for
            return 0.0
        return float(self.getGpusPerWorker()) if self.isDefined(self.gpusPerWorker) else None

    def _facts(self) -> dict[str, Any]:
        """What the model keeps besides, as JSON has it."""
        return {}

    def _named(self, param: str) -> str:
        return str(self.getOrDefault(param) or "") if self.isDefined(param) else ""

    def _invalid(self) -> Any:
        return "skip" if self.getHandleInvalid() == "skip" else "error"

    def _listed(self, name: str) -> tuple[str, ...]:
        return tuple(self.getOrDefault(name)) if self.isDefined(name) else ()

    def _inputs(self, dataset: DataFrame) -> InputColumns:
        """The columns that rows are read from."""
        categorical, numeric = self._listed("categoricalCols"), self._listed("numericCols")
        named = self.isSet(self.featuresCol) or not (categorical or numeric)
        return InputColumns(categorical, numeric, self.getFeaturesCol() if named else "")


def _for_module(inputs: InputColumns, module: nn.Module) -> InputColumns:
    """The columns with the vocabularies of a module's tables.

    Raises
    ------
    InvalidInput
        A table is of a column that is none of them.
    """
    has = {*inputs.categorical, *([inputs.features] if inputs.features else [])}
    for table in tables_of(module).values():
        for name in table.features:
            if name not in has:
                raise InvalidInput(
                    f"Embeddings {table.name!r} must be of columns of `categoricalCols`, or the `featuresCol`. Got {name!r}; there are"
                    f" {', '.join(sorted(has)) or 'none'}.",
                    column=name,
                )
    joined = tuple((name, under) for name, under in vocabularies_of(module).items() if name != under)
    return InputColumns(**{**inputs.__dict__, "vocabularies": joined})


class TorchEstimator(DeepEstimator[TorchModel]):
    """Trains any `torch.nn.Module` whose embeddings are `sparkps.nn.Embedding` and `EmbeddingBag`.

    The module is called with a `sparkps.nn.Batch`: by name each column of `categoricalCols`, a feature that its embeddings look up, and
    ``batch.numeric``, float32 (n, numbers), of `numericCols`. Embeddings stay on the tier; the other parameters are kept there, too, and
    pulled and pushed with them, so that all that a step needs comes in one request a node. Under bsp the gradient is the mean over the
    batches of all workers; under ssp and asp every worker steps by itself.

    Parameters
    ----------
    module : torch.nn.Module
        With the weights that training begins with.
    loss : str, callable or RowLoss
        "log" (two classes; the output is the logarithm of the odds), "softmax" (of `numClasses`), "squared", or a function of output and
        labels that gives the loss of each row, or the mean of all.
    numClasses : int
        Of "softmax".
    metrics : sequence of str or GlobalMetric, optional
        What rows for validation are measured by, over all workers: names of `sparkps.mllib.metrics.METRICS`, or metrics of one's own, whose
        sums over rows add up. By default those of the loss.
    optimizer : Optimizer
        Of dense parameters, one of `sparkps.optim`, with its learning rate and schedule; by default ``Adam(1e-3)``. Embeddings have
        optimizers of their own.
    **params
        See `DeepParams`.

    Examples
    --------
    >>> class Net(nn.Module):                                                             # doctest: +SKIP
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.item = sparkps.nn.Embedding("item", 16, ["item"])
    ...         self.seen = sparkps.nn.EmbeddingBag("item", 16, ["seen"])  # the same table
    ...         self.out = nn.Linear(17, 1)
    ...     def forward(self, batch):
    ...         both = self.item(batch["item"]) * self.seen(batch["seen"])
    ...         return self.out(torch.cat([both, batch.numeric], 1))
    >>> TorchEstimator(module=Net(), categoricalCols=["item", "seen"], numericCols=["price"]).fit(df)     # doctest: +SKIP
    """

    _model = TorchModel

    @keyword_only
    def __init__(
        self,
        *,
        module: nn.Module | None = None,
        loss: Any = "log",
        numClasses: int = 2,
        metrics: Sequence[str | GlobalMetric] | None = None,
        categoricalCols: list[str] | None = None,
        numericCols: list[str] | None = None,
        featuresCol: str | None = None,
        labelCol: str = "label",
        optimizer: Any = None,
        maxIter: int = 1,
        batchSize: int = 1024,
        **params: Any,
    ) -> None:
        super().__init__()
        given = dict(self._input_kwargs)
        #: Module, loss, number of classes and metrics: no Params, which JSON would have to have.
        self._given = given.pop("module", None), given.pop("loss", "log"), given.pop("numClasses", 2), given.pop("metrics", None)
        self._take(given)

    def write(self) -> TorchEstimatorWriter:
        """The writer of Params, module and loss, these two as a pickle."""
        return TorchEstimatorWriter(self)

    @classmethod
    def read(cls) -> TorchEstimatorReader:
        """The reader of what `write` writes: a pickle, which is a program. Read none whose origin you do not trust."""
        return TorchEstimatorReader(cls)  # type: ignore[arg-type]  # see DeepEstimator.read

    def _made_module(self, inputs: InputColumns) -> nn.Module:
        module = self._given[0]
        if not isinstance(module, nn.Module):
            raise InvalidParam(f"The `module` must be a torch.nn.Module. Got {module!r}.", param="module")
        return unpickled(pickled(module))  # the user's own stays as it is

    def _metrics(self) -> tuple[GlobalMetric, ...] | None:
        metrics = self._given[3]
        if metrics is None:
            return None
        return tuple(map(_metric, [metrics] if isinstance(metrics, (str, GlobalMetric)) else metrics))

    def _row_loss(self) -> RowLoss:
        _, loss, classes, _ = self._given
        if isinstance(loss, RowLoss):
            return loss
        if isinstance(loss, str) and loss in _NAMED:
            return loss_named(loss, classes)
        if callable(loss):
            return OwnLoss(loss, weighted=bool(self._named("weightCol")))
        raise InvalidParam(f"The `loss` must be one of {', '.join(_NAMED)}, a RowLoss, or a function. Got {loss!r}.", param="loss")


def _check_parameters(module: nn.Module) -> None:
    for name, each in module.named_parameters():
        if each.requires_grad and each.is_complex():
            raise InvalidParam(f"Parameters that are trained must be real. Got {name!r} of {each.dtype}.", param="module")


def _metric(given: Any) -> GlobalMetric:
    if isinstance(given, str) and given in METRICS:
        return METRICS[given]()
    if isinstance(given, GlobalMetric):
        return given
    raise InvalidParam(f"The `metrics` must be some of {', '.join(METRICS)}, or of GlobalMetric. Got {given!r}.", param="metrics")


#: Held while a module is made: torch's generator is that of all threads.
_DRAWING = threading.Lock()


def seeded(seed: int, make: Any) -> nn.Module:
    """What `make` gives with torch's generator at `seed`, which is left as it was."""
    with _DRAWING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: nn.Module = make()
        return made


__all__ = ["DeepEstimator", "TorchEstimator", "seeded"]
