"""What a solver does with vectors that it knows by name alone: sums over their elements, and new vectors out of them.

`Gram`, `ColumnDots`, `WeightedNorm` and `Extreme` give numbers, the others write one vector. What each element becomes is said in
`sparkps.wire.function_specs`, where the tier's functions are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from numpy.typing import NDArray


@dataclass(frozen=True)
class Combine:
    """target ← Σ coefficient·vector; the target may be among them."""

    target: str
    terms: Mapping[str, float]


@dataclass(frozen=True)
class Elementwise:
    """The target becomes an elementwise function of other vectors and of numbers; made by the functions below."""

    function: str
    target: str
    #: By the function's names of them.
    vectors: Mapping[str, str]
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Gram:
    """All dot products of the vectors on the left with those on the right."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    #: Vector by which each product is multiplied; empty: none.
    weights: str = ""


@dataclass(frozen=True)
class WeightedNorm:
    """Σ |weight·element|."""

    vector: str
    weights: str


@dataclass(frozen=True)
class Extreme:
    """The largest (``max``) or the smallest (``min``) element."""

    vector: str
    which: Literal["max", "min"]


@dataclass(frozen=True)
class ColumnDots:
    """The dot product of two vectors for each output apart: float64 (outputs,)."""

    left: str
    right: str


@dataclass(frozen=True)
class ColumnAxpy:
    """target ← target + alpha_k·source, in each output k."""

    target: str
    alphas: tuple[float, ...]
    source: str


Operation = Combine | Elementwise | ColumnAxpy | Gram | ColumnDots | WeightedNorm | Extreme

#: Operations that have a result.
ANSWERED = (Gram, ColumnDots, WeightedNorm, Extreme)


class Vectors(Protocol):
    """What a solver needs of its vectors."""

    def evaluate(self) -> float:
        """The objective at the trial point; its gradient is then in the gradient vector."""

    def run(self, operations: Sequence[Operation]) -> list[NDArray[Any]]:
        """Carry operations out in order; one array per `Gram` and `ColumnDots`, a number per `WeightedNorm` and `Extreme`."""


def product(target: str, other: str) -> Elementwise:
    """target ← target·other."""
    return Elementwise("product", target, {"other": other})


def opposed(target: str, other: str) -> Elementwise:
    """The target keeps what has the opposite sign of `other`, and is 0 elsewhere."""
    return Elementwise("opposed", target, {"other": other})


def pseudo_gradient(target: str, gradient: str, point: str, weights: str) -> Elementwise:
    """Derivative of least magnitude of f + Σ |weight·x|, with the gradient of f."""
    return Elementwise("pseudo_gradient", target, {"gradient": gradient, "point": point, "weights": weights})


def orthant_step(target: str, point: str, direction: str, guide: str, alpha: float) -> Elementwise:
    """point + alpha·direction, and 0 where that leaves the orthant of the point, or of -guide where the point is 0."""
    return Elementwise("orthant_step", target, {"point": point, "direction": direction, "guide": guide}, {"alpha": alpha})


__all__ = [
    "ANSWERED",
    "ColumnAxpy",
    "ColumnDots",
    "Combine",
    "Elementwise",
    "Extreme",
    "Gram",
    "Operation",
    "Vectors",
    "WeightedNorm",
    "opposed",
    "orthant_step",
    "product",
    "pseudo_gradient",
]
