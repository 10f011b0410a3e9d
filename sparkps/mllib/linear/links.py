"""What margins mean, by the name that saved models carry: functions of numpy arrays alone, for processes without Spark and numba, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def sigmoid(margins: NDArray[Any]) -> NDArray[Any]:
    """1 / (1 + exp(-margin)), without overflow: the probability of label 1 where a margin is the logarithm of its odds.

    Examples
    --------
    >>> sigmoid(np.array([0.0, -np.inf, 800.0])).tolist()
    [0.5, 0.0, 1.0]
    """
    e = np.exp(-np.abs(margins))
    made: NDArray[Any] = np.where(margins >= 0, 1.0, e) / (1.0 + e)
    return made


#: Probability of label 1 at each margin.
LINKS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {"sigmoid": sigmoid}

__all__ = ["LINKS", "sigmoid"]
