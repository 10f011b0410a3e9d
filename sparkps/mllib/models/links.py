"""What margins mean, by the name that saved models carry: functions of numpy arrays alone, for processes without Spark and numba, too.

A link is named as the function that gives the margin of a mean in generalized linear models (McCullagh and Nelder 1989, section 2.2), but
for "sigmoid" and "softmax", under whose names classifiers are saved. Here is what leads back, from margins to means.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import InvalidInput

Array = NDArray[Any]


def sigmoid(margins: Array) -> Array:
    """1 / (1 + exp(-margin)), without overflow: the probability of label 1 where a margin is the logarithm of its odds.

    Examples
    --------
    >>> sigmoid(np.array([0.0, -np.inf, 800.0])).tolist()
    [0.5, 0.0, 1.0]
    """
    e = np.exp(-np.abs(margins))
    made: Array = np.where(margins >= 0, 1.0, e) / (1.0 + e)
    return made


def softmax(margins: Array) -> Array:
    """exp(margin) over its sum in each row of margins (n, K), without overflow; a margin of +inf takes all.

    Examples
    --------
    >>> softmax(np.array([[0.0, 0.0], [900.0, -900.0], [np.inf, 1.0]])).tolist()
    [[0.5, 0.5], [1.0, 0.0], [1.0, 0.0]]
    """
    top = margins.max(axis=1, keepdims=True, initial=-np.finfo(np.float64).max)
    endless = np.isposinf(top[:, 0])
    if endless.any():
        made = np.zeros(margins.shape)
        made[endless, margins[endless].argmax(axis=1)] = 1.0
        made[~endless] = softmax(margins[~endless])
        return made
    powers: Array = np.exp(margins - top)
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def mixture(margins: Array) -> Array:
    """Probabilities of labels 0 and 1, float64 (n, 2), of m logistic regressions: margins (n, 2m), those of the gates first.

    Examples
    --------
    >>> mixture(np.array([[0.0, 0.0, np.inf, -np.inf]])).tolist()    # two regions, one for each label
    [[0.5, 0.5]]
    """
    gates, odds = np.hsplit(margins, 2)
    weights = np.exp(gates - gates.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    with np.errstate(over="ignore"):
        return np.stack([(weights / (1.0 + np.exp(sign * odds))).sum(axis=1) for sign in (1.0, -1.0)], axis=1)


def _normal_cdf(margins: Array) -> Array:
    """Φ(margin), without the compiled twin in `linear.special`: whoever scores in plain Python has no numba."""
    tail = np.fromiter(map(math.erfc, (np.ravel(margins) * -math.sqrt(0.5)).tolist()), np.float64, np.size(margins))
    made: Array = 0.5 * tail.reshape(np.shape(margins))
    return made


def _exp(margins: Array) -> Array:
    with np.errstate(over="ignore"):
        made: Array = np.exp(margins)
    return made


def _reciprocal(margins: Array) -> Array:
    with np.errstate(divide="ignore"):
        made: Array = 1.0 / margins
    return made


def _square(margins: Array) -> Array:
    with np.errstate(over="ignore"):
        made: Array = np.square(margins)
    return made


def _cloglog(margins: Array) -> Array:
    made: Array = -np.expm1(-_exp(margins))
    return made


#: By name of the link, the mean at each margin; of "sigmoid" and "logit" the probability of label 1, of "softmax" and "mixture" one for
#: each class.
LINKS: dict[str, Callable[[Array], Array]] = {
    "": lambda margins: margins,
    "cloglog": _cloglog,
    "identity": lambda margins: margins,
    "inverse": _reciprocal,
    "log": _exp,
    "logit": sigmoid,
    "mixture": mixture,
    "probit": _normal_cdf,
    "sigmoid": sigmoid,
    "softmax": softmax,
    "sqrt": _square,
}

#: What the names of power links begin with: margin = mean^p is "power(p)".
POWER = "power("


def link_named(name: str) -> Callable[[Array], Array]:
    """The mean at each margin, for the link of that name: one of `LINKS`, or a power.

    Raises
    ------
    InvalidInput
        There is no such link.

    Examples
    --------
    >>> link_named("power(0.5)")(np.array([3.0])).tolist()
    [9.0]
    """
    if name in LINKS:
        return LINKS[name]
    try:
        if not (name.startswith(POWER) and name.endswith(")")):
            raise ValueError
        exponent = 1.0 / float(name.removeprefix(POWER).removesuffix(")"))
    except (ValueError, ZeroDivisionError):
        known = ", ".join(filter(None, LINKS))
        raise InvalidInput(f"A link must be one of {known}, or power(p) with p other than 0. Got {name!r}.") from None

    def power(margins: Array) -> Array:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            made: Array = np.power(margins, exponent)
        return made

    return power


#: Those whose means are probabilities of classes, and so the links of classifiers.
PROBABILITIES = frozenset({"mixture", "sigmoid", "softmax"})

__all__ = ["LINKS", "POWER", "PROBABILITIES", "link_named", "mixture", "sigmoid", "softmax"]
