"""Metrics of rows for validation: each rank's part of them, and what the parts of all ranks come to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.tables import SparseTable
from sparkps.mllib.data.store import Chunk
from sparkps.mllib.metrics import MetricSet
from sparkps.mllib.solvers.job import TrainingJob
from sparkps.mllib.solvers.objective import MeasuredObjective, Objective

Array = NDArray[Any]


def metrics_of(job: TrainingJob) -> MetricSet:
    """Metrics that a job's rows for validation have besides their loss; none where there are no such rows."""
    objective = job.objective
    if not job.columns.validation or not isinstance(objective, MeasuredObjective):
        return MetricSet(())
    return MetricSet.named(objective.metrics)


def parts_of(metrics: MetricSet, objective: Objective, chunks: Iterable[Chunk], rows: Array, bias: Array) -> Array:
    """A rank's part of the metrics, float64 (metrics.size,): the parts of all ranks add up.

    Parameters
    ----------
    metrics : MetricSet
        Of `metrics_of`.
    objective : Objective
    chunks : iterable of Chunk
        The rank's rows for validation.
    rows : ndarray of shape (keys, dim), float64
        Coefficients.
    bias : ndarray of shape (outputs + scalars,), float64

    Examples
    --------
    >>> from sparkps.mllib.linear.losses.logistic import Logistic
    >>> chunk = Chunk(np.array([1.0, 0.0]), np.empty(0), np.array([0, 1, 2], np.int32), np.array([0, 1], np.int32), np.empty(0))
    >>> metrics = MetricSet.named(Logistic.metrics)
    >>> found = metrics.values(parts_of(metrics, Logistic(), [chunk], np.array([[1.0], [-1.0]]), np.zeros(1)))
    >>> {name: round(value, 4) for name, value in found.items()}
    {'areaUnderROC': 1.0, 'logLoss': 0.3133}
    """
    total = np.zeros(metrics.size)
    if metrics.metrics and isinstance(objective, MeasuredObjective):
        for chunk in chunks:
            total += metrics.parts(objective.scores(chunk, rows, bias), chunk.labels, chunk.weights)
    return total


class MetricHistory:
    """Values of metrics from one iteration to the next, by name.

    Parameters
    ----------
    metrics : MetricSet

    Examples
    --------
    >>> history = MetricHistory(MetricSet.named(["rmse"]))
    >>> history.tell(np.array([18.0, 2.0])); history.tell(np.array([8.0, 2.0]))
    >>> history.values
    {'rmse': [3.0, 2.0]}
    """

    def __init__(self, metrics: MetricSet) -> None:
        self._metrics = metrics
        #: One list for each metric, all equally long.
        self.values: dict[str, list[float]] = {each.name: [] for each in metrics.metrics}

    def tell(self, parts: Array) -> None:
        """The sum of all ranks' parts after one more iteration."""
        for name, value in self._metrics.values(parts).items():
            self.values[name].append(value)


def metric_values(job: TrainingJob, parts: SparseTable | None, epochs: int) -> dict[str, list[float]]:
    """By name, the metrics of rows for validation after each of so many epochs, of a table with a row of sums for each epoch."""
    history = MetricHistory(metrics_of(job))
    if parts is not None:
        for sums in parts.pull(np.arange(epochs)):
            history.tell(sums)
    return history.values


__all__ = ["MetricHistory", "metric_values", "metrics_of", "parts_of"]
