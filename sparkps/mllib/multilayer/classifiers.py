"""Multilayer perceptrons: the estimator and model of `sparkps.mllib.classification`, which is where users find them."""

from __future__ import annotations

from typing import Any

from pyspark import keyword_only
from pyspark.ml.linalg import Vector
from pyspark.ml.util import DefaultParamsReadable, MLReadable

from sparkps.mllib.multilayer.estimator import MultilayerEstimator
from sparkps.mllib.multilayer.model import MultilayerModel
from sparkps.mllib.params.factorization import MachineColumnSetters
from sparkps.mllib.summaries.named import (
    MultilayerPerceptronClassificationSummary,
    MultilayerPerceptronClassificationTrainingSummary,
)


class MultilayerPerceptronClassificationModel(MultilayerModel, MLReadable["MultilayerPerceptronClassificationModel"]):
    """A fitted multilayer perceptron."""

    __module__ = "sparkps.mllib.classification"  # where users find it, and under which it is saved
    _evaluation = MultilayerPerceptronClassificationSummary
    _training = MultilayerPerceptronClassificationTrainingSummary


class MultilayerPerceptronClassifier(
    MultilayerEstimator[MultilayerPerceptronClassificationModel],
    MachineColumnSetters,
    DefaultParamsReadable["MultilayerPerceptronClassifier"],
):
    """Multilayer perceptron trained on the tier, over all rows before each step: layers of sigmoids, then a softmax.

    `layers` are the number of features, the sizes of hidden layers, and the number of classes. What is minimised is pyspark.ml's: the mean
    of -log p of the label, without a penalty, over features as they are. With solver ``l-bfgs``, the default, and ``gd``, by constant
    steps, the first weights (of the same seed or `initialWeights`), the steps and when they end are pyspark.ml's, too, with one
    difference: all rows weigh alike, while pyspark.ml takes the mean over blocks of `blockSize` rows, the last of which may be smaller.
    `blockSize` changes nothing here. The weights of the first layer lie on the tier, those of the others with them, and each feature
    takes part whether or not a row has it. Sparse rows cost by their entries.

    The Params are those of pyspark.ml, and ``weightCol``, ``validationIndicatorCol`` with ``earlyStoppingRounds``, ``numWorkers``,
    ``numFeatures``, ``handleInvalid``, ``deterministic``, ``inputCols``, ``checkpointDir`` and ``checkpointInterval``.

    Examples
    --------
    >>> mlp = MultilayerPerceptronClassifier(layers=[4, 5, 3], seed=1)     # doctest: +SKIP
    >>> model = mlp.fit(df)                                                # doctest: +SKIP
    >>> model.weights.size, model.summary().accuracy                       # doctest: +SKIP
    (43, 0.97)
    """

    __module__ = "sparkps.mllib.classification"  # where users find it, and under which it is saved
    _model = MultilayerPerceptronClassificationModel

    @keyword_only
    def __init__(
        self,
        *,
        featuresCol: str = "features",
        labelCol: str = "label",
        predictionCol: str = "prediction",
        maxIter: int = 100,
        tol: float = 1e-6,
        seed: int | None = None,
        layers: list[int] | None = None,
        blockSize: int = 128,
        stepSize: float = 0.03,
        solver: str = "l-bfgs",
        initialWeights: Vector | None = None,
        probabilityCol: str = "probability",
        rawPredictionCol: str = "rawPrediction",
        **ours: Any,
    ) -> None:
        super().__init__()
        self._take(self._input_kwargs)


__all__ = ["MultilayerPerceptronClassificationModel", "MultilayerPerceptronClassifier"]
