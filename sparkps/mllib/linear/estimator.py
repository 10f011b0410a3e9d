"""What estimators of linear models share: Params taken and checked, and the job that comes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from pyspark import keyword_only
from pyspark.ml import Estimator
from pyspark.ml.util import DefaultParamsWritable

from sparkps.consistency import BSP
from sparkps.mllib.data.rows import Columns
from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.linear.loss import Loss, loss_named
from sparkps.mllib.linear.model import LinearModel
from sparkps.mllib.models.persistence import EstimatorWriter
from sparkps.mllib.params.setters import LinearSetters, PredictionSetters
from sparkps.mllib.params.shared import FULL_BATCH_SOLVERS, MINI_BATCH_SOLVERS, check_params, warn_of_unused
from sparkps.mllib.solvers.job import TrainingJob
from sparkps.mllib.training import train

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

M = TypeVar("M", bound=LinearModel)


class LinearEstimator(Estimator[M], LinearSetters, PredictionSetters, DefaultParamsWritable):
    """Trains a linear model with a loss.

    A subclass names its loss and its model; it may add Params with what must hold of them. Its ``__init__``, a `keyword_only`
    one, ends with ``self._take(self._input_kwargs)``.
    """

    #: Name of the loss that is minimised.
    _loss: ClassVar[str]
    #: Class of the model.
    _model: ClassVar[type[Any]]
    #: Of Params that other estimators do not have: what must hold, in words and as a test.
    _ranges: ClassVar[dict[str, tuple[str, Callable[[Any], bool]]]] = {}
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

    def _fit(self, dataset: DataFrame) -> M:
        self._check()
        job = self._job()
        model: M = self._model._of(train(dataset, job))
        model._reads(job.columns.source)
        model._resetUid(self.uid)  # as in pyspark.ml, so that the estimator's Params are the model's, too
        return self._copyValues(model)

    # ---- checks --------------------------------------------------------------------------------------------------------

    def _check_together(self) -> None:
        """Raise where Params contradict each other."""

    def _check(self) -> None:
        """Raise unless the Params can be trained with."""
        solvers = (*FULL_BATCH_SOLVERS, *MINI_BATCH_SOLVERS)
        check_params(self, solver=(f"one of {', '.join(solvers)}", lambda v: v in solvers), **self._ranges)
        self._check_together()
        solver = self.getSolver()
        warn_of_unused(self, solver)
        if self.getElasticNetParam() > 0 and self.getRegParam() > 0 and solver != "ftrl":
            raise InvalidParam(
                f"L1 needs solver='ftrl': with solver={solver!r} the `elasticNetParam` must be 0. Got"
                f" {self.getElasticNetParam()!r} instead.",
                param="elasticNetParam",
            )
        if solver in FULL_BATCH_SOLVERS and self.getConsistency().lower() != "bsp" and self.isSet(self.consistency):
            raise InvalidParam(
                f"solver={solver!r} needs consistency='bsp'. Got {self.getConsistency()!r} instead; mini-batch solvers take it.",
                param="consistency",
            )

    # ---- the job -------------------------------------------------------------------------------------------------------

    def _objective(self) -> Loss:
        """What is minimised; of a loss with parameters of its own, to be made of the Params."""
        return loss_named(self._loss)()

    def _columns(self) -> Columns:
        weight = self.getWeightCol() if self.isDefined(self.weightCol) else ""
        strict: Literal["error", "skip"] = "skip" if self.getHandleInvalid() == "skip" else "error"
        return Columns(
            self.getLabelCol(), self.getFeaturesCol(), weight or "", self.getNumFeatures(), strict, self._offset, self._validation
        )

    def _checkpoint_dir(self) -> str:
        """Where checkpoints are written; empty: nowhere."""
        wanted = self.isDefined(self.checkpointDir) and self.getCheckpointInterval() > 0
        return self.getCheckpointDir() if wanted else ""

    def _job(self) -> TrainingJob:
        l1 = self.getRegParam() * self.getElasticNetParam()
        return TrainingJob(
            uid=self.uid,
            columns=self._columns(),
            objective=self._objective(),
            solver=self.getSolver(),
            max_iter=self.getMaxIter(),
            tol=self.getTol(),
            l1=l1,
            l2=self.getRegParam() - l1,
            standardization=self.getStandardization(),
            fit_intercept=self.getFitIntercept(),
            step_size=self.getStepSize(),
            batch_size=self.getBatchSize(),
            consistency=BSP() if self.getSolver() in FULL_BATCH_SOLVERS else self._consistency(),
            num_workers=self.getNumWorkers() or None,
            deterministic=self.getDeterministic(),
            seed=self.getSeed(),
            checkpoint_dir=self._checkpoint_dir(),
            checkpoint_interval=self.getCheckpointInterval(),
        )


__all__ = ["LinearEstimator"]
