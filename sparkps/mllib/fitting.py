"""What estimators share whose models are not linear: Params taken and checked, and the job that comes of them."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from pyspark import keyword_only
from pyspark.ml import Estimator
from pyspark.ml.util import DefaultParamsWritable

from sparkps.consistency import BSP
from sparkps.mllib.data.raw_columns import RawColumns
from sparkps.mllib.data.rows import Columns
from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.models.fitted import FittedModel
from sparkps.mllib.models.persistence import EstimatorWriter
from sparkps.mllib.params.momentum import RANGES as MOMENTUM_RANGES
from sparkps.mllib.params.momentum import HasMomentum
from sparkps.mllib.params.raw_columns import HasRawColumns
from sparkps.mllib.params.row_columns import HasOffsetCol, HasValidationCol
from sparkps.mllib.params.setters import PredictionSetters
from sparkps.mllib.params.shared import MINI_BATCH_SOLVERS, check_params
from sparkps.mllib.params.stopping import HasEarlyStopping
from sparkps.mllib.params.training import TrainingSetters
from sparkps.mllib.solvers.job import TrainingJob
from sparkps.mllib.solvers.objective import Objective
from sparkps.mllib.summaries.history import TrainingHistory
from sparkps.mllib.training import train

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

M = TypeVar("M", bound=FittedModel)

log = logging.getLogger(__name__)


class FittingEstimator(
    Estimator[M],
    TrainingSetters,
    PredictionSetters,
    HasOffsetCol,
    HasValidationCol,
    HasEarlyStopping,
    HasMomentum,
    HasRawColumns,
    DefaultParamsWritable,
):
    """Trains a model on the tier.

    A subclass names its model and its solvers, says what is minimised, and may add Params with what must hold of them. Its
    ``__init__``, a `keyword_only` one, ends with ``self._take(self._input_kwargs)``.
    """

    #: Class of the model.
    _model: ClassVar[type[Any]]
    #: Solvers that it can be trained by, with the Params that have no meaning for each.
    _solvers: ClassVar[Mapping[str, tuple[str, ...]]]
    #: Of Params that not all estimators have: what must hold, in words and as a test.
    _ranges: ClassVar[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {}
    #: Arguments of the last call of a `keyword_only` method.
    _input_kwargs: dict[str, Any]

    @keyword_only
    def setParams(self, **params: Any) -> Self:
        """Sets Params by name."""
        return self._take(self._input_kwargs)

    def _take(self, given: dict[str, Any]) -> Self:
        given = {name: value for name, value in given.items() if value is not None}
        for name in given:
            if not self.hasParam(name):
                raise TypeError(f"{type(self).__name__} has no Param {name!r}")
        return self._set(**given)

    def write(self) -> EstimatorWriter:
        """The writer of the Params."""
        return EstimatorWriter(self)

    def _fit(self, dataset: DataFrame) -> M:
        self._check()
        trained = train(dataset, self._job())
        model: M = self._model._of(trained)
        model._reads(trained.columns.source, dataset.schema)
        self._complete(model)
        model._resetUid(self.uid)  # as in pyspark.ml, so that the estimator's Params are the model's, too
        self._copyValues(model)
        model._set_summary(dataset, TrainingHistory.of(trained, self.getSolver()))
        return model

    def _complete(self, model: M) -> None:
        """Add what scoring needs besides coefficients to the model's `facts_`."""

    # ---- checks --------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Raise unless the Params can be trained with."""
        solvers = tuple(self._solvers)
        check_params(self, solver=(f"one of {', '.join(solvers)}", lambda v: v in solvers), **MOMENTUM_RANGES, **self._ranges)
        solver = self.getSolver()
        unused = [name for name in self._solvers[solver] if self.hasParam(name) and self.isSet(self.getParam(name))]
        if unused:
            log.warning("solver=%r makes no use of %s", solver, ", ".join(f"`{name}`" for name in unused))
        if solver not in MINI_BATCH_SOLVERS and self.isSet(self.consistency) and self.getConsistency().lower() != "bsp":
            raise InvalidParam(
                f"solver={solver!r} needs consistency='bsp'. Got {self.getConsistency()!r} instead; mini-batch solvers take it.",
                param="consistency",
            )

    # ---- the job -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def _objective(self) -> Objective:
        """What is minimised."""

    @abstractmethod
    def _rate(self) -> float:
        """The step size; where it is not set, what suits the solver."""

    def _penalties(self) -> tuple[float, float]:
        """What ‖w‖₁ and ½·‖w‖² weigh."""
        return 0.0, self.getRegParam()

    def _columns(self) -> Columns:
        weight = self.getWeightCol() if self.isDefined(self.weightCol) else ""
        strict: Literal["error", "skip"] = "skip" if self.getHandleInvalid() == "skip" else "error"
        raw = RawColumns(**self._raw_params(), buckets=self.getNumFeatures()) if self._has_raw_columns else None
        return Columns(
            self.getLabelCol(), self.getFeaturesCol(), weight or "", self.getNumFeatures(), strict, self._offset, self._validation, raw
        )

    def _job(self, **more: Any) -> TrainingJob:
        l1, l2 = self._penalties()
        saved = self.isDefined(self.checkpointDir) and self.getCheckpointInterval() > 0
        fields: dict[str, Any] = {
            "uid": self.uid,
            "columns": self._columns(),
            "objective": self._objective(),
            "solver": self.getSolver(),
            "max_iter": self.getMaxIter(),
            "tol": self.getTol(),
            "l1": l1,
            "l2": l2,
            "standardization": False,
            "fit_intercept": self.getFitIntercept(),
            "step_size": self._rate(),
            "batch_size": self.getBatchSize(),
            "momentum": self.getMomentum(),
            "consistency": self._consistency() if self.getSolver() in MINI_BATCH_SOLVERS else BSP(),
            "num_workers": self.getNumWorkers() or None,
            "deterministic": self.getDeterministic(),
            "seed": self.getSeed() % (1 << 63),  # of generators that take no negative ones
            "early_stopping_rounds": self.getEarlyStoppingRounds(),
            "validation_tol": self.getValidationTol(),
            "checkpoint_dir": self.getCheckpointDir() if saved else "",
            "checkpoint_interval": self.getCheckpointInterval(),
        }
        return TrainingJob(**{**fields, **more})


__all__ = ["FittingEstimator"]
