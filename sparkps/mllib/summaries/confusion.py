"""Metrics of classes from their confusion matrix, as `org.apache.spark.mllib.evaluation.MulticlassMetrics` defines them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Confusion:
    """Weights of rows by their label and their prediction, for the labels that occur.

    Examples
    --------
    >>> found = Confusion.of([(0.0, 0.0, 3.0), (0.0, 1.0, 1.0), (1.0, 1.0, 2.0)])
    >>> found.labels.tolist(), found.precision.round(3).tolist(), found.recall.tolist(), round(found.accuracy, 3)
    ([0.0, 1.0], [1.0, 0.667], [0.75, 1.0], 0.833)
    """

    #: float64 (labels,), ascending: the labels of rows. A class that is only predicted is none of them.
    labels: Array
    #: float64 (labels,): weight of the rows of each label, of those of them predicted as that, and of other rows predicted as that.
    weights: Array
    hits: Array
    false_alarms: Array

    @classmethod
    def of(cls, counted: Iterable[tuple[float, float, float]]) -> Confusion:
        """From label, prediction, and weight of the rows that have both."""
        cells = [(float(label), float(prediction), float(weight)) for label, prediction, weight in counted]
        labels = sorted({label for label, _, _ in cells})
        places = {label: i for i, label in enumerate(labels)}
        weights, hits, false_alarms = np.zeros((3, len(labels)))
        for label, prediction, weight in cells:
            weights[places[label]] += weight
            if label == prediction:
                hits[places[label]] += weight
            elif prediction in places:
                false_alarms[places[prediction]] += weight
        return cls(np.array(labels), weights, hits, false_alarms)

    # ---- by label ------------------------------------------------------------------------------------------------------

    @property
    def recall(self) -> Array:
        """Share of each label's rows that were predicted as it; the true positive rate."""
        return _quotient(self.hits, self.weights)

    @property
    def false_positive_rate(self) -> Array:
        """Share of the rows of other labels that were predicted as it; not a number where there are none."""
        return _quotient(self.false_alarms, self.weights.sum() - self.weights)

    @property
    def precision(self) -> Array:
        """Share of the rows predicted as each label that have it; 0 where there are none."""
        found = _quotient(self.hits, self.hits + self.false_alarms)
        found[self.hits + self.false_alarms == 0] = 0.0
        return found

    def f_measure(self, beta: float = 1.0) -> Array:
        """(1 + β²)·precision·recall / (β²·precision + recall) of each label; 0 where both are."""
        precision, recall = self.precision, self.recall
        found = _quotient((1 + beta * beta) * precision * recall, beta * beta * precision + recall)
        found[precision + recall == 0] = 0.0
        return found

    # ---- of all labels -------------------------------------------------------------------------------------------------

    @property
    def accuracy(self) -> float:
        """Share of the rows whose label was predicted."""
        return float(_quotient(self.hits.sum(), self.weights.sum()))

    def mean(self, metric: Array) -> float:
        """Mean over labels, by the weight of their rows."""
        return float((metric * _quotient(self.weights, self.weights.sum())).sum())


def _quotient(above: Array, below: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.divide(above, below))


__all__ = ["Confusion"]
