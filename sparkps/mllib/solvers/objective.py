"""What solvers minimise: a sum over rows, of which they know neither the formula nor the model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sparkps.initializers import Initializer
from sparkps.mllib.data.labels import LabelRule
from sparkps.mllib.data.store import Chunk

Array = NDArray[Any]


#: Why a regression is solved by its intercept.
UNVARYING = "labels do not vary"


@dataclass(frozen=True)
class LabelSums:
    """Weighted sums over the labels of all rows: what is known of the labels before training."""

    #: Σ weight, above 0.
    weight: float
    #: Σ weight·label: the mean label times `weight`.
    labels: float
    #: Σ weight·label²: with the others, how much labels vary.
    squares: float
    #: Σ weight²: with `weight`, how many rows there are in effect.
    weight_squares: float = 0.0
    #: float64 (classes,): Σ weight of the rows of each label; empty for an objective without classes.
    classes: Array = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class Start:
    """Where the training of a model with intercept begins."""

    #: float64 (outputs,): margins of a row without features. They may be infinite where they are the solution.
    intercepts: Array
    #: Why the intercepts alone are the solution already, in words; empty: they are not.
    solved: str = ""
    #: float64 (scalars,): the further parameters without a feature.
    scalars: Array = field(default_factory=lambda: np.empty(0))
    #: float64 (n, dim): coefficients of features 0 to n - 1; empty: they are drawn by the objective's `initializer`.
    rows: Array = field(default_factory=lambda: np.empty((0, 0)))


class Objective(Protocol):
    """A sum over rows that depends on their labels and on their margins m_k = b_k + Σ x·w_k, one for each output k. Picklable."""

    @property
    def outputs(self) -> int:
        """Margins of a row, and intercepts."""

    @property
    def dim(self) -> int:
        """Values that the tables keep for a feature; as many as `outputs`, for a model that is linear."""

    @property
    def scalars(self) -> int:
        """Parameters besides that belong to no feature: they are neither scaled nor penalised."""

    @property
    def classes(self) -> int:
        """Labels 0 to classes - 1 whose weights `LabelSums.classes` has; 0: none."""

    @property
    def initializer(self) -> Initializer:
        """Law of the coefficients that training begins with; of full-batch solvers, those of the scaled features."""

    @property
    def label_rule(self) -> LabelRule:
        """What labels must be."""

    @property
    def kernels(self) -> tuple[str, ...]:
        """Packages and modules that declare its kernels."""

    def informed(self, sums: LabelSums) -> Objective:
        """The objective that is minimised, now that the labels are known; asked by the driver and by every rank."""

    def penalties(self, l1: float, l2: float) -> tuple[float, float]:
        """What the penalties weigh, of an objective that is `informed`."""

    def start(self, sums: LabelSums) -> Start:
        """Where to begin with rows of such labels."""

    def published(self, rows: Array, *, penalised: bool) -> Array:
        """The form in which a solution of a full-batch solver becomes the model, where many are as good.

        Parameters
        ----------
        rows : ndarray of shape (n, dim), float64
            Rows of features, or of the intercept.
        penalised : bool
            Whether a penalty tells between them.
        """

    def loss_and_gradient(self, chunks: Iterable[Chunk], state: Array, bias: Array) -> tuple[float, Array]:
        """Weighted sums over all rows, in their order.

        Parameters
        ----------
        chunks : iterable of Chunk
        state : ndarray of shape (keys, 2, dim), float64
            ``state[:, 0]`` holds the coefficients; the gradient is added to ``state[:, 1]``.
        bias : ndarray of shape (outputs + scalars,), float64
            Intercepts, then the further parameters.

        Returns
        -------
        loss : float
        derivatives : ndarray of shape (outputs + scalars,)
            Sums of the derivatives by the margins, which are the gradient of the intercepts; then those by the further parameters.
        """


@runtime_checkable
class LocatedObjective(Protocol):
    """An objective that must know the keys which the local numbers of rows stand for."""

    @property
    def by_column(self) -> bool:
        """Whether it must know as well which raw column each key came from."""

    def located(self, keys: Array, columns: Array) -> Objective:
        """The objective on rows whose number i is feature ``keys[i]``, int64 (n,).

        Where it is `by_column`, this came from raw column ``columns[i]``, int32 (n,), -1 for a key that no row has.
        """


@runtime_checkable
class WholeObjective(Protocol):
    """An objective in which every feature has coefficients from the start, also one that no row has."""

    @property
    def features(self) -> int:
        """Their number, which is that of the rows' features."""

    def check_width(self, width: int, declared: int) -> None:
        """Raise unless the rows have so many.

        Parameters
        ----------
        width : int
            Length of their vectors; 0: they have none.
        declared : int
            The Param `numFeatures`; 0: it is not set.
        """


def parameter_rows(objective: Objective) -> int:
    """Rows of a table that the further parameters take: they lie one behind the other, `dim` to a row."""
    return -(-objective.scalars // objective.dim)


def is_of_residuals(objective: Objective) -> bool:
    """Whether a loss depends on label - margin alone: an offset is then as good as taken from the label."""
    return bool(getattr(objective, "of_residuals", False))


def explained(objective: Objective, chunk: Chunk) -> Array:
    """What features are to explain of each row, float64 (n,), and `LabelSums` are sums of: the label, less its offset if need be."""
    return chunk.labels - chunk.offsets if len(chunk.offsets) and is_of_residuals(objective) else chunk.labels


@runtime_checkable
class CurvedObjective(Protocol):
    """An objective of which is known about how curved it is."""

    def curvature(self, sums: LabelSums) -> float:
        """Second derivative of a mean row's loss by a margin, where training ends; above 0, and right to a factor of some."""


@runtime_checkable
class MeasuredObjective(Protocol):
    """An objective whose rows have metrics besides their loss."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Their names in `metrics.METRICS`."""

    def scores(self, chunk: Chunk, rows: Array, bias: Array) -> Array:
        """What these metrics take of each row: its margins, or what is predicted.

        Parameters
        ----------
        chunk : Chunk
        rows : ndarray of shape (keys, dim), float64
            Coefficients.
        bias : ndarray of shape (outputs + scalars,), float64

        Returns
        -------
        ndarray of shape (n,) or (n, outputs), float64
        """


def located(objective: Objective, keys: Array, columns: Array) -> Objective:
    """The objective on rows of these keys; most are the same on all."""
    return objective.located(keys, columns) if isinstance(objective, LocatedObjective) else objective


def by_column(objective: Objective) -> bool:
    """Whether it must know which raw column each key came from."""
    return isinstance(objective, LocatedObjective) and objective.by_column


__all__ = [
    "UNVARYING", "CurvedObjective", "LabelSums", "LocatedObjective", "MeasuredObjective", "Objective", "Start", "WholeObjective",
    "by_column", "explained", "is_of_residuals", "located", "parameter_rows",
]  # fmt: skip
