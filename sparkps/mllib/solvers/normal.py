"""What a worker does for the normal equations: it gathers the second moments of its rows.

Everything is a function of the rank's clock and of the tier's tables, so a rank that was lost goes on at its successor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.tables import write_together
from sparkps.mllib.data.ingest import ingest
from sparkps.mllib.data.rows import RowReader
from sparkps.mllib.data.store import Chunk, Store
from sparkps.mllib.solvers.job import RankJob
from sparkps.mllib.solvers.moments import moments_of
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.ranks import RankSummary, check_same_rows, check_weight, counts_of, weight_of
from sparkps.wire.messages.data import OpCode

Array = NDArray[Any]

def moments_table(names: TableNames) -> str:
    """Name of the table of packed moments."""
    return names.vector("moments")


@dataclass(frozen=True)
class NormalTask:
    """The train function of least squares: all is said at the first clock."""

    rank_job: RankJob

    def __call__(self, worker: Any, batches: Any) -> RankSummary:
        rank_job = self.rank_job
        reader = RowReader(rank_job.job.columns, worker.rank, rank_job.job.objective.label_rule)
        store = ingest(batches.stream(), reader, budget=rank_job.budget, scratch=rank_job.scratch)
        try:
            self.gathering(worker, store).run()
            return RankSummary.of(store)
        finally:
            store.close()

    def gathering(self, worker: Any, store: Store) -> Gathering:
        """What the rank does with its rows."""
        return Gathering(worker, self.rank_job, store)


@dataclass
class Gathering:
    """One rank that gathers moments."""

    worker: Any
    rank_job: RankJob
    store: Store
    #: int64 (keys,): column of each key; that of the intercept is never asked for.
    places: Array = field(init=False)

    def __post_init__(self) -> None:
        names = self.rank_job.names
        self.features = self.rank_job.job.columns.num_features
        self.places = np.maximum(self.store.keys, 0)
        self.moments, self.ranks = (self.worker.table(name) for name in (moments_table(names), names.ranks))

    def run(self) -> None:
        """From the rank's clock to the end."""
        worker = self.worker
        if self.rank_job.resumes and worker.clock > 0:
            check_same_rows(self.ranks.pull(), self.store, weight_of(self.store), worker.rank)
        if worker.clock == 0:
            self._gather_first()

    def responses(self, chunk: Chunk) -> tuple[Array, Array]:
        """Labels and weights of the first moments, float64 (n,) each; an empty array of weights says that all are 1."""
        return chunk.labels - chunk.offsets if len(chunk.offsets) else chunk.labels, chunk.weights

    def gathered(self, responses: Callable[[Chunk], tuple[Array, Array]]) -> Array:
        """Packed moments of all rows, with labels and weights as `responses` gives them."""
        return moments_of(((chunk, *responses(chunk)) for chunk in self.store), self.places, self.features)

    def _gather_first(self) -> None:
        weight = weight_of(self.store)
        if not math.isfinite(weight):
            check_weight(math.inf, self.rank_job.job.columns.weight)
        counts = counts_of(self.store, weight, self.worker.rank, self.worker.num_workers)
        what = [(self.moments, self.gathered(self.responses)), (self.ranks, counts)]
        write_together(self.worker.session, OpCode.ADD, what)
        self.worker.tick()


__all__ = ["Gathering", "NormalTask", "moments_table"]
