"""Linear and generalized linear regression and factorization machines, as in pyspark.ml.regression.

Examples
--------
>>> from sparkps.mllib.regression import LinearRegression            # doctest: +SKIP
>>> model = LinearRegression(regParam=0.1).fit(df)                   # doctest: +SKIP
>>> model.summary.r2                                                 # doctest: +SKIP
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyspark import keyword_only
from pyspark.ml.util import DefaultParamsReadable, MLReadable

from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.fm.estimator import MachineEstimator
from sparkps.mllib.fm.model import MachineModel
from sparkps.mllib.linear.concomitant import ConcomitantHuber
from sparkps.mllib.linear.exporting import ExportingWriter
from sparkps.mllib.linear.few_features import FewFeaturesEstimator
from sparkps.mllib.linear.generalized import GeneralizedParams, MeanModel
from sparkps.mllib.linear.losses.squared import Squared
from sparkps.mllib.linear.model import LinearModel
from sparkps.mllib.linear.spark_model import spark_model
from sparkps.mllib.params.regression import HasRegressionLoss
from sparkps.mllib.params.shared import MINI_BATCH_SOLVERS, LinearParams
from sparkps.mllib.solvers.job import TrainingJob
from sparkps.mllib.solvers.objective import UNVARYING, Objective
from sparkps.mllib.summaries.generalized import (
    GeneralizedLinearRegressionSummary,
    GeneralizedLinearRegressionTrainingSummary,
)
from sparkps.mllib.summaries.regression import (
    LinearRegressionSummary,
    LinearRegressionTrainingSummary,
    RegressionSummary,
    RegressionTrainingSummary,
)
from sparkps.mllib.training import Trained

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

log = logging.getLogger(__name__)


class _LinearRegressionParams(LinearParams, HasRegressionLoss):
    """Params of the estimator and of its model."""


class LinearRegressionModel(LinearModel, _LinearRegressionParams, MLReadable["LinearRegressionModel"]):
    """A fitted linear regression; see `FittedModel` for where its coefficients are."""

    _evaluation = LinearRegressionSummary
    _training = LinearRegressionTrainingSummary
    _scored_in_spark = True

    @property
    def scale(self) -> float:
        """The scale σ of Huber's loss, by which labels are divided; of the squared error 1."""
        return math.exp(*self.facts_.get("scalars", [0.0]))

    def write(self) -> ExportingWriter:
        """The writer of this model, of pyspark.ml's format "pmml", too."""
        return ExportingWriter(self)

    def toSpark(self) -> Any:
        """The same model as a pyspark.ml LinearRegressionModel, where its coefficients fit in a vector."""
        from pyspark.ml.regression import LinearRegressionModel as SparkModel

        return spark_model(self, SparkModel, lambda: self.coefficients, self.intercept, self.scale)


