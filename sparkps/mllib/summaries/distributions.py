"""Two-sided tail probabilities of Student's t and of the normal distribution: p-values, without scipy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Of the continued fraction: most terms, and the change at which it has converged. Terms needed grow with √dof at worst.
_TERMS = 10_000
_ENOUGH = 1e-15
#: Stands for 0 where the continued fraction divides.
_TINY = 1e-300


def normal_two_sided(z: ArrayLike) -> NDArray[np.float64]:
    """P(|Z| > |z|) of a standard normal Z.

    Parameters
    ----------
    z : array_like of float

    Returns
    -------
    ndarray of float64

    Examples
    --------
    >>> normal_two_sided([0.0, -1.959963984540054]).round(12).tolist()
    [1.0, 0.05]
    """
    return np.array([math.erfc(abs(float(each)) / math.sqrt(2.0)) for each in np.atleast_1d(np.asarray(z, dtype=np.float64))])


def student_t_two_sided(t: ArrayLike, dof: float) -> NDArray[np.float64]:
    """P(|T| > |t|) of a T that has Student's t distribution.

    It is the regularized incomplete beta function I_x(dof/2, 1/2) at x = dof / (dof + t²).

    Parameters
    ----------
    t : array_like of float
    dof : float
        Degrees of freedom, above 0; else the result is not a number.

    Returns
    -------
    ndarray of float64

    Examples
    --------
    >>> student_t_two_sided([0.0, 2.0, -2.0], 10).round(9).tolist()
    [1.0, 0.073388035, 0.073388035]

    References
    ----------
    Abramowitz, Stegun (1964), 26.7.1 and 26.5.8.
    """
    values = np.atleast_1d(np.asarray(t, dtype=np.float64))
    return np.array([_two_sided(float(each), float(dof)) for each in values])


def _two_sided(t: float, dof: float) -> float:
    if not dof > 0 or math.isnan(t):
        return math.nan
    square = t * t
    if math.isinf(square):
        return 0.0
    x, rest = dof / (dof + square), square / (dof + square)
    if rest <= 0.0 or x <= 0.0:
        return 1.0 if rest <= 0.0 else 0.0
    a = 0.5 * dof
    # x is close to 1 where t is small: its logarithm comes of what is missing.
    log_x = math.log1p(-rest) if rest < 0.5 else math.log(x)
    front = math.exp(_log_gamma_ratio(a) + a * log_x) * math.sqrt(rest / math.pi)
    if x < (a + 1.0) / (a + 2.5):
        return front * _continued_fraction(a, 0.5, x) / a
    return 1.0 - 2.0 * front * _continued_fraction(0.5, a, rest)


def _log_gamma_ratio(a: float) -> float:
    """log Γ(a + 1/2) - log Γ(a), whose terms cancel where a is large."""
    if a < 30.0:
        return math.lgamma(a + 0.5) - math.lgamma(a)
    r = 1.0 / a
    return 0.5 * math.log(a) - r / 8.0 + r**3 / 192.0 - r**5 / 640.0 + 17.0 * r**7 / 14336.0


def _continued_fraction(a: float, b: float, x: float) -> float:
    """That of the incomplete beta function, by Lentz's method."""
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    ratio = d
    for m in range(1, _TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        for term in (even, odd):
            d = 1.0 / _away_from_zero(1.0 + term * d)
            c = _away_from_zero(1.0 + term / c)
            ratio *= c * d
        if abs(c * d - 1.0) < _ENOUGH:
            break
    return ratio


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


__all__ = ["normal_two_sided", "student_t_two_sided"]
