"""Linear classifiers, factorization machines and multilayer perceptrons, as in pyspark.ml.classification, and some that it lacks.

Examples
--------
>>> from sparkps.mllib.classification import LogisticRegression      # doctest: +SKIP
>>> model = LogisticRegression(maxIter=50, regParam=1e-4).fit(df)    # doctest: +SKIP
>>> model.transform(df).select("probability", "prediction").show()   # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

from pyspark import keyword_only
from pyspark.ml.linalg import Matrix, Vector
from pyspark.ml.util import DefaultParamsReadable, MLReadable

from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.fm.classifiers import FFMClassificationModel, FFMClassifier, FMClassificationModel, FMClassifier
from sparkps.mllib.linear.bounded import BoundedClassifier
from sparkps.mllib.linear.classifiers import LinearClassificationModel, ProbabilisticModel
from sparkps.mllib.linear.estimator import LinearEstimator
from sparkps.mllib.linear.live import LiveModel
from sparkps.mllib.linear.mixture_classifier import MLRClassifier, MLRModel
from sparkps.mllib.linear.perceptron import PerceptronRule
from sparkps.mllib.linear.spark_model import spark_model
from sparkps.mllib.linear.streams import StreamClassifier
from sparkps.mllib.multilayer.classifiers import MultilayerPerceptronClassificationModel, MultilayerPerceptronClassifier
from sparkps.mllib.params.averaging import HasAveraged
from sparkps.mllib.params.bounds import HasBounds
from sparkps.mllib.params.margins import HasMarginThreshold
from sparkps.mllib.params.shared import HasFamily, LinearParams, ProbabilisticParams
from sparkps.mllib.summaries.named import (
    BinaryLogisticRegressionSummary,
    BinaryLogisticRegressionTrainingSummary,
    FMClassificationSummary,
    FMClassificationTrainingSummary,
    LinearSVCSummary,
    LinearSVCTrainingSummary,
    LogisticRegressionSummary,
    LogisticRegressionTrainingSummary,
    MultilayerPerceptronClassificationSummary,
    MultilayerPerceptronClassificationTrainingSummary,
)


class _LogisticRegressionParams(LinearParams, ProbabilisticParams, HasFamily, HasBounds):
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
    BoundedClassifier[LogisticRegressionModel],
    _LogisticRegressionParams,
    DefaultParamsReadable["LogisticRegression"],
):
    """Logistic regression trained on the tier: binomial, or multinomial where `family` or the labels say so.

    With solver ``auto``, the default, and ``lbfgs`` the objective and its optimum are those of pyspark.ml: the mean of log(1 +
    exp(-margin)), or of several classes the softmax loss, over the rows plus the elastic net, on standardized coefficients or, without
    `standardization`, on plain ones. So are the steps towards it, but that ``auto`` goes a shorter way where there are more than 4096
    features and L2 is on plain coefficients. With ``sgd``, ``momentum``, ``adagrad``, ``adam`` and ``ftrl`` the tier's optimizers apply
    the mean gradient of each batch; L2 then acts on the features of the batch, and the penalties of ``ftrl`` are those of McMahan et
    al., which weigh against the sum of these gradients over all steps. With ``online`` each row moves the coefficients before the next
    one is looked at; `regParam` is on plain coefficients then. The features may be vectors, array<double>, or struct<indices:
    array<bigint>, values: array<float>>, whose number has no limit.

    The Params are those of pyspark.ml, and of ours, by topic: ``solver``, ``stepSize``, ``momentum``, ``batchSize``, ``seed``;
    ``numWorkers``, ``consistency``, ``staleness``, ``deterministic``; ``inputCols`` in place of ``featuresCol``, with ``crosses``,
    ``textCols``, ``ngrams``, ``categoricalCols`` and ``numericCols``, and ``numFeatures``; ``offsetCol``, ``handleInvalid``;
    ``validationIndicatorCol``, ``earlyStoppingRounds``, ``validationTol``; ``checkpointDir`` and ``checkpointInterval``.
    `explainParams` says what each does.

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
        lowerBoundsOnCoefficients: Matrix | None = None,
        upperBoundsOnCoefficients: Matrix | None = None,
        lowerBoundsOnIntercepts: Vector | None = None,
        upperBoundsOnIntercepts: Vector | None = None,
        maxBlockSizeInMB: float = 0.0,
        **ours: Any,
    ) -> None:
        super().__init__()
        self._take(self._input_kwargs)


