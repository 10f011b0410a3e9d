"""Learning row by row within a batch, and mixing what the workers came to: for updates that are no gradients.

In each step every rank goes through the rows of its batch one after the other, from the coefficients that all share, and what its
coefficients moved by is divided by the number of ranks and added: iterative parameter mixing (McDonald, Hall and Mann, NAACL 2010), a step
being a batch. With one worker it is the algorithm as it stands in books, with the rows of a batch in their order.

Averages are over all steps, and over all rows within a step: with d what a step moves the coefficients by, and a the mean over its rows of
what they had moved by after each row, the average over T steps is the sum of (d·(T - 1 - t) + a) / T over steps t. So no step touches the
coefficients of features that it does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sparkps.client.keyset import KeySet
from sparkps.client.tables import SparseTable, write_together
from sparkps.driver_bridge.groups.running import RunningGroup
from sparkps.mllib.data.ingest import ingest
from sparkps.mllib.data.rows import RowReader
from sparkps.mllib.data.store import Chunk, Store
from sparkps.mllib.solvers.driver import Solution
from sparkps.mllib.solvers.job import RankJob
from sparkps.mllib.solvers.minibatch import MiniBatchRank, Schedule, StepBatch, tier_order
from sparkps.mllib.solvers.minibatch_driver import MiniBatchDriver
from sparkps.mllib.solvers.objective import Objective
from sparkps.mllib.solvers.ranks import Figures, RankSummary
from sparkps.mllib.solvers.saving import Saver
from sparkps.mllib.tables import TrainingTables
from sparkps.wire.messages.data import OpCode

Array = NDArray[Any]

#: Name of the coefficients that ranks learn on, where the model has their average.
CURRENT = "current"


class Swept(Objective, Protocol):
    """An objective of one coefficient a feature that learns row by row."""

    @property
    def averaged(self) -> bool:
        """Whether the model is the average of the coefficients over the training."""

    def sweep(self, chunk: Chunk, weights: Array, bias: float, *, fit_intercept: bool) -> tuple[Array, Array, float]:
        """Go through rows one after the other.

        Parameters
        ----------
        chunk : Chunk
        weights : ndarray of shape (keys,), float64
            To begin with; it may be written to.
        bias : float
        fit_intercept : bool

        Returns
        -------
        moved : ndarray of shape (keys + 1,), float64
            What the coefficients, and then the bias, moved by.
        mean : ndarray of shape (keys + 1,), float64
            The mean over the rows of what they had moved by after each.
        loss : float
            Sum over the rows.
        """


@dataclass(frozen=True)
class MixingTask:
    """The train function of parameter mixing."""

    rank_job: RankJob

    def __call__(self, worker: Any, batches: Any) -> RankSummary:
        rank_job = self.rank_job
        if worker.clock == 0:  # a successor of a lost rank does not know its epoch yet
            worker.report(epoch=0, epochs=rank_job.job.max_iter)
        reader = RowReader(rank_job.job.columns, worker.rank, rank_job.job.objective.label_rule)
        store = ingest(batches.stream(), reader, tier_order(worker.session), budget=rank_job.budget, scratch=rank_job.scratch)
        try:
            _Mixing(worker, rank_job, store).run()
            return RankSummary.of(store)
        finally:
            store.close()


class _Mixing(MiniBatchRank):
    """One rank."""

    def __init__(self, worker: Any, rank_job: RankJob, store: Store) -> None:
        super().__init__(worker, rank_job, store)
        objective: Any = self.job.objective
        self.objective: Swept = objective
        self.average: SparseTable = self.table
        if self.objective.averaged:
            self.table = worker.table(rank_job.names.vector(CURRENT))

    def _count(self) -> tuple[Schedule, float]:
        self.schedule, mean = super()._count()
        return self.schedule, mean

    def _train(self, schedule: Schedule, t: int) -> None:
        self.t = t
        super()._train(schedule, t)

    def _sharing(self, batch: int) -> int:
        """Ranks that have rows in the step; under SSP and ASP all of them count."""
        if self.staleness:
            return int(self.worker.num_workers)
        spans = (self.schedule.span(rows, batch) for rows in self.schedule.rows)
        return max(1, sum(last > first for first, last in spans))

    def _step(self, batch: StepBatch, weights: Array, bias: Array) -> None:
        chunk = batch.chunk
        if not len(chunk):
            return
        step, steps = self.t, self.schedule.steps * self.epochs
        number = int(self.schedule.order(step // self.schedule.steps, shuffled=not self.store.is_spilled)[step % self.schedule.steps])
        fit = self.job.fit_intercept
        moved, mean, loss = self.objective.sweep(chunk, np.array(weights[:, 0]), float(bias[0]), fit_intercept=fit)
        share = 1.0 / self._sharing(number)
        averaged = share * (moved * (steps - 1 - step) + mean) / steps
        moved = share * moved
        weight = float(chunk.weights.sum()) if len(chunk.weights) else float(len(chunk))
        self.running = self.running[0] + loss, self.running[1] + weight
        adds = [self._to(self.table, batch.keys, moved[:-1]), (self.bias, np.array([moved[-1], averaged[-1]]))]
        if self.objective.averaged:
            adds.append(self._to(self.average, batch.keys, averaged[:-1]))
        write_together(self.worker.session, OpCode.ADD, adds)

    @staticmethod
    def _to(table: SparseTable, keys: Array | KeySet, values: Array) -> tuple[Any, ...]:
        rows = np.ascontiguousarray(values[:, None])
        return (keys.on(table), rows) if isinstance(keys, KeySet) else (table, keys, rows)


class MixingDriver(MiniBatchDriver):
    """The driver waits, as for mini-batches."""

    measures = False

    def task(self, rank_job: RankJob) -> Any:
        """See `SolverDriver`."""
        return MixingTask(rank_job)

    def _create(self, tables: TrainingTables) -> list[SparseTable]:
        names = self.names
        self.model = tables.sparse(names.coefficients, dim=1, dtype="float64", group=names.prefix)
        if self._averaged:
            tables.sparse(names.vector(CURRENT), dim=1, dtype="float64", group=names.prefix)
        # The bias, and its average.
        self.bias = tables.dense(names.intercept, shape=(2,), dtype="float64")
        self._create_losses(tables)
        return [self.model]

    @property
    def _averaged(self) -> bool:
        objective: Any = self.job.objective
        return bool(objective.averaged)

    def run(self, group: RunningGroup, saver: Saver) -> tuple[list[Solution], Figures]:
        """See `SolverDriver`."""
        (found,), figures = super().run(group, saver)
        chosen = found.intercepts[1:] if self._averaged else found.intercepts[:1]
        return [Solution(chosen, found.history, found.iterations, found.reason, seconds=found.seconds)], figures


__all__ = ["CURRENT", "MixingDriver", "MixingTask", "Swept"]
