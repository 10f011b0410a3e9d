"""What a solver does with vectors that it knows by name alone: linear combinations and dot products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray


@dataclass(frozen=True)
class Combine:
    """target ← Σ coefficient·vector; the target may be among them."""

    target: str
    terms: Mapping[str, float]


@dataclass(frozen=True)
class Gram:
    """All dot products of the vectors on the left with those on the right."""

    left: tuple[str, ...]
    right: tuple[str, ...]


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


Operation = Combine | Gram | ColumnDots | ColumnAxpy


class Vectors(Protocol):
    """What a solver needs of its vectors."""

    def evaluate(self) -> float:
        """The objective at the trial point; its gradient is then in the gradient vector."""

    def run(self, operations: Sequence[Operation]) -> list[NDArray[Any]]:
        """Carry operations out in order; one array per `Gram` and `ColumnDots`."""


__all__ = ["ColumnAxpy", "ColumnDots", "Combine", "Gram", "Operation", "Vectors"]
