"""The kernel that brings derivatives by margins back to the coefficients of features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from sparkps.kernels.compiled import FLOATS, array, given, kernel
from sparkps.kernels.intrinsics import data

_I32, _F64 = types.int32, types.float64


@kernel(lambda t: (given(_I32), given(_I32), given(t), given(_F64, 2), array(_F64, 3)), dtypes=FLOATS)
def add_to_gradient(indptr: Any, ids: Any, values: Any, derivatives: Any, state: Any) -> None:
    """Adds x·derivative of each entry and output to the gradient ``state[:, 1]``; no values are all 1."""
    ones, width, flat = values.shape[0] == 0, derivatives.shape[1], data(state)
    slopes = np.empty(width)  # not `derivatives` itself, which might be part of `state` for all that a compiler knows
    for r in range(derivatives.shape[0]):
        for k in range(width):
            slopes[k] = derivatives[r, k]
        for e in range(np.int64(indptr[r]), np.int64(indptr[r + 1])):
            value = 1.0 if ones else np.float64(values[e])
            place = (2 * np.int64(ids[e]) + 1) * width
            for k in range(width):
                flat[place + k] += value * slopes[k]


__all__ = ["add_to_gradient"]
