"""The driver of full-batch training: a member of the group's clock, which says where the ranks evaluate.

Several jobs on the same rows are solved one after the other: the ranks read their rows, and take statistics of them, once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sparkps.client.tables import SparseTable, pull_together
from sparkps.driver_bridge.groups.running import RunningGroup
from sparkps.mllib.data.store import parameter_keys
from sparkps.mllib.solvers.bounded_vectors import BoundedTierVectors
from sparkps.mllib.solvers.driver import Solution, SolverDriver, Times
from sparkps.mllib.solvers.fullbatch import FullBatchTask
from sparkps.mllib.solvers.job import RankJob, TrainingJob
from sparkps.mllib.solvers.measured import MetricHistory, metrics_of
from sparkps.mllib.solvers.methods import MEASURE, Way, may_be_curved, method_of, way_of
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.objective import Objective, Start, WholeObjective, is_of_residuals, parameter_rows
from sparkps.mllib.solvers.operations import Combine
from sparkps.mllib.solvers.quasi_newton import POINT, TRIAL, TRIAL_GRADIENT, Minimum, Progress, SolverStanding
from sparkps.mllib.solvers.ranks import Figures, check_weight, common_width, no_rows
from sparkps.mllib.solvers.saving import Saver
from sparkps.mllib.solvers.scaling import FACTS, STATISTICS, label_sums
from sparkps.mllib.solvers.stopping import EarlyStopping
from sparkps.mllib.solvers.vectors import HEADER, VALIDATION, TierVectors
from sparkps.mllib.tables import TrainingTables

log = logging.getLogger(__name__)

Array = NDArray[Any]

#: Pairs of vectors that the methods keep, as in pyspark.ml.
HISTORY = 10

#: The point at which rows for validation had the least loss.
BEST = "best"


class FitStanding(msgspec.Struct, frozen=True):
    """Where a full-batch training was between two iterations, besides its vectors."""

    solver: SolverStanding
    #: Loss of the rows for validation, at the start and after each iteration.
    validation: list[float]
    #: Their metrics, by name.
    metrics: dict[str, list[float]] = {}

    def encoded(self) -> bytes:
        """In bytes; numbers keep every bit."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decoded(cls, data: bytes) -> FitStanding:
        """Out of the bytes of `encoded`."""
        return msgspec.msgpack.decode(data, type=cls)


class FullBatchDriver(SolverDriver):
    """A quasi-Newton method, as a member of the group's clock: says where the ranks evaluate, and combines vectors on the tier."""

    joins = True
    takes_grids = True
    measures = True

    def task(self, rank_job: RankJob) -> FullBatchTask:
        """See `SolverDriver`."""
        return FullBatchTask(rank_job)

    def _create(self, tables: TrainingTables) -> list[SparseTable]:
        names, objective = self.names, self.job.objective

        def vector(name: str) -> SparseTable:
            first = {"init": objective.initializer, "seed": self.job.seed} if name == names.vector(TRIAL) else {}
            return tables.sparse(name, dim=objective.dim, dtype="float64", group=names.prefix, **first)

        models = [vector(names.coefficients_of(number)) for number in range(len(self.jobs))]
        for name in [names.scaled_mean, *(names.vector(name) for name in self._vectors())]:
            vector(name)
        for name, dim in ((names.statistics, STATISTICS), (names.squares, 1)):
            tables.sparse(name, dim=dim, dtype="float64", group=names.prefix)
        sizes = {
            names.facts: FACTS + objective.classes,
            names.totals: 1 + objective.outputs + VALIDATION,
            names.control: HEADER + objective.outputs,
        }
        if measures := metrics_of(self.job).size:
            sizes[names.measures] = measures
        for name, size in sizes.items():
            tables.dense(name, shape=(size,), dtype="float64")
        return models

    def _vectors(self) -> list[str]:
        names = [name for job in self.jobs for name in method_of(job).vector_names(HISTORY)]
        for name, wanted in ((BEST, lambda job: job.columns.validation), (MEASURE, may_be_curved)):
            names += [name] if any(wanted(job) for job in self.jobs) else []
        return list(dict.fromkeys(names))

    def run(self, group: RunningGroup, saver: Saver) -> tuple[list[Solution], Figures]:
        """See `SolverDriver`."""
        solutions = self._solve_all(group.solver, saver)
        return solutions, Figures.of(group.wait(), self.job.columns)

    def _solve_all(self, solver: Any, saver: Saver) -> list[Solution]:
        """The solver's part of the group's clock."""
        begun = None if saver.standing is None else FitStanding.decoded(saver.standing)
        if begun is None:
            solver.report(epoch=0, epochs=self.job.max_iter)
            for _ in range(2):
                solver.tick()
        for name in self._vectors():  # all of them now: later the coordinator may be gone, and training goes on
            solver.table(self.names.vector(name))
        solutions = []
        for number, job in enumerate(self.jobs):
            solutions.append(_Fit(job, number, solver, self.names, saver).solve(begun))
            begun = None
        return solutions


def _vectors_of(job: TrainingJob, number: int, solver: Any, names: TableNames, measures: int) -> TierVectors:
    """Those of the job's method."""
    more: dict[str, Any] = {"outputs": job.objective.outputs, "centred": job.centred, "job": number, "measures": measures}
    if job.bounds is None:
        return TierVectors(solver, names, TRIAL, TRIAL_GRADIENT, **more)
    return BoundedTierVectors(job.bounds, solver, names, TRIAL, TRIAL_GRADIENT, **more)


