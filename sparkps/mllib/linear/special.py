"""Functions of the normal and gamma distributions, element by element; numpy has none of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from sparkps.kernels.compiled import array, given, inlined, kernel

Array = NDArray[Any]

_F64 = types.float64

_SQRT2 = math.sqrt(2.0)
_SQRT_2PI = math.sqrt(2.0 * math.pi)

#: Steps of Halley's method from a start with an error below 5e-4: each triples the digits.
_STEPS = 3


@inlined
def _lower_tail(x: float) -> float:
    return 0.5 * math.erfc(-x / _SQRT2)


@inlined
def _start_of_tail(p: float) -> float:
    """Where the upper tail is p <= 1/2, to 4.5e-4 (Abramowitz and Stegun, 26.2.23)."""
    t = math.sqrt(-2.0 * math.log(p))
    above = (0.010328 * t + 0.802853) * t + 2.515517
    return t - above / (((0.001308 * t + 0.189269) * t + 1.432788) * t + 1.0)


@kernel(lambda _: (given(_F64), array(_F64)))
def fill_normal_cdf(x: Any, out: Any) -> None:
    """P(X <= x) of a standard normal X."""
    for i in range(x.shape[0]):
        out[i] = _lower_tail(x[i])


@kernel(lambda _: (given(_F64), array(_F64)))
def fill_normal_quantile(p: Any, out: Any) -> None:
    """The x of which P(X <= x) = p; infinite at 0 and 1."""
    for i in range(p.shape[0]):
        if p[i] <= 0.0 or p[i] >= 1.0:
            out[i] = math.nan if p[i] < 0.0 or p[i] > 1.0 else (-math.inf if p[i] == 0.0 else math.inf)
            continue
        tail = min(p[i], 1.0 - p[i])
        x = -_start_of_tail(tail)  # the lower tail is exact where the upper one would be 1 - p
        for _step in range(_STEPS):
            error = (_lower_tail(x) - tail) * _SQRT_2PI * math.exp(0.5 * x * x)
            x -= error / (1.0 + 0.5 * x * error)
        out[i] = x if p[i] < 0.5 else -x


@kernel(lambda _: (given(_F64), array(_F64)))
def fill_log_gamma(x: Any, out: Any) -> None:
    """log Γ(x)."""
    for i in range(x.shape[0]):
        out[i] = math.lgamma(x[i])


def _of(fill: Any, x: Any) -> Array:
    given_ = np.ascontiguousarray(x, np.float64)
    out = np.empty_like(given_)
    fill(given_.ravel(), out.ravel())
    return out


def normal_cdf(x: Any) -> Array:
    """P(X <= x) of a standard normal X.

    Parameters
    ----------
    x : array_like of float64

    Examples
    --------
    >>> normal_cdf([0.0, -40.0]).tolist()
    [0.5, 0.0]
    """
    return _of(fill_normal_cdf, x)


def normal_quantile(p: Any) -> Array:
    """The x of which P(X <= x) = p.

    Parameters
    ----------
    p : array_like of float64
        In [0, 1].

    Examples
    --------
    >>> normal_quantile([0.0, 1.0]).tolist()
    [-inf, inf]
    >>> normal_quantile([0.975]).round(12).tolist()
    [1.95996398454]
    """
    return _of(fill_normal_quantile, p)


def normal_density(x: Any) -> Array:
    """Density of a standard normal.

    Examples
    --------
    >>> normal_density([0.0]).round(12).tolist()
    [0.398942280401]
    """
    made: Array = np.exp(-0.5 * np.square(x)) / _SQRT_2PI
    return made


def log_gamma(x: Any) -> Array:
    """log Γ(x).

    Examples
    --------
    >>> np.exp(log_gamma([5.0])).round(9).tolist()
    [24.0]
    """
    return _of(fill_log_gamma, x)


__all__ = ["log_gamma", "normal_cdf", "normal_density", "normal_quantile"]
