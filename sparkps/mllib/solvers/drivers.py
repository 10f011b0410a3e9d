"""The driver's part of a training, one way for each kind of solver: its tables, what ranks run, and the end.

The driver never holds a vector of model size: it holds dot products. The coefficients stay in their table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sparkps.client.session import disconnect
from sparkps.client.tables import DenseTable, SparseTable, pull_together
from sparkps.driver_bridge.groups.checkpoints import Pace
from sparkps.driver_bridge.groups.running import RunningGroup
from sparkps.mllib.data.store import INTERCEPT_KEY
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
from sparkps.mllib.solvers.minibatch import OPTIMIZERS, MiniBatchTask, Schedule
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.objective import LabelSums, Start
from sparkps.mllib.solvers.ranks import COUNTS, Figures, check_weight, common_width, no_rows
from sparkps.mllib.solvers.saving import Saver
from sparkps.mllib.solvers.scaling import FACTS, STATISTICS
from sparkps.mllib.solvers.vectors import TierVectors
from sparkps.mllib.tables import TrainingTables

#: Pairs of vectors that L-BFGS keeps, as in pyspark.ml.
HISTORY = 10


@dataclass(frozen=True)
class Solution:
    """What a solver came to, besides the coefficients."""

    intercept: float
    #: Objective at the start and after each iteration; of a mini-batch solver the mean loss of each epoch.
    history: list[float]
    iterations: int
    #: Why it ended, in words.
    reason: str


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
        names = self.names
        model = tables.sparse(names.coefficients, dim=1, dtype="float64", group=names.prefix)
        for name in [names.scaled_mean, *(names.vector(name) for name in vector_names(HISTORY))]:
            tables.sparse(name, dim=1, dtype="float64", group=names.prefix)
        tables.sparse(names.statistics, dim=STATISTICS, dtype="float64", group=names.prefix)
        for name, size in ((names.facts, FACTS), (names.totals, 2), (names.control, 2)):
            tables.dense(name, shape=(size,), dtype="float64")
        return model

    def run(self, group: RunningGroup, saver: Saver) -> tuple[Solution, Figures]:
        """See `SolverDriver`."""
        found, intercept = self._solve(group.solver, saver)
        figures = Figures.of(group.wait(), self.job.columns)
        return Solution(intercept, found.history, found.iterations, found.reason), figures

    def _solve(self, solver: Any, saver: Saver) -> tuple[Minimum, float]:
        """The solver's part of the group's clock; the minimum, and the intercept of the raw features."""
        job, names = self.job, self.names
        begun = None if saver.standing is None else LbfgsStanding.decoded(saver.standing)
        if begun is None:
            solver.report(epoch=0, epochs=job.max_iter)
            solver.tick()
            solver.tick()
        for name in vector_names(HISTORY):  # all of them now: later the coordinator may be gone, and training goes on
            solver.table(names.vector(name))
        vectors = TierVectors(solver, names, TRIAL, TRIAL_GRADIENT, centred=job.fit_intercept)
        trial = solver.table(names.vector(TRIAL))
        if begun is None:
            start = self._start(solver)
            if start.solved:
                vectors.finish(TRIAL)
                return Minimum([0.0], 0, start.solved, 0), start.intercept
            if job.fit_intercept:
                trial.assign(np.array([INTERCEPT_KEY]), np.array([[start.intercept]]))
        found = self._minimum(solver, vectors, saver, begun)
        vectors.finish(POINT)
        if not job.fit_intercept:
            return found, 0.0
        solver.tick()
        return found, float(trial.pull(np.array([INTERCEPT_KEY]))[0, 0]) - vectors.shift

    def _minimum(self, solver: Any, vectors: TierVectors, saver: Saver, begun: LbfgsStanding | None) -> Minimum:
        job = self.job

        def report(progress: Progress) -> None:
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
        weight, _, labels, squares = (float(each) for each in facts)
        if not rows.any():
            raise no_rows(0)
        check_weight(weight, self.job.columns)
        common_width(widths, self.job.columns)
        return self.job.objective.start(LabelSums(weight, labels, squares)) if self.job.fit_intercept else Start(0.0)


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
        model = tables.sparse(names.coefficients, dim=1, optimizer=optimizer(job.step_size, job.l1, job.l2))
        self.bias = tables.dense(names.intercept, shape=(1,), optimizer=optimizer(job.step_size, 0.0, 0.0))
        self.losses = tables.dense(names.losses, shape=(max(1, job.max_iter), 2), dtype="float64")
        return model

    def run(self, group: RunningGroup, saver: Saver) -> tuple[Solution, Figures]:
        """See `SolverDriver`."""
        with saver.meanwhile(self._pace):
            results = group.wait()
        figures = Figures.of(results, self.job.columns)
        history = [float(loss / weight) for loss, weight in self.losses.pull() if weight]
        if self.job.max_iter and not history:
            check_weight(0.0, self.job.columns)
        return Solution(float(self.bias.pull()[0]), history, len(history), "maxIter was reached"), figures

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
