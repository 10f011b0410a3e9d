"""Modules in parts, one for each worker: contiguous stages of a sequence of layers, or a shard of every parameter.

A part is a list of tensors that share memory with the module's parameters. So whoever has the whole module, the driver, writes its first
values to the tier part by part, and reads what was learned the same way; a worker makes the module without values, and has those of
its part alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sparkps.nn.tables import embeddings_of

#: How a module may be divided among workers.
PIPELINE, FSDP = "pipeline", "fsdp"


def skeleton(module: nn.Module) -> nn.Module:
    """A copy whose trained parameters have shapes and no values: they are on the meta device. Buffers and frozen parameters stay.

    Examples
    --------
    >>> skeleton(nn.Linear(2, 1)).weight.device.type
    'meta'
    """
    return _remade(module, lambda each: torch.empty_like(each, device="meta"))


def materialized(module: nn.Module, device: torch.device) -> nn.Module:
    """A `skeleton` with room for values on a device; tied parameters stay tied.

    Examples
    --------
    >>> materialized(skeleton(nn.Linear(2, 1)), torch.device("cpu")).weight.shape
    torch.Size([1, 2])
    """
    return _remade(module, lambda each: torch.zeros_like(each, device=device)).to(device)


def _remade(module: nn.Module, make: Callable[[Tensor], Tensor]) -> nn.Module:
    # Deep copies take objects that they know already from the memo: so no value is copied.
    memo: dict[int, Any] = {id(each): nn.Parameter(make(each)) for each in module.parameters() if each.requires_grad}
    return copy.deepcopy(module, memo)


def layers_of(module: nn.Module) -> list[nn.Module]:
    """The layers that a batch goes through one after the other.

    Parameters
    ----------
    module : torch.nn.Module
        A `torch.nn.Sequential`, whose items that are such themselves are taken apart, or one whose method ``layers()`` lists them; a
        submodule called ``layers`` is no such method.

    Raises
    ------
    ValueError
        It is neither, or has parameters outside of its layers.

    Examples
    --------
    >>> len(layers_of(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Tanh(), nn.Linear(2, 1)))))
    3
    """
    if type(module) is nn.Sequential:
        return [layer for each in module for layer in (layers_of(each) if type(each) is nn.Sequential else [each])]
    if isinstance(module, nn.Sequential):
        return list(module)
    listed = getattr(module, "layers", None)
    if not callable(listed) or isinstance(listed, nn.Module):  # a submodule of this name is callable, and lists nothing
        raise ValueError(
            "A module that is divided into stages must be a torch.nn.Sequential, or have a method `layers()` that lists the layers which a"
            f" batch goes through one after the other. Got {type(module).__name__}."
        )
    found = list(listed())
    inside = {id(parameter) for each in found for parameter in each.parameters()}
    outside = [name for name, parameter in module.named_parameters() if id(parameter) not in inside]
    if outside:
        raise ValueError(f"All parameters of {type(module).__name__} must be those of its `layers()`. {outside[0]!r} is not.")
    return found


def stages_of(module: nn.Module, count: int) -> list[nn.Sequential]:
    """A module as `count` stages that share its parameters, whose largest has as few parameters as can be.

    Layers that look up embeddings are all in the first stage, which is where a batch goes in.

    Raises
    ------
    ValueError
        There are too few layers, layers of several stages share parameters, or a layer normalizes over a batch.

    Examples
    --------
    >>> [len(each) for each in stages_of(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2), nn.Linear(2, 1)), 2)]
    [1, 3]
    """
    layers = layers_of(module)
    last = max((place for place, each in enumerate(layers) if embeddings_of(each)), default=0)
    free = len(layers) - last - 1
    if free < count - 1:
        raise ValueError(
            f"A pipeline of {count} stages must have a layer for each, and those that look up embeddings are all in the first. Got"
            f" {len(layers)} layers, {free} of them behind the last with embeddings: set `numWorkers` to at most {free + 1}."
        )
    for each in module.modules():
        if isinstance(each, _BatchNorm):
            raise ValueError(
                f"Layers of a pipeline see parts of a batch, over which {type(each).__name__} cannot normalize: take torch.nn.LayerNorm"
                " in its place."
            )
    borders = _borders([_size(each) for each in layers], last + 1, count)
    stages = [nn.Sequential(*layers[a:b]) for a, b in zip([0, *borders], [*borders, len(layers)], strict=True)]
    seen: set[int] = set()
    for stage in stages:
        own = {id(each) for each in stage.parameters()}
        if seen & own:
            raise ValueError(
                "Layers that share parameters must be in one stage of a pipeline. Got some in several: set `numWorkers` lower."
            )
        seen |= own
    return stages


def _size(layer: nn.Module) -> int:
    return sum(each.numel() for each in layer.parameters())


def _borders(sizes: Sequence[int], first: int, count: int) -> list[int]:
    """The first layer of each stage but the first; the first border is `first` at the earliest."""
    layers = len(sizes)
    sums = [sum(sizes[:place]) for place in range(layers + 1)]
    #: By number of stages and of layers in them: size of the largest, and borders.
    best: dict[int, tuple[int, list[int]]] = {stop: (sums[stop], []) for stop in range(first, layers + 1)}
    for _ in range(count - 1):
        best = {
            stop: min((max(best[at][0], sums[stop] - sums[at]), [*best[at][1], at]) for at in best if at < stop)
            for stop in range(min(best) + 1, layers + 1)
        }
    return best[layers][1]


def check_sharded(module: nn.Module) -> None:
    """Raise unless every trained parameter can be cut along its first axis.

    Raises
    ------
    ValueError
        One is a single number, or tied to another.
    """
    names: dict[int, str] = {}
    for name, each in module.named_parameters(remove_duplicate=False):
        if each.requires_grad and each.dim() == 0:
            raise ValueError(
                f"A parameter that is divided among workers must have an axis. {name!r} is a single number: give it shape (1,)."
            )
        if id(each) in names:
            raise ValueError(f"Parameters that are divided among workers must not be tied. {names[id(each)]!r} and {name!r} are one.")
        names[id(each)] = name


def parts_of(module: nn.Module, kind: str, count: int) -> list[list[Tensor]]:
    """The trained parameters of each worker's part: those of its stage, or its rows of each, as `torch.chunk` cuts them.

    Examples
    --------
    >>> [[tuple(each.shape) for each in part] for part in parts_of(nn.Linear(2, 3), "fsdp", 2)]
    [[(2, 2), (2,)], [(1, 2), (1,)]]
    """
    if kind == PIPELINE:
        return [[each for each in stage.parameters() if each.requires_grad] for stage in stages_of(module, count)]
    parts: list[list[Tensor]] = [[] for _ in range(count)]
    for each in module.parameters():
        if each.requires_grad:
            for part, piece in zip(parts, each.detach().chunk(count), strict=False):
                part.append(piece)
    return parts


__all__ = ["FSDP", "PIPELINE", "check_sharded", "layers_of", "materialized", "parts_of", "skeleton", "stages_of"]
