"""What a model tells of its own training."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from sparkps.mllib.summaries import plots
from sparkps.mllib.summaries.base import Summary
from sparkps.mllib.summaries.history import TrainingHistory
from sparkps.mllib.summaries.overfitting import overfitting

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

log = logging.getLogger(__name__)


class TrainingSummary(Summary):
    """How a fit went, and results of the model on the rows that it was trained on."""

    def __init__(self, model: Any, dataset: DataFrame, history: TrainingHistory) -> None:
        super().__init__(model, dataset)
        self._history = history

    @property
    def objectiveHistory(self) -> list[float]:
        """Objective (loss and penalty) at the start and after each iteration; of a mini-batch solver each epoch's mean loss."""
        return self._history.objective

    @property
    def totalIterations(self) -> int:
        """Iterations of a full-batch solver, or epochs."""
        return self._history.iterations

    @property
    def reason(self) -> str:
        """Why training ended, in words."""
        return self._history.reason

    @property
    def rows(self) -> int:
        """Rows trained on."""
        return self._history.rows

    @property
    def skippedRows(self) -> int:
        """Rows left out as invalid."""
        return self._history.skipped

    @property
    def secondsHistory(self) -> list[float]:
        """Seconds from the start of training to each element of `objectiveHistory`; empty where nobody looked at the clock."""
        return self._history.seconds

    @property
    def validationRows(self) -> int:
        """Rows that were set aside for validation, which count neither as trained on nor as skipped."""
        return self._history.validation_rows

    @property
    def validationHistory(self) -> list[float]:
        """Mean loss of the rows set aside for validation, for each element of `objectiveHistory`; empty without such rows."""
        return self._history.validation

    @property
    def validationMetrics(self) -> dict[str, list[float]]:
        """By name, further metrics of these rows, for each element of `objectiveHistory`: of all rows of all workers together.

        Of two classes ``areaUnderROC``, from a histogram of margins whose bins are 1 % wide, with ``logLoss`` or, where margins mean no
        probabilities, ``accuracy``; of several classes ``logLoss`` and ``accuracy``; of a regression ``rmse`` and ``mae``.
        """
        return dict(self._history.metrics)

    @property
    def overfitting(self) -> str | None:
        """What speaks for an overfit model, in words; None where nothing does, or where there are no validation rows."""
        return overfitting_of(self._history)

    def _plots(self) -> dict[str, Any]:
        kinds: dict[str, Any] = {"loss": partial(plots.loss, history=self._history)}
        if len(self.secondsHistory) == len(self.objectiveHistory) > 0:
            kinds["seconds"] = partial(plots.loss, history=self._history, over_seconds=True)
        return {**kinds, **super()._plots()}


def overfitting_of(history: TrainingHistory) -> str | None:
    """What the loss of the rows for validation says. Their other metrics do not count: few rows make them jump."""
    return overfitting(
        history.objective, history.validation, iterations=history.iterations, unit=history.unit, remedy=history.remedy
    )


def warn_if_overfit(history: TrainingHistory, uid: str) -> None:
    """Log what speaks for an overfit model, once, when it was fitted."""
    said = overfitting_of(history)
    if said:
        log.warning("%s: %s", uid, said)


__all__ = ["TrainingSummary", "overfitting_of", "warn_if_overfit"]
