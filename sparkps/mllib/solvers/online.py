"""Learning row by row: a rank pulls the rows of a batch, learns from one row of data after the other, and pushes what came of it.

With one worker the result does not depend on the size of batches: it is that of going through the rows one by one. Several workers
learn side by side from what all have pushed before; `optim.Consensus` merges what they push, and `together` keeps them from going
too far together, so that the result hardly depends on their number either. Everything is a function of the rank's clock and of
what the tier holds, so a rank that was lost goes on at its successor.

Penalties: each row of data, besides its own loss, has its part of the penalty l1·‖w‖₁ + ½·l2·‖w‖² on all coefficients but the
intercept. A coefficient meets the penalties of rows without its feature when it is next looked at, and those of the last rows at
the end (Langford, Li and Zhang, *Sparse online learning via truncated gradient*, JMLR 2009).

Clock 0 counts the rows and compares the scales of features; clock t + 1 is step t; where there are penalties, one or two more
bring the coefficients up to date. Where there are rows for validation, these come after each epoch, and then those of `measuring`.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.keyset import KeySet
from sparkps.client.tables import pull_together, write_together
from sparkps.mllib.data import kernels
from sparkps.mllib.data.ingest import ingest
from sparkps.mllib.data.rows import RowReader
from sparkps.mllib.data.store import INTERCEPT_KEY, Chunk, Store
from sparkps.mllib.solvers import online_kernels
from sparkps.mllib.solvers.feature_scales import TypicalScales
from sparkps.mllib.solvers.job import RankJob, TrainingJob
from sparkps.mllib.solvers.learning_state import state_of
from sparkps.mllib.solvers.measured import metrics_of
from sparkps.mllib.solvers.measuring import LOSSES, Measuring
from sparkps.mllib.solvers.minibatch import tier_order
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.objective import LabelSums, Objective, explained, is_of_residuals
from sparkps.mllib.solvers.ranks import (
    RankSummary,
    check_same_rows,
    check_weight,
    common_width,
    counts_of,
    hear_all,
    weight_of,
)
from sparkps.mllib.solvers.together import GrowingSchedule
from sparkps.wire.messages.data import OpCode

Array = NDArray[Any]

#: Where there is an L1 penalty, coefficients that no row's margin feels are 0: this part of a feature's scale and of the labels' unit.
_TRIFLE = 1e-6

#: What a rank keeps with each tick: sum of losses and weights of the running epoch.
_STATE = struct.Struct("<dd")


@dataclass(frozen=True)
class OnlineTask:
    """The train function of learning row by row."""

    rank_job: RankJob

    def __call__(self, worker: Any, batches: Any) -> RankSummary:
        rank_job = self.rank_job
        if worker.clock == 0:  # a successor of a lost rank does not know its epoch yet
            worker.report(epoch=0, epochs=rank_job.job.max_iter)
        reader = RowReader(rank_job.job.columns, worker.rank, rank_job.job.objective.label_rule)
        store = ingest(batches.stream(), reader, tier_order(worker.session), budget=rank_job.budget, scratch=rank_job.scratch)
        try:
            _Learner(worker, rank_job, store).run()
            return RankSummary.of(store)
        finally:
            store.close()


@dataclass(frozen=True)
class _Batch:
    """Rows of one step with their features, and the intercept among these."""

    #: Ids are positions in `held`.
    chunk: Chunk
    #: int32 (n,): local numbers of the features, ascending.
    held: Array
    #: Their keys; registered where the batch comes again.
    keys: Array | KeySet


class _MeasuringLearned(Measuring):
    """Measures what learners merge, which has the intercepts among the other rows."""

    def _open(self, names: TableNames) -> None:
        self._model = self._worker.table(names.learned)

    def _pulled(self) -> tuple[Array, Array]:
        keys = np.append(self._store.keys[self._held], INTERCEPT_KEY)
        rows = self._model.pull(keys)[:, : self._objective.outputs]
        return rows[:-1], rows[-1]

    def _keep(self) -> None:
        self._best.call("take_column", source=self._model, column=0)


class _Learner:
    """One rank."""

    def __init__(self, worker: Any, rank_job: RankJob, store: Store) -> None:
        names, self.job, self.resumes = rank_job.names, rank_job.job, rank_job.resumes
        self.worker, self.store = worker, store
        self.table, self.losses, self.ranks = (worker.table(name) for name in (names.learned, names.losses, names.ranks))
        self.epochs = self.job.max_iter
        #: Local number of the intercept, -1: the model has none.
        self.bias = int(store.parameters[0]) if self.job.fit_intercept else -1
        self.stamps, self.places, self.found = (np.zeros(len(store.keys), np.int32) for _ in range(3))
        self.stamp = 0
        self.longest = 1 + max((int(np.diff(chunk.indptr).max(initial=0)) for chunk in store), default=0)
        self.room = np.empty((3, self.longest), np.float32)
        self.objective = self.job.objective.informed(_sums_of(store, self.job.objective)) if len(store) else self.job.objective
        self.form = state_of(self.objective)
        self.scales = self.form.scales(store, worker.table(names.magnitudes))
        #: Of labels and margins.
        self.unit = float(getattr(self.objective, "unit", 1.0))
        self.l1, self.l2 = self.objective.penalties(self.job.l1, self.job.l2)
        self.penalised = self.l1 > 0.0 or self.l2 > 0.0
        #: Weight of all rows until now, and until each feature last met its penalties.
        self.age = 0.0
        self.ages = np.zeros(len(store.keys) if self.penalised else 0)
        #: What a rank's rows count for on the features that it has: those of ranks without a feature count by those with it. None: 1.
        self.shares: Array | None = None
        #: Key sets by span of rows, where batches come again and their keys are worth keeping.
        self.keysets: dict[tuple[int, int], KeySet] = {}
        self.keeps_keysets = self.epochs > 2 and not store.is_spilled
        self.measuring: Measuring | None = None
        if self.job.columns.validation:
            stopping = self.job.early_stopping_rounds, self.job.validation_tol
            together, metrics = self.job.consistency.bound == 0, metrics_of(self.job)
            self.measuring = _MeasuringLearned(worker, store, names, self.job.objective, stopping, metrics, together=together)
        #: Sum of losses and of weights in the running epoch.
        self.running = _STATE.unpack(worker.state) if worker.state else (0.0, 0.0)
        self.began = time.monotonic()

    # ---- steps ---------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """From the rank's clock to the end."""
        worker, schedule = self.worker, self._count()
        passed = worker.clock - 1
        for at, (what, number) in enumerate(self._clocks(schedule)):
            if at < passed:  # by a rank that was lost, whose successor this one is
                self._catch_up(schedule, what, number)
                continue
            if what == "step":
                self._step(schedule, number)
            elif what == "settle":
                self._settle()
            elif what == "trim":
                self._trim()
            elif what == "measure" and self.measuring:
                self.measuring.measure(number, fit_intercept=self.job.fit_intercept)
            elif what == "decide" and self.measuring and self.measuring.decide(number):
                return
            worker.tick(_STATE.pack(*self.running))

    def _clocks(self, schedule: GrowingSchedule) -> Iterator[tuple[str, int]]:
        """What is done in each clock from 1 on, with the number of the step or of the epoch."""
        endings = [name for name, wanted in zip(("settle", "trim"), penalties_of(self.job), strict=True) if wanted]
        for epoch in range(self.epochs):
            steps = range(schedule.steps_until(epoch), schedule.steps_until(epoch + 1))
            yield from (("step", t) for t in steps)
            if self.measuring:
                yield from ((name, epoch) for name in (*endings, "measure", "decide"))
        if not self.measuring and schedule.steps_until(self.epochs):
            yield from ((name, self.epochs) for name in endings)

    def _step(self, schedule: GrowingSchedule, t: int) -> None:
        batch = self._batch(*self._span(schedule, t))
        if len(batch.chunk):
            self._learn(batch)
        epoch = schedule.epoch_of(t)
        if schedule.steps_until(epoch + 1) == t + 1:
            self._end_epoch(epoch + 1)

    def _count(self) -> GrowingSchedule:
        """Tell the other ranks of the rows, and hear of theirs."""
        job, worker, store = self.job, self.worker, self.store
        own = weight_of(store)
        if own:  # weights that are all 0 are refused by the driver, who sees those of all ranks
            check_weight(own, job.columns.weight)
        begins_at_mean = self.bias >= 0 and is_of_residuals(job.objective)
        has_said, mine = worker.clock > 0, counts_of(store, own, worker.rank, worker.num_workers)
        if not has_said:
            if worker.num_workers > 1:
                self.scales.tell()
            if begins_at_mean and own:
                self._begin_at_mean()
            self.ranks.add(mine)
            worker.tick()
        counts_holders = self.penalised and worker.num_workers > 1 and isinstance(self.scales, TypicalScales)
        everyone = hear_all(self.ranks) if counts_holders or begins_at_mean else self.ranks.pull()
        if has_said and self.resumes:
            check_same_rows(everyone, store, own, worker.rank)
        # Under SSP and ASP some are not there yet; the rank that comes last sees them all.
        common_width(everyone[:, 2], job.columns)
        self.scales.take(shared=worker.num_workers > 1, intercept=self.bias)
        if counts_holders and isinstance(self.scales, TypicalScales):
            self.shares = worker.num_workers / self.scales.holders
        alone = job.consistency.bound
        rows = (len(store),) if alone else tuple(int(each) for each in everyone[:, 0])
        return GrowingSchedule(rows, self.form.most_rows(job.batch_size), worker.num_workers, job.seed)

    def _begin_at_mean(self) -> None:
        """A regression begins at the mean label of one rank: a way as long as from 0 to there would be what all steps are about.

        Every rank whose rows weigh something says its own, whoever else has any; the last one stays. Nobody learns before all have
        said theirs.
        """
        sums = _sums_of(self.store, self.job.objective)
        row = np.zeros((1, self.form.columns), np.float32)
        row[:, : self.form.outputs] = sums.labels / sums.weight
        self.table.assign(np.array([INTERCEPT_KEY]), row)

    def _span(self, schedule: GrowingSchedule, t: int) -> tuple[int, int]:
        return schedule.span(len(self.store), t, shuffled=not self.store.is_spilled)

    def _catch_up(self, schedule: GrowingSchedule, what: str, number: int) -> None:
        """What an earlier clock has made of the ages."""
        if self.penalised and what == "step":
            chunk = self.store.rows(*self._span(schedule, number))
            self.age = online_kernels.pass_by(chunk.indptr, chunk.ids, chunk.weights, self.ages, self.age)
        elif what == "settle":
            self.ages[:] = self.age

    def _batch(self, start: int, stop: int) -> _Batch:
        chunk = self.store.rows(start, stop)
        self.stamp += 1
        if len(self.found) < len(chunk.ids) + 1:
            self.found = np.empty(len(chunk.ids) + 1, np.int32)
        count = kernels.distinct_ids(chunk.ids, self.stamps, self.stamp, self.found)
        if self.bias >= 0:
            self.found[count] = self.bias
            count += 1
        held = np.sort(self.found[:count])
        local = np.empty(len(chunk.ids), np.int32)
        kernels.local_ids(chunk.ids, held, self.places, local)
        keys: Array | KeySet = self.store.keys[held]
        if self.keeps_keysets:
            keys = self.keysets.setdefault((start, stop), self.keysets.get((start, stop)) or self.table.register(keys))
        return _Batch(replace(chunk, ids=local), held, keys)

    def _pull(self, keys: Array | KeySet) -> Array:
        wanted = keys if isinstance(keys, KeySet) else (self.table, keys)
        return np.asarray(pull_together(self.worker.session, [wanted])[0])

    def _learn(self, batch: _Batch) -> None:
        chunk, held = batch.chunk, batch.held
        rows = self._pull(batch.keys)
        state = self.form.enter(rows, self.scales.scales[held])
        totals, ages = np.zeros(2), self._met(held) if self.penalised else self.ages
        bias = int(self.places[self.bias]) if self.bias >= 0 else -1
        labels = chunk.labels / self.unit if self.unit != 1.0 else chunk.labels
        offsets = chunk.offsets / self.unit if self.unit != 1.0 else chunk.offsets
        self._kernel(chunk)(
            chunk.indptr, chunk.ids, chunk.values, labels, chunk.weights, offsets, state, bias, self.job.step_size,
            self.l1, self.l2, ages, self.age, self.room, totals,
        )  # fmt: skip
        self.running = self.running[0] + totals[0] * self.unit * self.unit, self.running[1] + totals[1]
        waited = None
        if self.penalised:
            waited = ages - self._met(held)
            self.ages[held] = np.where(ages > self.age, ages, self.ages[held])
            self.age += totals[1]
        self._push(batch.keys, rows, state, len(chunk), waited)

    def _met(self, held: Array) -> Array:
        """When these features have met their penalties: so that what they have waited for is `_waited`."""
        return self.ages[held] if self.shares is None else self.age - self._waited(held)

    def _waited(self, held: Array) -> Array:
        """Weight of the rows whose penalties these features have not met yet."""
        waited = self.age - self.ages[held]
        return waited if self.shares is None else waited * self.shares[held]

    def _kernel(self, chunk: Chunk) -> Callable[..., None]:
        objective: Any = self.objective  # the driver has seen to it that it has the kernel
        learn: Callable[..., None] = objective.online.of(chunk.values.dtype)
        return learn

    def _push(self, keys: Array | KeySet, rows: Array, state: Array, count: int, waited: Array | None) -> None:
        """Say what has come of `rows` after learning from so many rows of data, and meeting penalties of rows of so much weight."""
        rate = self.job.step_size
        decays = None if waited is None else self.form.decays(rows, state, waited, rate, self.l1, self.l2)
        pushes = self.form.pushes(rows, state, rate, count, self.worker.num_workers, decays)
        given: list[Any] = [(keys, pushes) if isinstance(keys, KeySet) else (self.table, keys, pushes)]
        write_together(self.worker.session, OpCode.PUSH, given)

    # ---- ends ----------------------------------------------------------------------------------------------------------

    def _features(self) -> Array:
        """Local numbers of all features."""
        return np.flatnonzero(np.arange(len(self.store.keys)) != self.store.parameters[0]).astype(np.int32)

    def _settle(self) -> None:
        """The penalties of all rows on all coefficients that this rank has looked at."""
        features = self._features()
        for held in self.form.pieces(features) if len(features) else []:
            keys = self.store.keys[held]
            rows = self._pull(keys)
            state = self.form.enter(rows, self.scales.scales[held])
            if self.worker.num_workers > 1 and not self.job.consistency.bound:
                self._settle_together(keys, held, rows, state)
                continue
            waited = self._waited(held)
            self.form.penalise(state, waited, self.job.step_size, self.l1, self.l2)
            self._push(keys, rows, state, 1, waited)
        self.ages[:] = self.age

    def _settle_together(self, keys: Array, held: Array, rows: Array, state: Array) -> None:
        """As `_settle`, where all ranks do it in one clock, with the same coefficients: each takes the others' rows to be like its own, and
        says where penalties lead, not how far: what all say is a mean, and not a sum that may go past 0."""
        rate, waited = self.job.step_size, (self.age - self.ages[held]) * self.worker.num_workers
        self.form.penalise(state, waited, rate, self.l1, self.l2)
        given: list[Any] = [(self.table, keys, self.form.settled(rows, state, rate))]
        write_together(self.worker.session, OpCode.PUSH, given)

    def _trim(self) -> None:
        """What rounding, or a mean over ranks, has left of coefficients that the penalty has brought to 0, becomes 0."""
        for held in self.form.pieces(self._features()):
            keys, outputs = self.store.keys[held], self.form.outputs
            rows = self._pull(keys)
            least = _TRIFLE * self.unit * self.scales.scales[held]
            left = (rows[:, :outputs] != 0.0) & (np.abs(rows[:, :outputs]) < least[:, None])
            if left.any():
                rows[:, :outputs][left] = 0.0
                changed = left.any(axis=1)
                self.table.assign(keys[changed], rows[changed])

    def _end_epoch(self, epoch: int) -> None:
        losses = np.zeros((self.epochs, LOSSES))
        # The clock is one rank's.
        losses[epoch - 1, :3] = *self.running, time.monotonic() - self.began if self.worker.rank == 0 else 0.0
        self.losses.add_async(losses)
        loss = self.running[0] / self.running[1] if self.running[1] else None
        self.worker.report(epoch=epoch, epochs=self.epochs, loss=loss, rows=len(self.store))
        self.running = (0.0, 0.0)


def penalties_of(job: TrainingJob) -> tuple[bool, bool]:
    """Whether there are penalties, which coefficients are brought up to date with at the end, and whether what is left of those that they
    bring to 0 is taken away: not where other ranks may push meanwhile, for what they push must not be overwritten."""
    return job.l1 > 0.0 or job.l2 > 0.0, job.l1 > 0.0 and not job.consistency.bound


def _sums_of(store: Store, objective: Objective) -> LabelSums:
    """Of a rank's own labels."""
    sums = np.zeros(4)
    for chunk in store:
        weights = chunk.weights if len(chunk.weights) else np.ones(len(chunk))
        wanted = explained(objective, chunk)
        sums += [each.sum() for each in (weights, weights * wanted, weights * wanted**2, weights**2)]
    weight, labels, squares, weight_squares = (float(each) for each in sums)
    return LabelSums(max(weight, np.finfo(np.float64).tiny), labels, squares, weight_squares)


__all__ = ["OnlineTask", "penalties_of"]
