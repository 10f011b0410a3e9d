"""The driver's part of a training, one way for each kind of solver: its tables, what ranks run, and the end.

The driver never holds a vector of model size: it holds dot products. The coefficients stay in their table.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sparkps.client.session import disconnect
from sparkps.client.tables import DenseTable, SparseTable, pull_together
from sparkps.driver_bridge.groups.checkpoints import Pace
from sparkps.driver_bridge.groups.running import RunningGroup
from sparkps.mllib.data.store import parameter_keys
from sparkps.mllib.solvers.fullbatch import FullBatchTask
from sparkps.mllib.solvers.job import RankJob, TrainingJob
from sparkps.mllib.solvers.lbfgs import (
    POINT,
    TRIAL,
    TRIAL_GRADIENT,
    Lbfgs,
    LbfgsStanding,
    Minimum,
    Progress,
    vector_names,
)
from sparkps.mllib.solvers.minibatch import LOSSES, OPTIMIZERS, MiniBatchTask, Schedule
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.objective import Start
from sparkps.mllib.solvers.ranks import COUNTS, Figures, check_weight, common_width, no_rows
from sparkps.mllib.solvers.saving import Saver
from sparkps.mllib.solvers.scaling import FACTS, STATISTICS, label_sums
from sparkps.mllib.solvers.vectors import TierVectors
from sparkps.mllib.tables import TrainingTables

Array = NDArray[Any]

#: Pairs of vectors that L-BFGS keeps, as in pyspark.ml.
HISTORY = 10


@dataclass(frozen=True)
class Solution:
    """What a solver came to, besides the coefficients."""

    #: float64 (outputs,).
    intercepts: Array
    #: Objective at the start and after each iteration; of a mini-batch solver the mean loss of each epoch.
    history: list[float]
    iterations: int
    #: Why it ended, in words.
    reason: str
    #: float64 (scalars,): further parameters of the objective that belong to no feature.
    scalars: Array = field(default_factory=lambda: np.empty(0))
    #: Seconds since the training began, for each element of `history`; 0 for what an earlier attempt did.
    seconds: list[float] = field(default_factory=list)

    @property
    def intercept(self) -> float:
        """The only intercept."""
        (only,) = self.intercepts
        return float(only)


class Times:
    """When iterations ended, in seconds since this was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._seconds: list[float] = []

    def note(self) -> None:
        """One more has ended."""
        self._seconds.append(time.monotonic() - self._began)

    def of(self, count: int) -> list[float]:
        """The last `count`; 0 for those that nobody has noted."""
        noted = self._seconds[-count:] if count else []
        return [0.0] * (count - len(noted)) + noted


class SolverDriver(ABC):
    """What the driver does for a kind of solver, in the order of its methods.

    Parameters
    ----------
    job : TrainingJob
    names : TableNames
    """

    #: Whether the driver is a member of the group's clock.
    joins: ClassVar[bool]
    #: What each rank has read. Made by `create`.
    ranks: DenseTable

    def __init__(self, job: TrainingJob, names: TableNames) -> None:
        self.job = job
        self.names = names

    @abstractmethod
    def task(self, rank_job: RankJob) -> Any:
        """The ranks' function."""

    def create(self, tables: TrainingTables, num_workers: int) -> SparseTable:
        """Make the tables; returns that of the coefficients."""
        self.ranks = tables.dense(self.names.ranks, shape=(num_workers, COUNTS), dtype="float64")
        return self._create(tables)

    @abstractmethod
    def _create(self, tables: TrainingTables) -> SparseTable:
        """The tables that solvers of this kind have besides."""

    @abstractmethod
    def run(self, group: RunningGroup, saver: Saver) -> tuple[Solution, Figures]:
        """From the group's start to its end; a group that goes on from a checkpoint begins where `saver` says."""


