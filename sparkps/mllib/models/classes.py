"""Which class is predicted, as pyspark.ml chooses it: in numpy alone, for processes without Spark, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def class_of_two(probability: Array, threshold: float) -> Array:
    """1.0 where the probability of label 1 is above the threshold, else 0.0.

    Examples
    --------
    >>> class_of_two(np.array([0.5, 0.7]), 0.5).tolist()
    [0.0, 1.0]
    """
    return (probability > threshold).astype(np.float64)


def class_of(raw: Array, probability: Array, thresholds: Sequence[float] | None = None) -> Array:
    """The class of each row, float64 (n,): that of the largest raw prediction, the first of several.

    With thresholds it is that of the largest ratio of probability and threshold. Where one threshold is 0 its class is chosen always, but
    for rows where its probability is 0, too.

    Parameters
    ----------
    raw, probability : ndarray of shape (n, K), float64
    thresholds : sequence of K floats, optional

    Examples
    --------
    >>> p = np.array([[0.2, 0.5, 0.3], [0.0, 0.9, 0.1]])
    >>> class_of(p, p).tolist(), class_of(p, p, [0.0, 1.0, 0.1]).tolist()
    ([1.0, 1.0], [0.0, 2.0])
    """
    if thresholds is None:
        best: Array = raw.argmax(axis=1)
        return best.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = probability / np.asarray(thresholds, np.float64)
    best = np.where(np.isnan(scaled), -np.inf, scaled).argmax(axis=1)
    return best.astype(np.float64)


__all__ = ["class_of", "class_of_two"]
