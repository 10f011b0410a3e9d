"""Fitted deep models: what they add to a DataFrame, what they know of their training, and where they are kept."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pyspark.ml import Model
from pyspark.ml.util import MLReadable, MLWritable
from torch import nn

from sparkps.driver_bridge.input.scan import quoted
from sparkps.mllib.deep.columns import InputColumns
from sparkps.mllib.deep.graph_formats import onnx_of, torchscript_of
from sparkps.mllib.deep.graphs import Scoring
from sparkps.mllib.deep.job import pickled, unpickled
from sparkps.mllib.deep.losses import RowLoss, SquaredLoss, TasksLoss
from sparkps.mllib.deep.params import DeepModelParams, checked_thresholds
from sparkps.mllib.deep.persistence import DeepModelReader, DeepModelWriter
from sparkps.mllib.deep.rows import HeldTable
from sparkps.mllib.deep.scoring import DeepScorer, Held
from sparkps.mllib.models.outputs import check_outputs, output, struct_of
from sparkps.mllib.summaries.base import Summary
from sparkps.mllib.summaries.classes import (
    BinaryClassificationSummary,
    BinaryClassificationTrainingSummary,
    BinaryProbabilisticSummary,
    BinaryProbabilisticTrainingSummary,
    ClassificationSummary,
    ClassificationTrainingSummary,
)
from sparkps.mllib.summaries.evaluated import EvaluatedModel
from sparkps.mllib.summaries.regression import RegressionSummary, RegressionTrainingSummary
from sparkps.mllib.summaries.training import TrainingSummary

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from sparkps.mllib.deep.driver import DeepTrained

log = logging.getLogger(__name__)

#: By Param that names a column, the part of what was predicted that the column has.
PARTS = {"rawPredictionCol": "raw", "probabilityCol": "probability", "predictionCol": "prediction"}


class TorchModel(Model, DeepModelParams, EvaluatedModel, MLWritable, MLReadable["TorchModel"]):
    """A fitted module with its embeddings.

    Embeddings are at the driver, and broadcast, where a table takes at most 64 MiB; else they stay on the tier for as long as the model or
    a copy of it is referred to, and scoring pulls the rows of each batch, but for those that a Python worker has already. A key that was
    never trained on has the row that its table's initializer gives it.

    Attributes
    ----------
    module : torch.nn.Module
        With the weights that were learned, on the CPU. Its embeddings are looked up within a `sparkps.nn.Step`.
    stepSeconds : dict
        Of a model that was not loaded: mean seconds of a worker's step, by its parts, see `rank.PARTS`.
    cacheHitRate : float
        Of a model that was not loaded: of the distinct keys of all steps, the share whose rows workers had from earlier ones
        (`cacheClocks`).
    """

    stepSeconds: Mapping[str, float] = {}
    cacheHitRate: float = 0.0

    def __init__(
        self,
        held: Held | None = None,
        columns: InputColumns | None = None,
        loss: RowLoss | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.held_, self.columns_, self.loss_ = held, columns, loss
        #: What else is kept with a saved model, as JSON has it.
        self.facts_ = dict(facts or {})
        self._module: nn.Module | None = None
        self._broadcast: Any = None

    @classmethod
    def _of(cls, trained: DeepTrained) -> Self:
        held = Held(pickled(trained.module), trained.tables)
        return cls(held, trained.job.columns.inputs, trained.job.loss, trained.job.facts)

    def __repr__(self) -> str:
        tables = ", ".join(self.tables)
        return f"{type(self).__name__}: uid={self.uid}, parameters={sum(p.numel() for p in self.module.parameters())}, tables=[{tables}]"

    @property
    def module(self) -> nn.Module:
        """The module."""
        if self._module is None:
            self._module = unpickled(self._held.module).eval()
        return self._module

    @property
    def tables(self) -> Mapping[str, HeldTable]:
        """By name, the embeddings: ``look_up(keys)`` gives their rows."""
        return self._held.tables

    @property
    def numClasses(self) -> int:
        """Number of classes; 0: it is no classifier."""
        return self._loss.classes

    @property
    def _held(self) -> Held:
        assert self.held_ is not None, "a model that has learned something"
        return self.held_

    @property
    def _loss(self) -> RowLoss:
        assert self.loss_ is not None, "a model that has learned something"
        return self.loss_

    @property
    def _columns(self) -> InputColumns:
        assert self.columns_ is not None, "a model that has learned something"
        return replace(self.columns_, features=self.getFeaturesCol()) if self.columns_.features else self.columns_

    def _summary_classes(self) -> tuple[Any, Any]:
        if isinstance(self._loss, SquaredLoss):
            return RegressionSummary, RegressionTrainingSummary
        if self.numClasses == 2 and "probability" in self._known_parts():
            return BinaryProbabilisticSummary, BinaryProbabilisticTrainingSummary
        if self.numClasses == 2:
            return BinaryClassificationSummary, BinaryClassificationTrainingSummary
        if self.numClasses:
            return ClassificationSummary, ClassificationTrainingSummary
        return Summary, TrainingSummary  # what is good is not known of a loss of one's own, nor of several tasks

    def evaluate(self, dataset: DataFrame) -> Any:
        """Results of the model on rows with labels; see `EvaluatedModel.evaluate`.

        Raises
        ------
        NotImplementedError
            What is good is not known of its loss: that of several tasks, of a recommender, or a function of one's own.
        """
        if self._summary_classes()[0] is Summary:
            raise NotImplementedError(f"{type(self).__name__} has no `evaluate`: {_measured_by(self._loss)}")
        return super().evaluate(dataset)

    # ---- scoring -------------------------------------------------------------------------------------------------------

    def _transform(self, dataset: DataFrame) -> DataFrame:
        from pyspark.sql import functions as sf

        columns, names, thresholds = self._columns, self._output_names(), self._given_thresholds()
        columns.check_types(dataset)
        check_outputs(dataset, names)
        if not names:
            log.warning("%s adds no column: none of %s is set", self.uid, ", ".join(PARTS))
            return dataset
        dataset, read = self._readable(dataset, columns)
        wanted = [PARTS[param] for param in names]
        scorer = DeepScorer(self._broadcast_in(dataset), columns, self._loss, wanted, thresholds)
        arrow_udf: Any = getattr(sf, "arrow_udf")  # noqa: B009  # pyspark's stubs do not know it
        scored: Column = arrow_udf(scorer.__call__, struct_of(wanted))(*read)
        return dataset.select("*", *(output(PARTS[param], scored, name, self.numClasses) for param, name in names.items()))

    def _readable(self, dataset: DataFrame, columns: InputColumns) -> tuple[DataFrame, list[Column]]:
        """Rows that can be scored, and what a UDF reads of them."""
        read = [self._read(dataset, name, columns) for name in columns.names]
        # True of every row. Spark 4.3 hands a UDF the columns of a columnar scan (Parquet) as they are, and fails where one of
        # them is a vector; a filter in between runs row by row.
        dataset = dataset.where(read[0].isNull() | read[0].isNotNull())
        if self.getOrDefault("handleInvalid") == "skip":
            dataset = dataset.where(self._valid(dataset, columns))
        return dataset, read

    def _output_names(self) -> dict[str, str]:
        """Names of the columns to add, by Param: of the parts that this model's loss has."""
        known = self._known_parts()
        given = {param: self.getOrDefault(param) for param, part in PARTS.items() if part in known and self.isDefined(param)}
        return {param: name for param, name in given.items() if name}

    def _known_parts(self) -> set[str]:
        """Of `PARTS`, those that this model's loss has."""
        import numpy as np

        return set(self._loss.parts(np.zeros((1, max(1, self.numClasses))), None))

    def _read(self, dataset: DataFrame, name: str, columns: InputColumns) -> Column:
        from pyspark.sql import functions as sf

        column = sf.col(quoted(name))
        return column.cast("double") if name in columns.numeric else column

    def _valid(self, dataset: DataFrame, columns: InputColumns) -> Column:
        """Which rows can be scored: what is kept where invalid ones are skipped."""
        from pyspark.sql import functions as sf

        from sparkps.mllib.models.outputs import has_valid_features

        found = sf.lit(True)
        for name in columns.numeric:
            number = sf.col(quoted(name)).cast("double")
            found = found & number.isNotNull() & ~sf.isnan(number) & (sf.abs(number) <= sf.lit(3.4028234663852886e38))
        if columns.features:
            found = found & has_valid_features(sf.col(quoted(columns.features)), dataset.schema[columns.features].dataType, 0)
        return found

    def _broadcast_in(self, dataset: DataFrame) -> Any:
        """A broadcast variable of what was learned; one for all uses, since each leaves a file until Spark stops."""
        context = dataset.sparkSession.sparkContext
        if self._broadcast is None or self._broadcast._sc is not context:
            self._broadcast = context.broadcast(self._held)
        return self._broadcast

    def _given_thresholds(self) -> list[float] | None:
        return checked_thresholds(self, self.numClasses)

    # ---- graphs --------------------------------------------------------------------------------------------------------

    def _scoring(self) -> Scoring:
        """What graphs of this model compute."""
        about = {"class": type(self).__name__, "uid": self.uid}
        return Scoring(self._held, self._columns, self._loss, self._given_thresholds(), about=about)

    def to_torchscript(self, path: Any = None) -> Any:
        """The model as TorchScript, embeddings and all: for programs with libtorch, without sparkps, Spark or a tier.

        It takes a dict of tensors by column, and gives one of tensors: float32 ``raw`` (n, outputs) and ``probability`` (n, classes) as
        `transform` adds them, and ``prediction`` (n,), as many as the loss has. Of a loss of one's own class there is ``raw``. A category
        is its key, int64 (n,), and -1 where there is none; arrays and vectors are keys and offsets, see `sparkps.mllib.deep.graphs`.
        `sparkps.mllib.scoring.graph_inputs` makes all of them of raw values, and the definition of a key is in
        `sparkps.mllib.data.hashing`. The archive has "columns.json", which says what it reads. A key that was never trained on has the
        row that its table's initializer gives it, as everywhere; thresholds are those that are set now.

        Parameters
        ----------
        path : str, path or binary file, optional
            Where the archive is written.

        Returns
        -------
        torch.jit.ScriptModule
            Of any number of rows, on the CPU. It was compared with the model on rows that were made up.

        Raises
        ------
        InvalidInput
            A table stays on the tier, since it takes more than 64 MiB; or the module does not compute on tensors alone, so that a graph of
            it would be one of a certain batch.

        Examples
        --------
        >>> model.to_torchscript("clicks.pt")                                                      # doctest: +SKIP
        >>> files = {"columns.json": ""}                                                           # doctest: +SKIP
        >>> clicks = torch.jit.load("clicks.pt", _extra_files=files)                               # doctest: +SKIP
        >>> rows = {"town": ["Oslo", None], "seen": [["a", "b"], []], "price": [3.5, 1.0]}         # doctest: +SKIP
        >>> arrays = graph_inputs(json.loads(files["columns.json"]), rows)                         # doctest: +SKIP
        >>> clicks({name: torch.from_numpy(each) for name, each in arrays.items()})["prediction"]  # doctest: +SKIP
        """
        return torchscript_of(self._scoring(), path)

    def to_onnx(self, path: Any = None) -> Any:
        """The model as an ONNX graph, embeddings and all. Needs onnx: ``pip install 'sparkps[onnx]'``.

        Its inputs and outputs have the names, types and meanings of those of `to_torchscript`; "columns" in its metadata says what it
        reads. It has operators of ONNX's opset 18, and is made by torch's exporter of traces, which torch 2.15 still has.

        Parameters
        ----------
        path : str, path or binary file, optional
            Where the graph is written.

        Returns
        -------
        onnx.ModelProto
            Compared with the model on rows that were made up, where onnxruntime is installed.

        Raises
        ------
        ConfigError
            There is no onnx, or torch has no such exporter.
        InvalidInput
            As of `to_torchscript`; or the module has an operation that ONNX lacks.

        Examples
        --------
        >>> model.to_onnx("clicks.onnx")                                                    # doctest: +SKIP
        >>> clicks = onnxruntime.InferenceSession("clicks.onnx")                            # doctest: +SKIP
        >>> columns = json.loads(clicks.get_modelmeta().custom_metadata_map["columns"])     # doctest: +SKIP
        >>> raw, probability, prediction = clicks.run(None, graph_inputs(columns, rows))    # doctest: +SKIP
        """
        return onnx_of(self._scoring(), path)

    # ---- saving --------------------------------------------------------------------------------------------------------

    #: Whether module and loss are saved as a pickle; a model of a known architecture makes them of its facts.
    _is_pickled: ClassVar[bool] = True

    @classmethod
    def _made_again(cls, columns: InputColumns, facts: Mapping[str, Any]) -> tuple[nn.Module, RowLoss]:
        """Module, with any weights, and loss of a saved model that is not pickled."""
        raise NotImplementedError

    def write(self) -> DeepModelWriter:
        """The writer of this model."""
        return DeepModelWriter(self)

    @classmethod
    def read(cls) -> DeepModelReader:
        """The reader of models."""
        return DeepModelReader(cls)


def _measured_by(loss: RowLoss) -> str:
    """What to do with a model of such a loss, for which there are no metrics."""
    if isinstance(loss, TasksLoss):
        return (
            f"its {loss.tasks} tasks are measured one by one. Score with `transform`, and take the metrics of each task from its label"
            " column and its number of `probability`: the first is that of the first of `labelCols`."
        )
    return "what is good is not known of its loss. Score the rows, and take the metrics of what was predicted."


__all__ = ["PARTS", "TorchModel"]
