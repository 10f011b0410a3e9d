"""A rank that has its rows of every parameter: ZeRO stage 3 (Rajbhandari et al., SC 2020) as torch's `fully_shard` has it.

Each rank takes its own rows through the module. The parameters of a layer are gathered from all ranks when they are needed, and their
gradients are summed into the shard of each rank. All ranks run through the module equally often, those without rows on none.
"""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from sparkps.mllib.deep.dense import DenseOnTier, FlatParameters, FlatShard
from sparkps.mllib.deep.examples import Examples
from sparkps.mllib.deep.job import unpickled
from sparkps.mllib.deep.joint import JointRank, Reader, TakenStep
from sparkps.nn.features import Batch
from sparkps.nn.step import Lookup, Step


class ShardedRank(JointRank):
    """One rank."""

    def _made(self) -> nn.Module:
        return unpickled(self.job.module)  # without values; with its shards when there is a group

    def _flat(self) -> FlatParameters:
        return FlatParameters.of([])

    def _formed(self) -> None:
        """Shards are those of a group: make them anew. Their values come from the tier with the next step."""
        assert isinstance(self.dense, DenseOnTier), "shards are on the tier"
        self.module = sharded(unpickled(self.job.module), self.device)
        self.dense.flat = FlatShard(self.module)

    @property
    def _ranks_in_mean(self) -> int:
        return int(self.worker.num_workers)

    def take(self, t: int, reader: Reader) -> TakenStep:
        """See `JointRank`."""
        assert isinstance(self.module, FSDPModule), "the group is formed"
        rows, size = self._taken(t)
        examples = rows if rows is not None else Examples.none(self.job.columns)
        count, parts, loss = len(examples), self.job.accumulation, 0.0
        batch, step = self._looked_up(examples, t, reader)
        self._begin(t)
        with step:
            for part in range(parts):
                self.module.set_requires_gradient_sync(part == parts - 1)
                start, stop = part * count // parts, (part + 1) * count // parts
                loss += float(self._part(batch, examples, start, stop)) if stop > start else self._no_part(batch)
        return TakenStep(loss, examples.weight, size, step.gradients())

    def _looked_up(self, examples: Examples, t: int, reader: Reader) -> tuple[Batch, Step]:
        batch = examples.inputs.batch()
        lookup = Lookup.of(self.tables.values(), batch, reader.rows)
        with self._timed("pull"):
            rows, vectors = reader.read(lookup.keys)
        self.dense.begin(t, vectors)
        return batch, Step(self.module, lookup, rows, reader.rows, self.device)

    def _no_part(self, batch: Batch) -> float:
        """Go through the module without rows, as the others do with theirs: nothing is normalized, and no mean changes."""
        self.module.eval()
        (self._output(batch.rows(0, 0).to(self.device)).float().sum() * 0.0).backward()
        self.module.train()
        return 0.0

    def scored(self, rows: Examples | None, reader: Reader) -> tuple[Tensor, Examples] | None:
        """See `JointRank`: each rank sees the outputs of its own rows."""
        examples = rows if rows is not None else Examples.none(self.job.columns)
        batch, step = self._looked_up(examples, 0, reader)
        with torch.no_grad(), step:
            output = self._output(batch.to(self.device))
        return (output, rows) if rows is not None else None


def sharded(module: nn.Module, device: torch.device) -> nn.Module:
    """A `skeleton` whose parameters are divided among the ranks of the default process group, with room for this rank's.

    Items of each `torch.nn.Sequential` are gathered one by one, and all else together.
    """
    mesh = DeviceMesh.from_group(torch.distributed.group.WORLD, device.type)
    frozen = {each for each in module.parameters() if not each.requires_grad}
    done: set[int] = set()
    for chain in reversed([each for each in module.modules() if isinstance(each, nn.Sequential)]):  # torch wants the innermost first
        for layer in chain:
            if id(layer) not in done and any(each.requires_grad for each in layer.parameters()):
                done.add(id(layer))
                fully_shard(layer, mesh=mesh, ignored_params=frozen)
    fully_shard(module, mesh=mesh, ignored_params=frozen)
    return module._apply(lambda each: torch.zeros_like(each, device=device) if each.is_meta else each.to(device))


__all__ = ["ShardedRank", "sharded"]
