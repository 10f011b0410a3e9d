"""The driver's part of gradient descent over all rows, by plain steps or by those of AdamW, as pyspark.ml's factorization machines take.

The vectors are tables of one group; the steps are server functions, made in the order of pyspark.ml's arithmetic. The driver sees
norms, losses and weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparkps.client.calls import call_functions
from sparkps.client.tables import SparseTable, pull_together, write_together
from sparkps.driver_bridge.groups.running import RunningGroup
from sparkps.mllib.data.store import parameter_keys
from sparkps.mllib.solvers.descent import GRADIENT, TOTALS, DescentTask
from sparkps.mllib.solvers.driver import Solution, SolverDriver, Times
from sparkps.mllib.solvers.job import RankJob
from sparkps.mllib.solvers.ranks import Figures, check_weight, common_width, no_rows
from sparkps.mllib.solvers.saving import Saver
from sparkps.mllib.solvers.vectors import EVALUATE, STOP
from sparkps.mllib.tables import TrainingTables
from sparkps.wire.messages.data import OpCode

#: Of AdamW, as pyspark.ml has them: decay of the mean of gradients and of that of their squares, and what is added to its root.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

#: A server function with its table and arguments.
Call = tuple[SparseTable, str, dict[str, Any]]


@dataclass
class _Standing:
    """Where a descent goes on."""

    #: Steps made.
    iteration: int
    #: Mean loss and penalty before each step.
    history: list[float]
    #: Penalty at the current point.
    penalty: float

    def encoded(self) -> bytes:
        """For a checkpoint."""
        return json.dumps([self.iteration, self.history, self.penalty]).encode()

    @classmethod
    def decoded(cls, data: bytes) -> _Standing:
        """Out of a checkpoint."""
        return cls(*json.loads(data))


class DescentDriver(SolverDriver):
    """Gradient descent over all rows, as a member of the group's clock."""

    joins = True
    #: Vectors besides the coefficients.
    vectors: tuple[str, ...] = (GRADIENT, "before")

    def task(self, rank_job: RankJob) -> DescentTask:
        """See `SolverDriver`."""
        return DescentTask(rank_job)

    def _create(self, tables: TrainingTables) -> list[SparseTable]:
        names, dim = self.names, self.job.objective.dim
        model = tables.sparse(names.coefficients, dim=dim, dtype="float64", group=names.prefix)
        for vector in self.vectors:
            tables.sparse(names.vector(vector), dim=dim, dtype="float64", group=names.prefix)
        tables.dense(names.totals, shape=(TOTALS,), dtype="float64")
        tables.dense(names.control, shape=(1,), dtype="float64")
        return [model]

    def run(self, group: RunningGroup, saver: Saver) -> tuple[list[Solution], Figures]:
        """See `SolverDriver`."""
        self._join(group.solver)
        standing = self._begun(saver)
        reason = self._descend(standing, saver)
        figures = Figures.of(group.wait(), self.job.columns)
        count = self.job.objective.outputs
        intercepts = self.parameters[:count] if self.job.fit_intercept else np.zeros(count)
        history = standing.history
        iterations = max(len(history) - 1, 0)  # as pyspark.ml counts them
        return [Solution(intercepts, history, iterations, reason, seconds=self.times.of(len(history)))], figures

    def _join(self, solver: Any) -> None:
        """All tables now: later the coordinator may be gone, and training goes on."""
        self.solver, self.times = solver, Times()
        self.tables: dict[str, SparseTable] = {name: solver.table(self.names.vector(name)) for name in self.vectors}
        self.model: SparseTable = solver.table(self.names.coefficients)
        self.totals, self.control = (solver.table(name) for name in (self.names.totals, self.names.control))

    def _begun(self, saver: Saver) -> _Standing:
        """Where to begin; the group's clock is then the driver's turn."""
        if saver.standing is not None:
            return _Standing.decoded(saver.standing)
        self.solver.report(epoch=0, epochs=self.job.max_iter)
        self.solver.tick()
        rows, weights, widths, _ = self.solver.table(self.names.ranks).pull().T
        if not rows.any():
            raise no_rows(0)
        check_weight(float(weights.sum()), self.job.columns.weight)
        common_width(widths, self.job.columns)
        self.solver.tick()
        (found,) = call_functions(self.solver.session, [(self.model, "dot", {"other": self.model})])
        return _Standing(0, [], 0.5 * self.job.l2 * float(found))

    def _descend(self, standing: _Standing, saver: Saver) -> str:
        """Steps until the end, then a last look at the loss, as pyspark.ml takes it; why the end was there."""
        job, reason = self.job, "maxIter was reached"
        while True:
            loss, weight = self._evaluated()
            if weight > 0:
                standing.history.append(loss / weight + standing.penalty)
            if standing.iteration == job.max_iter:
                break
            standing.iteration += 1
            moved = not weight > 0 or self._stepped(standing, weight)
            self.times.note()
            last = standing.history[-1] if standing.history else None
            self.solver.report(epoch=standing.iteration, epochs=job.max_iter, loss=last)
            if not moved and len(standing.history) > 1:
                reason = "the coefficients moved less than tol"
                break
            if saver.is_due(standing.iteration):
                saver.save(standing.iteration, standing.encoded())
        self.parameters = self.model.pull(parameter_keys(0))[0]
        self._announce(STOP)
        return reason

    def _evaluated(self) -> tuple[float, float]:
        """Sum of losses at the current point, and of the weights of the rows that they are of."""
        self._announce(EVALUATE)
        self.solver.tick()
        loss, weight = pull_together(self.solver.session, [self.totals])[0]
        return float(loss), float(weight)

    def _stepped(self, standing: _Standing, weight: float) -> bool:
        """Make a step; whether it went further than `tol` allows."""
        *_, apart, size = call_functions(self.solver.session, list(self._step(standing.iteration, weight)))
        standing.penalty = 0.5 * self.job.l2 * float(size)
        return math.sqrt(float(apart)) >= self.job.tol * max(math.sqrt(float(size)), 1.0)

    def _announce(self, command: float) -> None:
        """Say what comes next, with sums at 0."""
        call_functions(self.solver.session, [(self.tables[GRADIENT], "fill", {"value": 0.0})])
        what = [(self.control, np.array([command])), (self.totals, np.zeros(TOTALS))]
        write_together(self.solver.session, OpCode.ASSIGN, what).result()
        self.solver.tick()

    def _step(self, iteration: int, weight: float) -> Iterator[Call]:
        """The calls of a step; the last two give the squares of how far it went and of where it came to."""
        before, gradient = self.tables["before"], self.tables[GRADIENT]
        yield before, "copy", {"source": self.model}
        yield gradient, "divide", {"divisor": weight}
        yield from self._move(iteration)
        yield before, "axpy", {"alpha": -1.0, "x": self.model}
        yield before, "dot", {"other": before}
        yield self.model, "dot", {"other": self.model}

    def _move(self, iteration: int) -> Iterator[Call]:
        """A step along the mean gradient, which gets shorter with the root of the iteration (mllib's GradientDescent)."""
        rate = self.job.step_size / math.sqrt(iteration)
        terms = {"tables": [self.model, self.tables[GRADIENT]], "coefficients": [1.0 - rate * self.job.l2, -rate]}
        yield self.model, "linear_combination", terms


class AdamWDriver(DescentDriver):
    """Steps of AdamW (Loshchilov and Hutter, ICLR 2019) with a decay that the step size does not scale, as in pyspark.ml."""

    vectors = (GRADIENT, "before", "mean", "square")

    def _move(self, iteration: int) -> Iterator[Call]:
        gradient, mean, square = (self.tables[name] for name in (GRADIENT, "mean", "square"))
        yield mean, "linear_combination", {"tables": [mean, gradient], "coefficients": [BETA1, 1.0 - BETA1]}
        yield square, "add_squares", {"x": gradient, "keep": BETA2, "weight": 1.0 - BETA2}
        yield self.model, "adaptive_step", {
            "mean": mean,
            "square": square,
            "rate": self.job.step_size,
            "first": 1.0 - _power(BETA1, iteration),
            "second": 1.0 - _power(BETA2, iteration),
            "epsilon": EPSILON,
            "decay": self.job.l2,
        }


def _power(base: float, exponent: int) -> float:
    """By multiplications one after the other: to the last bit what pyspark.ml has."""
    product = 1.0
    for _ in range(exponent):
        product *= base
    return product


__all__ = ["AdamWDriver", "DescentDriver"]
