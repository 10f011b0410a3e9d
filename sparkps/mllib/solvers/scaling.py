"""Scaled coordinates: standard deviations of all features out of sums, and what the penalty weighs in them.

With σ the standard deviation of a feature, its coefficient in scaled coordinates is σ times the one of the raw feature. A
feature that never varies keeps coefficient 0, as in pyspark.ml.

So the loss is about as curved along every coordinate. A penalty on the raw coefficients is not: of a rare feature it outweighs the loss by
far. Where the steps are ours to choose, the unit of a coordinate is therefore one in which loss and penalty together have the same
curvature: Jacobi's preconditioner (Nocedal and Wright, *Numerical Optimization*, section 5.1), which takes half the iterations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.solvers.objective import LabelSums

Array = NDArray[Any]

#: Elements of the table of facts, sums over all rows: weight, weight², weight·label, weight·label²; after them the weight of each class.
FACTS = 4

#: Columns of the table of statistics: sum, weight of entries, number of ranks that hold the feature.
STATISTICS = 3

#: A standard deviation below this fraction of the mean is rounding: the feature is constant.
_CONSTANT = 1e-10

#: A weight below this fraction of all is rounding: no row lacks the feature.
_ROUNDED = 1e-12


@dataclass(frozen=True)
class Scaling:
    """Per local feature, with the parameters that belong to none among them."""

    #: 1 / unit, and 0 for a feature that is constant; 1 for a parameter.
    inverse: Array
    #: mean / unit; 0 for a parameter.
    scaled_mean: Array
    #: This rank's share of the penalty's weight.
    penalty: Array
    #: unit / σ, and 0 for a feature that is constant; 1 for a parameter.
    by_deviation: Array


def label_sums(facts: Array) -> LabelSums:
    """What the table of facts says of the labels.

    Examples
    --------
    >>> label_sums(np.array([4.0, 6.0, 1.0, 1.0, 3.0, 1.0])).classes.tolist()
    [3.0, 1.0]
    """
    weight, weight_squares, labels, squares = (float(each) for each in facts[:FACTS])
    return LabelSums(weight, labels, squares, weight_squares, facts[FACTS:])


def scaling(
    statistics: Array,
    squares: Array,
    weight: float,
    weight_squares: float,
    parameters: Array,
    *,
    l2: float,
    standardization: bool,
    curvature: float = 0.0,
) -> Scaling:
    """Standard deviations and penalties out of the statistics of all rows.

    Parameters
    ----------
    statistics : ndarray of shape (n, STATISTICS), float64
    squares : ndarray of shape (n,), float64
        Of each feature's entries less its mean, the sum.
    weight, weight_squares : float
        Sum of the rows' weights and of their squares.
    parameters : ndarray of int64
        Rows that belong to no feature: those of the intercept and of further parameters.
    l2 : float
    standardization : bool
    curvature : float
        Of the loss by a margin, where coordinates are to be as curved as each other; 0: their unit is σ.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 3.0, 0.0])           # one feature, its zero left out
    >>> mean = x.mean(); entries = x[:3]
    >>> stats = np.array([[x.sum(), 3, 1], [0, 0, 1]])
    >>> found = scaling(stats, np.array([((entries - mean) ** 2).sum(), 0]), 4.0, 4.0, np.array([1]), l2=0.1, standardization=True)
    >>> bool(np.isclose(1 / found.inverse[0], x.std(ddof=1)))
    True
    """
    total, entries, holders = statistics.T
    mean = total / weight
    lacking = weight - entries  # of rows without an entry; both sums are rounded
    spread = squares + np.where(lacking > _ROUNDED * weight, lacking, 0.0) * mean**2
    freedom = weight - weight_squares / weight
    deviation = np.sqrt(np.maximum(spread, 0.0) / freedom) if freedom > 0 else np.zeros(len(mean))
    varies = deviation > _CONSTANT * np.abs(mean)
    by_penalty = 0.0 if standardization or not curvature else math.sqrt(l2) / math.sqrt(curvature)
    unit = np.hypot(deviation, by_penalty)
    inverse = np.divide(1.0, unit, out=np.zeros(len(mean)), where=varies)
    by_deviation = np.divide(unit, deviation, out=np.zeros(len(mean)), where=varies)
    scaled_mean = mean * inverse
    penalty = l2 / np.maximum(holders, 1.0)
    if not standardization:
        penalty = penalty * inverse**2
    inverse[parameters], scaled_mean[parameters], penalty[parameters], by_deviation[parameters] = 1.0, 0.0, 0.0, 1.0
    return Scaling(inverse, scaled_mean, penalty, by_deviation)


def unscaled(statistics: Array, parameters: Array, *, l2: float) -> Scaling:
    """Coordinates that are the coefficients of the raw features, for objectives that are not convex in them.

    Parameters
    ----------
    statistics, parameters, l2
        As for `scaling`.

    Examples
    --------
    >>> unscaled(np.array([[6.0, 3.0, 2.0], [0.0, 0.0, 1.0]]), np.array([1]), l2=0.5).penalty.tolist()    # two ranks share the first
    [0.25, 0.0]
    """
    ones, penalty = np.ones(len(statistics)), l2 / np.maximum(statistics[:, 2], 1.0)
    penalty[parameters] = 0.0
    return Scaling(ones, np.zeros(len(statistics)), penalty, ones)


def l1_weights(inverse: Array, parameters: Array, *, l1: float, standardization: bool) -> Array:
    """Weight of each scaled coefficient in the L1 norm: float64 (n,), 0 for parameters that belong to no feature.

    Parameters
    ----------
    inverse, parameters : ndarray
        As in `Scaling` and `scaling`.
    l1 : float
    standardization : bool

    Examples
    --------
    >>> l1_weights(np.array([0.5, 1.0]), np.array([1]), l1=0.2, standardization=False).tolist()    # |w/2|·0.2
    [0.1, 0.0]
    """
    weights = np.full(len(inverse), l1) if standardization else l1 * inverse
    weights[parameters] = 0.0
    return weights


__all__ = ["FACTS", "STATISTICS", "Scaling", "l1_weights", "label_sums", "scaling", "unscaled"]