class LinearRegression(
    FewFeaturesEstimator[LinearRegressionModel], _LinearRegressionParams, DefaultParamsReadable["LinearRegression"]
):
    """Linear regression trained on the tier: squared error with elastic net, or Huber's loss with L2.

    As in pyspark.ml, `solver` is ``normal`` (normal equations, of at most 4096 features: one pass over the rows), ``l-bfgs``, or ``auto``:
    the first where it can be, and the second elsewhere. Objectives, penalties and optima are those of pyspark.ml: the squared error is
    that of features and labels divided by their standard deviations. With ``sgd``, ``momentum``, ``adagrad``, ``adam`` and ``ftrl``
    the tier's optimizers apply the mean gradient of each batch, in the labels' own unit. Features may be of any number and of any of the
    forms that LogisticRegression takes.

    Examples
    --------
    >>> LinearRegression(loss="huber", epsilon=1.5).fit(df).scale                # doctest: +SKIP
    """

    _model = LinearRegressionModel
    _solvers = {"auto": "auto", "normal": "normal", "l-bfgs": "lbfgs", "lbfgs": "lbfgs", **{name: name for name in MINI_BATCH_SOLVERS}}
    _ranges = {
        "loss": ("one of squaredError, huber", lambda v: v in ("squaredError", "huber")),
        "epsilon": ("a float above 1", lambda v: v > 1),
    }

    @keyword_only
    def __init__(
        self,
        *,
        featuresCol: str = "features",
        labelCol: str = "label",
        predictionCol: str = "prediction",
        maxIter: int = 100,
        regParam: float = 0.0,
        elasticNetParam: float = 0.0,
        tol: float = 1e-6,
        fitIntercept: bool = True,
        standardization: bool = True,
        solver: str = "auto",
        weightCol: str | None = None,
        aggregationDepth: int = 2,
        loss: str = "squaredError",
        epsilon: float = 1.35,
        maxBlockSizeInMB: float = 0.0,
        **ours: Any,
    ) -> None:
        super().__init__()
        self._take(self._input_kwargs)

    def _check(self) -> None:
        super()._check()
        if self.getLoss() != "huber":
            return
        if self._solver() not in ("auto", "lbfgs"):
            raise InvalidParam(
                f"LinearRegression with huber loss doesn't support {self.getSolver()} solver, please change solver to auto or l-bfgs.",
                param="solver",
            )
        if self.getElasticNetParam() > 0:
            raise InvalidParam(
                f"LinearRegression with huber loss only supports L2 regularization, but got elasticNetParam = {self.getElasticNetParam()}.",
                param="elasticNetParam",
            )

    def _objective(self) -> Objective:
        if self.getLoss() == "huber":
            return ConcomitantHuber(self.getEpsilon())
        return Squared(self.getFitIntercept(), self.getRegParam() > 0)

    def _train_all(self, dataset: DataFrame, jobs: Sequence[TrainingJob]) -> list[Trained]:
        """Fits for which labels do not vary are done once more, with labels less their mean: against that they may vary."""
        trained = super()._train_all(dataset, jobs)
        unseen = [at for at, each in enumerate(trained) if each.solution.reason == UNVARYING and each.solution.intercept]
        if not unseen:
            return trained
        origin = trained[unseen[0]].solution.intercept
        log.info("%s: beside a mean of %g labels hardly vary: they are fitted less that", self.uid, origin)
        again = super()._train_all(dataset, [replace(jobs[at], columns=replace(jobs[at].columns, origin=origin)) for at in unseen])
        for at, each in zip(unseen, again, strict=True):
            trained[at] = replace(each, solution=replace(each.solution, intercepts=each.solution.intercepts + origin))
        return trained

    def _solver_for(self, features: int) -> str:
        solver = self._solver()
        if solver != "auto":
            return solver
        simple = self.getLoss() != "huber" and not self._validation  # normal equations are solved in one step
        if not simple or not self._is_few(features):
            return "lbfgs"
        log.info("%s: solver=auto is normal equations, for there are but %d features", self.uid, features)
        return "normal"


class GeneralizedLinearRegressionModel(MeanModel, MLReadable["GeneralizedLinearRegressionModel"]):
    """A fitted generalized linear model: what it predicts is the mean label; see `FittedModel` for where its coefficients are."""

    _evaluation = GeneralizedLinearRegressionSummary
    _training = GeneralizedLinearRegressionTrainingSummary
    _scored_in_spark = True
    _offset_in_spark = True

    def toSpark(self) -> Any:
        """The same model as a pyspark.ml GeneralizedLinearRegressionModel, where its coefficients fit in a vector."""
        from pyspark.ml.regression import GeneralizedLinearRegressionModel as SparkModel

        return spark_model(self, SparkModel, lambda: self.coefficients, self.intercept)


