"""The losses under test, each with its formula: a new loss gets a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.data.store import Chunk
from tests.unit.mllib import pseudo_huber


@dataclass(frozen=True)
class Row:
    """What a loss must be."""

    #: The slow, obvious twin: loss of a margin and a label, and its derivative by the margin.
    twin: Callable[[float, float], tuple[float, float]]
    #: Labels to be tested with.
    labels: tuple[float, ...]
    #: Labels that must be refused.
    wrong: tuple[float, ...]


LOSSES = {
    "logistic": Row(
        lambda m, y: (np.logaddexp(0, m) - y * m, 1 / (1 + np.exp(-m)) - y), (0.0, 1.0), (-1.0, 0.5, 2.0, np.nan)
    ),
    "hinge": Row(
        lambda m, y: (max(0.0, 1 - (2 * y - 1) * m), (1 - 2 * y) if (2 * y - 1) * m < 1 else 0.0), (0.0, 1.0), (-1.0, 0.5, np.nan)
    ),
    "squared": Row(lambda m, y: (0.5 * (m - y) ** 2, m - y), (-1.5, 0.0, 40.0), (np.nan, np.inf)),
    pseudo_huber.PseudoHuber.name: Row(
        lambda m, y: (np.sqrt(1 + (m - y) ** 2) - 1, (m - y) / np.sqrt(1 + (m - y) ** 2)), (-1.5, 0.0, 40.0), (np.nan, np.inf)
    ),
}


def naive_sums(name: str, chunk: Chunk, w: NDArray[np.float64], bias: float) -> tuple[float, float, NDArray[np.float64]]:
    """Loss, derivative by the bias, and gradient, row by row and entry by entry."""
    loss = derivative = 0.0
    gradient = np.zeros(len(w))
    for r in range(len(chunk)):
        entries = range(chunk.indptr[r], chunk.indptr[r + 1])
        x = {k: (chunk.values[k] if len(chunk.values) else 1.0) for k in entries}
        weight = chunk.weights[r] if len(chunk.weights) else 1.0
        margin = bias + sum(w[chunk.ids[k]] * x[k] for k in entries)
        of_row, slope = LOSSES[name].twin(margin, chunk.labels[r])
        loss += weight * of_row
        derivative += weight * slope
        for k in entries:
            gradient[chunk.ids[k]] += weight * slope * x[k]
    return loss, derivative, gradient