class _LinearSVCParams(LinearParams, HasMarginThreshold):
    """Params of the estimator and of its model."""


class LinearSVCModel(LinearClassificationModel, _LinearSVCParams, MLReadable["LinearSVCModel"]):
    """A fitted linear support vector machine; see `FittedModel` for where its coefficients are."""

    _scored_in_spark = True
    _evaluation = LinearSVCSummary
    _training = LinearSVCTrainingSummary

    def toSpark(self) -> Any:
        """The same model as a pyspark.ml LinearSVCModel, where its coefficients fit in a vector."""
        from pyspark.ml.classification import LinearSVCModel as SparkModel

        return spark_model(self, SparkModel, lambda: self.coefficients, self.intercept)


class LinearSVC(LinearEstimator[LinearSVCModel], _LinearSVCParams, DefaultParamsReadable["LinearSVC"]):
    """Linear support vector machine of two classes, trained on the tier.

    As in pyspark.ml, what is minimised is the mean hinge loss max(0, 1 - (2y - 1)·margin) plus ``regParam/2·‖w‖²``, on standardized
    coefficients or, without `standardization`, on plain ones. Label 1 is predicted where the margin is above `threshold`.

    Examples
    --------
    >>> LinearSVC(regParam=0.01).fit(df).transform(df).select("rawPrediction", "prediction").show()    # doctest: +SKIP
    """

    _loss = "hinge"
    _orthantwise = True
    _model = LinearSVCModel
    _ranges = {"threshold": ("a float", lambda v: True)}

    @keyword_only
    def __init__(
        self,
        *,
        featuresCol: str = "features",
        labelCol: str = "label",
        predictionCol: str = "prediction",
        maxIter: int = 100,
        regParam: float = 0.0,
        tol: float = 1e-6,
        rawPredictionCol: str = "rawPrediction",
        fitIntercept: bool = True,
        standardization: bool = True,
        threshold: float = 0.0,
        weightCol: str | None = None,
        aggregationDepth: int = 2,
        maxBlockSizeInMB: float = 0.0,
        **ours: Any,
    ) -> None:
        super().__init__()
        self._take(self._input_kwargs)


class _FTRLParams(LinearParams, ProbabilisticParams):
    """Params of the estimator and of its model."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(solver="ftrl", maxIter=1)


class FTRLClassificationModel(LiveModel, _FTRLParams, MLReadable["FTRLClassificationModel"]):
    """A fitted `FTRLClassifier`; that of a learner predicts by what was learned when it is asked. `snapshot` holds it as it is."""

    _evaluation = BinaryLogisticRegressionSummary
    _training = BinaryLogisticRegressionTrainingSummary
    _scored_in_spark = True

    def toSpark(self) -> Any:
        """The same model, as it is now, as a pyspark.ml LogisticRegressionModel, where its coefficients fit in a vector."""
        from pyspark.ml.classification import LogisticRegressionModel as SparkModel

        now = self.snapshot()
        return spark_model(now, SparkModel, lambda: now.coefficientMatrix, now.interceptVector, now.numClasses, False)


class FTRLClassifier(StreamClassifier[FTRLClassificationModel], _FTRLParams, DefaultParamsReadable["FTRLClassifier"]):
    """Binary logistic regression by FTRL-Proximal, for data that come in order, and models of which most coefficients are to be 0.

    `fit` makes `maxIter` passes over a DataFrame (one, by default). `learner` learns from a stream: each of its batches once, though the
    query, or the driver, may be killed and started again. Its `model` serves meanwhile.

    `stepSize` is the paper's α, ``regParam·elasticNetParam`` its λ₁, and the rest of `regParam` its λ₂.

    Examples
    --------
    >>> learner = FTRLClassifier(stepSize=0.5, regParam=1e-3, elasticNetParam=1.0).learner("/data/clicks/model")     # doctest: +SKIP
    >>> query = (stream.writeStream.foreachBatch(learner)                                                            # doctest: +SKIP
    ...          .option("checkpointLocation", "/data/clicks/query").start())
    >>> learner.model.transform(rows)                                                                                # doctest: +SKIP

    References
    ----------
    McMahan et al., Ad click prediction: a view from the trenches, KDD 2013, algorithm 1.
    """

    _loss = "logistic"
    _model = FTRLClassificationModel
    _solvers = {"ftrl": "ftrl"}
    _ranges = {"exportInterval": ("an int >= 1", lambda v: v >= 1)}

    @keyword_only
    def __init__(
        self,
        *,
        featuresCol: str = "features",
        labelCol: str = "label",
        predictionCol: str = "prediction",
        maxIter: int = 1,
        stepSize: float | None = None,
        regParam: float = 0.0,
        elasticNetParam: float = 0.0,
        fitIntercept: bool = True,
        threshold: float = 0.5,
        thresholds: list[float] | None = None,
        probabilityCol: str = "probability",
        rawPredictionCol: str = "rawPrediction",
        weightCol: str | None = None,
        batchSize: int = 1000,
        exportDir: str | None = None,
        exportInterval: int = 1,
        **ours: Any,
    ) -> None:
        super().__init__()
        self._take(self._input_kwargs)


class _PerceptronParams(LinearParams, HasMarginThreshold, HasAveraged):
    """Params of the estimator and of its model."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(solver="mixing", maxIter=10)


