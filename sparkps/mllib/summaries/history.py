"""How a training went, as figures: what the driver recorded, without the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparkps.mllib.training import Trained


@dataclass(frozen=True)
class TrainingHistory:
    """What a fit recorded of itself.

    Examples
    --------
    >>> history = TrainingHistory([0.69, 0.5, 0.4], 2, "maxIter was reached", rows=100)
    >>> history.objective[-1], history.skipped, history.validation
    (0.4, 0, [])
    """

    #: Objective (loss and penalty) at the start and after each iteration; of a mini-batch solver each epoch's mean loss.
    objective: list[float]
    #: Iterations of a full-batch solver, or epochs.
    iterations: int
    #: Why training ended, in words.
    reason: str
    #: Rows trained on, and rows left out as invalid.
    rows: int
    skipped: int = 0
    #: Seconds from the start of training to each element of `objective`; empty where nobody looked at the clock.
    seconds: list[float] = field(default_factory=list)
    #: Rows set aside for validation, and their mean loss for each element of `objective`; empty without such rows.
    validation_rows: int = 0
    validation: list[float] = field(default_factory=list)
    #: By name of the metric, as `metrics.METRICS` has it, its value on the rows for validation for each element of `objective`.
    metrics: Mapping[str, list[float]] = field(default_factory=dict)
    #: Name of the solver that trained, as users give it.
    solver: str = ""
    #: Diagonal of the inverse of the weighted Gram matrix, the intercept last, of solvers that have it: what standard errors take.
    inverse_diagonal: list[float] = field(default_factory=list)
    #: What an element of `objective` is of, in words, and what is done against learning rows by heart.
    unit: str = "iteration"
    remedy: str = "Raise `regParam`"

    @classmethod
    def of(cls, trained: Trained, solver: str = "") -> TrainingHistory:
        """That of a training. What a solver has no figure for stays empty."""
        solution, figures = trained.solution, trained.figures
        diagonal = solution.extras.get("inverse_diagonal", [])
        return cls(
            objective=list(solution.history),
            iterations=solution.iterations,
            reason=solution.reason,
            rows=figures.rows,
            skipped=figures.skipped,
            seconds=list(solution.seconds),
            validation_rows=figures.validation_rows,
            validation=list(solution.validation),
            metrics=solution.extras.get("metrics", {}),
            solver=solver,
            inverse_diagonal=[float(each) for each in diagonal],
        )


__all__ = ["TrainingHistory"]
