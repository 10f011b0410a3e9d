"""Estimators of factorization machines."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.fitting import FittingEstimator
from sparkps.mllib.fm.field_aware import FieldAwareMachine
from sparkps.mllib.fm.model import MachineModel
from sparkps.mllib.fm.objective import FactorizationMachine
from sparkps.mllib.params.factorization import RANGES, SOLVERS, STEP_SIZES, FactorSetters
from sparkps.mllib.params.fields import RANGES as FIELD_RANGES
from sparkps.mllib.params.fields import SOLVERS as FIELD_SOLVERS
from sparkps.mllib.params.fields import STEP_SIZES as FIELD_STEP_SIZES
from sparkps.mllib.params.fields import FieldParams
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


class FieldMachineEstimator(FittingEstimator[M], FieldParams, FactorSetters):
    """Trains a field-aware factorization machine of two classes."""

    _solvers = FIELD_SOLVERS
    _ranges = FIELD_RANGES

    def _check(self) -> None:
        super()._check()
        if self.hasParam("inputCols") and self.isDefined(self.getParam("inputCols")):
            raise InvalidParam(
                f"{type(self).__name__} must read a column of numbered features, of which `fieldStarts` makes fields. Got `inputCols`; set"
                " `featuresCol` instead.",
                param="inputCols",
            )
        if not self.isDefined(self.fieldStarts):
            raise InvalidParam(
                f"The `fieldStarts` of {type(self).__name__} must say which features make up which field. They are not set; give the index"
                " of the first feature of each field, ascending from 0.",
                param="fieldStarts",
            )

    def _objective(self) -> FieldAwareMachine:
        linear, starts = self.getFitLinear(), tuple(self.getFieldStarts())
        return FieldAwareMachine(
            self.getFactorSize(), "log", linear, self.getInitStd(), self.getSeed(), starts=starts, normal=self.getNormalizeRows()
        )

    def _rate(self) -> float:
        return self.getStepSize() if self.isSet(self.stepSize) else FIELD_STEP_SIZES[self.getSolver()]


__all__ = ["FieldMachineEstimator", "MachineEstimator"]
