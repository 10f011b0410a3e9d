"""What factorization machines minimise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from sparkps.initializers import Initializer, Normal
from sparkps.mllib.data.labels import BinaryLabels, FiniteLabels, LabelRule
from sparkps.mllib.data.store import Chunk
from sparkps.mllib.fm import kernel
from sparkps.mllib.fm.initial import first_factors
from sparkps.mllib.solvers.objective import LabelSums, Start

Array = NDArray[Any]


@dataclass(frozen=True)
class FactorizationMachine:
    """The `Objective` of a factorization machine: a row's loss at its margin of single features and pairs. Picklable.

    A feature has 1 + `factors` values: its linear coefficient, then its factors.
    """

    #: Factors of a feature.
    factors: int
    #: Name of the loss in `kernel.LOSSES`.
    loss: str
    #: Whether features have linear coefficients; else these are not used.
    linear: bool
    #: Of the first factors: standard deviation, and seed.
    std: float
    seed: int

    #: See `Objective`.
    outputs: ClassVar[int] = 1
    scalars: ClassVar[int] = 0
    classes: ClassVar[int] = 0

    @property
    def dim(self) -> int:
        """See `Objective`."""
        return 1 + self.factors

    @property
    def label_rule(self) -> LabelRule:
        """See `Objective`."""
        return BinaryLabels() if self.loss == "log" else FiniteLabels()

    @property
    def kernels(self) -> tuple[str, ...]:
        """See `Objective`."""
        return (kernel.__name__,)

    @property
    def initializer(self) -> Initializer:
        """Law of the first rows of a table that the optimizers of the tier train."""
        return Normal(0.0, self.std)

    def first_rows(self, keys: Array, features: int) -> Array:
        """See `DrawnObjective`: linear coefficients of 0, and pyspark.ml's first factors where these can be had."""
        rows = np.zeros((len(keys), self.dim))
        rows[:, 1:] = first_factors(keys, features, self.factors, self.std, self.seed)
        return rows

    def informed(self, sums: LabelSums) -> Self:
        """See `Objective`."""
        return self

    def penalties(self, l1: float, l2: float) -> tuple[float, float]:
        """See `Objective`."""
        return l1, l2

    def start(self, sums: LabelSums) -> Start:
        """See `Objective`: at 0, as pyspark.ml."""
        return Start(np.zeros(1))

    def published(self, rows: Array, *, penalised: bool) -> Array:
        """See `Objective`: as it is."""
        return rows

    @property
    def metrics(self) -> tuple[str, ...]:
        """See `MeasuredObjective`."""
        return ("areaUnderROC", "logLoss") if self.loss == "log" else ("rmse", "mae")

    def scores(self, chunk: Chunk, rows: Array, bias: Array) -> Array:
        """See `MeasuredObjective`: the margins."""
        margins = np.empty(len(chunk))
        kernel.margins.of(chunk.values.dtype)(
            chunk.indptr, chunk.ids, chunk.values, rows, int(self.linear), float(bias[0]), margins
        )
        return margins + chunk.offsets if len(chunk.offsets) else margins

    def loss_and_gradient(self, chunks: Iterable[Chunk], state: Array, bias: Array) -> tuple[float, Array]:
        """See `Objective`.

        Examples
        --------
        >>> machine = FactorizationMachine(factors=1, loss="square", linear=True, std=0.1, seed=0)
        >>> chunk = Chunk(np.array([1.0]), np.empty(0), np.array([0, 2], np.int32), np.arange(2, dtype=np.int32), np.array([1.0, 2.0]))
        >>> state = np.zeros((2, 2, 2)); state[:, 0, 1] = 0.5, 1.0     # margin: 0.5·1 · 1·2
        >>> machine.loss_and_gradient([chunk], state, np.array([0.25]))
        (0.0625, array([0.5]))
        >>> state[:, 1].tolist()
        [[0.5, 1.0], [1.0, 0.5]]
        """
        totals, run = np.zeros(2), kernel.LOSSES[self.loss]
        for chunk in chunks:
            run.of(chunk.values.dtype)(
                chunk.indptr, chunk.ids, chunk.values, chunk.labels, chunk.weights, chunk.offsets, state, int(self.linear),
                float(bias[0]), totals,
            )  # fmt: skip
        return float(totals[0]), totals[1:]


__all__ = ["FactorizationMachine"]
