"""What estimators of linear models share: Params taken and checked, and the job that comes of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from pyspark import keyword_only
from pyspark.ml import Estimator
from pyspark.ml.util import DefaultParamsWritable

from sparkps.consistency import BSP
from sparkps.mllib.data.raw_columns import RawColumns
from sparkps.mllib.data.rows import Columns
from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.linear.grids import grid_fits
from sparkps.mllib.linear.loss import loss_named
from sparkps.mllib.linear.model import LinearModel
from sparkps.mllib.models.persistence import EstimatorReader, EstimatorWriter
from sparkps.mllib.params.momentum import RANGES as MOMENTUM_RANGES
from sparkps.mllib.params.setters import LinearSetters, PredictionSetters
from sparkps.mllib.params.shared import FULL_BATCH_SOLVERS, MINI_BATCH_SOLVERS, check_params, warn_of_unused
from sparkps.mllib.solvers.bounds import Bounds
from sparkps.mllib.solvers.drivers import grid_key
from sparkps.mllib.solvers.job import TrainingJob
from sparkps.mllib.solvers.objective import Objective
from sparkps.mllib.solvers.warm_start import has_pass
from sparkps.mllib.summaries.history import TrainingHistory
from sparkps.mllib.training import train_grid

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

log = logging.getLogger(__name__)

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
    #: Names that users give solvers, and those of their drivers.
    _solvers: ClassVar[Mapping[str, str]] = {"auto": "lbfgs", **{name: name for name in (*FULL_BATCH_SOLVERS, *MINI_BATCH_SOLVERS)}}
    #: Of Params that other estimators do not have: what must hold, in words and as a test.
    _ranges: ClassVar[dict[str, tuple[str, Callable[[Any], bool]]]] = {}
    #: Whether full-batch training takes the steps of OWL-QN also without L1, as pyspark.ml does for a loss that is not smooth.
    _orthantwise: ClassVar[bool] = False
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

    def fitMultiple(self, dataset: DataFrame, paramMaps: Sequence[Any]) -> Iterator[tuple[int, M]]:
        """Models of several settings, by their places; with a full-batch solver the rows are read once for all of them.

        Parameters
        ----------
        dataset : DataFrame
        paramMaps : sequence of dict
            What each model has other than this estimator.
        """
        estimators = [self.copy(each) for each in paramMaps]

        def fit(places: list[int]) -> list[M]:
            alike = [estimators[place] for place in places]
            return alike[0]._fit_grid(dataset, alike)  # what they have in common may be other than what this estimator has

        return grid_fits([each._grid_key() for each in estimators], fit)

    def _grid_key(self) -> str | None:
        """What fits that are done together have in common; None: this one is done alone."""
        try:
            self._check()
        except Exception:  # it will be raised when its turn comes
            return None
        return grid_key(self._job(self._objective()))

    def _fit(self, dataset: DataFrame) -> M:
        (model,) = self._fit_grid(dataset, [self])
        return model

    def _fit_grid(self, dataset: DataFrame, estimators: Sequence[Self]) -> list[M]:
        """Models of estimators with one `_grid_key`, this one's own among them or of copies of it."""
        for each in estimators:
            each._check()
        return self._trained(dataset, [(each, each._objective()) for each in estimators])

    def _trained(self, dataset: DataFrame, fits: Sequence[tuple[Self, Objective]]) -> list[M]:
        """Models of estimators with the objectives that fit the rows."""
        jobs = [estimator._job(objective) for estimator, objective in fits]
        models: list[M] = []
        for (estimator, _), trained in zip(fits, train_grid(dataset, jobs), strict=True):
            model = self._model._of(trained)
            model._reads(trained.columns.source, dataset.schema)
            model._resetUid(estimator.uid)  # as in pyspark.ml, so that the estimator's Params are the model's, too
            estimator._copyValues(model)
            model._set_summary(dataset, TrainingHistory.of(trained, estimator.getSolver()))
            models.append(model)
        return models

    # ---- checks --------------------------------------------------------------------------------------------------------

    def _check_together(self) -> None:
        """Raise where Params contradict each other."""

    def _check(self) -> None:
        """Raise unless the Params can be trained with."""
        check_params(self, solver=(f"one of {', '.join(self._solvers)}", lambda v: v in self._solvers), **MOMENTUM_RANGES, **self._ranges)
        self._check_together()
        solver = self._solver()
        warn_of_unused(self, solver)
        self._check_l1(solver)
        if solver not in MINI_BATCH_SOLVERS and self.getConsistency().lower() != "bsp" and self.isSet(self.consistency):
            raise InvalidParam(
                f"solver={solver!r} needs consistency='bsp'. Got {self.getConsistency()!r} instead; mini-batch solvers take it.",
                param="consistency",
            )

    def _check_l1(self, solver: str) -> None:
        """Raise where there is a penalty of L1 that the driver of that name makes no use of."""
        if self.getElasticNetParam() > 0 and self.getRegParam() > 0 and solver in ("sgd", "momentum", "adagrad", "adam"):
            raise InvalidParam(
                f"L1 needs solver='lbfgs', 'ftrl' or 'online': with solver={solver!r} the `elasticNetParam` must be 0. Got"
                f" {self.getElasticNetParam()!r} instead.",
                param="elasticNetParam",
            )

    # ---- the job -------------------------------------------------------------------------------------------------------

    def _solver(self) -> str:
        """Name of the driver that the Param `solver` asks for."""
        return self._solvers[self.getSolver()]

    def _objective(self) -> Objective:
        """What is minimised; of a loss with parameters of its own, to be made of the Params."""
        return loss_named(self._loss)()

    def _bounds(self, outputs: int) -> Bounds | None:
        """Bounds on a model of so many outputs; of an estimator that has Params for them."""
        return None

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

    def _starts_warm(self, objective: Objective, bounds: Bounds | None) -> bool:
        """Whether a full-batch solver begins at what a pass row by row has learned: its user leaves the way to the optimum to us."""
        if self.getSolver() != "auto" or self._solver() != "lbfgs" or not self.getMaxIter():
            return False
        l1 = self.getRegParam() * self.getElasticNetParam()
        against = {
            "the loss is not learned row by row": not has_pass(objective),
            "L1 wants most coefficients to be 0, and a pass leaves few": l1 > 0,
            "there are bounds": bounds is not None,
        }
        why_not = [why for why, holds in against.items() if holds]
        if why_not:
            log.info("%s: solver=auto is lbfgs from 0: %s", self.uid, "; ".join(why_not))
        else:
            log.info("%s: solver=auto is lbfgs after one pass row by row, which takes it most of the way", self.uid)
        return not why_not

    def _job(self, objective: Objective) -> TrainingJob:
        bounds = self._bounds(objective.outputs)
        l1 = self.getRegParam() * self.getElasticNetParam()
        return TrainingJob(
            uid=self.uid,
            columns=self._columns(),
            objective=objective,
            solver=self._solver(),
            max_iter=self.getMaxIter(),
            tol=self.getTol(),
            l1=l1,
            l2=self.getRegParam() - l1,
            standardization=self.getStandardization(),
            fit_intercept=self.getFitIntercept(),
            step_size=self.getStepSize(),
            batch_size=self.getBatchSize(),
            momentum=self.getMomentum(),
            consistency=self._consistency() if self._solver() in MINI_BATCH_SOLVERS else BSP(),
            num_workers=self.getNumWorkers() or None,
            deterministic=self.getDeterministic(),
            seed=self.getSeed() % (1 << 63),  # of generators that take no negative ones
            bounds=bounds,
            warm_start=self._starts_warm(objective, bounds),
            orthantwise=self._orthantwise,
            early_stopping_rounds=self.getEarlyStoppingRounds(),
            validation_tol=self.getValidationTol(),
            checkpoint_dir=self._checkpoint_dir(),
            checkpoint_interval=self.getCheckpointInterval(),
        )


__all__ = ["LinearEstimator"]
