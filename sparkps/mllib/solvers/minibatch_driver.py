"""The driver of mini-batch training: optimizers on the tier, which the ranks push to; the driver waits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.session import disconnect
from sparkps.client.tables import DenseTable, SparseTable
from sparkps.driver_bridge.groups.checkpoints import Pace
from sparkps.driver_bridge.groups.running import RunningGroup
from sparkps.mllib.solvers.driver import Solution, SolverDriver
from sparkps.mllib.solvers.job import RankJob
from sparkps.mllib.solvers.measured import metric_values, metrics_of
from sparkps.mllib.solvers.measuring import CLOCKS, LOSSES, outcome
from sparkps.mllib.solvers.minibatch import OPTIMIZERS, MiniBatchTask, Schedule
from sparkps.mllib.solvers.ranks import Figures, check_weight, not_finite
from sparkps.mllib.solvers.saving import Saver
from sparkps.mllib.solvers.stopping import EarlyStopping
from sparkps.mllib.tables import TrainingTables

Array = NDArray[Any]


class MiniBatchDriver(SolverDriver):
    """Optimizers on the tier, which the ranks push to; the driver waits."""

    joins = False
    measures = True
    #: Made by `create`.
    model: SparseTable
    bias: DenseTable
    losses: DenseTable
    #: The best model on rows for validation, with its intercepts; None: there are no such rows.
    best: tuple[SparseTable, DenseTable] | None = None
    #: Sums of the metrics of these rows, a row for each epoch; None: there are none.
    parts: SparseTable | None = None

    def task(self, rank_job: RankJob) -> MiniBatchTask:
        """See `SolverDriver`."""
        return MiniBatchTask(rank_job)

    def _create(self, tables: TrainingTables) -> list[SparseTable]:
        job, names, optimizer = self.job, self.names, OPTIMIZERS[self.job.solver]
        objective = job.objective
        first = {"init": objective.initializer, "seed": job.seed}
        penalised = optimizer(job, job.l1, job.l2)
        self.model = tables.sparse(names.coefficients, dim=objective.dim, optimizer=penalised, group=names.prefix, **first)
        shape = (objective.outputs,)
        self.bias = tables.dense(names.intercept, shape=shape, optimizer=optimizer(job, 0.0, 0.0))
        if job.columns.validation:
            best = tables.sparse(names.best, dim=objective.dim, group=names.prefix)
            self.best = best, tables.dense(names.best_intercept, shape=shape)
            if size := metrics_of(job).size:
                self.parts = tables.sparse(names.measures, dim=size, dtype="float64")
        self._create_losses(tables)
        return [self.model]

    def _create_losses(self, tables: TrainingTables) -> None:
        self.losses = tables.dense(self.names.losses, shape=(max(1, self.job.max_iter), LOSSES), dtype="float64")

    def _history(self, losses: Array) -> tuple[list[float], list[float]]:
        """Mean loss of each epoch, and seconds until its end."""
        epochs = [row for row in losses if row[1]]
        return [float(row[0] / row[1]) for row in epochs], [float(row[2]) for row in epochs]

    def run(self, group: RunningGroup, saver: Saver) -> tuple[list[Solution], Figures]:
        """See `SolverDriver`."""
        with saver.meanwhile(self._pace):
            results = group.wait()
        figures = Figures.of(results, self.job.columns)
        losses = self.losses.pull()
        history, seconds = self._history(losses)
        if self.job.max_iter and not history:
            check_weight(0.0, self.job.columns.weight)
        aside, reason = self._take_best(losses)
        intercepts = np.asarray(self.bias.pull(), np.float64)
        check_finite(self.model, intercepts)
        extras = {"metrics": self._metrics(len(aside))} if aside else {}
        solution = Solution(intercepts, history, len(history), reason, seconds=seconds, validation=aside, extras=extras)
        return [solution], figures

    def _metrics(self, epochs: int) -> dict[str, list[float]]:
        """By name, the metrics of rows for validation after each of so many epochs."""
        return metric_values(self.job, self.parts, epochs)

    def _take_best(self, losses: Array) -> tuple[list[float], str]:
        """The model becomes the best one on rows for validation; their losses, and why training ended."""
        stopping = EarlyStopping(self.job.early_stopping_rounds, self.job.validation_tol)
        aside, reason, keeps = outcome(losses, len(self.ranks.pull()), stopping)
        if self.best is not None and keeps:
            self.model.call("copy", source=self.best[0])
            self.bias.call("copy", source=self.best[1])
        return aside, reason

    def _pace(self, clock: int, epochs: int) -> Pace | None:
        """Clocks of so many epochs: known when every rank has said its rows, and has heard those of all."""
        if clock < 1:
            return None
        try:
            rows = self.ranks.pull()[:, 0]
        finally:  # the thread asks once
            disconnect(self.ranks.address)
        clocks = Schedule(tuple(int(each) for each in rows), self.job.batch_size, self.job.seed).epoch_clocks
        clocks += CLOCKS if self.job.columns.validation else 0
        return Pace(epochs * clocks, until=(self.job.max_iter - 1) * clocks)


def check_finite(model: SparseTable, intercepts: Array) -> None:
    """Raise unless a model that was trained by steps can be used: steps that are too long lead to infinity.

    Raises
    ------
    NonFiniteValues
        A coefficient is infinite, or no number.
    """
    if not (math.isfinite(float(model.call("dot", other=model))) and np.isfinite(intercepts).all()):
        raise not_finite("Got coefficients that are not.")


__all__ = ["MiniBatchDriver", "check_finite"]
