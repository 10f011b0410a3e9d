"""What objectives of several margins a row share: as `loss.Loss`, with a row of coefficients a feature."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from sparkps.initializers import Initializer, Zeros
from sparkps.kernels.compiled import Kernel
from sparkps.mllib.data.labels import LabelRule
from sparkps.mllib.data.store import Chunk
from sparkps.mllib.linear.margins import margins_of_many
from sparkps.mllib.solvers.objective import LabelSums, Start

Array = NDArray[Any]


@dataclass(frozen=True)
class ManyMargins(ABC):
    """An `Objective` that depends on a row's margins m_k = b_k + Σ x·w_k and its label alone. Picklable."""

    #: Margins of a row.
    outputs: int

    #: Made by `many_kernel.fused_many`.
    kernel: ClassVar[Kernel]
    #: Made by `row_by_row_many.row_by_row_many`; None: this objective cannot be learned row by row.
    online: ClassVar[Kernel | None] = None
    #: See `Objective`.
    scalars: ClassVar[int] = 0
    initializer: ClassVar[Initializer] = Zeros()
    metrics: ClassVar[tuple[str, ...]] = ()

    @property
    def dim(self) -> int:
        """See `Objective`: a coefficient for each margin."""
        return self.outputs

    @property
    def classes(self) -> int:
        """See `Objective`: as many as there are margins."""
        return self.outputs

    @property
    @abstractmethod
    def label_rule(self) -> LabelRule:
        """See `Objective`."""

    @property
    def kernels(self) -> tuple[str, ...]:
        """See `Objective`."""
        return (self.kernel.module,)

    def informed(self, sums: LabelSums) -> Self:
        """See `Objective`."""
        return self

    def penalties(self, l1: float, l2: float) -> tuple[float, float]:
        """See `Objective`."""
        return l1, l2

    @abstractmethod
    def start(self, sums: LabelSums) -> Start:
        """See `Objective`."""

    def published(self, rows: Array, *, penalised: bool) -> Array:
        """See `Objective`: as it is."""
        return rows

    def loss_and_gradient(self, chunks: Iterable[Chunk], state: Array, bias: Array) -> tuple[float, Array]:
        """See `Objective`."""
        totals = np.zeros(1 + self.outputs)
        for chunk in chunks:
            self.kernel.of(chunk.values.dtype)(
                chunk.indptr, chunk.ids, chunk.values, chunk.labels, chunk.weights, chunk.offsets, state, bias, totals
            )
        return float(totals[0]), totals[1:]

    def scores(self, chunk: Chunk, rows: Array, bias: Array) -> Array:
        """See `MeasuredObjective`: the margins."""
        return margins_of_many(chunk, rows, bias)


__all__ = ["ManyMargins"]
