"""A solver's vectors on the tier, evaluated by the workers of a group.

The vectors are float64 tables of one table group. Workers and solver share one logical clock: at odd
clocks from 3 on the workers evaluate, at even ones the solver works, and the control table says what comes next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sparkps.client.calls import call_functions
from sparkps.client.tables import DenseTable, SparseTable, pull_together, write_together
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.operations import (
    ANSWERED,
    ColumnAxpy,
    ColumnDots,
    Combine,
    Elementwise,
    Extreme,
    Gram,
    Operation,
    WeightedNorm,
)
from sparkps.wire.messages.data import OpCode

#: What the control table says: evaluate at the trial point, or it is over.
EVALUATE, STOP = 1.0, 2.0

#: Elements of the control table before the shifts: what to do, and which job it is for.
HEADER = 2

#: Elements of the table of totals after the derivatives: of rows for validation, sum of losses and of weights.
VALIDATION = 2

#: The clock at which the workers evaluate for the first time; before it they gather statistics.
FIRST_EVALUATION = 3


class SolverRank(Protocol):
    """What the driver's member of a worker group offers (see `driver_bridge.worker.Worker`)."""

    @property
    def session(self) -> Any:
        """The session that is under the group's clock."""

    def table(self, name: str) -> Any:
        """A table under the group's clock."""

    def tick(self) -> None:
        """The clock is done."""


class TierVectors:
    """Vectors on the tier, evaluated by the workers of a group; for the solver's thread.

    Features are centred without touching the rows: with m the vector of mean / standard deviation, all margins of an output are
    moved by -m·x, which the solver sends along, and its gradient by -R·m, with R the derivative by its intercept.

    Parameters
    ----------
    solver : SolverRank
    names : TableNames
    trial, gradient : str
        Names of the vectors in which workers find the point and leave its gradient.
    outputs : int
    centred : bool
        Whether features are centred.
    job : int
        Place of the job in the grid of those that are trained on the same rows.
    measures : int
        Length of the metrics of rows for validation; 0: there are none.
    """

    def __init__(
        self, solver: SolverRank, names: TableNames, trial: str, gradient: str, *, outputs: int = 1, centred: bool, job: int = 0,
        measures: int = 0,
    ) -> None:  # fmt: skip
        self._solver = solver
        self._names = names
        self._trial, self._gradient = trial, gradient
        self._centred = centred
        self._totals: DenseTable = solver.table(names.totals)
        self._control: DenseTable = solver.table(names.control)
        self._measures: DenseTable | None = solver.table(names.measures) if measures else None
        #: Operations without a result, sent with the next ones that have one.
        self._waiting: list[Operation] = []
        self._handles: dict[str, SparseTable] = {}
        #: m·x at the last trial point, of each output.
        self.shift = np.zeros(outputs)
        #: Mean loss of the rows for validation at the last trial point; None: there are none.
        self.validation: float | None = None
        #: Sums of their metrics at the last trial point, float64 (measures,).
        self.measures = np.zeros(measures)
        self._job = job

    def evaluate(self) -> float:
        """See `Vectors`: two clocks of the group."""
        self._announce(EVALUATE)
        self._solver.tick()
        totals, *measures = pull_together(self._solver.session, [self._totals, *([self._measures] if self._measures else [])])
        objective, *derivatives, loss, weight = totals.tolist()
        if measures:
            self.measures = measures[0]
        self.validation = loss / weight if weight else None
        if self._centred:
            self._waiting.append(ColumnAxpy(self._gradient, tuple(-each for each in derivatives), "m"))
        return float(objective)

    def run(self, operations: Sequence[Operation]) -> list[NDArray[Any]]:
        """See `Vectors`; operations without a result are put off and share a later request."""
        self._waiting += operations
        if not any(isinstance(operation, ANSWERED) for operation in operations):
            return []
        asked, self._waiting = self._waiting, []
        results = call_functions(self._solver.session, [self._call(operation) for operation in asked])
        return [result for operation, result in zip(asked, results, strict=True) if isinstance(operation, ANSWERED)]

    def settle(self) -> None:
        """Have all that was put off carried out, so that the vectors are what the solver takes them for."""
        asked, self._waiting = self._waiting, []
        if asked:
            call_functions(self._solver.session, [self._call(operation) for operation in asked])

    def finish(self, best: str) -> None:
        """Tell the workers that the solution is in vector `best`."""
        self._waiting.append(Combine(self._trial, {best: 1.0}))
        self._announce(STOP)

    def _announce(self, command: float) -> None:
        """Say what comes next; the workers see it, and the point, when the clock closes."""
        clear = Combine(self._gradient, {self._gradient: 0.0})
        if self._centred:
            (self.shift,) = self.run([clear, ColumnDots(self._trial, "m")])
        else:
            self.run([clear, Gram((self._trial,), (self._trial,))])
        what = [(self._control, np.array([command, self._job, *self.shift])), (self._totals, np.zeros(1 + len(self.shift) + VALIDATION))]
        if self._measures:
            what.append((self._measures, np.zeros(len(self.measures))))
        write_together(self._solver.session, OpCode.ASSIGN, what).result()
        self._solver.tick()

    def _table(self, name: str) -> SparseTable:
        if name not in self._handles:
            self._handles[name] = self._solver.table(self._names.vector(name))
        return self._handles[name]

    def _call(self, operation: Operation) -> tuple[SparseTable, str, dict[str, Any]]:
        match operation:
            case Gram():
                return self._gram(operation)
            case ColumnDots(left, right):
                return self._table(left), "column_dots", {"other": self._table(right)}
            case WeightedNorm(vector, weights):
                return self._table(vector), "weighted_norm1", {"weights": self._table(weights)}
            case Extreme(vector, which):
                return self._table(vector), which, {}
            case ColumnAxpy(target, alphas, source):
                return self._table(target), "column_axpy", {"x": self._table(source), "alphas": list(alphas)}
            case Elementwise(function, target, vectors, numbers):
                return self._table(target), function, {**{each: self._table(name) for each, name in vectors.items()}, **numbers}
            case Combine(target, terms) if any(terms.values()):
                tables = [self._table(name) for name in terms]
                return self._table(target), "linear_combination", {"tables": tables, "coefficients": list(terms.values())}
            case Combine(target):
                return self._table(target), "fill", {"value": 0.0}

    def _gram(self, operation: Gram) -> tuple[SparseTable, str, dict[str, Any]]:
        left, right = ([self._table(name) for name in names] for names in (operation.left, operation.right))
        given: dict[str, Any] = {"left": left, "right": right}
        if not operation.weights:
            return left[0], "gram", given
        return left[0], "weighted_gram", {**given, "weights": self._table(operation.weights)}


__all__ = ["EVALUATE", "FIRST_EVALUATION", "HEADER", "STOP", "VALIDATION", "SolverRank", "TierVectors"]
