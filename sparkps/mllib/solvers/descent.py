"""What a worker does in gradient descent over all rows: loss and gradient of its rows, at every point that the driver asks for.

The coefficients are those of the raw features, and nothing is scaled or centred: for models whose margins are no linear function of
them. As in `fullbatch`, everything is a function of the rank's clock and of the tier's tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sparkps.client.keyset import KeySet
from sparkps.client.tables import pull_together, write_together
from sparkps.mllib.data.ingest import ingest
from sparkps.mllib.data.rows import RowReader
from sparkps.mllib.data.store import Chunk, Store
from sparkps.mllib.solvers.job import RankJob
from sparkps.mllib.solvers.objective import Objective
from sparkps.mllib.solvers.ranks import RankSummary, check_same_rows, check_weight, counts_of, weight_of
from sparkps.mllib.solvers.vectors import FIRST_EVALUATION, STOP
from sparkps.wire.messages.data import OpCode

Array = NDArray[Any]

#: Name of the vector in which the ranks leave the gradient.
GRADIENT = "gradient"

#: Elements of the table of totals: sum of losses, sum of the weights of the rows that they are of.
TOTALS = 2

#: A model of at most so many values has rows for all its features, those without a row of data included: their first values are part of
#: what pyspark.ml finds. Beyond, they have none.
MOST_UNSEEN = 1 << 20


class DrawnObjective(Objective, Protocol):
    """An objective whose coefficients do not begin at 0."""

    def first_rows(self, keys: Array, features: int) -> Array:
        """Coefficients to begin with: float64 (n, dim) of the features `keys`, int64 (n,); `features` is 0 if unknown."""


@dataclass(frozen=True)
class DescentTask:
    """The train function of gradient descent over all rows."""

    rank_job: RankJob

    def __call__(self, worker: Any, batches: Any) -> RankSummary:
        rank_job = self.rank_job
        reader = RowReader(rank_job.job.columns, worker.rank, rank_job.job.objective.label_rule)
        store = ingest(batches.stream(), reader, budget=rank_job.budget, scratch=rank_job.scratch)
        try:
            _Descent(worker, rank_job, store).run()
            return RankSummary.of(store)
        finally:
            store.close()


@dataclass
class _Descent:
    """One rank."""

    worker: Any
    rank_job: RankJob
    store: Store
    #: Coefficients and their gradient, side by side: float64 (keys, 2, dim).
    state: Array = field(init=False)
    coefficients: KeySet = field(init=False)
    gradient: KeySet = field(init=False)
    #: Sum of the weights of the rows of the last evaluation.
    sampled: float = 0.0

    def __post_init__(self) -> None:
        names, self.job = self.rank_job.names, self.rank_job.job
        objective: Any = self.job.objective
        self.objective: DrawnObjective = objective
        self.ranks, self.totals, self.control = (self.worker.table(name) for name in (names.ranks, names.totals, names.control))
        self.tables = self.worker.table(names.coefficients), self.worker.table(names.vector(GRADIENT))

    def run(self) -> None:
        """From the rank's clock to the end."""
        worker = self.worker
        own = weight_of(self.store)
        if worker.clock == 0:
            if own:  # weights that are all 0 are refused by the driver, who sees those of all ranks
                check_weight(own, self.job.columns.weight)
            self.ranks.add(counts_of(self.store, own, worker.rank, worker.num_workers))
            worker.tick()
        everyone = self.ranks.pull()
        if self.rank_job.resumes and worker.clock > 1:
            check_same_rows(everyone, self.store, own, worker.rank)
        self._register(self.job.columns.num_features or int(everyone[:, 2].max()))
        if worker.clock == 1:
            worker.tick()
        while True:
            if (worker.clock - FIRST_EVALUATION) % 2:
                worker.tick()
            elif self._evaluate():
                return

    def _register(self, features: int) -> None:
        """Makes the keys known, and their first coefficients; all ranks that hold a key write the same."""
        keys, dim = self.store.keys, self.objective.dim
        if self.worker.rank == 0 and 0 < features * dim <= MOST_UNSEEN:
            keys = np.concatenate([keys, np.setdiff1d(np.arange(features), keys)])
        self.state = np.zeros((len(keys), 2, dim))
        self.coefficients = self.tables[0].register(keys)
        self.gradient = self.coefficients.on(self.tables[1])
        if self.worker.clock == 1:
            rows = self.objective.first_rows(keys, features)
            rows[self.store.parameters] = 0.0
            write_together(self.worker.session, OpCode.ASSIGN, [(self.coefficients, rows)])

    def _evaluate(self) -> bool:
        """One clock; whether it was the last."""
        command, rows = pull_together(self.worker.session, [self.control, self.coefficients])
        if command[0] == STOP:
            return True
        self.state[:, 0], self.state[:, 1] = rows, 0.0
        at = self.store.parameters[0]
        outputs = self.objective.outputs
        bias = rows[at, :outputs] if self.job.fit_intercept else np.zeros(outputs)
        loss, derivatives = self.objective.loss_and_gradient(self._sample(), self.state, np.ascontiguousarray(bias))
        self.state[at, 1] = 0.0
        if self.job.fit_intercept:
            self.state[at, 1, :outputs] = derivatives[:outputs]
        totals = np.array([loss, self.sampled])
        what = [(self.gradient, np.ascontiguousarray(self.state[:, 1])), (self.totals, totals)]
        write_together(self.worker.session, OpCode.ADD, what)
        self.worker.tick()
        return False

    def _sample(self) -> Iterator[Chunk]:
        """The rows of this evaluation, one chunk after the other; `sampled` is then the sum of their weights."""
        self.sampled = 0.0
        draw = np.random.default_rng((self.job.seed, self.worker.rank, self.worker.clock))
        for chunk in self.store:
            if self.job.fraction >= 1.0:
                self.sampled += float(chunk.weights.sum()) if len(chunk.weights) else float(len(chunk))
                yield chunk
                continue
            weights = chunk.weights if len(chunk.weights) else np.ones(len(chunk))
            kept = np.where(draw.random(len(chunk)) < self.job.fraction, weights, 0.0)
            self.sampled += float(kept.sum())
            yield replace(chunk, weights=kept)


__all__ = ["GRADIENT", "MOST_UNSEEN", "TOTALS", "DescentTask", "DrawnObjective"]