class PerceptronModel(LinearClassificationModel, _PerceptronParams, MLReadable["PerceptronModel"]):
    """A fitted perceptron; see `FittedModel` for where its coefficients are."""

    _evaluation = LinearSVCSummary
    _training = LinearSVCTrainingSummary


class Perceptron(LinearEstimator[PerceptronModel], _PerceptronParams, DefaultParamsReadable["Perceptron"]):
    """Perceptron of two classes (Rosenblatt 1958), averaged by default (Freund and Schapire 1999), trained on the tier.

    Each worker goes through the rows of a batch one after the other, and a row on the wrong side moves the coefficients by itself. What
    the workers came to is averaged after each batch (McDonald et al. 2010): with one worker it is the perceptron of the books, with
    several their number and `batchSize` are part of the result. `maxIter` counts epochs; `objectiveHistory` has the share of
    mistakes in each. There are no penalties, nothing is standardized, and workers keep step (bsp).

    Examples
    --------
    >>> Perceptron(maxIter=5).fit(df).summary.objectiveHistory    # doctest: +SKIP
    [0.21, 0.19, 0.19, 0.18, 0.18]
    """

    _model = PerceptronModel
    _solvers = {"mixing": "mixing"}
    _ranges = {"threshold": ("a float", lambda v: v == v)}

    @keyword_only
    def __init__(
        self,
        *,
        featuresCol: str = "features",
        labelCol: str = "label",
        predictionCol: str = "prediction",
        rawPredictionCol: str = "rawPrediction",
        maxIter: int = 10,
        averaged: bool = True,
        fitIntercept: bool = True,
        threshold: float = 0.0,
        weightCol: str | None = None,
        seed: int | None = None,
        **ours: Any,
    ) -> None:
        super().__init__()
        self._take(self._input_kwargs)

    def _check_together(self) -> None:
        if self._validation:
            name = "validationIndicatorCol"
            raise InvalidParam(f"A Perceptron must have no `{name}`: it has no loss to measure. Got {self._validation!r}.", param=name)

    def _objective(self) -> PerceptronRule:
        return PerceptronRule(self.getAveraged())


__all__ = [
    "BinaryLogisticRegressionSummary", "BinaryLogisticRegressionTrainingSummary", "FFMClassificationModel", "FFMClassifier",
    "FMClassificationModel", "FMClassificationSummary", "FMClassificationTrainingSummary", "FMClassifier", "FTRLClassificationModel",
    "FTRLClassifier", "LinearSVC", "LinearSVCModel", "LinearSVCSummary", "LinearSVCTrainingSummary", "LogisticRegression",
    "LogisticRegressionModel", "LogisticRegressionSummary", "LogisticRegressionTrainingSummary", "MLRClassifier", "MLRModel",
    "MultilayerPerceptronClassificationModel", "MultilayerPerceptronClassificationSummary",
    "MultilayerPerceptronClassificationTrainingSummary", "MultilayerPerceptronClassifier", "Perceptron", "PerceptronModel",
]  # fmt: skip
