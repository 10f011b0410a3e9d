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
from sparkps.mllib.solvers.measuring import LOSSES
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.online import OnlineTask
from sparkps.mllib.solvers.ranks import Figures, check_weight
from sparkps.mllib.solvers.saving import Saver
from sparkps.mllib.solvers.together import GrowingSchedule
from sparkps.mllib.tables import TrainingTables


class OnlineDriver(SolverDriver):
    """See the module."""

    joins = False
    kernels = (online_kernels.__name__, row_by_row.__name__, row_by_row_many.__name__)
    #: Made by `create`.
    learned: SparseTable
    model: SparseTable
    losses: DenseTable

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
        if self.job.columns.validation:
            raise InvalidInput(
                f"`validationIndicatorCol` must not be set with solver='online', which measures no rows for validation. Got"
                f" {self.job.columns.validation!r}; set another `solver`.",
                param="validationIndicatorCol",
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
        return [self.model]

    def run(self, group: RunningGroup, saver: Saver) -> tuple[list[Solution], Figures]:
        """See `SolverDriver`."""
        with saver.meanwhile(self._pace):
            results = group.wait()
        figures = Figures.of(results, self.job.columns)
        epochs = [row for row in self.losses.pull() if row[1]]
        history, seconds = [float(row[0] / row[1]) for row in epochs], [float(row[2]) for row in epochs]
        if self.job.max_iter and not history:
            check_weight(0.0, self.job.columns)
        self.model.call("take_column", source=self.learned, column=0)
        intercepts = self.model.pull(np.array([INTERCEPT_KEY])).astype(np.float64)[0]
        return [Solution(intercepts, history, len(history), "maxIter was reached", seconds=seconds)], figures

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
        return Pace(epochs * max(1, schedule.later), until=schedule.steps_until(max(self.job.max_iter - 1, 0)))


__all__ = ["OnlineDriver"]
