"""Cyclic coordinate descent on a quadratic with an L1 penalty.

Friedman, Hastie and Tibshirani, Regularization paths for generalized linear models via coordinate descent, Journal of Statistical
Software 33 (2010), section 2.2, "covariance updates".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from sparkps.kernels.compiled import array, given, kernel

Array = NDArray[Any]

_F64 = types.float64

#: Ends when no coordinate of a sweep has moved the objective by more than this fraction of its scale, or after so many sweeps.
_TOLERANCE, _MOST_SWEEPS = 1e-20, 100_000


@kernel(lambda _: (given(_F64, 2), given(_F64), array(_F64), array(_F64)))
def sweep(gram: Any, l1: Any, w: Any, residual: Any) -> float:
    """Minimises by each coordinate in turn; `residual` is products - gram·w. Returns the largest gram_jj·(step of j)²."""
    largest = 0.0
    for j in range(w.shape[0]):
        curvature = gram[j, j]
        if curvature <= 0.0:
            continue
        pull = residual[j] + curvature * w[j]
        wanted = max(abs(pull) - l1[j], 0.0) / curvature
        step = (wanted if pull > 0 else -wanted) - w[j]
        if step != 0.0:
            w[j] += step
            largest = max(largest, curvature * step * step)
            for i in range(w.shape[0]):
                residual[i] -= step * gram[j, i]
    return largest


def descended(gram: Array, products: Array, square: float, l1: Array) -> tuple[Array, tuple[float, ...]]:
    """Where ½·(square - 2 wᵀ·products + wᵀ·gram·w) + Σ l1·|w| is least, and its values: at 0 and after each sweep.

    Parameters
    ----------
    gram : ndarray of shape (p, p), float64
        Symmetric and positive semi-definite.
    products, l1 : ndarray of shape (p,), float64
    square : float

    Examples
    --------
    >>> w, history = descended(np.eye(2), np.array([3.0, -0.5]), 9.0, np.ones(2))
    >>> w.tolist(), history[0], history[-1]
    ([2.0, 0.0], 4.5, 2.5)
    """
    gram, w, residual = np.ascontiguousarray(gram), np.zeros(len(products)), np.array(products, np.float64)
    history = [0.5 * square]
    for _ in range(_MOST_SWEEPS):
        moved = sweep(gram, l1, w, residual)
        history.append(0.5 * (square - float(w @ (products + residual))) + float(l1 @ np.abs(w)))
        if moved <= _TOLERANCE * max(abs(square), 1.0):
            break
    return w, tuple(history)


__all__ = ["descended", "sweep"]
