"""What models with a margin of intercept + Σ x·w share; as it is here, the margin stands for a mean: regression."""

from __future__ import annotations

from typing import Any, ClassVar

from pyspark.ml.linalg import Vector

from sparkps.mllib.coefficients import Coefficients
from sparkps.mllib.linear.matrices import vector_of
from sparkps.mllib.linear.onnx_export import exported
from sparkps.mllib.linear.scoring import LinearScorer, MeanScorer
from sparkps.mllib.models.fitted import FittedModel
from sparkps.mllib.params.setters import PredictionSetters
from sparkps.mllib.params.shared import LinearParams
from sparkps.mllib.summaries.regression import RegressionSummary, RegressionTrainingSummary


class LinearModel(FittedModel, LinearParams, PredictionSetters):
    """A fitted linear model of one output or several.

    A regression model is a subclass with its Params; where a margin is not the prediction itself, its `link_` says what it is. Others
    have a `_scorer` of their own. See `FittedModel` for where the coefficients are.
    """

    _evaluation: ClassVar[Any] = RegressionSummary
    _training: ClassVar[Any] = RegressionTrainingSummary
    #: Whether `coefficients` are dense however many of them are 0, as those of some models of pyspark.ml.
    _dense: ClassVar[bool] = False

    def __init__(self, coefficients: Coefficients | None = None, facts: dict[str, Any] | None = None) -> None:
        super().__init__(coefficients, facts)
        #: What `coefficients` gave.
        self._vector: Vector | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}: uid={self.uid}, numFeatures={self.numFeatures}"

    @property
    def intercept(self) -> float:
        """Intercept."""
        return self._intercepts[0]

    @property
    def coefficients(self) -> Vector:
        """Coefficients as a vector of Spark, in whichever form is smaller.

        Raises
        ------
        InvalidInput
            There are more features than a vector can have: use `weights`.
        """
        if self._vector is None:
            self._vector = vector_of(self.coefficients_, self.numFeatures, dense=self._dense)
        return self._vector

    def to_onnx(self, path: Any = None, *, dtype: str = "float32") -> Any:
        """The model as an ONNX graph, for runtimes without Spark and Python. Needs onnx: ``pip install sparkps[onnx]``.

        From dense rows ``features`` (N, numFeatures) the graph computes ``prediction`` (N,), or of a classifier ``label`` (N,) and
        ``probabilities`` (N, K) or ``raw`` (N, 2). Thresholds are those that are set now.

        Parameters
        ----------
        path : str, path or binary file, optional
            Where the graph is written.
        dtype : str
            "float32" or "float64": of the features and of all that is computed.

        Returns
        -------
        onnx.ModelProto

        Raises
        ------
        ConfigError
            There is no onnx.
        InvalidInput
            The model has too many features for a dense graph, hashes raw columns, adds an offset, or has a link without a graph.

        Examples
        --------
        >>> model.to_onnx("clicks.onnx")                                       # doctest: +SKIP
        >>> session = onnxruntime.InferenceSession("clicks.onnx")              # doctest: +SKIP
        >>> label, p = session.run(None, {"features": x.astype("float32")})    # doctest: +SKIP
        """
        return exported(self, path, dtype)

    @property
    def _intercepts(self) -> list[float]:
        """One for each output."""
        return [float(each) for each in self.facts_["intercepts"]]

    def _scorer(self, held: Any, **of: Any) -> LinearScorer:
        return MeanScorer(held, intercepts=self._intercepts, link=self.link_, **of)


__all__ = ["LinearModel"]
