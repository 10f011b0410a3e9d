"""Server-side optimizers and learning-rate schedules: what a table does with a pushed gradient.

These are descriptions: frozen values that travel with a table's specification. A node turns them into kernels
(`sparkps.ps_nodes.tables.optimizers`). With g the pushed gradient of a row (duplicates summed), w the row, and η the learning
rate times the schedule's scale at the shard's step, every optimizer but `FTRL` and `Consensus` does, in this order:

1. clip g by value, then by the Euclidean norm of the row, where asked for;
2. g ← g + l2·w;
3. its own step, as its docstring says;
4. where l1 > 0, the proximal step w ← sign(w)·max(|w| − η'·l1, 0), with η' the step size of that very coordinate.

All of it acts on the rows that a push touches, and on no other. The step of a schedule is the clock under BSP, and the
number of pushes to the shard otherwise, counted from 0.

Examples
--------
>>> from sparkps.optim import FTRL, Adam, Cosine
>>> Adam(1e-3, schedule=Cosine(total=1000)).beta2
0.999
>>> FTRL(alpha=0.1, l1=1.0).l1
1.0
"""

from __future__ import annotations

import math

import msgspec

from sparkps.errors import ConfigError
from sparkps.plain import shown

#: Whole numbers stay at or below this: a float64 holds all of them, and so does a message.
_LARGEST_INT = 1 << 53


class _Checked(msgspec.Struct, frozen=True, tag=True):
    """Base with the checks that the fields share."""

    def _require(self, holds: bool, field: str, must: str) -> None:
        if not holds:
            got = shown(getattr(self, field))
            raise ConfigError(f"The `{field}` of {type(self).__name__} must be {must}. Got {got} instead.", field=field)

    def _positive(self, *fields: str) -> None:
        for field in fields:
            value = getattr(self, field)
            self._require(_is_finite(value) and value > 0, field, "a float in (0, inf)")

    def _not_negative(self, *fields: str) -> None:
        for field in fields:
            value = getattr(self, field)
            self._require(_is_finite(value) and value >= 0, field, "a float in [0, inf)")

    def _fraction(self, *fields: str) -> None:
        for field in fields:
            value = getattr(self, field)
            self._require(_is_finite(value) and 0 <= value < 1, field, "a float in [0, 1)")

    def _count(self, field: str, least: int) -> None:
        value = getattr(self, field)
        legal = isinstance(value, int) and not isinstance(value, bool) and least <= value <= _LARGEST_INT
        self._require(legal, field, f"an int in [{least}, {_LARGEST_INT}]")


class Constant(_Checked, frozen=True):
    """The learning rate as it is."""


class Step(_Checked, frozen=True):
    """Multiplied by `factor` after every `every` steps: scale(t) = factor^⌊t / every⌋."""

    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        self._count("every", 1)
        self._positive("factor")


class InverseSqrt(_Checked, frozen=True):
    """Linear over `warmup` steps, then with the inverse root: scale(t) = min((t+1)/u, sqrt(u/(t+1))), u = max(warmup, 1)."""

    warmup: int = 0

    def __post_init__(self) -> None:
        self._count("warmup", 0)


class Cosine(_Checked, frozen=True):
    """Linear over `warmup` steps, then half a cosine down to `floor` at step `total`, and `floor` from there on.

    scale(t) = (t+1)/warmup for t < warmup, else floor + (1 − floor)·(1 + cos(π·p))/2 with
    p = min((t − warmup)/(total − warmup), 1) (Loshchilov and Hutter, ICLR 2017, without restarts).
    """

    total: int
    warmup: int = 0
    floor: float = 0.0

    def __post_init__(self) -> None:
        self._count("total", 1)
        self._count("warmup", 0)
        self._require(self.warmup < self.total, "warmup", f"less than `total` ({self.total})")
        self._require(_is_finite(self.floor) and 0 <= self.floor <= 1, "floor", "a float in [0, 1]")


#: What an optimizer's ``schedule`` may be.
Schedule = Constant | Step | InverseSqrt | Cosine


class _Optimizer(_Checked, frozen=True, kw_only=True):
    """Fields that all optimizers share."""

    #: Weight of the penalty l1·|w|.
    l1: float = 0.0
    #: Weight of the penalty l2·w²/2.
    l2: float = 0.0
    #: Every coordinate of a gradient is brought into [-clip_value, clip_value].
    clip_value: float | None = None
    #: A row's gradient is scaled down to this Euclidean norm.
    clip_norm: float | None = None
    schedule: Schedule = Constant()

    def __post_init__(self) -> None:
        self._not_negative("l1", "l2")
        for field in ("clip_value", "clip_norm"):
            value = getattr(self, field)
            self._require(value is None or (_is_finite(value) and value > 0), field, "None or a float in (0, inf)")
        self._require(isinstance(self.schedule, Schedule), "schedule", "one of Constant, Step, InverseSqrt, Cosine")


class SGD(_Optimizer, frozen=True):
    """w ← w − η·g."""

    learning_rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("learning_rate")


