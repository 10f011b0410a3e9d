"""Mixtures of logistic regressions: the estimator and model of `sparkps.mllib.classification`, which is where users find them."""

from __future__ import annotations

from typing import Any

from pyspark import keyword_only
from pyspark.ml.linalg import Vector
from pyspark.ml.util import DefaultParamsReadable, MLReadable

from sparkps.errors import InvalidInput
from sparkps.mllib.linear.binary import BinaryClassifier
from sparkps.mllib.linear.classifiers import ProbabilisticModel
from sparkps.mllib.linear.mixture import Mixture, MixtureScorer
from sparkps.mllib.linear.scoring import LinearScorer
from sparkps.mllib.params.regions import RANGES as REGION_RANGES
from sparkps.mllib.params.regions import HasRegions
from sparkps.mllib.params.shared import LinearParams, ProbabilisticParams
from sparkps.mllib.summaries.named import BinaryLogisticRegressionSummary, BinaryLogisticRegressionTrainingSummary


class _MLRParams(LinearParams, ProbabilisticParams, HasRegions):
    """Params of the estimator and of its model."""


class MLRModel(ProbabilisticModel, _MLRParams, MLReadable["MLRModel"]):
    """A fitted mixture of logistic regressions.

    `coefficientMatrix` has a row for the gate of each region, then one for the logistic regression in each; `interceptVector` likewise.
    """

    __module__ = "sparkps.mllib.classification"  # where users find it, and under which it is saved
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

    __module__ = "sparkps.mllib.classification"  # where users find it, and under which it is saved
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
        solver: str = "auto",
        weightCol: str | None = None,
        seed: int | None = None,
        **ours: Any,
    ) -> None:
        super().__init__()
        self._take(self._input_kwargs)

    def _objective(self) -> Mixture:
        return Mixture(2 * self.getNumRegions(), self.getInitStd())


__all__ = ["MLRClassifier", "MLRModel"]
