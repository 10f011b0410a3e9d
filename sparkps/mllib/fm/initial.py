"""First factors: those that pyspark.ml draws, where the number of features is known and moderate, else a function of each key alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from sparkps.initializers import LawKind
from sparkps.kernels.compiled import array, given, kernel
from sparkps.kernels.initial import draw

#: Draws of the sequence that a rank goes through: a second or two. Larger models draw by key.
MOST_DRAWS = 1 << 26

_MULTIPLIER, _INCREMENT, _BITS_48 = 0x5DEECE66D, 0xB, (1 << 48) - 1
_UNIT_53 = 1.0 / (1 << 53)
_NORMAL = int(LawKind.NORMAL)


@kernel(lambda _: (types.int64, types.int64, types.int64, given(types.int64), types.float64, array(types.float64, 2)))
def _java_normals(state: int, features: int, factors: int, where: Any, std: float, out: Any) -> None:
    """Goes through the sequence, features after each other; feature i's draws go to row ``where[i]`` unless that is negative."""
    saved, has_saved = 0.0, False
    for i in range(features):
        row = where[i]
        for f in range(factors):
            if has_saved:
                value, has_saved = saved, False
            else:
                size = 0.0
                first = second = 0.0
                while size >= 1.0 or size == 0.0:
                    high = state = (state * _MULTIPLIER + _INCREMENT) & _BITS_48
                    state = (state * _MULTIPLIER + _INCREMENT) & _BITS_48
                    first = 2.0 * (((high >> 22) << 27) + (state >> 21)) * _UNIT_53 - 1.0
                    high = state = (state * _MULTIPLIER + _INCREMENT) & _BITS_48
                    state = (state * _MULTIPLIER + _INCREMENT) & _BITS_48
                    second = 2.0 * (((high >> 22) << 27) + (state >> 21)) * _UNIT_53 - 1.0
                    size = first * first + second * second
                scale = math.sqrt(-2.0 * math.log(size) / size)
                value, saved, has_saved = first * scale, second * scale, True
            if row >= 0:
                out[row, f] = value * std


@kernel(lambda _: (given(types.int64), types.int64, types.float64, array(types.float64, 2)))
def _keyed_normals(keys: Any, seed: int, std: float, out: Any) -> None:
    """``out[i, f]`` is draw f of key i, whatever the other keys are."""
    for i in range(keys.shape[0]):
        for f in range(out.shape[1]):
            out[i, f] = draw(_NORMAL, 0.0, std, seed, keys[i], f)


def first_factors(keys: NDArray[np.int64], features: int, factors: int, std: float, seed: int) -> NDArray[np.float64]:
    """First factors of `keys`.

    They are those of pyspark.ml, a sequence of java.util.Random over all features, where there are at most `MOST_DRAWS` of them.

    Parameters
    ----------
    keys : ndarray of shape (n,), int64
        Distinct; keys that are not in [0, features) get zeros in the first case.
    features : int
        Of the model; 0: unknown.
    factors : int
    std : float
        Standard deviation.
    seed : int

    Returns
    -------
    ndarray of shape (n, factors), float64

    Examples
    --------
    >>> first_factors(np.array([0]), 1, 2, 0.01, seed=11).round(4).tolist()
    [[0.0163, -0.0051]]
    """
    out = np.zeros((len(keys), factors))
    if not 0 < features * factors <= MOST_DRAWS:
        _keyed_normals(keys, seed, std, out)
        return out
    known = (keys >= 0) & (keys < features)
    where = np.full(features, -1, np.int64)
    where[keys[known]] = np.flatnonzero(known)
    _java_normals((seed ^ _MULTIPLIER) & _BITS_48, features, factors, where, std, out)
    return out


__all__ = ["MOST_DRAWS", "first_factors"]
