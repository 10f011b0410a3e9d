"""Where full-batch solvers may begin: at what one pass row by row over the rows of each rank has learned.

Each rank goes through its own rows alone (see `row_by_row`). The start is the mean of their coefficients, each weighted by the sum of
its squared gradients: who has seen more of a feature knows more of it (Agarwal, Chapelle, Dudík and Langford, *A reliable effective
terascale linear learning system*, JMLR 2014, section 2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.data.store import Store
from sparkps.mllib.solvers import online_kernels
from sparkps.mllib.solvers.feature_scales import FeatureScales
from sparkps.mllib.solvers.objective import Objective
from sparkps.mllib.solvers.row_by_row import COEFFICIENT, COLUMNS, SCALE, SQUARES

Array = NDArray[Any]

#: Learning rate of the pass, that of the solver that learns row by row.
_RATE = 0.5


def has_pass(objective: Objective) -> bool:
    """Whether an objective of one margin can be learned row by row."""
    return objective.outputs == 1 and getattr(objective, "online", None) is not None


def one_pass(store: Store, objective: Any, intercept: float | None) -> tuple[Array, Array]:
    """What one pass over a rank's own rows, in their order, makes of coefficients that are 0.

    Parameters
    ----------
    store : Store
    objective : Objective
        One that `has_pass`, and is informed.
    intercept : float, optional
        Where the intercept begins; None: the model has none.

    Returns
    -------
    coefficients : ndarray of shape (keys,), float64
        Of the raw features, and of the intercept at its place.
    squares : ndarray of shape (keys,), float64
        Sums of squared gradients: what each coefficient weighs.
    """
    bias, unit = int(store.parameters[0]), float(getattr(objective, "unit", 1.0))
    scales = FeatureScales(store)
    scales.take(shared=False, intercept=bias if intercept is not None else -1)
    rows = np.zeros((len(store.keys), 3), np.float32)
    if intercept is not None:
        rows[bias, 0] = intercept
    state = np.empty((len(store.keys), COLUMNS), np.float32)
    online_kernels.enter(rows, scales.scales, unit, state)
    longest = 1 + max((int(np.diff(chunk.indptr).max(initial=0)) for chunk in store), default=0)
    room, totals = np.empty((3, longest), np.float32), np.zeros(2)
    for chunk in store:
        objective.online.of(chunk.values.dtype)(
            chunk.indptr, chunk.ids, chunk.values, chunk.labels / unit, chunk.weights, chunk.offsets / unit, state,
            bias if intercept is not None else -1, _RATE, 0.0, 0.0, np.empty(0), 0.0, room, totals,
        )  # fmt: skip
    coefficients = state[:, COEFFICIENT].astype(np.float64) * state[:, SCALE] * unit
    squares = state[:, SQUARES].astype(np.float64)
    learned = np.isfinite(coefficients) & np.isfinite(squares)  # a value beyond those of float32 teaches nothing
    return np.where(learned, coefficients, 0.0), np.where(learned, squares, 0.0)


__all__ = ["has_pass", "one_pass"]
