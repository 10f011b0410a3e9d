"""Linear classifiers with a threshold, as estimators."""

from __future__ import annotations

from typing import TypeVar

from sparkps.mllib.linear.classifiers import ProbabilisticModel
from sparkps.mllib.linear.estimator import LinearEstimator
from sparkps.mllib.params.setters import ColumnSetters

M = TypeVar("M", bound=ProbabilisticModel)


class BinaryClassifier(LinearEstimator[M], ColumnSetters):
    """Trains a `ProbabilisticModel`."""

    def _check_together(self) -> None:
        self._checkThresholdConsistency()


__all__ = ["BinaryClassifier"]
