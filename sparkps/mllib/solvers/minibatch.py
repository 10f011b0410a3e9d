"""Mini-batch training: pull the rows of a batch, push its gradient, and let the tier's optimizer do the rest.

A rank's rows are cut into batches of at most `batch_size`, nearly equal ones. Under BSP all ranks take the same number of steps
and draw the same order of batches, so that each knows how many rows a step has over all ranks, and the gradient is the mean
over the global batch; under SSP and ASP every push is a step of its own and the mean is over the rank's batch. Everything
is a function of the rank's clock, so a rank that was lost goes on at its successor.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.grouping import Grouping
from sparkps.client.keyset import KeySet
from sparkps.client.tables import pull_together, write_together
from sparkps.mllib.data import kernels
from sparkps.mllib.data.ingest import Order, ingest
from sparkps.mllib.data.rows import RowReader
from sparkps.mllib.data.store import Chunk, Store
from sparkps.mllib.solvers.job import RankJob, TrainingJob
from sparkps.mllib.solvers.measured import metrics_of
from sparkps.mllib.solvers.measuring import CLOCKS, LOSSES, Measuring
from sparkps.mllib.solvers.objective import Objective, by_column, located
from sparkps.mllib.solvers.ranks import (
    RankSummary,
    check_same_rows,
    check_weight,
    common_width,
    counts_of,
    hear_all,
    weight_of,
)
from sparkps.optim import FTRL, SGD, Adagrad, Adam, Momentum, Optimizer
from sparkps.specs import UNBOUNDED
from sparkps.wire.messages.data import OpCode

Array = NDArray[Any]

#: What a rank keeps with each tick: sum of losses and weights of the running epoch.
_STATE = struct.Struct("<dd")

#: Server-side optimizers by the name of their solver; arguments: the job, l1, l2.
OPTIMIZERS: dict[str, Callable[[TrainingJob, float, float], Optimizer]] = {
    "sgd": lambda job, _, l2: SGD(job.step_size, l2=l2),
    "momentum": lambda job, _, l2: Momentum(job.step_size, momentum=job.momentum, l2=l2),
    "adagrad": lambda job, _, l2: Adagrad(job.step_size, l2=l2),
    "adam": lambda job, _, l2: Adam(job.step_size, l2=l2),
    "ftrl": lambda job, l1, l2: FTRL(job.step_size, l1=l1, l2=l2),
}


def tier_order(session: Any) -> Order:
    """The order of keys in which pulls and pushes of a batch's keys need no permutation (see `data.Order`)."""

    def order(keys: Array) -> tuple[Array, Array | None]:
        grouping = Grouping.of(keys, session.routing)
        return grouping.keys, grouping.places()

    return order


@dataclass(frozen=True)
class Schedule:
    """Which rows make up which step.

    Parameters
    ----------
    rows : tuple of int
        Rows of each rank that steps together with this one; of this rank alone under SSP and ASP.
    batch_size : int
        Most rows of one rank in one step.
    seed : int

    Examples
    --------
    >>> schedule = Schedule((5, 3), 2, seed=0)
    >>> schedule.steps, [schedule.span(3, b) for b in range(3)], schedule.size(0)
    (3, [(0, 1), (1, 2), (2, 3)], 2)
    """

    rows: tuple[int, ...]
    batch_size: int
    seed: int

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-max(self.rows, default=0) // self.batch_size)

    def span(self, rows: int, batch: int) -> tuple[int, int]:
        """First and last row of a batch of a rank with `rows` rows."""
        return batch * rows // self.steps, (batch + 1) * rows // self.steps

    def size(self, batch: int) -> int:
        """Rows of a batch, all ranks together."""
        return sum(last - first for first, last in (self.span(rows, batch) for rows in self.rows))

    @property
    def epoch_clocks(self) -> int:
        """Clocks of an epoch of the rank with most rows; one at least."""
        return max(1, self.steps)

    def order(self, epoch: int, *, shuffled: bool) -> Array:
        """The batches of an epoch; without `shuffled` in the order of the file, from a random one on."""
        draw = np.random.default_rng((self.seed, epoch))
        if shuffled:
            return draw.permutation(self.steps)
        return np.roll(np.arange(self.steps), -int(draw.integers(self.steps)))


