"""The driver of least squares with few features: it solves what the ranks' moments say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.tables import SparseTable, pull_together
from sparkps.driver_bridge.groups.running import RunningGroup
from sparkps.errors import InvalidInput
from sparkps.mllib.solvers.driver import Solution, SolverDriver, Times
from sparkps.mllib.solvers.job import RankJob, TrainingJob
from sparkps.mllib.solvers.least_squares import LeastSquares, weighted_least_squares
from sparkps.mllib.solvers.moments import MOST_FEATURES, Moments, packed_size
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.normal import NormalTask, moments_table
from sparkps.mllib.solvers.ranks import Figures, check_weight, common_width, no_rows
from sparkps.mllib.solvers.saving import Saver
from sparkps.mllib.tables import TrainingTables

Array = NDArray[Any]


class NormalDriver(SolverDriver):
    """Least squares in one pass over the rows, for any number of penalties; a member of the group's clock.

    Parameters
    ----------
    jobs : sequence of TrainingJob
        Their columns say how many features there are.
    names : TableNames

    Raises
    ------
    InvalidInput
        There are too many features, or nobody knows how many.
    """

    joins = True
    takes_grids = True
    kernels = ("sparkps.mllib.solvers.moments",)
    def __init__(self, jobs: Sequence[TrainingJob], names: TableNames) -> None:
        super().__init__(jobs, names)
        self.features = self.job.columns.num_features
        if not 0 < self.features <= MOST_FEATURES:
            raise InvalidInput(
                f"solver={self.job.solver!r} must know of at most {MOST_FEATURES} features how many there are. Got"
                f" {self.features or 'features of unknown number'}; set `numFeatures`, or another solver.",
                param="solver",
            )

    def task(self, rank_job: RankJob) -> NormalTask:
        """See `SolverDriver`."""
        return NormalTask(rank_job)

    def _create(self, tables: TrainingTables) -> list[SparseTable]:
        names = self.names
        tables.dense(moments_table(names), shape=(packed_size(self.features),), dtype="float64")
        places = [names.coefficients_of(number) for number in range(len(self.jobs))]
        return [tables.sparse(name, dim=1, dtype="float64", group=names.prefix) for name in places]

    def run(self, group: RunningGroup, saver: Saver) -> tuple[list[Solution], Figures]:
        """See `SolverDriver`."""
        solver = group.solver
        models = [solver.table(self.names.coefficients_of(number)) for number in range(len(self.jobs))]
        solutions = self._solve(solver, saver, models)
        return solutions, Figures.of(group.wait(), self.job.columns)

    def _solve(self, solver: Any, saver: Saver, models: list[Any]) -> list[Solution]:
        """The solver's part of the group's clock."""
        solutions, times = [], Times()
        solver.report(epoch=0, epochs=1)
        moments = self._first_moments(solver)
        for job, model in zip(self.jobs, models, strict=True):
            found = weighted_least_squares(moments, _asked(job))
            times.note()
            self._publish(model, found.coefficients)
            history, extras = list(found.history), {"inverse_diagonal": found.inverse_diagonal}
            intercepts, seconds = np.array([found.intercept]), times.of(len(history))
            solutions.append(Solution(intercepts, history, len(history) - 1, found.reason, seconds=seconds, extras=extras))
        return solutions

    def _first_moments(self, solver: Any) -> Moments:
        """Of all rows; raises where they cannot be trained on."""
        solver.tick()
        tables = [solver.table(name) for name in (moments_table(self.names), self.names.ranks)]
        packed, counts = pull_together(solver.session, tables)
        rows, weights, widths, _ = counts.T
        if not rows.any():
            raise no_rows(0)
        check_weight(float(weights.sum()), self.job.columns.weight)
        common_width(widths, self.job.columns)
        return Moments.of(packed, self.features)

    def _publish(self, model: Any, coefficients: Array) -> None:
        keys = np.flatnonzero(coefficients)
        if len(keys):
            model.assign(keys, coefficients[keys, None])


def _asked(job: TrainingJob) -> LeastSquares:
    """What the job asks for."""
    penalty = job.l1 + job.l2
    share = job.l1 / penalty if penalty else 0.0
    return LeastSquares(job.fit_intercept, penalty, share, job.standardization, max_iter=job.max_iter, tol=job.tol)


__all__ = ["NormalDriver"]