class GeneralizedLinearRegression(
    FewFeaturesEstimator[GeneralizedLinearRegressionModel],
    GeneralizedParams,
    DefaultParamsReadable["GeneralizedLinearRegression"],
):
    """Generalized linear regression trained on the tier, by iteratively reweighted least squares as in pyspark.ml.

    pyspark.ml refuses more than 4096 features. Here L-BFGS then minimises half the mean deviance plus ``regParam/2·‖w‖²``, on
    standardized features or, without `standardization`, on plain ones; it says so in its log, and there are no standard errors.

    Examples
    --------
    >>> GeneralizedLinearRegression(family="poisson", link="log").fit(df).predict(vector)    # doctest: +SKIP
    """

    _model = GeneralizedLinearRegressionModel
    _solvers = {"irls": "irls", "l-bfgs": "lbfgs", "lbfgs": "lbfgs"}

    @keyword_only
    def __init__(
        self,
        *,
        labelCol: str = "label",
        featuresCol: str = "features",
        predictionCol: str = "prediction",
        family: str = "gaussian",
        link: str | None = None,
        fitIntercept: bool = True,
        maxIter: int = 25,
        tol: float = 1e-6,
        regParam: float = 0.0,
        weightCol: str | None = None,
        solver: str = "irls",
        linkPredictionCol: str | None = None,
        variancePower: float = 0.0,
        linkPower: float | None = None,
        offsetCol: str | None = None,
        aggregationDepth: int = 2,
        **ours: Any,
    ) -> None:
        super().__init__()
        self._take(self._input_kwargs)

    def _check(self) -> None:
        super()._check()
        self._check_distribution()

    def _objective(self) -> Objective:
        return self._likelihood()

    def _solver_for(self, features: int) -> str:
        if self._solver() != "irls" or self._validation or not self._is_few(features):
            return "lbfgs"
        return "normal" if self._likelihood().is_least_squares else "irls"


class FMRegressionModel(MachineModel, MLReadable["FMRegressionModel"]):
    """A fitted factorization machine whose margin is the prediction."""

    _evaluation = RegressionSummary
    _training = RegressionTrainingSummary

    _in_spark = "regression.FMRegressionModel"
    _scored_in_spark = True

    def __repr__(self) -> str:
        return (
            f"FMRegressionModel: uid={self.uid}, numFeatures={self.numFeatures}, factorSize={self.getFactorSize()},"
            f" fitLinear={self.getFitLinear()}, fitIntercept={self.getFitIntercept()}"
        )


class FMRegressor(MachineEstimator[FMRegressionModel], DefaultParamsReadable["FMRegressor"]):
    """Factorization machine for regression, by squared error, trained on the tier.

    As `classification.FMClassifier` is trained; with ``adamW`` and ``gd`` as pyspark.ml trains its own.

    Examples
    --------
    >>> fm = FMRegressor(factorSize=4, solver="adam", maxIter=5)    # doctest: +SKIP
    >>> fm.fit(df).intercept                                        # doctest: +SKIP
    3.3
    """

    _loss = "square"
    _model = FMRegressionModel

    @keyword_only
    def __init__(
        self,
        *,
        featuresCol: str = "features",
        labelCol: str = "label",
        predictionCol: str = "prediction",
        factorSize: int = 8,
        fitIntercept: bool = True,
        fitLinear: bool = True,
        regParam: float = 0.0,
        miniBatchFraction: float = 1.0,
        initStd: float = 0.01,
        maxIter: int = 100,
        stepSize: float = 1.0,
        tol: float = 1e-6,
        solver: str = "adamW",
        seed: int | None = None,
        **ours: Any,
    ) -> None:
        super().__init__()
        self._take(self._input_kwargs)


__all__ = [
    "FMRegressionModel", "FMRegressor", "GeneralizedLinearRegression", "GeneralizedLinearRegressionModel",
    "GeneralizedLinearRegressionSummary", "GeneralizedLinearRegressionTrainingSummary", "LinearRegression", "LinearRegressionModel",
    "LinearRegressionSummary", "LinearRegressionTrainingSummary",
]  # fmt: skip
