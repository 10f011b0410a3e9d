"""What estimators of known architectures share, and their models, which are made of what their metadata say: no pickle is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from pyspark import keyword_only
from torch import nn

from sparkps.mllib.deep.columns import InputColumns
from sparkps.mllib.deep.estimator import DeepEstimator, seeded
from sparkps.mllib.deep.losses import LogLoss, RowLoss, SoftmaxLoss, SquaredLoss, TasksLoss, loss_named
from sparkps.mllib.deep.model import TorchModel
from sparkps.mllib.deep.zoo.blocks import Spec
from sparkps.mllib.deep.zoo.params import RANGES, ArchitectureParams, HasExperts, HasNumClasses
from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.params.shared import check_params
from sparkps.optim import Adam


class ArchitectureModel(TorchModel, ArchitectureParams):
    """A fitted model of a known architecture."""

    #: Made of columns and a `Spec`.
    _architecture: ClassVar[type[nn.Module]]
    _is_pickled = False

    @classmethod
    def _made_again(cls, columns: InputColumns, facts: Mapping[str, Any]) -> tuple[nn.Module, RowLoss]:
        return cls._architecture(columns, Spec.of(facts["spec"])), loss_named(*facts["loss"])


M = TypeVar("M", bound=ArchitectureModel)


class ArchitectureEstimator(DeepEstimator[M], ArchitectureParams):
    """Trains a known architecture; a subclass names its model, and may have Params that go into ``Spec.more``."""

    _model: ClassVar[type[ArchitectureModel]]

    @keyword_only
    def __init__(
        self,
        *,
        categoricalCols: list[str] | None = None,
        numericCols: list[str] | None = None,
        featuresCol: str | None = None,
        labelCol: str = "label",
        embeddingDim: int = 16,
        hiddenUnits: list[int] | None = None,
        maxIter: int = 1,
        batchSize: int = 1024,
        optimizer: Any = None,
        embeddingOptimizer: Any = None,
        **params: Any,
    ) -> None:
        super().__init__()
        self._take(self._input_kwargs)

    def _outputs(self) -> int:
        """Numbers that the module gives for a row."""
        return 1

    def _more(self) -> dict[str, Any]:
        """See `Spec.more`."""
        special = {param: name for cls in type(self).__mro__ for param, name in vars(cls).get("_special", {}).items()}
        return {name: self.getOrDefault(param) for param, name in special.items() if self.isDefined(param)}

    def _spec(self) -> Spec:
        return Spec(
            dim=self.getOrDefault("embeddingDim"),
            hidden=tuple(self.getOrDefault("hiddenUnits")),
            dropout=self.getOrDefault("dropout"),
            init_std=self.getOrDefault("initStd"),
            seed=self.getSeed() % (1 << 63),
            optimizer=self.getOrDefault("embeddingOptimizer") if self.isDefined("embeddingOptimizer") else Adam(1e-3),
            outputs=self._outputs(),
            more=self._more(),
        )

    def _made_module(self, inputs: InputColumns) -> nn.Module:
        check_params(self, **{name: must for name, must in RANGES.items() if self.hasParam(name)})
        try:
            return seeded(self.getSeed() % (1 << 63), lambda: self._model._architecture(inputs, self._spec()))
        except ValueError as error:  # what an architecture asks of its columns
            raise InvalidParam(str(error), param="categoricalCols") from error

    def _facts(self) -> dict[str, Any]:
        named = self._row_loss().named
        assert named is not None, "losses of known architectures have names"
        return {"spec": self._spec().facts(), "loss": list(named)}


class ArchitectureClassifier(ArchitectureEstimator[M], HasNumClasses):
    """Trains a classifier."""

    def _outputs(self) -> int:
        classes = int(self.getOrDefault("numClasses"))
        return 1 if classes == 2 else classes

    def _row_loss(self) -> RowLoss:
        classes = int(self.getOrDefault("numClasses"))
        return LogLoss() if classes == 2 else SoftmaxLoss(classes)


class ArchitectureRegressor(ArchitectureEstimator[M]):
    """Trains a regression, by half the squared error."""

    def _row_loss(self) -> RowLoss:
        return SquaredLoss()


class TasksClassifier(ArchitectureEstimator[M], HasExperts):
    """Trains a classifier of several tasks at once: each label column is one, of 0 and 1."""

    def _labels(self) -> tuple[str, ...]:
        names = self._listed("labelCols")
        if not names:
            raise InvalidParam(
                f"The `labelCols` of {type(self).__name__} must name the label of each task. They are not set.", param="labelCols"
            )
        return names

    def _outputs(self) -> int:
        return len(self._labels())

    def _row_loss(self) -> RowLoss:
        return TasksLoss(len(self._labels()))


__all__ = ["ArchitectureClassifier", "ArchitectureEstimator", "ArchitectureModel", "ArchitectureRegressor", "TasksClassifier"]
