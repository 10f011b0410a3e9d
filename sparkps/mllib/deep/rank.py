"""One rank of a deep training: rows into batches, batches through the module, gradients to the tier.

Everything is a function of the rank's clock: which rows make up a step, what the module draws, when an epoch ends. So a rank that was lost
goes on at its successor, and under BSP comes to the same bits. Clock 0 counts the rows; the next one is the first step.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparkps.errors import InvalidInput
from sparkps.mllib.deep.dense import Dense, DenseOnTier, FlatParameters
from sparkps.mllib.deep.examples import Examples
from sparkps.mllib.deep.job import DeepRankJob, unpickled
from sparkps.mllib.deep.losses import as_tensor, diverged
from sparkps.mllib.deep.measuring import DeepMeasuring
from sparkps.mllib.deep.replicas import DenseReplicas, waiting
from sparkps.mllib.deep.store import ExampleStore
from sparkps.mllib.solvers.measuring import CLOCKS, LOSSES
from sparkps.mllib.solvers.minibatch import Schedule
from sparkps.mllib.solvers.ranks import COUNTS, check_same_figures, check_weight, hear_all
from sparkps.nn.batch_norm import share_statistics
from sparkps.nn.cached import CachedRows
from sparkps.nn.features import Batch
from sparkps.nn.process_group import Collective
from sparkps.nn.step import Lookup, Step
from sparkps.nn.tables import tables_of
from sparkps.nn.tier import TierRows

Array = NDArray[Any]

#: What a rank keeps with each tick: sum of losses and weights of the running epoch, and steps of an epoch.
_STATE = struct.Struct("<ddq")

#: What a rank says of itself in place of 1 where its rows lie in a file, and are read in its order.
_SPILLED = 2.0

#: Parts of a step whose seconds are counted.
PARTS = ("prepare", "pull", "forward", "backward", "push", "sum", "tick")


@dataclass(frozen=True)
class DeepRankSummary:
    """What a rank returns."""

    rows: int
    skipped: int
    validation_rows: int
    #: Steps of this attempt, and seconds of each of `PARTS` of all of them.
    steps: int
    seconds: dict[str, float] = field(default_factory=dict)
    #: Distinct keys of all steps, and those whose rows were not pulled, where rows are kept between steps.
    looked_up: int = 0
    cached: int = 0


@dataclass(frozen=True, eq=False)
class PreparedStep:
    """A step whose rows can be asked for."""

    t: int
    rows: Examples
    batch: Batch
    lookup: Lookup
    #: Rows of the step over all ranks that take it together.
    size: int
    #: First and last row of the parts in which the batch goes through the module; empty ones where ranks are to go through it alike.
    parts: tuple[tuple[int, int], ...]


class DeepRank:
    """One rank.

    Parameters
    ----------
    worker : Worker
    rank_job : DeepRankJob
    store, aside : ExampleStore
        Rows to train on, and rows for validation.
    device : torch.device
    """

    #: What measures rows for validation.
    _measuring_by: type[DeepMeasuring] = DeepMeasuring

    def __init__(self, worker: Any, rank_job: DeepRankJob, store: ExampleStore, aside: ExampleStore, device: torch.device) -> None:
        self.worker, self.job, self.names, self.store, self.device = worker, rank_job.job, rank_job.names, store, device
        self.resumes = rank_job.resumes
        self.module = self._made()
        self.tables = tables_of(self.module)
        names = self.names
        self.dense, wait = self._dense(rank_job)
        self.wait = wait
        travelling = {
            name: worker.table(names.rows(name)).over(each.transport or self.job.transport) for name, each in self.tables.items()
        }
        self.rows = TierRows(worker.session, travelling, wait)
        self.losses, self.ranks = worker.table(names.losses), worker.table(names.ranks)
        self.together = self.job.consistency.bound == 0
        self.measuring = self._measuring_by(self, aside, rank_job) if self.job.columns.validation else None
        #: Sum of losses and of weights in the running epoch; steps of an epoch, 0: not known yet.
        losses, weights, known_steps = _STATE.unpack(worker.state) if worker.state else (0.0, 0.0, 0)
        self.running, self.known_steps = (float(losses), float(weights)), int(known_steps)
        self.began = time.monotonic()
        #: Where rows are kept between steps. As what it keeps, it is of this attempt: one that goes on from a checkpoint has its own.
        self.cache = CachedRows(self.rows, self.job.cache_bytes) if self.job.cached else None
        #: The step of `_ready`'s first; steps that come next, as far as they were got ready, and what waits for the rows of the first of
        #: them. None: the rank has no rows in that step.
        self._next = 0
        self._ready: deque[PreparedStep | None] = deque()
        self._asked: deque[Callable[[], tuple[dict[str, Array], list[Array]]]] = deque()
        #: What to keep with the tick of a step that is pushed, and not ticked yet.
        self._due: bytes | None = None
        #: Of the epoch whose order of rows is at hand.
        self._permuted: tuple[int, Array] | None = None
        self.steps, self.seconds = 0, dict.fromkeys(PARTS, 0.0)

    def _made(self) -> nn.Module:
        """What this rank computes with."""
        return unpickled(self.job.module).to(self.device)

    def _dense(self, rank_job: DeepRankJob) -> tuple[Dense, Callable[[Any], Any]]:
        """How dense parameters are kept together, and how futures are waited for then."""
        job, names, worker = self.job, self.names, self.worker

        def of(name: str) -> Any:
            return worker.table(name) if name in rank_job.has else None

        flat, tables = FlatParameters(self.module), (of(names.dense), of(names.buffers))
        if job.dense == "ps":
            return DenseOnTier(flat, tables, worker.num_workers), lambda future: future.result()
        directory = Path(rank_job.shared_directory) if rank_job.shared_directory else None
        peers = Collective(worker, self.device)
        replicas = DenseReplicas(flat, job.optimizer, peers, self.device, of(names.saved_dense), tables, directory)
        if job.sync_batch_norm:
            share_statistics(self.module, replicas.summed)
        return replicas, lambda future: waiting(worker, replicas.meet, future)

    # ---- clocks --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """From the rank's clock to the end."""
        worker, epochs = self.worker, self.job.epochs
        self.dense.start(self._first_step())
        self.schedule, self.mean_weight = self._count()
        steps, clocks = self.schedule.steps, self._epoch_clocks(self.schedule.steps)
        for at in range(worker.clock - 1, clocks * epochs):
            epoch, step = divmod(at, clocks)
            if step < steps:
                self._train(epoch * steps + step)
                if step == steps - 1:
                    self._end_epoch(epoch + 1)
                self.dense.commit(ends_epoch=step == steps - 1)
                if self.job.ahead and step < steps - 1:
                    # The rows of the next step are under way: it begins before what was pushed is acknowledged.
                    self._due = _STATE.pack(*self.running, steps)
                    continue
            elif self.measuring and step == steps:
                self.measuring.measure(epoch)
            elif self.measuring and self.measuring.decide(epoch):
                return
            self._due = _STATE.pack(*self.running, steps)
            self._tick()
        self.wait(self.losses.pull_async())  # until all have ticked: a successor may need what this rank has

    def summary(self, skipped: int, validation_rows: int) -> DeepRankSummary:
        """What this attempt came to."""
        cache = self.cache
        looked_up, cached = (cache.asked, cache.found) if cache is not None else (0, 0)
        return DeepRankSummary(len(self.store), skipped, validation_rows, self.steps, self.seconds, looked_up, cached)

    def close(self) -> None:
        """Leave what the rank has with others."""
        self.dense.close()

    def _epoch_clocks(self, steps: int) -> int:
        """Clocks of an epoch of so many steps."""
        return steps + (CLOCKS if self.measuring else 0)

    def _clock_of(self, t: int) -> int:
        """The clock of step t of all epochs."""
        epoch, step = divmod(t, self.schedule.steps)
        return 1 + epoch * self._epoch_clocks(self.schedule.steps) + step

    def _first_step(self) -> int:
        """Of all epochs, the step that this rank's clock is in or comes next: known before anything is waited for."""
        steps = self.known_steps
        if not steps:
            return 0
        epoch, step = divmod(self.worker.clock - 1, self._epoch_clocks(steps))
        return int(epoch * steps + min(step, steps))

    def _count(self) -> tuple[Schedule, float]:
        """The schedule, and the mean weight of a row."""
        job, worker, store = self.job, self.worker, self.store
        own = store.weight
        mine = np.zeros((worker.num_workers, COUNTS))
        mine[worker.rank] = len(store), own, store.labels, _SPILLED if store.is_spilled else 1.0
        has_said = worker.clock > 0
        if not has_said:
            self.ranks.add(mine)
            worker.tick()
        everyone = hear_all(self.ranks) if not self.together and job.columns.weight else self._everyone()
        if has_said and self.resumes:
            check_same_figures(everyone[worker.rank, :3], mine[worker.rank, :3], ("rows", "sum of weights", "sum of labels"), worker.rank)
        # One order of steps for all who take them together.
        self.shuffled = not (everyone[:, 3] == _SPILLED).any() if self.together else not store.is_spilled
        alone = tuple(int(rows) for rows in everyone[:, 0]) if self.together else (len(store),)
        if not self.together and not job.columns.weight:
            everyone = mine
        weight = float(everyone[:, 1].sum())
        if weight:
            check_weight(weight, job.columns.weight)
        return Schedule(alone, job.batch_size, job.seed), weight / max(float(everyone[:, 0].sum()), 1.0)

    def _everyone(self) -> Array:
        """The rows that all ranks have said."""
        found: Array = self.wait(self.ranks.pull_async())
        return found

    # ---- steps ---------------------------------------------------------------------------------------------------------

    def _train(self, t: int) -> None:
        """Step t of all epochs; meanwhile the rows of later ones are under way, as far as the staleness allows it."""
        self._next = t
        self._get_ready()
        self._ask_ahead()
        prepared, pulled = self._ready.popleft(), self._asked.popleft()
        self._next = t + 1
        with self._timed("pull"):
            rows, dense = pulled()
        self.dense.begin(t, dense)
        if prepared is None:
            self._catch_up()
            self.dense.end(0.0)
        else:
            assert prepared.t == t, "steps are got ready in their order"
            self._step(prepared, rows)
            self.steps += 1
        # While the nodes apply what was pushed.
        self._get_ready()

    def _catch_up(self) -> None:
        """Within a step: tick the one before, whose acknowledgement came while this one computed, and ask for the rows of later ones.

        These come while this one goes on, so that neither is waited for. They are as new as if they had been asked for before the step.
        """
        if self._due is not None:
            self._tick()
            self._ask_ahead()

    def _tick(self) -> None:
        state, self._due = self._due, None
        with self._timed("tick"):
            self.worker.tick(state)

    def _ask_ahead(self) -> None:
        """Have the rows of all steps under way that are ready, and at most `ahead` clocks away: an epoch may end in between."""
        while len(self._asked) < len(self._ready):
            t = self._next + len(self._asked)
            if self._clock_of(t) > self.worker.clock + self.job.ahead:
                return
            self._asked.append(self._ask(t, self._ready[len(self._asked)]))

    def _get_ready(self) -> None:
        """Have the step at hand, and those after it that may be asked for ahead, ready to be asked for."""
        last = self.schedule.steps * self.job.epochs
        while len(self._ready) <= self.job.ahead and (at := self._next + len(self._ready)) < last:
            with self._timed("prepare"):
                self._ready.append(self._prepared(at))

    def _prepared(self, t: int) -> PreparedStep | None:
        rows, size = self._taken(t)
        if rows is None:
            if not self.job.sync_batch_norm:
                return None
            rows = Examples.none(self.job.columns)
        batch = rows.inputs.batch()
        return PreparedStep(t, rows, batch, Lookup.of(self.tables.values(), batch, self.rows), size, self._parts(len(rows)))

    def _parts(self, rows: int) -> tuple[tuple[int, int], ...]:
        """Of this rank's rows of a step; in each step, and at each rank, as many, where layers add up over all ranks."""
        count = self.job.accumulation
        own = tuple(_parts(rows, count))
        if not self.job.sync_batch_norm:
            return own
        most = -(-max(self.schedule.rows) // self.schedule.steps)
        return own + ((rows, rows),) * (min(count, most) - len(own))

    def _taken(self, t: int) -> tuple[Examples | None, int]:
        """This rank's rows of a step, and how many all ranks have in it."""
        epoch, step = divmod(t, self.schedule.steps)
        number = int(self.schedule.order(epoch, shuffled=self.shuffled)[step])
        start, stop = self.schedule.span(len(self.store), number)
        return (self._examples(epoch, start, stop) if stop > start else None), self.schedule.size(number)

    def _examples(self, epoch: int, start: int, stop: int) -> Examples:
        """Rows [start, stop) of an epoch's own order; of rows in a file that order is their own."""
        if self.store.is_spilled:
            return self.store.rows(start, stop)
        if self._permuted is None or self._permuted[0] != epoch:
            draw = np.random.default_rng((self.job.seed, epoch, self.worker.rank, 1))
            self._permuted = epoch, draw.permutation(len(self.store))
        return self.store.take(self._permuted[1][start:stop])

    def _ask(self, t: int, prepared: PreparedStep | None) -> Callable[[], tuple[dict[str, Array], list[Array]]]:
        """Ask for the rows of step t, as far as they are not at hand; what it gives waits for them."""
        wanted = prepared.lookup.keys if prepared is not None else {}
        if self.cache is not None:
            oldest = self._clock_of(t) - self.job.ahead - self.job.cached
            return self.cache.ask(wanted, self.dense.wanted, self.worker.clock, oldest).take
        asked = self.rows.pull_ahead(wanted, self.dense.wanted)
        return lambda: self.rows.taken(wanted, asked)

    def _step(self, prepared: PreparedStep, rows: dict[str, Array]) -> None:
        examples = prepared.rows
        self._begin(prepared.t)
        step = Step(self.module, prepared.lookup, rows, self.rows, self.device)
        with step:
            losses = [self._part(prepared.batch, examples, *span) for span in prepared.parts]
        # Only now: a GPU computes a part while the next one is made ready, and its rows are copied.
        loss = sum(float(each) for each in losses)
        self._count_in(loss, examples.weight)
        scale = self._scale(prepared.size)
        with self._timed("push"):
            gradients = {name: (keys, grads * np.float32(scale)) for name, (keys, grads) in step.gradients().items()}
            self.rows.push(gradients, self.dense.pushes(scale))
        with self._timed("sum"):
            self.dense.end(scale)

    def _begin(self, t: int) -> None:
        """Let the module draw what it draws in this step, and have no gradient."""
        torch.manual_seed(hash((self.job.seed, t, self.worker.rank)) % (1 << 63))
        self.module.train()
        for each in self.module.parameters():
            each.grad = None

    def _part(self, batch: Batch, examples: Examples, start: int, stop: int) -> torch.Tensor:
        """Forward and backward of some rows of a batch; the sum of their losses."""
        whole = (start, stop) == (0, len(examples))
        with self._timed("forward"):
            output = self._output((batch if whole else batch.rows(start, stop)).to(self.device))
            loss = self._lost(output, examples, start, stop)
        self._catch_up()
        # Layers that add up over all ranks as they come back do so in this thread, also on a GPU: it alone can meet the others.
        with self._timed("backward"), torch.autograd.set_multithreading_enabled(not self.job.sync_batch_norm):
            if loss.requires_grad:
                loss.backward()
        return loss.detach()

    def _lost(self, output: torch.Tensor, examples: Examples, start: int, stop: int) -> torch.Tensor:
        """The sum of the losses of some rows."""
        if start == stop:  # a loss need not know of no rows
            return output.float().sum() * 0.0
        rows = self.job.loss.of_rows(output, as_tensor(examples.labels[start:stop], self.device))
        if len(examples.weights):
            rows = rows * torch.from_numpy(examples.weights[start:stop]).to(rows)
        return rows.sum()

    def _output(self, batch: Batch) -> Any:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.job.amp):
            found = self.module(batch)
        if not isinstance(found, Tensor):
            raise InvalidInput(f"A module must give a tensor, (rows,) or (rows, outputs). Got {type(found).__name__}.")
        return found

    def _scale(self, size: int) -> float:
        """What a sum over the rows of a step is multiplied by, to be their mean."""
        # Rows that all have weight 0 are refused by the driver, who sees those of all ranks.
        return 1.0 / (size * self.mean_weight) if self.mean_weight else 0.0

    def _count_in(self, loss: float, weight: float) -> None:
        """The step's sum of losses counts in the epoch's, if it is a number."""
        if not np.isfinite(loss):
            where = f"a loss of {loss} at clock {self.worker.clock} of rank {self.worker.rank}"
            raise diverged(where, rank=self.worker.rank)
        self.running = self.running[0] + loss, self.running[1] + weight

    def _end_epoch(self, epoch: int) -> None:
        losses = np.zeros((max(1, self.job.epochs), LOSSES))
        # The clock is one rank's.
        losses[epoch - 1, :3] = *self.running, time.monotonic() - self.began if self.worker.rank == 0 else 0.0
        self.losses.add_async(losses)
        loss = self.running[0] / self.running[1] if self.running[1] else None
        self.worker.report(epoch=epoch, epochs=self.job.epochs, loss=loss, rows=len(self.store))
        self.running = (0.0, 0.0)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - began


def _parts(rows: int, count: int) -> Iterator[tuple[int, int]]:
    """First and last row of each of at most `count` parts, none of them empty."""
    count = min(count, rows)
    for part in range(count):
        yield part * rows // count, (part + 1) * rows // count


__all__ = ["PARTS", "DeepRank", "DeepRankSummary", "PreparedStep"]
