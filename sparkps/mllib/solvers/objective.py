"""What solvers minimise: a sum over rows, of which they know neither the formula nor the model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from sparkps.mllib.data.labels import LabelRule
from sparkps.mllib.data.store import Chunk


@dataclass(frozen=True)
class LabelSums:
    """Weighted sums over the labels of all rows: what is known of the labels before training."""

    #: Σ weight, above 0.
    weight: float
    #: Σ weight·label: the mean label times `weight`.
    labels: float
    #: Σ weight·label²: with the others, how much labels vary.
    squares: float


@dataclass(frozen=True)
class Start:
    """Where the training of a model with intercept begins."""

    #: Margin of a row without features. It may be infinite where it is the solution.
    intercept: float
    #: Why the intercept alone is the solution already, in words; empty: it is not.
    solved: str = ""


class Objective(Protocol):
    """A sum over rows that depends on their labels and on the margins m = b + Σ x·w. Picklable."""

    @property
    def label_rule(self) -> LabelRule:
        """What labels must be."""

    @property
    def kernels(self) -> tuple[str, ...]:
        """Packages and modules that declare its kernels."""

    def start(self, sums: LabelSums) -> Start:
        """Where to begin with rows of such labels; asked only where there is an intercept."""

    def loss_and_gradient(self, chunks: Iterable[Chunk], state: NDArray[Any], bias: float) -> tuple[float, float]:
        """Weighted sums over all rows, in their order.

        Parameters
        ----------
        chunks : iterable of Chunk
        state : ndarray of shape (keys, 2), float64
            ``state[:, 0]`` holds the coefficients; the gradient is added to ``state[:, 1]``.
        bias : float

        Returns
        -------
        loss : float
        derivative : float
            Sum of the derivatives by the margin: the gradient of the bias.
        """


__all__ = ["LabelSums", "Objective", "Start"]
