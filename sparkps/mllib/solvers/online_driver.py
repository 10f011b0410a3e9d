"""The driver of learning row by row: the ranks learn and push, the tier merges, the driver waits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparkps.client.session import disconnect
from sparkps.client.tables import DenseTable, SparseTable
from sparkps.driver_bridge.groups.checkpoints import Pace
from sparkps.driver_bridge.groups.running import RunningGroup
from sparkps.errors import InvalidInput
from sparkps.mllib.data.store import INTERCEPT_KEY
from sparkps.mllib.solvers import online_kernels, row_by_row, row_by_row_many
from sparkps.mllib.solvers.driver import Solution, SolverDriver
from sparkps.mllib.solvers.job import RankJob, TrainingJob
from sparkps.mllib.solvers.learning_state import state_of
from sparkps.mllib.solvers.measured import metric_values, metrics_of
from sparkps.mllib.solvers.measuring import CLOCKS, LOSSES, outcome
from sparkps.mllib.solvers.minibatch_driver import check_finite
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.online import OnlineTask, penalties_of
from sparkps.mllib.solvers.ranks import Figures, check_weight
from sparkps.mllib.solvers.saving import Saver
from sparkps.mllib.solvers.stopping import EarlyStopping
from sparkps.mllib.solvers.together import GrowingSchedule
from sparkps.mllib.tables import TrainingTables


class OnlineDriver(SolverDriver):
    """See the module."""

    joins = False
    measures = True
    kernels = (online_kernels.__name__, row_by_row.__name__, row_by_row_many.__name__)
    #: Made by `create`.
    learned: SparseTable
    model: SparseTable
    losses: DenseTable
    #: The best model on rows for validation, and sums of their metrics; None: there are none.
    best: SparseTable | None = None
    parts: SparseTable | None = None

    def __init__(self, jobs: Sequence[TrainingJob], names: TableNames) -> None:
        super().__init__(jobs, names)
        objective = self.job.objective
        self._form = state_of(objective)
        if getattr(objective, "online", None) is None:
            raise InvalidInput(
                f"solver='online' must be given a loss that has a kernel for it. Got"
                f" {type(objective).__name__}; set another `solver`.",
                param="solver",
            )

    def task(self, rank_job: RankJob) -> OnlineTask:
        """See `SolverDriver`."""
        return OnlineTask(rank_job)

    def create(self, tables: TrainingTables, num_workers: int) -> list[SparseTable]:
        """See `SolverDriver`."""
        self._workers = num_workers
        return super().create(tables, num_workers)

    def _create(self, tables: TrainingTables) -> list[SparseTable]:
        job, names = self.job, self.names
        merging = self._form.optimizer(job.step_size)
        self.learned = tables.sparse(names.learned, dim=self._form.columns, optimizer=merging, group=names.prefix)
        self.model = tables.sparse(names.coefficients, dim=self._form.outputs, group=names.prefix)
        tables.sparse(names.magnitudes, dim=self._form.scale_columns, dtype="float64")
        self.losses = tables.dense(names.losses, shape=(max(1, job.max_iter), LOSSES), dtype="float64")
        if job.columns.validation:
            self.best = tables.sparse(names.best, dim=self._form.outputs, group=names.prefix)
            if size := metrics_of(job).size:
                self.parts = tables.sparse(names.measures, dim=size, dtype="float64")
        return [self.model]

    def run(self, group: RunningGroup, saver: Saver) -> tuple[list[Solution], Figures]:
        """See `SolverDriver`."""
        with saver.meanwhile(self._pace):
            results = group.wait()
        figures = Figures.of(results, self.job.columns)
        losses = self.losses.pull()
        epochs = [row for row in losses if row[1]]
        history, seconds = [float(row[0] / row[1]) for row in epochs], [float(row[2]) for row in epochs]
        if self.job.max_iter and not history:
            check_weight(0.0, self.job.columns.weight)
        stopping = EarlyStopping(self.job.early_stopping_rounds, self.job.validation_tol)
        aside, reason, keeps = outcome(losses, len(self.ranks.pull()), stopping)
        if self.best is not None and keeps:
            self.model.call("copy", source=self.best)
        else:
            self.model.call("take_column", source=self.learned, column=0)
        intercepts = self.model.pull(np.array([INTERCEPT_KEY])).astype(np.float64)[0]
        if self._form.outputs > 1:
            check_finite(self.model, intercepts)
        extras = {"metrics": metric_values(self.job, self.parts, len(aside))} if aside else {}
        solution = Solution(intercepts, history, len(history), reason, seconds=seconds, validation=aside, extras=extras)
        return [solution], figures

    def _pace(self, clock: int, epochs: int) -> Pace | None:
        """Clocks of so many epochs: known when every rank has said its rows, and has heard those of all."""
        if clock < 1:
            return None
        try:
            rows = self.ranks.pull()[:, 0]
        finally:  # the thread asks once
            disconnect(self.ranks.address)
        most = self._form.most_rows(self.job.batch_size)
        schedule = GrowingSchedule(tuple(int(each) for each in rows), most, self._workers, self.job.seed)
        before = max(self.job.max_iter - 1, 0)
        more = (CLOCKS + sum(penalties_of(self.job))) if self.job.columns.validation else 0
        return Pace(epochs * max(1, schedule.later + more), until=schedule.steps_until(before) + more * before)


__all__ = ["OnlineDriver"]
