"""The optimizers of `sparkps.optim` over one flat vector in this process: the same formulas as on the nodes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparkps.optim import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Constant,
    Cosine,
    InverseSqrt,
    Momentum,
    Optimizer,
    RMSProp,
    Schedule,
    Step,
)

#: Vectors of state beside the parameters.
_PLANES: dict[type, int] = {SGD: 0, Momentum: 1, Adagrad: 1, RMSProp: 1, Adam: 2, AdamW: 2}


def planes_of(optimizer: Optimizer) -> int:
    """Vectors of state that an optimizer keeps.

    Raises
    ------
    ValueError
        It can run on the nodes alone.
    """
    if type(optimizer) not in _PLANES or optimizer.clip_norm is not None:
        raise ValueError(
            "Where dense parameters are summed among workers their optimizer must be one of"
            f" {', '.join(each.__name__ for each in _PLANES)}, without clip_norm. Got {optimizer!r}; set dense='ps' to have it on the tier."
        )
    return _PLANES[type(optimizer)]


def first_state(optimizer: Optimizer, parameters: Tensor) -> Tensor:
    """Parameters and state before the first step, (1 + planes, n)."""
    state = torch.zeros(1 + planes_of(optimizer), len(parameters), dtype=parameters.dtype, device=parameters.device)
    state[0] = parameters
    if isinstance(optimizer, Adagrad):
        state[1] = optimizer.initial_accumulator
    return state


def scale_at(schedule: Schedule, step: int) -> float:
    """What a schedule multiplies the learning rate by, at a step counted from 0.

    Examples
    --------
    >>> scale_at(Step(every=10, factor=0.5), 25), scale_at(Constant(), 3)
    (0.25, 1.0)
    """
    if isinstance(schedule, Step):
        return float(schedule.factor ** (step // schedule.every))
    if isinstance(schedule, InverseSqrt):
        warmup = max(schedule.warmup, 1)
        return min((step + 1) / warmup, math.sqrt(warmup / (step + 1)))
    if isinstance(schedule, Cosine):
        if step < schedule.warmup:
            return (step + 1) / schedule.warmup
        passed = min((step - schedule.warmup) / (schedule.total - schedule.warmup), 1.0)
        return schedule.floor + (1.0 - schedule.floor) * (1.0 + math.cos(math.pi * passed)) / 2.0
    assert isinstance(schedule, Constant), schedule
    return 1.0


def stepped(optimizer: Optimizer, state: Tensor, gradient: Tensor, step: int) -> Tensor:
    """Parameters and state after one more step; what was before stays as it is.

    Parameters
    ----------
    optimizer : Optimizer
    state : Tensor of shape (1 + planes, n)
    gradient : Tensor of shape (n,)
    step : int
        Steps before this one.

    Examples
    --------
    >>> stepped(SGD(0.5), torch.tensor([[1.0, 2.0]]), torch.tensor([2.0, 0.0]), 0).tolist()
    [[0.0, 2.0]]
    """
    after, g = state.clone(), gradient
    w = after[0]
    if optimizer.clip_value is not None:
        g = g.clamp(-optimizer.clip_value, optimizer.clip_value)
    if optimizer.l2:
        g = g + optimizer.l2 * w
    rate = optimizer.learning_rate * scale_at(optimizer.schedule, step)  # type: ignore[union-attr]
    sizes: float | Tensor = rate
    if isinstance(optimizer, SGD):
        w -= rate * g
    elif isinstance(optimizer, Momentum):
        after[1] = optimizer.momentum * after[1] + g
        w -= rate * (g + optimizer.momentum * after[1] if optimizer.nesterov else after[1])
    elif isinstance(optimizer, Adagrad):
        after[1] += g * g
        sizes = rate / (after[1].sqrt() + optimizer.epsilon)
        w -= sizes * g
    elif isinstance(optimizer, RMSProp):
        after[1] = optimizer.decay * after[1] + (1.0 - optimizer.decay) * g * g
        sizes = rate / (after[1].sqrt() + optimizer.epsilon)
        w -= sizes * g
    else:
        sizes = _adam(optimizer, after, g, rate, step + 1)
    if optimizer.l1:
        w.copy_(torch.sign(w) * (w.abs() - sizes * optimizer.l1).clamp(min=0.0))
    return after


def _adam(optimizer: Optimizer, after: Tensor, g: Tensor, rate: float, t: int) -> Tensor:
    """The step of Adam and AdamW in place; the step size of each coordinate."""
    assert isinstance(optimizer, (Adam, AdamW)), optimizer
    after[1] = optimizer.beta1 * after[1] + (1.0 - optimizer.beta1) * g
    after[2] = optimizer.beta2 * after[2] + (1.0 - optimizer.beta2) * g * g
    sizes = rate / ((after[2] / (1.0 - optimizer.beta2**t)).sqrt() + optimizer.epsilon)
    decay = rate * optimizer.weight_decay * after[0] if isinstance(optimizer, AdamW) else 0.0
    after[0] -= sizes * (after[1] / (1.0 - optimizer.beta1**t)) + decay
    return sizes


__all__ = ["first_state", "planes_of", "scale_at", "stepped"]