class FullBatchDriver(SolverDriver):
    """L-BFGS, as a member of the group's clock: says where the ranks evaluate, and combines vectors on the tier."""

    joins = True

    def task(self, rank_job: RankJob) -> FullBatchTask:
        """See `SolverDriver`."""
        return FullBatchTask(rank_job)

    def _create(self, tables: TrainingTables) -> SparseTable:
        names, objective = self.names, self.job.objective
        model = tables.sparse(names.coefficients, dim=objective.dim, dtype="float64", group=names.prefix)
        for name in [names.scaled_mean, *(names.vector(name) for name in vector_names(HISTORY))]:
            first = {"init": objective.initializer, "seed": self.job.seed} if name == names.vector(TRIAL) else {}
            tables.sparse(name, dim=objective.dim, dtype="float64", group=names.prefix, **first)
        tables.sparse(names.statistics, dim=STATISTICS, dtype="float64", group=names.prefix)
        size_of_sums = 1 + objective.outputs
        for name, size in ((names.facts, FACTS + objective.classes), (names.totals, size_of_sums), (names.control, size_of_sums)):
            tables.dense(name, shape=(size,), dtype="float64")
        return model

    def run(self, group: RunningGroup, saver: Saver) -> tuple[Solution, Figures]:
        """See `SolverDriver`."""
        times = Times()
        found, intercepts, scalars = self._solve(group.solver, saver, times)
        figures = Figures.of(group.wait(), self.job.columns)
        seconds = times.of(len(found.history))
        return Solution(intercepts, found.history, found.iterations, found.reason, scalars, seconds), figures

    def _solve(self, solver: Any, saver: Saver, times: Times) -> tuple[Minimum, Array, Array]:
        """The solver's part of the group's clock; the minimum, the intercepts of the raw features, and further parameters."""
        job, names = self.job, self.names
        begun = None if saver.standing is None else LbfgsStanding.decoded(saver.standing)
        if begun is None:
            solver.report(epoch=0, epochs=job.max_iter)
            solver.tick()
            solver.tick()
        for name in vector_names(HISTORY):  # all of them now: later the coordinator may be gone, and training goes on
            solver.table(names.vector(name))
        objective = job.objective
        vectors = TierVectors(solver, names, TRIAL, TRIAL_GRADIENT, outputs=objective.outputs, centred=job.fit_intercept)
        trial, keys = solver.table(names.vector(TRIAL)), parameter_keys(objective.scalars)
        if begun is None:
            start = self._start(solver)
            if start.solved:
                vectors.finish(TRIAL)
                return Minimum([0.0], 0, start.solved, 0), start.intercepts, start.scalars
            trial.assign(keys, self._first(start))
        found = self._minimum(solver, vectors, saver, begun, times)
        vectors.finish(POINT)
        solver.tick()
        rows = trial.pull(keys)
        rows[0] -= vectors.shift
        # No penalty is on intercepts.
        intercepts = objective.published(rows[:1], penalised=False)[0] if job.fit_intercept else np.zeros(objective.outputs)
        return found, intercepts, rows[1:, 0]

    def _first(self, start: Start) -> Array:
        """Rows of the parameters without a feature, where training begins: (1 + scalars, dim)."""
        rows = np.zeros((1 + len(start.scalars), self.job.objective.dim))
        if self.job.fit_intercept:
            rows[0] = start.intercepts
        rows[1:, 0] = start.scalars
        return rows

    def _minimum(
        self, solver: Any, vectors: TierVectors, saver: Saver, begun: LbfgsStanding | None, times: Times
    ) -> Minimum:
        job = self.job

        def report(progress: Progress) -> None:
            times.note()
            solver.report(epoch=progress.iteration, epochs=job.max_iter, loss=progress.objective)

        def keep(iteration: int, standing: Callable[[], LbfgsStanding]) -> None:
            # Every rank waits for the solver's tick: what is in the tables is what the solver knows of.
            if saver.is_due(iteration):
                vectors.settle()
                saver.save(iteration, standing().encoded())

        return Lbfgs(vectors, job.max_iter, job.tol, HISTORY, report, keep).minimize(begun)

    def _start(self, solver: Any) -> Start:
        """Where to begin; raises where the rows of all ranks together cannot be trained on."""
        facts, counts = pull_together(solver.session, [solver.table(name) for name in (self.names.facts, self.names.ranks)])
        rows, _, widths = counts.T
        sums = label_sums(facts)
        if not rows.any():
            raise no_rows(0)
        check_weight(sums.weight, self.job.columns)
        common_width(widths, self.job.columns)
        found = self.job.objective.informed(sums).start(sums)
        return found if self.job.fit_intercept else replace(found, intercepts=np.zeros(len(found.intercepts)), solved="")


class MiniBatchDriver(SolverDriver):
    """Optimizers on the tier, which the ranks push to; the driver waits."""

    joins = False
    #: Made by `create`.
    bias: DenseTable
    losses: DenseTable

    def task(self, rank_job: RankJob) -> MiniBatchTask:
        """See `SolverDriver`."""
        return MiniBatchTask(rank_job)

    def _create(self, tables: TrainingTables) -> SparseTable:
        job, names, optimizer = self.job, self.names, OPTIMIZERS[self.job.solver]
        objective = job.objective
        first = {"init": objective.initializer, "seed": job.seed}
        model = tables.sparse(
            names.coefficients, dim=objective.dim, optimizer=optimizer(job.step_size, job.l1, job.l2), **first
        )
        self.bias = tables.dense(names.intercept, shape=(objective.outputs,), optimizer=optimizer(job.step_size, 0.0, 0.0))
        self.losses = tables.dense(names.losses, shape=(max(1, job.max_iter), LOSSES), dtype="float64")
        return model

    def run(self, group: RunningGroup, saver: Saver) -> tuple[Solution, Figures]:
        """See `SolverDriver`."""
        with saver.meanwhile(self._pace):
            results = group.wait()
        figures = Figures.of(results, self.job.columns)
        epochs = [row for row in self.losses.pull() if row[1]]
        history, seconds = [float(row[0] / row[1]) for row in epochs], [float(row[2]) for row in epochs]
        if self.job.max_iter and not history:
            check_weight(0.0, self.job.columns)
        intercepts = np.asarray(self.bias.pull(), np.float64)
        return Solution(intercepts, history, len(history), "maxIter was reached", seconds=seconds), figures

    def _pace(self, clock: int, epochs: int) -> Pace | None:
        """Clocks of so many epochs: known when every rank has said its rows, and has heard those of all."""
        if clock < 1:
            return None
        try:
            rows = self.ranks.pull()[:, 0]
        finally:  # the thread asks once
            disconnect(self.ranks.address)
        clocks = Schedule(tuple(int(each) for each in rows), self.job.batch_size, self.job.seed).epoch_clocks
        return Pace(epochs * clocks, until=(self.job.max_iter - 1) * clocks)


#: By name of the solver.
DRIVERS: dict[str, type[SolverDriver]] = {"lbfgs": FullBatchDriver, **dict.fromkeys(OPTIMIZERS, MiniBatchDriver)}

__all__ = ["DRIVERS", "HISTORY", "FullBatchDriver", "MiniBatchDriver", "Solution", "SolverDriver"]