class _Fit:
    """One job of the training.

    Parameters
    ----------
    job : TrainingJob
    number : int
        Its place in the grid.
    solver : Worker
        The driver's member of the group.
    names : TableNames
    saver : Saver
    """

    def __init__(self, job: TrainingJob, number: int, solver: Any, names: TableNames, saver: Saver) -> None:
        self.job, self.number, self.solver, self.names, self.saver = job, number, solver, names, saver
        self.times = Times()
        self.stopping = EarlyStopping(job.early_stopping_rounds, job.validation_tol)
        metrics = metrics_of(job)
        self.metrics = MetricHistory(metrics)
        self.vectors = _vectors_of(job, number, solver, names, metrics.size)
        self.trial = solver.table(names.vector(TRIAL))

    def solve(self, begun: FitStanding | None) -> Solution:
        """From the start, or from where an earlier attempt stood, until the ranks have the solution."""
        job, keys = self.job, parameter_keys(parameter_rows(self.job.objective))
        objective, start, way = self._start()
        if begun is None:
            if self.number:
                self._clear()
            if start.solved:
                self._end(TRIAL)
                return Solution(start.intercepts, [0.0], 0, start.solved, start.scalars, [0.0])
            self.trial.assign(np.append(keys, np.arange(len(start.rows))), self._first(start))
        found = self._minimum(begun, MEASURE if way.curvature else "")
        self._end(BEST if self.stopping.best is not None else POINT)
        rows = self.trial.pull(keys)
        rows[0] -= self.vectors.shift
        # No penalty is on intercepts; bounds may be.
        chosen = job.bounds is not None
        intercepts = objective.published(rows[:1], penalised=chosen)[0] if job.fit_intercept else np.zeros(objective.outputs)
        seconds = self.times.of(len(found.history))
        losses = self.stopping.losses
        extras = {"metrics": self.metrics.values} if losses else {}
        scalars = rows[1:].reshape(-1)[: job.objective.scalars]
        return Solution(intercepts, found.history, found.iterations, found.reason, scalars, seconds, losses, extras)

    def _end(self, best: str) -> None:
        """The ranks take the vector as their solution, and have written it when this comes back."""
        self.vectors.finish(best)
        self.solver.tick()

    def _clear(self) -> None:
        """The point is 0 again after the fit before; other vectors are written before they are read."""
        self.vectors.run([Combine(TRIAL, {TRIAL: 0.0})])
        self.vectors.settle()

    def _first(self, start: Start) -> Array:
        """Where training begins: rows of the parameters without a feature, then those of features that are not left to the initializer."""
        objective = self.job.objective
        rows = np.zeros((1 + parameter_rows(objective), objective.dim))
        if self.job.fit_intercept:
            rows[0] = start.intercepts
        rows[1:].reshape(-1)[: len(start.scalars)] = start.scalars
        return np.concatenate([rows, start.rows]) if len(start.rows) else rows

    def _minimum(self, begun: FitStanding | None, measure: str) -> Minimum:
        job = self.job

        def report(progress: Progress) -> str | None:
            self.times.note()
            self.solver.report(epoch=progress.iteration, epochs=job.max_iter, loss=progress.objective)
            return self._validated()

        def keep(iteration: int, standing: Callable[[], SolverStanding]) -> None:
            # Every rank waits for the solver's tick: what is in the tables is what the solver knows of.
            if self.saver.is_due(iteration):
                self.vectors.settle()
                self.saver.save(iteration, FitStanding(standing(), self.stopping.losses, self.metrics.values).encoded())

        if begun is not None:
            for loss in begun.validation:
                self.stopping.tell(loss)
            self.metrics.values |= begun.metrics
        solver = method_of(job)(self.vectors, job.max_iter, job.tol, HISTORY, report, keep, measure, job.step_size)
        return solver.minimize(None if begun is None else begun.solver)

    def _validated(self) -> str | None:
        """Why training ends, by what rows for validation say of the point that was just accepted; None: it goes on."""
        loss = self.vectors.validation
        if loss is None:
            return None
        is_best, reason = self.stopping.tell(loss)
        self.metrics.tell(self.vectors.measures)
        if is_best:
            self.vectors.run([Combine(BEST, {POINT: 1.0})])
        return reason

    def _start(self) -> tuple[Objective, Start, Way]:
        """The objective, informed of the labels, where to begin, and which way to go.

        Raises
        ------
        InvalidInput
            The rows of all ranks together cannot be trained on.
        """
        solver, job = self.solver, self.job
        facts, counts = pull_together(solver.session, [solver.table(name) for name in (self.names.facts, self.names.ranks)])
        rows, _, widths, _ = counts.T
        sums = label_sums(facts)
        if not rows.any():
            raise no_rows(0)
        check_weight(sums.weight, job.columns.weight)
        width = common_width(widths, job.columns)
        if isinstance(job.objective, WholeObjective):
            job.objective.check_width(width, job.columns.num_features)
        objective = job.objective.informed(sums)
        way = way_of(job, objective, sums, widths)
        if job.any_steps:
            log.info("%s: solver=auto is %s %s", job.uid, method_of(job).title, way.why)
        found = objective.start(sums)
        if job.bounds is not None:  # the intercepts that solve it may be out of bounds
            job.bounds.check_features(width, job.columns.features)
            found = replace(found, intercepts=job.bounds.within(found.intercepts), solved="")
        if job.columns.offset and not is_of_residuals(objective) and np.isfinite(found.intercepts).all():
            # Labels that are equal are not what offsets leave of them.
            found = replace(found, solved="")
        return objective, found if job.fit_intercept else replace(found, intercepts=np.zeros(len(found.intercepts)), solved=""), way


__all__ = ["BEST", "HISTORY", "FitStanding", "FullBatchDriver"]
