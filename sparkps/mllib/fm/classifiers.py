"""Factorization machines that classify: the estimators and models of `sparkps.mllib.classification`, which is where users find them."""

from __future__ import annotations

from typing import Any

from pyspark import keyword_only
from pyspark.ml.util import DefaultParamsReadable, MLReadable

from sparkps.mllib.fm.estimator import FieldMachineEstimator, MachineEstimator
from sparkps.mllib.fm.model import FieldMachineClassificationModel, MachineClassificationModel
from sparkps.mllib.params.factorization import MachineColumnSetters
from sparkps.mllib.summaries.named import FMClassificationSummary, FMClassificationTrainingSummary


class FMClassificationModel(MachineClassificationModel, MLReadable["FMClassificationModel"]):
    """A fitted factorization machine of two classes."""

    __module__ = "sparkps.mllib.classification"  # where users find it, and under which it is saved
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

    __module__ = "sparkps.mllib.classification"  # where users find it, and under which it is saved
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


class FFMClassificationModel(FieldMachineClassificationModel, MLReadable["FFMClassificationModel"]):
    """A fitted field-aware factorization machine of two classes."""

    __module__ = "sparkps.mllib.classification"  # where users find it, and under which it is saved
    _evaluation = FMClassificationSummary
    _training = FMClassificationTrainingSummary


class FFMClassifier(
    FieldMachineEstimator[FFMClassificationModel], MachineColumnSetters, DefaultParamsReadable["FFMClassifier"]
):
    """Field-aware factorization machine of two classes (Juan et al., RecSys 2016) trained on the tier, in mini-batches.

    Each feature has `factorSize` factors for each field that it can meet, and time grows with the square of a row's entries. Fields are
    the raw columns, where `inputCols` or `crosses` name any, inputs before crosses; `numFeatures` is 0 then, as a feature of two
    columns would be of two fields. Else features are numbered field after field, and `fieldStarts` says where each begins.
    `normalizeRows` divides the sum over pairs as libffm does; linear coefficients and an intercept, which libffm has not, can be left out.

    Examples
    --------
    >>> ffm = FFMClassifier(inputCols=["town", "hour", "site"], maxIter=5)    # doctest: +SKIP
    >>> ffm.fit(df).summary.areaUnderROC                                      # doctest: +SKIP
    0.79
    >>> FFMClassifier(fieldStarts=[0, 7, 10_000]).fit(vectors)                # doctest: +SKIP
    """

    __module__ = "sparkps.mllib.classification"  # where users find it, and under which it is saved
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


__all__ = ["FFMClassificationModel", "FFMClassifier", "FMClassificationModel", "FMClassifier"]
