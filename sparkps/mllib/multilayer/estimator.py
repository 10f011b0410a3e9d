"""The estimator of multilayer perceptrons, but for its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.fitting import FittingEstimator
from sparkps.mllib.models.layers import count_of
from sparkps.mllib.multilayer.model import MultilayerModel
from sparkps.mllib.multilayer.objective import MultilayerPerceptron
from sparkps.mllib.params.multilayer import RANGES, SOLVERS, MultilayerSetters
from sparkps.mllib.solvers.job import TrainingJob
from sparkps.mllib.solvers.objective import Objective
from sparkps.mllib.training import Trained

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

M = TypeVar("M", bound=MultilayerModel)


class MultilayerEstimator(FittingEstimator[M], MultilayerSetters):
    """Trains a multilayer perceptron."""

    _solvers = SOLVERS
    _ranges = RANGES

    def _check_together(self) -> None:
        """What all estimators have, and networks of pyspark.ml do not."""
        name = type(self).__name__
        if self.isDefined(self.regParam) and self.getRegParam() != 0.0:
            raise InvalidParam(
                f"The `regParam` of {name} must be 0: it has no penalty. Got {self.getRegParam()!r}.", param="regParam"
            )
        if not self.getFitIntercept():
            raise InvalidParam(
                f"The `fitIntercept` of {name} must be True: every layer has biases. Got False.", param="fitIntercept"
            )
        if self._offset:
            raise InvalidParam(
                f"A {name} must have no `offsetCol`, which would change nothing in a softmax. Got {self._offset!r}.",
                param="offsetCol",
            )

    def _check(self) -> None:
        super()._check()
        name = type(self).__name__
        if not self.isDefined(self.layers):
            raise InvalidParam(
                f"The `layers` of {name} must be set: number of features, sizes of hidden layers, number of classes.",
                param="layers",
            )
        sizes = self.getLayers()
        if self.getNumFeatures() not in (0, sizes[0]):
            raise InvalidParam(
                f"The `numFeatures` of {name} must be the first of `layers`, {sizes[0]}. Got {self.getNumFeatures()} instead.",
                param="numFeatures",
            )
        if self.isDefined(self.initialWeights) and len(self.getInitialWeights()) != count_of(sizes):
            raise InvalidParam(
                f"The `initialWeights` of {name} must be {count_of(sizes)}, as `layers` {sizes} have weights and biases. Got"
                f" {len(self.getInitialWeights())}.",
                param="initialWeights",
            )
        if self.isDefined(self.initialWeights) and not np.isfinite(self.getInitialWeights().toArray()).all():
            raise InvalidParam(f"The `initialWeights` of {name} must be finite numbers.", param="initialWeights")

    def _objective(self) -> MultilayerPerceptron:
        given = (
            np.array(self.getInitialWeights().toArray(), np.float64) if self.isDefined(self.initialWeights) else None
        )
        return MultilayerPerceptron.of(self.getLayers(), self.getSeed(), given)

    def _unused(self, solver: str) -> tuple[str, ...]:
        return SOLVERS[self.getSolver()]

    def _solver(self) -> str:
        return "lbfgs"

    def _penalties(self) -> tuple[float, float]:
        return 0.0, 0.0

    def _job(self, objective: Objective, **more: Any) -> TrainingJob:
        return super()._job(objective, unscaled=True, fixed_steps=self.getSolver() == "gd", **more)

    def _made(self, dataset: DataFrame, trained: Trained) -> M:
        made = super()._made(dataset, trained)
        made.facts_["layers"] = self.getLayers()
        return made


__all__ = ["MultilayerEstimator"]
