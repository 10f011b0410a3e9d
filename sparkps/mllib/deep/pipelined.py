"""A rank that has one stage of a pipeline: GPipe (Huang et al., NeurIPS 2019) or 1F1B (Narayanan et al., PipeDream, SOSP 2019).

Every rank reads rows of its own. In a step they go to the first rank, where embeddings are looked up, and their labels to the last, which
has the loss; so the rows of a step are those of all ranks, as where each rank has the whole module. They go through the stages in
`micro_batches` equal parts, the last of which is filled up with copies of a row that no loss is taken of.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from sparkps.errors import InvalidInput
from sparkps.mllib.deep.dense import FlatParameters
from sparkps.mllib.deep.examples import Examples, Inputs
from sparkps.mllib.deep.job import unpickled
from sparkps.mllib.deep.joint import JointRank, Reader, TakenStep
from sparkps.mllib.deep.losses import as_tensor
from sparkps.nn.features import Bags, Batch, Keys
from sparkps.nn.partition import materialized, stages_of
from sparkps.nn.step import Lookup, Step

Array = NDArray[Any]

#: Schedules of torch by name.
SCHEDULES: dict[str, Any] = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}

#: Types of what goes from stage to stage, by their number; and room for the number of a type, of axes, and their lengths.
_TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_SHAPE = 10


class _Micro(nn.Module):
    """A stage as the schedule calls it: with places of rows at the first, and what the stage before gave at the others."""

    def __init__(self, rank: PipelineRank, batch: Batch | None) -> None:
        super().__init__()
        self.stage, self._rank, self._batch = rank.module, [rank], batch

    def forward(self, given: Tensor) -> Tensor:
        rank = self._rank[0]
        rows = len(given)
        inside = given if self._batch is None else self._batch.rows(int(given[0]), int(given[-1]) + 1).to(rank.device)
        with torch.autocast(rank.device.type, torch.bfloat16, enabled=rank.job.amp):
            found = self.stage(inside)
        if not isinstance(found, Tensor) or not found.dim() or len(found) != rows:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InvalidInput(
                f"A stage of a pipeline must give one tensor with a row for each of {rows} rows. Got {got}.", rank=rank.worker.rank
            )
        if torch.is_grad_enabled() and not found.requires_grad:
            found = found.detach().requires_grad_()  # a stage that learns nothing: the next one sends gradients all the same
        return found


class PipelineRank(JointRank):
    """One rank; its number is that of its stage."""

    #: Of what each stage gives, lengths of the axes behind the first, and type; known when rows have gone through once.
    _between: list[tuple[tuple[int, ...], torch.dtype]]

    def _made(self) -> nn.Module:
        stage = stages_of(unpickled(self.job.module), self.worker.num_workers)[self.worker.rank]
        return materialized(stage, self.device)

    def _flat(self) -> FlatParameters:
        return FlatParameters.of([each for each in self.module.parameters() if each.requires_grad])

    def _formed(self) -> None:
        self._between = []

    @property
    def _is_first(self) -> bool:
        return bool(self.worker.rank == 0)

    @property
    def _is_last(self) -> bool:
        return bool(self.worker.rank == self.worker.num_workers - 1)

    # ---- a step --------------------------------------------------------------------------------------------------------

    def take(self, t: int, reader: Reader) -> TakenStep:
        """See `JointRank`."""
        rows, size = self._taken(t)
        inputs, answers, padded = self._gathered(rows)
        buffers = [each.clone() for each in self.module.buffers()]
        with self._fed(inputs, padded, t, reader) as (fed, step):
            self._learn_shapes(fed, padded)
            self._begin(t)
            losses: list[Tensor] = []
            with self._timed("forward"):
                self._schedule(fed, padded, answers).step(*self._given(padded), **self._wanted(padded), losses=losses, return_outputs=False)
            loss = float(sum(each.detach() for each in losses))
        if not all(torch.equal(was, now) for was, now in zip(buffers, self.module.buffers(), strict=True)):
            raise InvalidInput(
                "Buffers of a module in a pipeline must stay as they are. A layer has changed one: set modelParallel='none' or 'fsdp'.",
                rank=self.worker.rank,
            )
        weight = answers.weight if answers is not None else 0.0
        return TakenStep(loss, weight, size, step.gradients() if step is not None else {})

    def scored(self, rows: Examples | None, reader: Reader) -> tuple[Tensor, Examples] | None:
        """See `JointRank`: outputs are seen by the last rank."""
        inputs, answers, padded = self._gathered(rows)
        with torch.no_grad(), self._fed(inputs, padded, 0, reader) as (fed, _):
            self._learn_shapes(fed, padded)
            found = self._schedule(fed, padded, answers).eval(*self._given(padded), **self._wanted(padded), losses=[])
        return (found[: len(answers)], answers) if answers is not None else None

    def _gathered(self, rows: Examples | None) -> tuple[Inputs | None, Examples | None, int]:
        """At the first rank what the module reads of all rows, at the last one their labels; and rows with those that fill up."""
        first, last = 0, self.worker.num_workers - 1
        inputs = self.peers.gather(b"" if rows is None else _packed(rows.inputs), first)
        answers = self.peers.gather(b"" if rows is None else _array_bytes({"labels": rows.labels, "weights": rows.weights}), last)
        total = int(self.said_by_all(0 if rows is None else len(rows)).sum())
        padded = -(-total // self.job.micro_batches) * self.job.micro_batches
        none = Examples.none(self.job.columns)
        if self._is_first:
            joined = Examples.join([Examples(each, np.empty((len(each), 0))) for each in map(self._unpacked, inputs) if each is not None])
            return joined.take(np.minimum(np.arange(padded), total - 1)).inputs, None, padded
        if self._is_last:
            found = [_arrays(each) for each in answers if each]
            return None, Examples.join([Examples(none.inputs, each["labels"], each["weights"]) for each in found]), padded
        return None, None, padded

    def _unpacked(self, packed: bytes) -> Inputs | None:
        return _inputs(packed, self.job.columns.inputs.scalars) if packed else None

    @contextmanager
    def _fed(self, inputs: Inputs | None, padded: int, t: int, reader: Reader) -> Iterator[tuple[_Micro, Step | None]]:
        """The stage as it is on the tier; the first one within the step of all rows."""
        if inputs is None:
            self.load(t, reader)
            yield _Micro(self, None), None
            return
        batch = inputs.batch()
        lookup = Lookup.of(self.tables.values(), batch, reader.rows)
        with self._timed("pull"):
            rows, vectors = reader.read(lookup.keys)
        self.dense.begin(t, vectors)
        step = Step(self.module, lookup, rows, reader.rows, self.device)
        with step:
            yield _Micro(self, batch), step

    def _given(self, padded: int) -> tuple[Tensor, ...]:
        """What the schedule cuts into parts for the first stage: places of rows."""
        return (torch.arange(padded, device=self.device),) if self._is_first else ()

    def _wanted(self, padded: int) -> dict[str, Any]:
        """The same for the loss."""
        return {"target": torch.arange(padded, device=self.device)} if self._is_last else {}

    # ---- torch's schedule ----------------------------------------------------------------------------------------------

    def _schedule(self, fed: _Micro, padded: int, answers: Examples | None) -> Any:
        rank, count, micro = self.worker.rank, self.worker.num_workers, padded // self.job.micro_batches
        came = torch.arange(micro, device=self.device) if self._is_first else self._room(rank - 1, micro).requires_grad_()
        shapes = {"input_args": (came,), "output_args": (self._room(rank, micro).requires_grad_(),)}
        stage = PipelineStage(fed, rank, count, self.device, **shapes)
        # Where there is no loss torch takes it that nothing goes backward; so each rank has one, and the last one's is called.
        loss = functools.partial(self._loss, answers)
        return SCHEDULES[self.job.pipeline_schedule](stage, self.job.micro_batches, loss_fn=loss, scale_grads=False)

    def _loss(self, answers: Examples | None, output: Tensor, places: Tensor) -> Tensor:
        """Sum of the losses of some rows; those that only fill up have none."""
        assert answers is not None, "the last rank has the loss"
        first, last = int(places[0]), min(int(places[-1]) + 1, len(answers))
        if first >= last:
            return output.float().sum() * 0.0
        losses = self.job.loss.of_rows(output[: last - first], as_tensor(answers.labels[first:last], self.device))
        if len(answers.weights):
            losses = losses * torch.from_numpy(answers.weights[first:last]).to(losses)
        return losses.sum()

    def _learn_shapes(self, fed: _Micro, padded: int) -> None:
        """Let all ranks know what goes from stage to stage: each runs its own once. What torch would do by itself goes through a pickle."""
        if self._between:
            return
        micro, mode, between = padded // self.job.micro_batches, self.module.training, self._between
        self.module.eval()
        for giver in range(self.worker.num_workers):
            said = torch.zeros(_SHAPE, dtype=torch.int64, device=self.device)
            if giver == self.worker.rank:
                with torch.no_grad():
                    found = fed(self._given(micro)[0] if self._is_first else self._room(giver - 1, micro))
                said[: found.dim() + 1] = torch.tensor([_TYPES.index(found.dtype), found.dim() - 1, *found.shape[1:]])
            self.peers.give(said, giver)
            kind, axes, *lengths = said.tolist()
            between.append((tuple(lengths[:axes]), _TYPES[kind]))
        self.module.train(mode)

    def _room(self, stage: int, rows: int) -> Tensor:
        """Of the shape that a stage gives."""
        lengths, kind = self._between[stage]
        return torch.zeros(rows, *lengths, dtype=kind, device=self.device)


# ---- rows as bytes -----------------------------------------------------------------------------------------------------


def _packed(inputs: Inputs) -> bytes:
    """What a module reads of rows, as bytes without a pickle: whoever sends them has not proved who he is."""
    arrays = {"keys": inputs.categories.keys, "numeric": inputs.numeric}
    for name, bags in inputs.bags.items():
        parts = {"keys": bags.keys, "offsets": bags.offsets, **({} if bags.weights is None else {"weights": bags.weights})}
        arrays.update({f"{part} of {name}": each for part, each in parts.items()})
    return _array_bytes(arrays)


def _inputs(packed: bytes, scalars: Sequence[str]) -> Inputs:
    found = _arrays(packed)
    names = [each.removeprefix("offsets of ") for each in found if each.startswith("offsets of ")]
    bags = {each: Bags(each, found[f"keys of {each}"], found[f"offsets of {each}"], found.get(f"weights of {each}")) for each in names}
    return Inputs(Keys(tuple(scalars), found["keys"]), bags, found["numeric"])


def _array_bytes(arrays: dict[str, Array]) -> bytes:
    names = list(arrays)
    buffer = io.BytesIO()
    np.savez(buffer, np.array(names), *(arrays[name] for name in names))
    return buffer.getvalue()


def _arrays(packed: bytes) -> dict[str, Array]:
    with np.load(io.BytesIO(packed), allow_pickle=False) as found:
        return {str(name): found[f"arr_{place + 1}"] for place, name in enumerate(found["arr_0"])}


__all__ = ["SCHEDULES", "PipelineRank"]