class Momentum(_Optimizer, frozen=True):
    """v ← momentum·v + g; w ← w − η·v, or with `nesterov` w ← w − η·(g + momentum·v).

    Sutskever et al., ICML 2013, in the form that PyTorch uses.
    """

    learning_rate: float
    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("learning_rate")
        self._fraction("momentum")
        self._require(isinstance(self.nesterov, bool), "nesterov", "True or False")


class Adagrad(_Optimizer, frozen=True):
    """n ← n + g²; w ← w − η·g / (sqrt(n) + epsilon), n starting at `initial_accumulator`.

    Duchi, Hazan and Singer, JMLR 2011.
    """

    learning_rate: float
    initial_accumulator: float = 0.1
    epsilon: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("learning_rate", "epsilon")
        self._not_negative("initial_accumulator")


class RMSProp(_Optimizer, frozen=True):
    """n ← decay·n + (1 − decay)·g²; w ← w − η·g / (sqrt(n) + epsilon).

    Tieleman and Hinton, Coursera lecture 6.5, 2012.
    """

    learning_rate: float
    decay: float = 0.9
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("learning_rate", "epsilon")
        self._fraction("decay")


class Adam(_Optimizer, frozen=True):
    """m ← β1·m + (1 − β1)·g; v ← β2·v + (1 − β2)·g²; w ← w − η·m̂ / (sqrt(v̂) + epsilon).

    m̂ = m/(1 − β1^t) and v̂ = v/(1 − β2^t), with t the shard's step counted from 1 (Kingma and Ba, ICLR 2015). Moments
    of rows that a push does not touch stay as they are.
    """

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("learning_rate", "epsilon")
        self._fraction("beta1", "beta2")


class AdamW(_Optimizer, frozen=True):
    """`Adam` with decoupled decay: w ← w − η·(m̂ / (sqrt(v̂) + epsilon) + weight_decay·w).

    Loshchilov and Hutter, ICLR 2019.
    """

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("learning_rate", "epsilon")
        self._fraction("beta1", "beta2")
        self._not_negative("weight_decay")


class FTRL(_Optimizer, frozen=True):
    """FTRL-proximal (McMahan et al., KDD 2013, Algorithm 1).

    σ = (sqrt(n + g²) − sqrt(n))/α; z ← z + g − σ·w; n ← n + g²; then w = 0 if |z| <= l1, else
    w = −(z − sign(z)·l1) / ((beta + sqrt(n))/α + l2), with α = `alpha` times the schedule's scale. Here `l1` and `l2` are
    those of the paper: they weigh against the sum of all gradients, not against each one. Where a schedule changes α, z is
    first set so that the row with the new α is what it was.
    """

    alpha: float
    beta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("alpha")
        self._not_negative("beta")


class Consensus(_Optimizer, frozen=True):
    """Merges what workers have learned by themselves, row by row: each pushes where its rows want a coefficient, and how sure they are.

    A row of a sparse table holds coefficients w, then as many sums of squared gradients G that they have learned from, then as many
    factors c. A worker that began a batch at (w₀, G₀) and ended at (w₁, G₀ + H) says c, how much faster than by itself a coefficient
    moves together with the others of its rows, and m = w₀ + (w₁ − w₀)/(1 − exp(−τ₀)), where it was going. It pushes H·m, H and
    H·c in their places; pushes are summed. Then, with m and c the means of all pushes under the weights H,

        τ = 2·η·c·(sqrt(G + H) − sqrt(G));  w ← w + (1 − exp(−τ))·(m − w);  G ← G + H

    τ₀ is the same with the worker's own G₀, H and c. This is how far steps of η/sqrt(G) go on the way to m, while G grows by H. So one
    worker's push makes w what it was at the worker; of coefficients that are far from settled the workers' changes add up, and of those
    that are settled they are averaged. However late a push comes, w stays between what it was and m. Where H is not above 0, nothing
    changes. There are no penalties, clipping or schedules here: the workers see to them.

    With `shared`, the coefficients of a row share one sum of squared gradients and one factor: a row holds them, then G, then c, and a
    push H·c·m of each, then H, then H·c. Their mean m is that under the weights H·c, so that changes add up also where workers say
    very different factors.

    The steps are those of Duchi, Hazan and Singer, JMLR 2011; averages under the weights H those of Agarwal, Chapelle, Dudík and
    Langford, JMLR 2014, section 2.2.
    """

    learning_rate: float
    shared: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("learning_rate")
        self._require(isinstance(self.shared, bool), "shared", "True or False")
        for field in ("l1", "l2"):
            self._require(getattr(self, field) == 0, field, "0")
        for field in ("clip_value", "clip_norm"):
            self._require(getattr(self, field) is None, field, "None")
        self._require(isinstance(self.schedule, Constant), "schedule", "Constant()")


#: What a table's ``optimizer`` may be.
Optimizer = SGD | Momentum | Adagrad | RMSProp | Adam | AdamW | FTRL | Consensus


def _is_finite(value: object) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= _LARGEST_INT
    return isinstance(value, float) and math.isfinite(value)


__all__ = [
    "FTRL", "SGD", "Adagrad", "Adam", "AdamW", "Consensus", "Constant", "Cosine", "InverseSqrt", "Momentum", "Optimizer", "RMSProp",
    "Schedule", "Step",
]  # fmt: skip
