"""What all estimators share: Params taken and checked, the job that comes of them, and the model that comes of that."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from pyspark import keyword_only
from pyspark.ml import Estimator
from pyspark.ml.util import DefaultParamsWritable

from sparkps.consistency import BSP
from sparkps.mllib.data.raw_columns import RawColumns
from sparkps.mllib.data.rows import Columns
from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.models.fitted import FittedModel
from sparkps.mllib.models.persistence import EstimatorReader, EstimatorWriter
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
from sparkps.mllib.training import Trained, train

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

M = TypeVar("M", bound=FittedModel)

log = logging.getLogger(__name__)


class FittingEstimator(
    Estimator[M],
    HasOffsetCol,
    HasValidationCol,
    HasRawColumns,
    TrainingSetters,
    PredictionSetters,
    HasEarlyStopping,
    HasMomentum,
    DefaultParamsWritable,
):
    """Trains a model on the tier.

    A subclass names its model and its solvers, says what is minimised, and may add Params with what must hold of them. Its
    ``__init__``, a `keyword_only` one, ends with ``self._take(self._input_kwargs)``.
    """

    #: Class of the model.
    _model: ClassVar[type[Any]]
    #: Solvers that it can be trained by, by the names that users give them, and what the family keeps of each.
    _solvers: ClassVar[Mapping[str, Any]]
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
        self._set(**given)
        self._check_together()
        return self

    def write(self) -> EstimatorWriter:
        """The writer of the Params."""
        return EstimatorWriter(self)

    @classmethod
    def read(cls) -> Any:
        """The reader of the Params, an `EstimatorReader`."""
        return EstimatorReader(cls)  # type: ignore[arg-type]  # every estimator of ours can be read so

    def _fit(self, dataset: DataFrame) -> M:
        self._check()
        return self._made(dataset, train(dataset, self._job(self._objective())))

    def _made(self, dataset: DataFrame, trained: Trained) -> M:
        """The model of a training on the rows of `dataset`."""
        model: M = self._model._of(trained)
        model._reads(trained.columns.source, dataset.schema)
        model._resetUid(self.uid)  # as in pyspark.ml, so that the estimator's Params are the model's, too
        self._copyValues(model)
        model._set_summary(dataset, TrainingHistory.of(trained, self.getSolver()))
        return model

    # ---- checks --------------------------------------------------------------------------------------------------------

    def _check_together(self) -> None:
        """Raise where Params contradict each other."""

    def _check(self) -> None:
        """Raise unless the Params can be trained with."""
        check_params(self, solver=(f"one of {', '.join(self._solvers)}", lambda v: v in self._solvers), **MOMENTUM_RANGES, **self._ranges)
        self._check_together()
        solver = self._solver()
        unused = [name for name in self._unused(solver) if self.hasParam(name) and self.isSet(self.getParam(name))]
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
    def _unused(self, solver: str) -> Iterable[str]:
        """Params that change nothing with the driver of that name."""

    def _solver(self) -> str:
        """Name of the driver that the Param `solver` asks for."""
        return self.getSolver()

    def _rate(self) -> float:
        """The step size; where it is not set, what suits the solver."""
        return self.getStepSize()

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

    def _checkpoint_dir(self) -> str:
        """Where checkpoints are written; empty: nowhere."""
        wanted = self.isDefined(self.checkpointDir) and self.getCheckpointInterval() > 0
        return self.getCheckpointDir() if wanted else ""

    def _job(self, objective: Objective, **more: Any) -> TrainingJob:
        """What is trained; `more` are fields of a family's own."""
        l1, l2 = self._penalties()
        return TrainingJob(
            uid=self.uid,
            columns=self._columns(),
            objective=objective,
            solver=self._solver(),
            max_iter=self.getMaxIter(),
            tol=self.getTol(),
            l1=l1,
            l2=l2,
            fit_intercept=self.getFitIntercept(),
            step_size=self._rate(),
            batch_size=self.getBatchSize(),
            momentum=self.getMomentum(),
            consistency=self._consistency() if self._solver() in MINI_BATCH_SOLVERS else BSP(),
            num_workers=self.getNumWorkers() or None,
            deterministic=self.getDeterministic(),
            seed=self.getSeed() % (1 << 63),  # of generators that take no negative ones
            early_stopping_rounds=self.getEarlyStoppingRounds(),
            validation_tol=self.getValidationTol(),
            checkpoint_dir=self._checkpoint_dir(),
            checkpoint_interval=self.getCheckpointInterval(),
            **{"standardization": False, **more},
        )


__all__ = ["FittingEstimator"]
