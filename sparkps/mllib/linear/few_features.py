"""Estimators that solve normal equations where there are few features, and descend where there are many."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sparkps.mllib.data.width import width_of
from sparkps.mllib.linear.estimator import LinearEstimator
from sparkps.mllib.linear.model import LinearModel
from sparkps.mllib.solvers.job import TrainingJob
from sparkps.mllib.solvers.moments import MOST_FEATURES
from sparkps.mllib.solvers.objective import Objective
from sparkps.mllib.solvers.ranks import no_rows

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

log = logging.getLogger(__name__)

M = TypeVar("M", bound=LinearModel)

#: Solvers that are for few features alone.
_FOR_FEW = ("normal", "irls")


class FewFeaturesEstimator(LinearEstimator[M]):
    """Trains a linear model by a solver that depends on how many features there are; see `_solver_for`."""

    #: As the driver knows it of the rows that are trained on; 0: nobody knows.
    _known_features: int = 0

    def _solver_for(self, features: int) -> str:
        """The driver's name for so many features.

        Parameters
        ----------
        features : int
            0: nobody knows.
        """
        raise NotImplementedError

    def _is_few(self, features: int) -> bool:
        """Whether their moments can be gathered; says why not."""
        if 0 < features <= MOST_FEATURES:
            return True
        many = f"there are {features} features" if features else "it is not known how many features there are"
        log.info("%s: %s, and normal equations are for at most %d: L-BFGS trains", self.uid, many, MOST_FEATURES)
        return False

    def _trained(self, dataset: DataFrame, fits: Sequence[tuple[Self, Objective]]) -> list[M]:
        first = fits[0][0]  # all are alike in what they read
        features = first.getNumFeatures()
        if not features and not first._has_raw_columns:
            column = first.getFeaturesCol()
            features = width_of(dataset, column)
            # Where there is no such column that is what is wrong, whatever rows there are; to look for one takes a job of Spark.
            if not features and first._solver() in _FOR_FEW and column in dataset.columns and dataset.isEmpty():
                raise no_rows(0)
        for estimator, _ in fits:
            estimator._known_features = features
        return super()._trained(dataset, fits)

    def _grid_key(self) -> str | None:
        """See `LinearEstimator`; what was asked for tells, since what it leads to depends on the rows."""
        key = super()._grid_key()
        return None if key is None else f"{self.getSolver()}: {key}"

    def _job(self, objective: Objective, **more: Any) -> TrainingJob:
        job = super()._job(objective, **more)
        solver = self._solver_for(self._known_features)
        self._check_l1(solver)
        if solver not in _FOR_FEW:
            return replace(job, solver=solver)
        return replace(job, solver=solver, columns=replace(job.columns, num_features=self._known_features))


__all__ = ["FewFeaturesEstimator"]
