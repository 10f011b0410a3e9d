"""Rows for validation of a deep training: measured after each epoch by all ranks, and the best model kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sparkps.mllib.deep.examples import Examples
from sparkps.mllib.deep.job import DeepJob, DeepRankJob
from sparkps.mllib.deep.losses import as_tensor
from sparkps.mllib.deep.store import ExampleStore
from sparkps.mllib.metrics import MetricSet
from sparkps.mllib.solvers.measuring import Deciding
from sparkps.nn.step import Step

if TYPE_CHECKING:
    from sparkps.mllib.deep.rank import DeepRank

#: Rows that go through the module at once.
ROWS_AT_ONCE = 8192


def metrics_of(job: DeepJob) -> MetricSet:
    """Metrics that rows for validation have besides their loss; none where there are no such rows."""
    if not job.columns.validation:
        return MetricSet(())
    return MetricSet.named(job.loss.metrics) if job.metrics is None else MetricSet(job.metrics)


class DeepMeasuring(Deciding):
    """One rank's part.

    Parameters
    ----------
    rank : DeepRank
        Whose module is measured.
    aside : ExampleStore
        Its rows for validation.
    rank_job : DeepRankJob
    """

    def __init__(self, rank: DeepRank, aside: ExampleStore, rank_job: DeepRankJob) -> None:
        job, names, worker = rank_job.job, rank_job.names, rank.worker
        stopping = job.early_stopping_rounds, job.validation_tol
        super().__init__(worker, worker.table(names.losses), stopping, together=rank.together)
        self._rank, self._aside, self._loss = rank, aside, job.loss
        self._at_once = job.batch_size if job.loss.within_batch else ROWS_AT_ONCE
        self._metrics = metrics_of(job)
        self._measures = worker.table(names.measures) if self._metrics.size else None
        pairs = [(names.best_rows(name), names.rows(name)) for name in rank.tables]
        self._dense = tuple(worker.table(name) if name in rank_job.has else None for name in (names.dense, names.buffers))
        divided = [(names.best_dense_part(each), names.dense_part(each)) for each in range(worker.num_workers)]
        vectors = (names.best_dense, names.dense), (names.best_buffers, names.buffers), *divided
        pairs += [(best, name) for best, name in vectors if name in rank_job.has]
        #: Tables of the best model, each with the one that is trained.
        self._kept = [(worker.table(best), worker.table(name)) for best, name in pairs]

    def _keep(self) -> None:
        for best, trained in self._kept:
            best.call("copy", source=trained)

    def _known(self) -> Any:
        return self._rank.wait(self._losses.pull_async())

    def _load(self) -> None:
        """Have the module as it is on the tier at this clock: at the end of an epoch all of it is there."""
        there = [each for each in self._dense if each is not None]
        _, found = self._rank.rows.pull_with({}, there)
        values = dict(zip((id(each) for each in there), found, strict=True))
        flat, (dense, buffers) = self._rank.dense.flat, self._dense
        if dense is not None:
            flat.load(values[id(dense)].reshape(-1))
        if buffers is not None:
            flat.load_buffers(values[id(buffers)].reshape(-1))

    def measure(self, epoch: int) -> None:
        """Add what the model, as it is at this clock, loses on the rank's rows."""
        total, parts = 0.0, np.zeros(self._metrics.size)
        if len(self._aside):
            self._load()
            self._rank.module.eval()
            for rows in self._portions():
                loss, more = self._measured(rows)
                total, parts = total + loss, parts + more
            if self._measures is not None:
                self._measures.add(np.array([epoch]), parts[None, :])
        self._tell(epoch, total, self._aside.weight if len(self._aside) else 0.0)

    def _portions(self) -> Iterator[Examples]:
        """The rank's rows, as many as go through the module at once."""
        for chunk in self._aside:
            for start in range(0, len(chunk), self._at_once):
                yield chunk.take(np.arange(start, min(start + self._at_once, len(chunk))))

    def _measured(self, rows: Examples) -> tuple[float, Any]:
        """Sum of losses, and parts of the metrics."""
        rank, batch = self._rank, rows.inputs.batch()
        with torch.no_grad(), Step.of(rank.module, batch, rank.rows, rank.device):
            output = rank._output(batch.to(rank.device))
        return self._summed(output, rows)

    def _summed(self, output: Tensor, rows: Examples) -> tuple[float, Any]:
        """Sum of the losses of rows by their outputs, and parts of the metrics."""
        losses = self._loss.of_rows(output, as_tensor(rows.labels, output.device)).double().cpu().numpy()
        weights = rows.weights if len(rows.weights) else np.ones(len(rows))
        if not self._metrics.size:
            return float(losses @ weights), np.zeros(0)
        return float(losses @ weights), self._metrics.parts(self._loss.margins(output), rows.labels[:, 0], rows.weights)


__all__ = ["ROWS_AT_ONCE", "DeepMeasuring", "metrics_of"]
