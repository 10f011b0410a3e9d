"""How a training went, as models tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from sparkps.mllib.training import Trained


@dataclass(frozen=True)
class TrainingSummary:
    """How a fit went."""

    #: Objective (loss and penalty) at the start and after each iteration; of a mini-batch solver each epoch's mean loss.
    objectiveHistory: list[float]
    #: Iterations of L-BFGS, or epochs.
    totalIterations: int
    #: Why training ended, in words.
    reason: str
    #: Rows trained on, and rows left out as invalid.
    rows: int
    skippedRows: int
    #: Seconds from the beginning of the training to each element of `objectiveHistory`.
    secondsHistory: list[float]
    #: Mean loss of the rows that `validationIndicatorCol` sets aside, for each element of `objectiveHistory`; empty: there are none.
    validationHistory: list[float]

    @classmethod
    def _of(cls, trained: Trained) -> Self:
        solution, figures = trained.solution, trained.figures
        return cls(
            solution.history,
            solution.iterations,
            solution.reason,
            figures.rows,
            figures.skipped,
            solution.seconds,
            solution.validation,
        )


__all__ = ["TrainingSummary"]
