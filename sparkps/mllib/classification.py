"""Linear classifiers and factorization machines, as in pyspark.ml.classification, and some that it lacks.

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

from sparkps.errors import InvalidInput
from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.fm.estimator import FieldMachineEstimator, MachineEstimator
from sparkps.mllib.fm.model import FieldMachineClassificationModel, MachineClassificationModel
from sparkps.mllib.linear.binary import BinaryClassifier
from sparkps.mllib.linear.bounded import BoundedClassifier
from sparkps.mllib.linear.classifiers import LinearClassificationModel, ProbabilisticModel
from sparkps.mllib.linear.estimator import LinearEstimator
from sparkps.mllib.linear.live import LiveModel
from sparkps.mllib.linear.mixture import Mixture, MixtureScorer
from sparkps.mllib.linear.perceptron import PerceptronRule
from sparkps.mllib.linear.scoring import LinearScorer
from sparkps.mllib.linear.spark_model import spark_model
from sparkps.mllib.linear.streams import StreamClassifier
from sparkps.mllib.params.averaging import HasAveraged
from sparkps.mllib.params.bounds import HasBounds
from sparkps.mllib.params.factorization import MachineColumnSetters
from sparkps.mllib.params.margins import HasMarginThreshold
from sparkps.mllib.params.regions import RANGES as REGION_RANGES
from sparkps.mllib.params.regions import HasRegions
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

    With solver ``lbfgs`` the objective, its optimum and the steps towards it, also under bounds, are those of pyspark.ml: the mean of
    log(1 + exp(-margin)), or of several classes the softmax loss, over the rows plus the elastic net, on standardized coefficients
    or, without `standardization`, on plain ones. With ``sgd``, ``momentum``, ``adagrad``, ``adam`` and ``ftrl`` the tier's optimizers
    apply the mean gradient of each batch; L2 then acts on the features of the batch, and the penalties of ``ftrl`` are those of McMahan et
    al., which weigh against the sum of these gradients over all steps. With ``online`` each row moves the coefficients before the next
    one is looked at; `regParam` is on plain coefficients then. The features may be vectors, array<double>, or struct<indices:
    array<bigint>, values: array<float>>, whose number has no limit.

    The Params are those of pyspark.ml, and ``solver``, ``stepSize``, ``batchSize``, ``numWorkers``, ``consistency``, ``staleness``,
    ``seed``, ``numFeatures``, ``handleInvalid``, ``deterministic``, ``checkpointDir`` and ``checkpointInterval`` (see `HasCheckpoints`).

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


class FMClassificationModel(MachineClassificationModel, MLReadable["FMClassificationModel"]):
    """A fitted factorization machine of two classes."""

    _evaluation = FMClassificationSummary
    _training = FMClassificationTrainingSummary
    _in_spark = "classification.FMClassificationModel"
    _scored_in_spark = True


class FMClassifier(
    MachineEstimator[FMClassificationModel], MachineColumnSetters, DefaultParamsReadable["FMClassifier"]
):
    """Factorization machine of two classes (Rendle, ICDM 2010) trained on the tier.

    With solver ``adamW``, the default, and ``gd`` the first factors, the steps and when they end are those of pyspark.ml: gradients over
    all rows, with a decay of `regParam` in each step. The same seed gives the same model, to the last bit where rows are cut into as many
    partitions; but for a `miniBatchFraction` below 1, which draws other rows. Features without any row keep their first factors in models
    of up to 2^20 values, and have none in larger ones. With ``sgd``, ``momentum``, ``adagrad``, ``adam`` and ``ftrl`` the tier's
    optimizers apply the mean gradient of each batch, which takes a few epochs where ``adamW`` takes a hundred.

    The Params are those of pyspark.ml, and ``weightCol``, ``batchSize``, ``numWorkers``, ``consistency``, ``staleness``, ``numFeatures``,
    ``handleInvalid``, ``deterministic``, ``offsetCol``, ``checkpointDir`` and ``checkpointInterval``.

    Examples
    --------
    >>> fm = FMClassifier(factorSize=8, solver="adagrad", maxIter=3)    # doctest: +SKIP
    >>> fm.fit(df).factors.toArray().shape                              # doctest: +SKIP
    (100000, 8)
    """

    _loss = "log"
    _model = FMClassificationModel

    @keyword_only
    def __init__(
        self,
        *,
        featuresCol: str = "features",
        labelCol: str = "label",
        predictionCol: str = "prediction",
        probabilityCol: str = "probability",
        rawPredictionCol: str = "rawPrediction",
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
        thresholds: list[float] | None = None,
        seed: int | None = None,
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


class FFMClassificationModel(FieldMachineClassificationModel, MLReadable["FFMClassificationModel"]):
    """A fitted field-aware factorization machine of two classes."""

    _evaluation = FMClassificationSummary
    _training = FMClassificationTrainingSummary


class FFMClassifier(
    FieldMachineEstimator[FFMClassificationModel], MachineColumnSetters, DefaultParamsReadable["FFMClassifier"]
):
    """Field-aware factorization machine of two classes (Juan et al., RecSys 2016) trained on the tier, in mini-batches.

    Each feature has `factorSize` factors for each field that it can meet, and time grows with the square of a row's entries. Fields are
    the raw columns, where `inputCols` or `crosses` name any, inputs before crosses; a key of two columns, which `numFeatures` can fold
    into one, counts to the first. Else features are numbered field after field, and `fieldStarts` says where each begins.
    `normalizeRows` divides the sum over pairs as libffm does; linear coefficients and an intercept, which libffm has not, can be left out.

    Examples
    --------
    >>> ffm = FFMClassifier(inputCols=["town", "hour", "site"], maxIter=5)    # doctest: +SKIP
    >>> ffm.fit(df).summary.areaUnderROC                                      # doctest: +SKIP
    0.79
    >>> FFMClassifier(fieldStarts=[0, 7, 10_000]).fit(vectors)                # doctest: +SKIP
    """

    _model = FFMClassificationModel

    @keyword_only
    def __init__(
        self,
        *,
        featuresCol: str = "features",
        labelCol: str = "label",
        predictionCol: str = "prediction",
        probabilityCol: str = "probability",
        rawPredictionCol: str = "rawPrediction",
        fieldStarts: list[int] | None = None,
        normalizeRows: bool = False,
        factorSize: int = 4,
        fitIntercept: bool = True,
        fitLinear: bool = True,
        regParam: float = 0.0,
        initStd: float = 0.1,
        maxIter: int = 10,
        stepSize: float | None = None,
        solver: str = "adagrad",
        thresholds: list[float] | None = None,
        seed: int | None = None,
        **ours: Any,
    ) -> None:
        super().__init__()
        self._take(self._input_kwargs)


class _MLRParams(LinearParams, ProbabilisticParams, HasRegions):
    """Params of the estimator and of its model."""


class MLRModel(ProbabilisticModel, _MLRParams, MLReadable["MLRModel"]):
    """A fitted mixture of logistic regressions.

    `coefficientMatrix` has a row for the gate of each region, then one for the logistic regression in each; `interceptVector` likewise.
    """

    _is_multinomial = False
    _evaluation = BinaryLogisticRegressionSummary
    _training = BinaryLogisticRegressionTrainingSummary
    kind_ = link_ = "mixture"

    @property
    def numClasses(self) -> int:
        """Number of classes: 2."""
        return 2

    @property
    def intercept(self) -> float:
        """A mixture has none of its own: see `interceptVector`."""
        raise InvalidInput("A mixture has an intercept for each gate and each region, use interceptVector instead.")

    @property
    def coefficients(self) -> Vector:
        """A mixture has none of its own: see `coefficientMatrix`."""
        raise InvalidInput("A mixture has coefficients for each gate and each region, use coefficientMatrix instead.")

    def _scorer(self, held: Any, **of: Any) -> LinearScorer:
        return MixtureScorer(held, intercepts=self._intercepts, threshold=self.getThreshold(), **of)


class MLRClassifier(BinaryClassifier[MLRModel], _MLRParams, DefaultParamsReadable["MLRClassifier"]):
    """Mixture of logistic regressions: a large-scale piecewise linear model (Gai et al. 2017), trained on the tier.

    Each of `numRegions` regions has a logistic regression, and a softmax over further linear functions says how far a row belongs to
    each. The loss has many optima; the seed chooses where training begins. Solvers and penalties are those of LogisticRegression, on
    the coefficients of gates and regions alike.

    Examples
    --------
    >>> MLRClassifier(numRegions=6, regParam=1e-4, seed=1).fit(df).summary.areaUnderROC    # doctest: +SKIP
    0.83
    """

    _model = MLRModel
    _ranges = REGION_RANGES

    @keyword_only
    def __init__(
        self,
        *,
        featuresCol: str = "features",
        labelCol: str = "label",
        predictionCol: str = "prediction",
        probabilityCol: str = "probability",
        rawPredictionCol: str = "rawPrediction",
        numRegions: int = 4,
        initStd: float = 0.1,
        maxIter: int = 100,
        regParam: float = 0.0,
        tol: float = 1e-6,
        fitIntercept: bool = True,
        standardization: bool = True,
        threshold: float = 0.5,
        thresholds: list[float] | None = None,
        solver: str = "lbfgs",
        weightCol: str | None = None,
        seed: int | None = None,
        **ours: Any,
    ) -> None:
        super().__init__()
        self._take(self._input_kwargs)

    def _objective(self) -> Mixture:
        return Mixture(2 * self.getNumRegions(), self.getInitStd())


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
    "Perceptron", "PerceptronModel",
]  # fmt: skip
