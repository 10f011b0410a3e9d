"""Batch normalization over the rows of all workers, on CPUs as on GPUs: N workers compute what one does with the rows of all of them.

Ioffe and Szegedy, Batch Normalization, ICML 2015, algorithm 1, with sums over all ranks in the place of those over a batch. A rank adds
one vector as it goes forward through a layer, and one as it comes back. One without rows goes through the module all the same, and adds
zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sparkps.errors import InvalidInput

#: The sum of the vectors of all ranks, float64 (n,), of this rank's; it is not written to.
Add = Callable[[Tensor], Tensor]

#: Layers whose statistics are shared; a class of one's own that inherits from them has a forward of its own.
_SHARED = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def share_statistics(module: nn.Module, add: Add) -> int:
    """Let the batch normalization layers of a module normalise by the rows of all ranks while they are trained.

    Parameters
    ----------
    module : torch.nn.Module
        Its `BatchNorm1d`, `BatchNorm2d`, `BatchNorm3d` and `SyncBatchNorm` layers are changed; parameters and running means stay theirs.
    add : callable
        Called by all ranks in the same order, with vectors of the same length: 2 C + 1 of a layer of C channels as it goes forward,
        2 C as it comes back, float64.

    Returns
    -------
    int
        Number of layers.

    Examples
    --------
    >>> layers = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    >>> share_statistics(layers, lambda mine: mine)        # of one rank
    1
    """
    found = [each for each in module.modules() if type(each) in _SHARED]
    for each in found:
        each.forward = partial(_forward, each, add)
    return len(found)


def _forward(layer: Any, add: Add, given: Tensor) -> Tensor:
    if not layer.training:
        found: Tensor = type(layer).forward(layer, given)
        return found
    layer._check_input_dim(given)
    mean, variance, count = _statistics(given.detach(), add)
    if layer.track_running_stats and count:
        _track(layer, mean, variance * (count / (count - 1.0)))
    normalized: Tensor = _Normalized.apply(given, layer.weight, layer.bias, mean, torch.rsqrt(variance + layer.eps), count, add)
    return normalized


def _statistics(given: Tensor, add: Add) -> tuple[Tensor, Tensor, float]:
    """Of each channel mean and variance over the rows of all ranks, float64 (C,), and how many values there are of one."""
    channels, over = given.shape[1], _all_but_channels(given)
    mine = torch.zeros(2 * channels + 1, dtype=torch.float64, device=given.device)
    if count := given.numel() // channels:
        # About the rank's own mean, so that little is lost of a variance that is small beside the mean.
        variance, mean = (each.double() for each in torch.var_mean(_wide(given), over, correction=0))
        mine[:channels], mine[channels:-1], mine[-1] = mean * count, (variance + mean**2) * count, count
    summed = add(mine)
    total = float(summed[-1])
    if total == 1:
        raise InvalidInput(
            "Batch normalization needs at least two values of each channel in a step, of all workers together. Got 1: set another"
            " `batchSize`, or a smaller `accumulationSteps`."
        )
    if not total:  # no rank has rows
        return summed[:channels], torch.ones_like(summed[:channels]), 0.0
    mean = summed[:channels] / total
    return mean, (summed[channels:-1] / total - mean**2).clamp(min=0.0), total


def _track(layer: Any, mean: Tensor, variance: Tensor) -> None:
    """Move running means, as torch does."""
    with torch.no_grad():
        layer.num_batches_tracked.add_(1)
        share = 1.0 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
        for running, seen in ((layer.running_mean, mean), (layer.running_var, variance)):
            running.mul_(1.0 - share).add_(share * seen.to(running.dtype))


def _all_but_channels(given: Tensor) -> list[int]:
    return [0, *range(2, given.dim())]


def _wide(given: Tensor) -> Tensor:
    """In float32 at least."""
    return given if given.dtype == torch.float64 else given.float()


class _Normalized(torch.autograd.Function):
    """``(x - mean) * scale * weight + bias``, whose mean and scale depend on the rows of all ranks."""

    @staticmethod
    def forward(
        ctx: Any, given: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, scale: Tensor, count: float, add: Add
    ) -> Tensor:
        wide, shape = _wide(given), [1, -1, *([1] * (given.dim() - 2))]
        scale = scale.to(wide.dtype)
        standard = (wide - mean.to(wide.dtype).view(shape)) * scale.view(shape)
        ctx.save_for_backward(standard, scale, weight)
        ctx.count, ctx.add, ctx.shape = count, add, shape
        found = standard if weight is None else standard * weight.view(shape)
        return (found if bias is None else found + bias.view(shape)).to(given.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (standard, scale, weight), shape = ctx.saved_tensors, ctx.shape
        came, over = gradient.to(standard.dtype), _all_but_channels(standard)
        # The gradients of bias and weight, of this rank's rows; those of all ranks are what the mean and the scale pass on.
        of_bias, of_weight = came.sum(over), (came * standard).sum(over)
        of_given = None
        if ctx.needs_input_grad[0]:
            summed = ctx.add(torch.cat([of_bias, of_weight]).double()) / max(ctx.count, 1.0)
            by_mean, by_scale = (each.to(standard.dtype).view(shape) for each in summed.chunk(2))
            scale = scale if weight is None else scale * weight
            of_given = ((came - by_mean - standard * by_scale) * scale.view(shape)).to(gradient.dtype)
        needs_weight, needs_bias = ctx.needs_input_grad[1:3]
        return of_given, of_weight if needs_weight else None, of_bias if needs_bias else None, None, None, None, None


__all__ = ["Add", "share_statistics"]
