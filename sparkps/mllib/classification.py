"""Logistic regression, as in pyspark.ml.classification.

Examples
--------
>>> from sparkps.mllib.classification import LogisticRegression      # doctest: +SKIP
>>> model = LogisticRegression(maxIter=50, regParam=1e-4).fit(df)    # doctest: +SKIP
>>> model.transform(df).select("probability", "prediction").show()   # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

from pyspark import keyword_only
from pyspark.ml.util import DefaultParamsReadable, MLReadable

from sparkps.mllib.linear.classifiers import ProbabilisticModel
from sparkps.mllib.linear.families import FamilyClassifier
from sparkps.mllib.linear.spark_model import spark_model
from sparkps.mllib.params.shared import HasFamily, LinearParams, ProbabilisticParams
from sparkps.mllib.summaries.named import (
    BinaryLogisticRegressionSummary,
    BinaryLogisticRegressionTrainingSummary,
    LogisticRegressionSummary,
    LogisticRegressionTrainingSummary,
)


class _LogisticRegressionParams(LinearParams, ProbabilisticParams, HasFamily):
    """Params of the estimator and of its model."""


class LogisticRegressionModel(ProbabilisticModel, _LogisticRegressionParams, MLReadable["LogisticRegressionModel"]):
    """A fitted logistic regression.

    Its coefficients are at the driver where they take at most 64 MiB; else they stay on the tier for as long as the model or
    a copy of it is referred to, and scoring pulls the rows of each batch.
    """

    _scored_in_spark = True

    def _summary_classes(self) -> tuple[Any, Any]:
        if self.numClasses <= 2:
            return BinaryLogisticRegressionSummary, BinaryLogisticRegressionTrainingSummary
        return LogisticRegressionSummary, LogisticRegressionTrainingSummary

    def toSpark(self) -> Any:
        """The same model as a pyspark.ml LogisticRegressionModel, where its coefficients fit in a vector."""
        from pyspark.ml.classification import LogisticRegressionModel as SparkModel

        more = self.interceptVector, self.numClasses, self._is_multinomial
        return spark_model(self, SparkModel, lambda: self.coefficientMatrix, *more)


class LogisticRegression(
    FamilyClassifier[LogisticRegressionModel],
    _LogisticRegressionParams,
    DefaultParamsReadable["LogisticRegression"],
):
    """Logistic regression trained on the tier: binomial, or multinomial where `family` or the labels say so.

    With solver ``lbfgs`` the objective, its optimum and the steps towards it are those of pyspark.ml: the mean of
    log(1 + exp(-margin)), or of several classes the softmax loss, over the rows plus ``regParam/2·‖w‖²``, on standardized coefficients
    or, without `standardization`, on plain ones. With ``sgd``, ``adagrad``, ``adam`` and ``ftrl`` the tier's optimizers apply the mean
    gradient of each batch; L2 then acts on the features of the batch, and the penalties of ``ftrl`` are those of McMahan et al., which
    weigh against the sum of these gradients over all steps. The features may be vectors, array<double>, or struct<indices:
    array<bigint>, values: array<float>>, whose number has no limit.

    The Params are those of pyspark.ml but for bounds on coefficients, and ``solver``, ``stepSize``,
    ``batchSize``, ``numWorkers``, ``consistency``, ``staleness``, ``seed``, ``numFeatures``, ``handleInvalid``, ``deterministic``,
    ``checkpointDir`` and ``checkpointInterval`` (see `HasCheckpoints`).

    Examples
    --------
    >>> lr = LogisticRegression(maxIter=5, regParam=0.01, solver="ftrl")    # doctest: +SKIP
    >>> lr.fit(df).intercept                                                # doctest: +SKIP
    -1.23
    """

    _loss = "logistic"
    _model = LogisticRegressionModel
    _ranges = {"family": ("one of auto, binomial, multinomial", lambda v: v.lower() in ("auto", "binomial", "multinomial"))}

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
        threshold: float = 0.5,
        thresholds: list[float] | None = None,
        probabilityCol: str = "probability",
        rawPredictionCol: str = "rawPrediction",
        standardization: bool = True,
        weightCol: str | None = None,
        aggregationDepth: int = 2,
        family: str = "auto",
        maxBlockSizeInMB: float = 0.0,
        **ours: Any,
    ) -> None:
        super().__init__()
        self._take(self._input_kwargs)


__all__ = [
    "BinaryLogisticRegressionSummary", "BinaryLogisticRegressionTrainingSummary", "LogisticRegression", "LogisticRegressionModel",
    "LogisticRegressionSummary", "LogisticRegressionTrainingSummary",
]  # fmt: skip
