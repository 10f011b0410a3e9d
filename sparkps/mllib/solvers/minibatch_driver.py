"""The driver of mini-batch training: optimizers on the tier, which the ranks push to; the driver waits."""

from __future__ import annotations

import numpy as np

from sparkps.client.session import disconnect
from sparkps.client.tables import DenseTable, SparseTable
from sparkps.driver_bridge.groups.checkpoints import Pace
from sparkps.driver_bridge.groups.running import RunningGroup
from sparkps.mllib.solvers.driver import Solution, SolverDriver
from sparkps.mllib.solvers.job import RankJob
from sparkps.mllib.solvers.minibatch import LOSSES, OPTIMIZERS, MiniBatchTask, Schedule
from sparkps.mllib.solvers.ranks import Figures, check_weight
from sparkps.mllib.solvers.saving import Saver
from sparkps.mllib.tables import TrainingTables


class MiniBatchDriver(SolverDriver):
    """Optimizers on the tier, which the ranks push to; the driver waits."""

    joins = False
    #: Made by `create`.
    bias: DenseTable
    losses: DenseTable

    def task(self, rank_job: RankJob) -> MiniBatchTask:
        """See `SolverDriver`."""
        return MiniBatchTask(rank_job)

    def _create(self, tables: TrainingTables) -> list[SparseTable]:
        job, names, optimizer = self.job, self.names, OPTIMIZERS[self.job.solver]
        objective = job.objective
        first = {"init": objective.initializer, "seed": job.seed}
        model = tables.sparse(
            names.coefficients, dim=objective.dim, optimizer=optimizer(job.step_size, job.l1, job.l2), **first
        )
        self.bias = tables.dense(names.intercept, shape=(objective.outputs,), optimizer=optimizer(job.step_size, 0.0, 0.0))
        self.losses = tables.dense(names.losses, shape=(max(1, job.max_iter), LOSSES), dtype="float64")
        return [model]

    def run(self, group: RunningGroup, saver: Saver) -> tuple[list[Solution], Figures]:
        """See `SolverDriver`."""
        with saver.meanwhile(self._pace):
            results = group.wait()
        figures = Figures.of(results, self.job.columns)
        epochs = [row for row in self.losses.pull() if row[1]]
        history, seconds = [float(row[0] / row[1]) for row in epochs], [float(row[2]) for row in epochs]
        if self.job.max_iter and not history:
            check_weight(0.0, self.job.columns)
        intercepts = np.asarray(self.bias.pull(), np.float64)
        return [Solution(intercepts, history, len(history), "maxIter was reached", seconds=seconds)], figures

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


__all__ = ["MiniBatchDriver"]
