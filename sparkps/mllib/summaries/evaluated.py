"""What models with summaries have: that of their training, and one of any rows with labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sparkps.driver_bridge.input.scan import quoted
from sparkps.mllib.summaries.base import Summary
from sparkps.mllib.summaries.history import TrainingHistory
from sparkps.mllib.summaries.training import TrainingSummary, warn_if_overfit

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class EvaluatedModel:
    """A mixin of models.

    A model names the classes of its summaries; one that has several kinds, by the number of its classes, overrides `_summary_classes`.
    """

    #: Class of what `evaluate` gives, and class of `summary`.
    _evaluation: ClassVar[Any] = Summary
    _training: ClassVar[Any] = TrainingSummary

    _summary: TrainingSummary | None = None
    uid: str

    def _summary_classes(self) -> tuple[Any, Any]:
        return self._evaluation, self._training

    def _set_summary(self, dataset: DataFrame, history: TrainingHistory) -> None:
        """Keep how training on `dataset` went: the last step of a fit, when the model has its Params."""
        _, training = self._summary_classes()
        self._summary = training.of(self, _trained_on(self, dataset), history)
        warn_if_overfit(history, self.uid)

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

    def evaluate(self, dataset: DataFrame) -> Any:
        """Results of the model on rows with labels.

        Parameters
        ----------
        dataset : DataFrame

        Raises
        ------
        TypeError
            It is none.
        """
        from pyspark.sql import DataFrame

        if not isinstance(dataset, DataFrame):
            raise TypeError(f"dataset must be a DataFrame but got {type(dataset)}.")
        evaluation, _ = self._summary_classes()
        return evaluation.of(self, dataset)


def _trained_on(model: Any, dataset: DataFrame) -> DataFrame:
    """Without the rows that were set aside for validation."""
    from pyspark.sql import functions as sf

    name = "validationIndicatorCol"
    if not model.hasParam(name) or not model.isDefined(name) or not model.getOrDefault(name):
        return dataset
    return dataset.where(~sf.col(quoted(model.getOrDefault(name))))  # where it is null, the row is wrong


__all__ = ["EvaluatedModel"]
