"""Estimators of factorization machines."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from sparkps.mllib.fitting import FittingEstimator
from sparkps.mllib.fm.model import MachineModel
from sparkps.mllib.fm.objective import FactorizationMachine
from sparkps.mllib.params.factorization import RANGES, SOLVERS, STEP_SIZES, FactorSetters
from sparkps.mllib.solvers.job import TrainingJob

M = TypeVar("M", bound=MachineModel)

class MachineEstimator(FittingEstimator[M], FactorSetters):
    """Trains a factorization machine with a loss."""

    _solvers = SOLVERS
    _ranges = RANGES
    #: Name of the loss, in `kernel.LOSSES`.
    _loss: ClassVar[str]

    def _objective(self) -> FactorizationMachine:
        return FactorizationMachine(self.getFactorSize(), self._loss, self.getFitLinear(), self.getInitStd(), self.getSeed())

    def _rate(self) -> float:
        return self.getStepSize() if self.isSet(self.stepSize) else STEP_SIZES.get(self.getSolver(), self.getStepSize())

    def _job(self, **more: Any) -> TrainingJob:
        return super()._job(fraction=self.getMiniBatchFraction(), **more)


__all__ = ["MachineEstimator"]
