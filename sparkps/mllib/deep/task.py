"""The function that the workers of a deep training run: rows into memory, and a rank of the kind that the job asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sparkps.mllib.deep.devices import device_of, within_memory
from sparkps.mllib.deep.examples import ExampleReader
from sparkps.mllib.deep.job import DeepRankJob
from sparkps.mllib.deep.rank import DeepRank, DeepRankSummary
from sparkps.mllib.deep.store import ExampleStore, ingest
from sparkps.nn.partition import FSDP, PIPELINE


@dataclass(frozen=True)
class DeepTask:
    """The train function of a deep training."""

    rank_job: DeepRankJob

    def __call__(self, worker: Any, batches: Any) -> DeepRankSummary:
        rank_job, job = self.rank_job, self.rank_job.job
        if worker.clock == 0:  # a successor of a lost rank does not know its epoch yet
            worker.report(epoch=0, epochs=job.epochs)
        device = device_of(worker, job.device, rank_job.gpus)
        if job.cores:
            torch.set_num_threads(max(1, job.cores // worker.num_workers))
        reader = ExampleReader(job.columns, job.loss.label_rule, worker.rank)
        store, aside = ingest(batches.stream(), reader, rank_job.budget, rank_job.scratch)
        try:
            return within_memory(device, worker, job, lambda: self._train(worker, store, aside, device, reader.skipped))
        finally:
            store.close()
            aside.close()

    def _train(self, worker: Any, store: ExampleStore, aside: ExampleStore, device: torch.device, skipped: int) -> DeepRankSummary:
        """What a rank returns; what it has on a device is gone with it."""
        rank = rank_class(self.rank_job.job.model_parallel)(worker, self.rank_job, store, aside, device)
        try:
            rank.run()
            return rank.summary(skipped, len(aside))
        finally:
            rank.close()


def rank_class(model_parallel: str) -> type[DeepRank]:
    """The kind of rank of a way to divide a module; torch's parallelisms take long to import, so only where they are asked for."""
    if model_parallel == PIPELINE:
        from sparkps.mllib.deep.pipelined import PipelineRank

        return PipelineRank
    if model_parallel == FSDP:
        from sparkps.mllib.deep.sharded import ShardedRank

        return ShardedRank
    return DeepRank


__all__ = ["DeepTask", "rank_class"]
