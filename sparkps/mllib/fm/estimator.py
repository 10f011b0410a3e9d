"""Estimators of factorization machines."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.fitting import FittingEstimator
from sparkps.mllib.fm.field_aware import FieldAwareMachine
from sparkps.mllib.fm.model import MachineModel
from sparkps.mllib.fm.objective import FactorizationMachine
from sparkps.mllib.params.factorization import RANGES, SOLVERS, STEP_SIZES, FactorSetters
from sparkps.mllib.params.fields import MOST_FIELDS, FieldParams
from sparkps.mllib.params.fields import RANGES as FIELD_RANGES
from sparkps.mllib.params.fields import SOLVERS as FIELD_SOLVERS
from sparkps.mllib.params.fields import STEP_SIZES as FIELD_STEP_SIZES
from sparkps.mllib.solvers.job import TrainingJob
from sparkps.mllib.solvers.objective import Objective

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

    def _unused(self, solver: str) -> tuple[str, ...]:
        return SOLVERS[solver]

    def _job(self, objective: Objective, **more: Any) -> TrainingJob:
        return super()._job(objective, fraction=self.getMiniBatchFraction(), **more)


class FieldMachineEstimator(FittingEstimator[M], FieldParams, FactorSetters):
    """Trains a field-aware factorization machine of two classes."""

    _solvers = FIELD_SOLVERS
    _ranges = FIELD_RANGES

    def _unused(self, solver: str) -> tuple[str, ...]:
        return FIELD_SOLVERS[solver]

    def _check(self) -> None:
        super()._check()
        name, told = type(self).__name__, self.isDefined(self.fieldStarts)
        if not told and not self._has_raw_columns:
            raise InvalidParam(
                f"The `fieldStarts` of {name} must say which features make up which field. They are not set; give the index of the first"
                " feature of each field, ascending from 0, or raw columns as `inputCols`, each of which is a field.",
                param="fieldStarts",
            )
        if told and self._has_raw_columns:
            raise InvalidParam(
                f"The `fieldStarts` of {name} must not be set with `inputCols`, each of which is a field. Got {self.getFieldStarts()}.",
                param="fieldStarts",
            )
        if self._has_raw_columns and self.getNumFeatures():
            raise InvalidParam(
                f"The `numFeatures` of {name} must be 0 with `inputCols`: a feature of two columns would be of two fields. Got"
                f" {self.getNumFeatures()}; at 0 the hashes are not folded, and only features that occur take room.",
                param="numFeatures",
            )
        if self._raw_fields > MOST_FIELDS:
            raise InvalidParam(
                f"The `inputCols` and `crosses` of {name} must be at most {MOST_FIELDS} fields. Got {self._raw_fields}.", param="inputCols"
            )

    @property
    def _raw_fields(self) -> int:
        """Raw columns and crosses."""
        return len(self._listed("inputCols")) + len(self._listed("crosses"))

    def _objective(self) -> FieldAwareMachine:
        raw = self._raw_fields
        return FieldAwareMachine(
            self.getFactorSize(), "log", self.getFitLinear(), self.getInitStd(), self.getSeed(),
            starts=() if raw else tuple(self.getFieldStarts()), columns=raw, normal=self.getNormalizeRows(),
        )  # fmt: skip

    def _rate(self) -> float:
        return self.getStepSize() if self.isSet(self.stepSize) else FIELD_STEP_SIZES[self.getSolver()]


__all__ = ["FieldMachineEstimator", "MachineEstimator"]
