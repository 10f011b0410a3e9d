"""The perceptron: a row on the wrong side moves the coefficients by itself (Rosenblatt 1958), and all that they were may be averaged.

The average of the coefficients over all rows of the training errs less than the last of them (Freund and Schapire 1999).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numba import types
from numpy.typing import NDArray

from sparkps.initializers import Initializer, Zeros
from sparkps.kernels.compiled import FLOATS, array, given, kernel
from sparkps.mllib.data.labels import BinaryLabels, LabelRule
from sparkps.mllib.data.store import Chunk
from sparkps.mllib.solvers.objective import LabelSums, Start

Array = NDArray[Any]
_I32, _F64 = types.int32, types.float64


@kernel(
    lambda t: (
        given(_I32), given(_I32), given(t), given(_F64), given(_F64), given(_F64), array(_F64), _F64, types.int64, array(_F64), array(_F64),
        array(_F64),
    ),
    dtypes=FLOATS,
)
def sweep(
    indptr: Any, ids: Any, values: Any, labels: Any, weights: Any, offsets: Any, current: Any, bias: float, fit_intercept: int, moved: Any,
    mean: Any, totals: Any,
) -> None:  # fmt: skip
    """Goes through the rows; `current` changes with every mistake.

    `moved` and `mean` (keys + 1,) get what coefficients and bias moved by, and its mean over the rows after each; ``totals[0]`` the weights
    of the mistakes. Rows of weight 0 are as if they were not there.
    """
    last_of_all, rows, met = moved.shape[0] - 1, labels.shape[0], 0
    for r in range(weights.shape[0]):
        rows -= weights[r] == 0.0
    for r in range(labels.shape[0]):
        weight = 1.0 if weights.shape[0] == 0 else weights[r]
        if weight == 0.0:
            continue
        met += 1
        margin = bias if offsets.shape[0] == 0 else bias + offsets[r]
        for k in range(indptr[r], indptr[r + 1]):
            margin += current[ids[k]] * (1.0 if values.shape[0] == 0 else values[k])
        side = 1.0 if labels[r] > 0.0 else -1.0
        if side * margin > 0.0:
            continue
        totals[0] += weight
        move, later = weight * side, (rows - met + 1) / rows
        for k in range(indptr[r], indptr[r + 1]):
            by = move * (1.0 if values.shape[0] == 0 else values[k])
            current[ids[k]] += by
            moved[ids[k]] += by
            mean[ids[k]] += by * later
        if fit_intercept:
            bias += move
            moved[last_of_all] += move
            mean[last_of_all] += move * later


@dataclass(frozen=True)
class PerceptronRule:
    """What `mixing` learns with: the rule of the perceptron. Picklable.

    Examples
    --------
    >>> chunk = Chunk(np.array([1.0, 0.0]), np.empty(0), np.array([0, 1, 2], np.int32), np.zeros(2, np.int32), np.array([2.0, 1.0]))
    >>> moved, mean, mistakes = PerceptronRule(True).sweep(chunk, np.zeros(1), 0.0, fit_intercept=False)
    >>> moved.tolist(), mean.tolist(), mistakes      # + 2 by the first row, - 1 by the second
    ([1.0, 0.0], [1.5, 0.0], 2.0)
    """

    averaged: bool

    #: See `Objective`.
    outputs: ClassVar[int] = 1
    dim: ClassVar[int] = 1
    scalars: ClassVar[int] = 0
    classes: ClassVar[int] = 0
    label_rule: ClassVar[LabelRule] = BinaryLabels()
    initializer: ClassVar[Initializer] = Zeros()
    kernels: ClassVar[tuple[str, ...]] = (__name__,)

    def sweep(self, chunk: Chunk, weights: Array, bias: float, *, fit_intercept: bool) -> tuple[Array, Array, float]:
        """See `Swept`."""
        moved, mean, totals = np.zeros(len(weights) + 1), np.zeros(len(weights) + 1), np.zeros(1)
        sweep.of(chunk.values.dtype)(
            chunk.indptr, chunk.ids, chunk.values, chunk.labels, chunk.weights, chunk.offsets, weights, bias, int(fit_intercept), moved,
            mean, totals,
        )  # fmt: skip
        return moved, mean, float(totals[0])

    def informed(self, sums: LabelSums) -> PerceptronRule:
        """See `Objective`."""
        return self

    def penalties(self, l1: float, l2: float) -> tuple[float, float]:
        """See `Objective`: it has none."""
        return l1, l2

    def start(self, sums: LabelSums) -> Start:
        """See `Objective`: at 0."""
        return Start(np.zeros(1))

    def published(self, rows: Array, *, penalised: bool) -> Array:
        """See `Objective`: as it is."""
        return rows

    def loss_and_gradient(self, chunks: Iterable[Chunk], state: Array, bias: Array) -> tuple[float, Array]:
        """The rule is no gradient's."""
        raise NotImplementedError("a perceptron learns row by row: solver 'mixing'")


__all__ = ["PerceptronRule", "sweep"]
