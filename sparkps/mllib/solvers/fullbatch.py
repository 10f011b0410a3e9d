"""What a worker does in full-batch training: statistics of its columns, then loss and gradient at every point it is told.

Training happens in scaled coordinates (see `scaling`). The penalty of a coefficient is shared out over the workers that
hold the feature, so that the tier only ever adds.

Everything is a function of the rank's clock and of the tier's tables, so a rank that was lost goes on at its successor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.keyset import KeySet
from sparkps.client.tables import pull_together, write_together
from sparkps.mllib.data import kernels
from sparkps.mllib.data.ingest import ingest
from sparkps.mllib.data.rows import RowReader
from sparkps.mllib.data.store import Store
from sparkps.mllib.solvers.bounds import unbounded
from sparkps.mllib.solvers.job import RankJob
from sparkps.mllib.solvers.lbfgsb import LOWER, UNBOUNDED, UPPER
from sparkps.mllib.solvers.measured import metrics_of, parts_of
from sparkps.mllib.solvers.methods import MEASURE, may_be_curved, method_of, way_of
from sparkps.mllib.solvers.objective import WholeObjective, explained, parameter_rows
from sparkps.mllib.solvers.owlqn import WEIGHTS
from sparkps.mllib.solvers.quasi_newton import TRIAL, TRIAL_GRADIENT
from sparkps.mllib.solvers.ranks import RankSummary, check_same_rows, check_weight, counts_of, weight_of
from sparkps.mllib.solvers.scaling import FACTS, STATISTICS, Scaling, l1_weights, label_sums, scaling, unscaled
from sparkps.mllib.solvers.vectors import FIRST_EVALUATION, STOP
from sparkps.wire.messages.data import OpCode

Array = NDArray[Any]


@dataclass(frozen=True)
class FullBatchTask:
    """The train function of full-batch training."""

    rank_job: RankJob

    def __call__(self, worker: Any, batches: Any) -> RankSummary:
        rank_job = self.rank_job
        reader = RowReader(rank_job.job.columns, worker.rank, rank_job.job.objective.label_rule)
        # Keys stay in order of appearance: frequent ones come early, so their coefficients lie close together.
        objective = rank_job.job.objective
        parameters = parameter_rows(objective)
        store = ingest(batches.stream(), reader, budget=rank_job.budget, scratch=rank_job.scratch, scalars=parameters)
        try:
            if worker.rank == 0 and isinstance(objective, WholeObjective):
                store.add_features(objective.features)
            _FullBatch(worker, rank_job, store).run()
            return RankSummary.of(store)
        finally:
            store.close()


@dataclass
class _FullBatch:
    """One rank of full-batch training."""

    worker: Any
    rank_job: RankJob
    store: Store
    #: (keys, 2, dim): coefficients of the raw features and their gradient, side by side.
    state: Array = field(init=False)

    def __post_init__(self) -> None:
        names, self.job = self.rank_job.names, self.rank_job.job
        #: Place in the grid of the job that `objective` and `scaling` are of; -1: of none yet.
        self.number = -1
        self.state = np.zeros((len(self.store.keys), 2, self.job.objective.dim))
        statistics = self.worker.table(names.statistics)
        self.statistics: KeySet = statistics.register(self.store.keys)
        self.squares = self._keys_of(names.squares)
        #: See `_sums`; None: not looked at yet.
        self.sums: list[Array] | None = None
        self.trial = self._keys_of(names.vector(TRIAL))
        self.gradient = self._keys_of(names.vector(TRIAL_GRADIENT))
        self.ranks, self.facts, self.totals, self.control = (
            self.worker.table(name) for name in (names.ranks, names.facts, names.totals, names.control)
        )
        #: Metrics of rows for validation, and the table that adds them up where there are any.
        self.metrics = metrics_of(self.job)
        self.measures = self.worker.table(names.measures) if self.metrics.size else None
        #: Vectors that the solver only reads: what ranks know of each feature. Looked up now, as the models, for what comes later: the
        #: coordinator may be gone then, and training goes on.
        given = [name for job in self.rank_job.jobs for name in (*method_of(job).given, *([MEASURE] if may_be_curved(job) else []))]
        self.given = {name: self._keys_of(names.vector(name)) for name in given}
        self.means = self._keys_of(names.scaled_mean)
        self.models = [self._keys_of(names.coefficients_of(number)) for number in range(len(self.rank_job.jobs))]

    def _keys_of(self, table: str) -> KeySet:
        return self.statistics.on(self.worker.table(table))

    # ---- statistics ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """From the rank's clock to the end."""
        worker = self.worker
        if self.rank_job.resumes and worker.clock > 0:
            check_same_rows(self.ranks.pull(), self.store, weight_of(self.store), worker.rank)
        if worker.clock == 0:
            self._push_sums()
        if worker.clock == 1:
            self._push_squares()
        self.spread = self.squares.pull()[:, 0]
        self._take_up(0)
        if worker.clock == 2:
            self._give()
            worker.tick()
        while True:
            if (worker.clock - FIRST_EVALUATION) % 2:
                worker.tick()
            elif self._evaluate():
                return

    def _push_sums(self) -> None:
        rows = np.zeros((len(self.store.keys), STATISTICS))
        sums = np.zeros((len(self.store.keys), 2))
        classes = self.job.objective.classes
        facts = np.zeros(FACTS + classes)
        for chunk in self.store:
            kernels.column_sums.of(chunk.values.dtype)(chunk.indptr, chunk.ids, chunk.values, chunk.weights, sums)
            weights = chunk.weights if len(chunk.weights) else np.ones(len(chunk))
            labels = explained(self.job.objective, chunk)
            # Summed alike, so that equal labels give equal sums to the last bit: a loss asks whether all are 0, or 1.
            facts[:FACTS] += [each.sum() for each in (weights, weights**2, weights * labels, weights * labels**2)]
            if classes:
                facts[FACTS:] += np.bincount(labels.astype(np.int64), weights, classes)
        if not np.isfinite(facts[:2]).all():
            check_weight(math.inf, self.job.columns.weight)
        rows[:, :2], rows[:, 2] = sums, 1.0
        counts = counts_of(self.store, facts[0], self.worker.rank, self.worker.num_workers)
        what = [(self.statistics, rows), (self.facts, facts), (self.ranks, counts)]
        write_together(self.worker.session, OpCode.ADD, what)
        self.worker.tick()

    def _push_squares(self) -> None:
        statistics, facts, _ = self._sums()
        means = np.ascontiguousarray(statistics[:, 0] / max(facts[0], np.finfo(float).tiny))
        squares = np.zeros(len(means))
        for chunk in self.store:
            kernels.centred_squares.of(chunk.values.dtype)(
                chunk.indptr, chunk.ids, chunk.values, chunk.weights, means, squares
            )
        self.squares.add(squares[:, None])
        self.worker.tick()

    def _sums(self) -> list[Array]:
        """Of all rows, which no clock changes after the first: by feature, of labels and weights, and what ranks have read."""
        if self.sums is None:
            self.sums = pull_together(self.worker.session, [self.statistics, self.facts, self.ranks])
        return self.sums

    def _take_up(self, number: int) -> None:
        """What all rows together say of features and labels, for a job of the grid: objective, weight, scaling."""
        if number == self.number:
            return
        self.number, self.job = number, self.rank_job.jobs[number]
        statistics, facts, ranks = self._sums()
        self.weight, job = max(float(facts[0]), np.finfo(float).tiny), self.job
        sums = label_sums(facts)
        self.objective = job.objective.informed(sums) if sums.weight > 0 else job.objective
        _, l2 = self.objective.penalties(job.l1, job.l2)
        self.way = way_of(job, self.objective, sums, ranks[:, 2])
        self.scaling = self._scaling(statistics, facts[1], l2)

    def _scaling(self, statistics: Array, weight_squares: float, l2: float) -> Scaling:
        job, parameters = self.job, self.store.parameters
        if job.unscaled:
            return unscaled(statistics, parameters, l2=l2)
        return scaling(
            statistics, self.spread, self.weight, weight_squares, parameters,
            l2=l2, standardization=job.standardization, curvature=self.way.curvature,
        )  # fmt: skip

    def _give(self) -> None:
        """Write the vectors that the job's solver only reads; all ranks that hold a feature write the same."""
        job, parameters, dim = self.job, self.store.parameters, self.objective.dim
        rows: list[tuple[KeySet, Array]] = []
        if job.fit_intercept:
            rows.append((self.means, np.repeat(self.scaling.scaled_mean[:, None], dim, axis=1)))
        if WEIGHTS in method_of(job).given:
            l1, _ = self.objective.penalties(job.l1, job.l2)
            weights = l1_weights(self.scaling.inverse, parameters, l1=l1, standardization=job.standardization)
            rows.append((self.given[WEIGHTS], np.repeat(weights[:, None], dim, axis=1)))
        if self.way.curvature:
            rows.append((self.given[MEASURE], np.repeat(self.scaling.by_deviation[:, None] ** 2, dim, axis=1)))
        if job.bounds is not None:
            lower, upper = job.bounds.rows(self.store.keys, self.scaling.inverse, parameters, dim, job.columns.features)
            each = {LOWER: lower, UPPER: upper, UNBOUNDED: unbounded(lower, upper)}
            rows += [(self.given[name], bounds) for name, bounds in each.items()]
        if rows:
            write_together(self.worker.session, OpCode.ASSIGN, rows)

    # ---- evaluation ----------------------------------------------------------------------------------------------------

    def _evaluate(self) -> bool:
        """One clock; whether it was the last."""
        (command, number, *shift), trial = pull_together(self.worker.session, [self.control, self.trial])
        self._take_up(int(number))
        point = np.ascontiguousarray(trial)
        kernels.enter(point, self.scaling.inverse, self.state)
        if command == STOP:
            self._publish(np.array(shift))
            is_last = self.number == len(self.models) - 1
            if not is_last:
                self._take_up(self.number + 1)
                self._give()
                self.worker.tick()
            return is_last
        bias = self._bias(point, np.array(shift))
        aside, measures = self._validate(bias)
        loss, derivatives = self.objective.loss_and_gradient(self.store, self.state, bias)
        self._take_derivatives(derivatives)
        gradient = np.empty_like(point)
        penalty = kernels.leave(point, self.scaling.inverse, self.scaling.penalty, 1.0 / self.weight, self.state, gradient)
        totals = np.array([loss / self.weight + penalty, *derivatives[: self.objective.outputs] / self.weight, *aside])
        write_together(self.worker.session, OpCode.ADD, [(self.gradient, gradient), (self.totals, totals), *measures])
        self.worker.tick()
        return False

    def _validate(self, bias: Array) -> tuple[tuple[float, float], list[tuple[Any, Array]]]:
        """Of rows that are not trained on: sums of losses and of weights; and what to add to the table of their metrics."""
        aside = self.store.validation
        if aside is None or not len(aside):
            return (0.0, 0.0), []
        loss, _ = self.objective.loss_and_gradient(aside, self.state, bias)
        self.state[:, 1] = 0.0  # their gradient is of no interest
        if self.measures is None:
            return (loss, weight_of(aside)), []
        parts = parts_of(self.metrics, self.objective, aside, np.ascontiguousarray(self.state[:, 0]), bias)
        return (loss, weight_of(aside)), [(self.measures, parts)]

    def _bias(self, point: Array, shift: Array) -> Array:
        """Intercepts of the centred features, and further parameters: (outputs + scalars,)."""
        at, further = self.store.parameters[0], self.store.parameters[1:]
        intercepts = point[at] - shift if self.job.fit_intercept else np.zeros(self.objective.outputs)
        return np.append(intercepts, point[further].reshape(-1)[: self.objective.scalars])

    def _take_derivatives(self, derivatives: Array) -> None:
        """Those by intercepts and further parameters, into their rows of the gradient."""
        at, further = self.store.parameters[0], self.store.parameters[1:]
        outputs = self.objective.outputs
        self.state[at, 1] = derivatives[:outputs] if self.job.fit_intercept else 0.0
        rows = np.zeros((len(further), self.objective.dim))
        rows.reshape(-1)[: self.objective.scalars] = derivatives[outputs:]
        self.state[further, 1] = rows

    def _publish(self, shift: Array) -> None:
        """The solution, in coefficients of the raw features, into the model's table."""
        self.state[self.store.parameters[0], 0] -= shift
        rows = np.ascontiguousarray(self.state[:, 0])
        self.models[self.number].assign(self.objective.published(rows, penalised=self.job.chosen))


__all__ = ["FullBatchTask"]