@dataclass(frozen=True)
class MiniBatchTask:
    """The train function of mini-batch training."""

    rank_job: RankJob

    def __call__(self, worker: Any, batches: Any) -> RankSummary:
        rank_job = self.rank_job
        if worker.clock == 0:  # a successor of a lost rank does not know its epoch yet
            worker.report(epoch=0, epochs=rank_job.job.max_iter)
        objective = rank_job.job.objective
        reader = RowReader(rank_job.job.columns, worker.rank, objective.label_rule, fields=by_column(objective))
        store = ingest(batches.stream(), reader, tier_order(worker.session), budget=rank_job.budget, scratch=rank_job.scratch)
        try:
            MiniBatchRank(worker, rank_job, store).run()
            return RankSummary.of(store)
        finally:
            store.close()


@dataclass(frozen=True)
class StepBatch:
    """Rows of one step with their keys."""

    #: Ids are positions in `keys`.
    chunk: Chunk
    #: Their order is the tier's; registered where the batch comes again.
    keys: Array | KeySet
    #: Rows of the step over all ranks that take it together: what the gradient is the mean over.
    size: int
    #: What is minimised, on rows with these keys.
    objective: Objective


class MiniBatchRank:
    """One rank of mini-batch training."""

    def __init__(self, worker: Any, rank_job: RankJob, store: Store) -> None:
        names, self.job, self.resumes = rank_job.names, rank_job.job, rank_job.resumes
        self.worker = worker
        self.store = store
        self.table, self.bias, self.losses, self.ranks = (
            worker.table(name) for name in (names.coefficients, names.intercept, names.losses, names.ranks)
        )
        self.epochs = self.job.max_iter
        self.measuring: Measuring | None = None
        if self.job.columns.validation:
            stopping = self.job.early_stopping_rounds, self.job.validation_tol
            together, metrics = self.job.consistency.bound == 0, metrics_of(self.job)
            self.measuring = Measuring(worker, store, names, self.job.objective, stopping, metrics, together=together)
        self.staleness = self.job.consistency.bound
        room = len(store.keys)
        self.stamps, self.places, self.found = (np.zeros(room, np.int32) for _ in range(3))
        self.stamp = 0
        #: Batches' key sets, where a batch comes again and its keys are worth keeping.
        self.keysets: dict[int, KeySet] = {}
        self.keeps_keysets = self.epochs > 1 and not store.is_spilled
        #: Sum of losses and of weights in the running epoch.
        self.running = _STATE.unpack(worker.state) if worker.state else (0.0, 0.0)
        self.began = time.monotonic()
        #: The step that comes next, its batch, and its rows where they were asked for already.
        self.ahead: tuple[int, StepBatch, Callable[[], tuple[Array, Array]] | None] | None = None

    # ---- steps ---------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """From the rank's clock to the end; clock 0 counts the rows, the next one is the first step."""
        worker = self.worker
        schedule, self.mean_weight = self._count()
        steps = schedule.steps
        clocks = steps + (CLOCKS if self.measuring else 0)
        for at in range(worker.clock - 1, clocks * self.epochs):
            epoch, step = divmod(at, clocks)
            if step < steps:
                self._train(schedule, epoch * steps + step)
                if step == steps - 1:
                    self._end_epoch(epoch + 1)
            elif self.measuring and step == steps:
                self.measuring.measure(epoch, fit_intercept=self.job.fit_intercept)
            elif self.measuring and self.measuring.decide(epoch):
                return
            worker.tick(_STATE.pack(*self.running))

    def _train(self, schedule: Schedule, t: int) -> None:
        """Step t of all epochs."""
        last = schedule.steps * self.epochs
        at, batch, pulled = self.ahead or (t, self._batch(schedule, t), None)
        assert at == t, "batches are got ready in their order"
        if pulled is None:
            pulled = self._begin_pull(batch)
        self.ahead = None
        if t + 1 < last:
            following = self._batch(schedule, t + 1)
            # Without a bound on staleness, the next rows may be read before this batch's gradient is there.
            self.ahead = t + 1, following, self._begin_pull(following) if self.staleness == UNBOUNDED else None
        self._step(batch, *pulled())

    def _count(self) -> tuple[Schedule, float]:
        """The schedule, and the mean weight of a row."""
        job, worker, store = self.job, self.worker, self.store
        own = weight_of(store)
        if own:  # weights that are all 0 are refused by the driver, who sees those of all ranks
            check_weight(own, job.columns.weight)
        mine = counts_of(store, own, worker.rank, worker.num_workers)
        has_said = worker.clock > 0
        if not has_said:
            self.ranks.add(mine)
            worker.tick()
        everyone = hear_all(self.ranks) if self.staleness and job.columns.weight else self.ranks.pull()
        if has_said and self.resumes:
            check_same_rows(everyone, store, own, worker.rank)
        # Under SSP and ASP some are not there yet; the rank that comes last sees them all.
        common_width(everyone[:, 2], job.columns)
        alone = (len(store),) if self.staleness else tuple(int(rows) for rows in everyone[:, 0])
        if self.staleness and not job.columns.weight:  # then a mean weight is 1, whoever has said so yet
            everyone = mine
        weight = float(everyone[:, 1].sum())
        if weight:
            check_weight(weight, job.columns.weight)
        mean = weight / max(float(everyone[:, 0].sum()), 1.0)
        return Schedule(alone, job.batch_size, job.seed), mean

    def _batch(self, schedule: Schedule, t: int) -> StepBatch:
        epoch, step = divmod(t, schedule.steps)
        number = int(schedule.order(epoch, shuffled=not self.store.is_spilled)[step])
        chunk = self.store.rows(*schedule.span(len(self.store), number))
        self.stamp += 1
        if len(self.found) < len(chunk.ids):
            self.found = np.empty(len(chunk.ids), np.int32)
        count = kernels.distinct_ids(chunk.ids, self.stamps, self.stamp, self.found)
        held = np.sort(self.found[:count])
        local = np.empty(len(chunk.ids), np.int32)
        kernels.local_ids(chunk.ids, held, self.places, local)
        keys: Array | KeySet = self.store.keys[held]
        fields = self.store.fields
        objective = located(self.job.objective, self.store.keys[held], fields[held] if len(fields) else fields)
        if self.keeps_keysets:
            if number not in self.keysets:
                self.keysets[number] = self.table.register(keys)
            keys = self.keysets[number]
        return StepBatch(replace(chunk, ids=local), keys, schedule.size(number), objective)

    def _begin_pull(self, batch: StepBatch) -> Callable[[], tuple[Array, Array]]:
        """Ask for the rows of a batch; the function that it gives waits for them."""
        if self.staleness != UNBOUNDED:
            wanted = batch.keys if isinstance(batch.keys, KeySet) else (self.table, batch.keys)
            weights, bias = pull_together(self.worker.session, [wanted, self.bias])
            return lambda: (weights, bias)
        asked = self.table.pull_async(batch.keys), self.bias.pull_async()
        return lambda: (asked[0].result(), asked[1].result())

    def _step(self, batch: StepBatch, weights: Array, bias: Array) -> None:
        chunk = batch.chunk
        if not len(chunk):
            return
        state = np.zeros((len(weights), 2, self.job.objective.dim))
        state[:, 0] = weights
        start = np.asarray(bias, np.float64) if self.job.fit_intercept else np.zeros(len(bias))
        loss, derivatives = batch.objective.loss_and_gradient([chunk], state, start)
        # Rows that all have weight 0 are refused by the driver, who sees those of all ranks.
        scale = 1.0 / (batch.size * self.mean_weight) if self.mean_weight else 0.0
        gradient = (state[:, 1] * scale).astype(self.table.dtype)
        weight = float(chunk.weights.sum()) if len(chunk.weights) else float(len(chunk))
        self.running = self.running[0] + loss, self.running[1] + weight
        pushes: list[Any] = [(self.table, batch.keys, gradient)]
        if isinstance(batch.keys, KeySet):
            pushes = [(batch.keys, gradient)]
        if self.job.fit_intercept:
            pushes.append((self.bias, (derivatives * scale).astype(self.bias.dtype)))
        write_together(self.worker.session, OpCode.PUSH, pushes)

    def _end_epoch(self, epoch: int) -> None:
        losses = np.zeros((self.epochs, LOSSES))
        # The clock is one rank's.
        losses[epoch - 1, :3] = *self.running, time.monotonic() - self.began if self.worker.rank == 0 else 0.0
        self.losses.add_async(losses)
        loss = self.running[0] / self.running[1] if self.running[1] else None
        self.worker.report(epoch=epoch, epochs=self.epochs, loss=loss, rows=len(self.store))
        self.running = (0.0, 0.0)


__all__ = ["OPTIMIZERS", "MiniBatchRank", "MiniBatchTask", "Schedule", "StepBatch", "tier_order"]
