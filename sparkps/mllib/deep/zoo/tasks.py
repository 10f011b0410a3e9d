"""Several labels at once: experts that tasks share, and gates that say which of them a task listens to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sparkps.mllib.deep.columns import InputColumns
from sparkps.mllib.deep.zoo.blocks import Columns, Spec, layers
from sparkps.nn.features import Batch


def _mixed(gate: Tensor, experts: Tensor) -> Tensor:
    """Experts (n, experts, units) under the softmax of a gate (n, experts)."""
    return (torch.softmax(gate, 1)[:, :, None] * experts).sum(1)


class GatedExperts(nn.Module):
    """MMoE: experts that all tasks share, a gate for each task (Ma et al., KDD 2018, section 4).

    ``more["experts"]``: how many; ``more["tower"]``: hidden units of each task's own layers. `hidden` are those of an expert.
    """

    def __init__(self, inputs: InputColumns, spec: Spec) -> None:
        super().__init__()
        self.inputs = Columns(inputs, spec)
        width, experts = self.inputs.width, spec.more["experts"]
        self.experts = nn.ModuleList(layers([width, *spec.hidden], spec.dropout) for _ in range(experts))
        self.gates = nn.ModuleList(nn.Linear(width, experts) for _ in range(spec.outputs))
        self.towers = nn.ModuleList(_tower(spec) for _ in range(spec.outputs))

    def forward(self, batch: Batch) -> Tensor:
        """(n, tasks)."""
        x = self.inputs(batch)
        experts = torch.stack([each(x) for each in self.experts], 1)
        return torch.cat([tower(_mixed(gate(x), experts)) for gate, tower in zip(self.gates, self.towers, strict=True)], 1)


class LayeredExtraction(nn.Module):
    """PLE: layers of shared experts and experts of each task, kept apart (Tang et al., RecSys 2020, section 4).

    ``more["experts"]``: of each task, and shared, in each layer; ``more["levels"]``: layers; ``more["tower"]`` as of `GatedExperts`.
    """

    def __init__(self, inputs: InputColumns, spec: Spec) -> None:
        super().__init__()
        self.inputs = Columns(inputs, spec)
        self.levels = nn.ModuleList()
        width = self.inputs.width
        for level in range(spec.more["levels"]):
            self.levels.append(_Extraction(width, spec, is_last=level == spec.more["levels"] - 1))
            width = spec.hidden[-1]
        self.towers = nn.ModuleList(_tower(spec) for _ in range(spec.outputs))

    def forward(self, batch: Batch) -> Tensor:
        """(n, tasks)."""
        x = self.inputs(batch)
        states = [x] * (len(self.towers) + 1)
        for each in self.levels:
            states = each(states)
        return torch.cat([tower(state) for tower, state in zip(self.towers, states, strict=False)], 1)


class _Extraction(nn.Module):
    """One layer of `LayeredExtraction`: from a state for each task and a shared one to the next ones."""

    def __init__(self, width: int, spec: Spec, *, is_last: bool) -> None:
        super().__init__()
        tasks, count = spec.outputs, spec.more["experts"]

        def experts() -> nn.ModuleList:
            return nn.ModuleList(layers([width, *spec.hidden], spec.dropout) for _ in range(count))

        self.own, self.shared = nn.ModuleList(experts() for _ in range(tasks)), experts()
        self.gates = nn.ModuleList(nn.Linear(width, 2 * count) for _ in range(tasks))
        self.shared_gate = None if is_last else nn.Linear(width, (tasks + 1) * count)

    def forward(self, states: list[Tensor]) -> list[Tensor]:
        shared = [each(states[-1]) for each in self.shared]
        every_own: list[Any] = list(self.own)
        own = [[each(state) for each in experts] for experts, state in zip(every_own, states, strict=False)]
        found = [_mixed(gate(states[i]), torch.stack([*own[i], *shared], 1)) for i, gate in enumerate(self.gates)]
        if self.shared_gate is not None:
            every = torch.stack([*(each for experts in own for each in experts), *shared], 1)
            found.append(_mixed(self.shared_gate(states[-1]), every))
        return found


def _tower(spec: Spec) -> nn.Sequential:
    width = spec.hidden[-1]
    sizes = [width, *spec.more["tower"]]
    return nn.Sequential(layers(sizes), nn.Linear(sizes[-1], 1))


__all__ = ["GatedExperts", "LayeredExtraction"]
