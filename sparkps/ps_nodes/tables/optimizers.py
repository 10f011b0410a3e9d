"""From an optimizer's description to what a table does: planes of state, how they begin, and the kernel with its numbers.

A rule is the pair of pure functions of an optimizer: how the state of a row begins (`state`, `dual`), and the update
(`kernel`, fed with `hyper`). Adding an optimizer: its description in `sparkps.optim`, its formula in `kernels.updates`,
a function here, and its row in the property table of the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps import optim
from sparkps.kernels.layout import HYPER_WIDTH, L1, L2, OWN, RATE

Steps = NDArray[np.int64]
Floats = NDArray[np.float64]


def scale(schedule: optim.Schedule, step: Steps) -> Floats:
    """What a schedule multiplies the learning rate by at each step, counted from 0: ndarray float64, as `step`."""
    t = np.asarray(step, np.float64)
    if isinstance(schedule, optim.Step):
        return np.asarray(schedule.factor ** np.floor(t / schedule.every), np.float64)
    if isinstance(schedule, optim.InverseSqrt):
        warmup = max(schedule.warmup, 1)
        return np.minimum((t + 1.0) / warmup, np.sqrt(warmup / (t + 1.0)))
    if isinstance(schedule, optim.Cosine):
        progress = np.clip((t - schedule.warmup) / (schedule.total - schedule.warmup), 0.0, 1.0)
        wave = schedule.floor + (1.0 - schedule.floor) * 0.5 * (1.0 + np.cos(math.pi * progress))
        return np.where(t < schedule.warmup, (t + 1.0) / max(schedule.warmup, 1), wave)
    return np.ones_like(t)


@dataclass(frozen=True)
class UpdateRule:
    """How a table applies gradients."""

    optimizer: optim.Optimizer
    #: Name in `kernels.updates.UPDATES`.
    kernel: str
    #: The rate before any schedule.
    rate: float
    #: The optimizer's own hyper-parameters, in the order that its kernel reads them.
    own: tuple[float, ...] = ()
    #: First values of the planes of state.
    state: tuple[float, ...] = ()
    #: Adam's betas: their powers correct the bias, so that every step has its own numbers.
    betas: tuple[float, float] | None = None
    #: FTRL: plane 1 is the dual of the row, and must follow rows that are written.
    dual: bool = False
    #: The one row of hyper-parameters, where no step differs.
    _fixed: Floats | None = field(default=None, repr=False)

    @property
    def planes(self) -> int:
        """Rows and planes of state."""
        return 1 + len(self.state)

    @property
    def depends_on_step(self) -> bool:
        """Whether `hyper` differs from step to step."""
        return self.betas is not None or not isinstance(self.optimizer.schedule, optim.Constant)

    def hyper(self, steps: Steps) -> Floats:
        """Hyper-parameters of a step.

        Parameters
        ----------
        steps : ndarray of shape (r,), int64
            The steps of the touched buckets, counted from 0.

        Returns
        -------
        ndarray of shape (r, 9) or (1, 9), float64
        """
        if not self.depends_on_step and self._fixed is not None:
            return self._fixed
        table = np.zeros((len(steps), HYPER_WIDTH))
        table[:, RATE] = self.rate * scale(self.optimizer.schedule, steps)
        table[:, L1] = self.optimizer.l1
        table[:, L2] = self.optimizer.l2
        table[:, OWN : OWN + len(self.own)] = self.own
        if self.betas is not None:
            first, second = self.betas
            table[:, OWN + 4] = 1.0 - first ** (steps + 1.0)
            table[:, OWN + 5] = 1.0 - second ** (steps + 1.0)
        return table

    @property
    def clips(self) -> bool:
        """Whether gradients are clipped."""
        return self.optimizer.clip_value is not None or self.optimizer.clip_norm is not None

    @property
    def bounds(self) -> tuple[float, float]:
        """Largest value and largest norm of a row's gradient."""
        given = self.optimizer.clip_value, self.optimizer.clip_norm
        return tuple(math.inf if bound is None else float(bound) for bound in given)  # type: ignore[return-value]

    @property
    def slope(self) -> float:
        """FTRL: (beta / alpha + l2), by which a first row and its dual agree."""
        return self.own[0] / self.rate + self.optimizer.l2 if self.dual else 0.0


def _sgd(o: optim.SGD) -> UpdateRule:
    return UpdateRule(o, "sgd", o.learning_rate)


def _momentum(o: optim.Momentum) -> UpdateRule:
    return UpdateRule(o, "momentum", o.learning_rate, (o.momentum, float(o.nesterov)), (0.0,))


def _adagrad(o: optim.Adagrad) -> UpdateRule:
    return UpdateRule(o, "adagrad", o.learning_rate, (o.epsilon,), (float(o.initial_accumulator),))


def _rmsprop(o: optim.RMSProp) -> UpdateRule:
    return UpdateRule(o, "rmsprop", o.learning_rate, (o.epsilon, o.decay), (0.0,))


def _adam(o: optim.Adam) -> UpdateRule:
    return UpdateRule(
        o, "adam", o.learning_rate, (o.epsilon, o.beta1, o.beta2, 0.0), (0.0, 0.0), betas=(o.beta1, o.beta2)
    )


def _adamw(o: optim.AdamW) -> UpdateRule:
    own = o.epsilon, o.beta1, o.beta2, o.weight_decay
    return UpdateRule(o, "adam", o.learning_rate, own, (0.0, 0.0), betas=(o.beta1, o.beta2))


def _ftrl(o: optim.FTRL) -> UpdateRule:
    scheduled = not isinstance(o.schedule, optim.Constant)
    return UpdateRule(o, "ftrl", o.alpha, (o.beta, float(scheduled)), (0.0, 0.0), dual=True)


def _consensus(o: optim.Consensus) -> UpdateRule:
    return UpdateRule(o, "shared_consensus" if o.shared else "consensus", o.learning_rate)


_RULES: dict[type[Any], Callable[[Any], UpdateRule]] = {
    optim.SGD: _sgd,
    optim.Momentum: _momentum,
    optim.Adagrad: _adagrad,
    optim.RMSProp: _rmsprop,
    optim.Adam: _adam,
    optim.AdamW: _adamw,
    optim.FTRL: _ftrl,
    optim.Consensus: _consensus,
}


def rule_of(optimizer: optim.Optimizer) -> UpdateRule:
    """The rule by which a node carries out `optimizer`.

    Examples
    --------
    >>> rule_of(optim.Adagrad(0.05)).planes
    2
    """
    rule = _RULES[type(optimizer)](optimizer)
    if not rule.depends_on_step:
        return replace(rule, _fixed=rule.hyper(np.zeros(1, np.int64)))
    return rule
