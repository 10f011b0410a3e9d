"""Logistic regression, as in pyspark.ml.classification.

Examples
--------
>>> from sparkps.mllib.classification import LogisticRegression      # doctest: +SKIP
>>> model = LogisticRegression(maxIter=50, regParam=1e-4).fit(df)    # doctest: +SKIP
>>> model.transform(df).select("probability", "prediction").show()   # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pyspark import keyword_only
from pyspark.ml import Estimator, Model
from pyspark.ml.linalg import DenseMatrix, DenseVector, SparseVector, Vector, Vectors, VectorUDT
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable, MLReadable, MLWritable

from sparkps.consistency import BSP
from sparkps.driver_bridge.input.scan import quoted
from sparkps.errors import InvalidInput
from sparkps.mllib.base import Coefficients, LocalCoefficients, brought_here, check_features_type
from sparkps.mllib.data.rows import Columns
from sparkps.mllib.linear.fits import Fit, FitSettings, fit
from sparkps.mllib.linear.outputs import check_outputs, has_valid_features, never_null, output
from sparkps.mllib.linear.persistence import EstimatorWriter, ModelReader, ModelWriter, weights_of
from sparkps.mllib.linear.scoring import BinaryScorer, probabilities
from sparkps.mllib.params.setters import ColumnSetters, LinearSetters
from sparkps.mllib.params.shared import (
    FULL_BATCH_SOLVERS,
    MINI_BATCH_SOLVERS,
    LinearParams,
    ProbabilisticParams,
    check_params,
    warn_of_unused,
)

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

#: Models of at most so many features are scored by pyspark.ml's own code where the features are its vectors.
LARGEST_IN_SPARK = 1 << 23

#: Most features that a vector of Spark can have.
_MAX_VECTOR = (1 << 31) - 1


class _LogisticRegressionParams(LinearParams, ProbabilisticParams):
    """Params of the estimator and of its model."""

    family: Param[str] = Param(
        Params._dummy(),
        "family",
        "the label distribution: auto or binomial",
        typeConverter=TypeConverters.toString,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(threshold=0.5, family="auto")

    def setFamily(self, value: str) -> Self:
        """Sets the value of `family`."""
        return self._set(family=value)

    def getFamily(self) -> str:
        """Gets the value of `family`."""
        return self.getOrDefault(self.family)


@dataclass(frozen=True)
class LogisticRegressionTrainingSummary:
    """How a fit went."""

    #: Objective (loss and penalty) at the start and after each iteration; of a mini-batch solver each epoch's mean loss.
    objectiveHistory: list[float]
    #: Iterations of L-BFGS, or epochs.
    totalIterations: int
    #: Why training ended, in words.
    reason: str
    #: Rows trained on, and rows left out as invalid.
    rows: int
    skippedRows: int


class LogisticRegression(
    Estimator["LogisticRegressionModel"],
    _LogisticRegressionParams,
    LinearSetters,
    ColumnSetters,
    DefaultParamsWritable,
    DefaultParamsReadable["LogisticRegression"],
):
    """Binary logistic regression trained on the tier.

    With solver ``lbfgs`` the objective, its optimum and the steps towards it are those of pyspark.ml: the mean of
    log(1 + exp(-margin)) over the rows plus ``regParam/2·‖w‖²``, on standardized coefficients or, without `standardization`, on
    plain ones. With ``sgd``, ``adagrad``, ``adam`` and ``ftrl`` the tier's optimizers apply the mean gradient of each
    batch; L2 then acts on the features of the batch, and the penalties of ``ftrl`` are those of McMahan et al., which
    weigh against the sum of these gradients over all steps. The features may be vectors, array<double>, or struct<indices: array<bigint>,
    values: array<float>>, whose number has no limit.

    The Params are those of pyspark.ml, and ``solver``, ``stepSize``, ``batchSize``, ``numWorkers``, ``consistency``,
    ``staleness``, ``seed``, ``numFeatures``, ``handleInvalid`` and ``deterministic``.

    Examples
    --------
    >>> lr = LogisticRegression(maxIter=5, regParam=0.01, solver="ftrl")    # doctest: +SKIP
    >>> lr.fit(df).intercept                                                # doctest: +SKIP
    -1.23
    """

    #: Arguments of the last call of a `keyword_only` method.
    _input_kwargs: dict[str, Any]

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
        self._checkThresholdConsistency()
        return self

    def write(self) -> EstimatorWriter:
        """The writer of the Params."""
        return EstimatorWriter(self)

    def _fit(self, dataset: DataFrame) -> LogisticRegressionModel:
        self._check()
        model = LogisticRegressionModel._of(fit(dataset, self._settings()))
        model._resetUid(self.uid)  # as in pyspark.ml, so that the estimator's Params are the model's, too
        return self._copyValues(model)

    def _check(self) -> None:
        """Raise unless the Params can be trained with."""
        solvers = (*FULL_BATCH_SOLVERS, *MINI_BATCH_SOLVERS)
        check_params(
            self,
            solver=(f"one of {', '.join(solvers)}", lambda v: v in solvers),
            family=("auto or binomial", lambda v: v.lower() in ("auto", "binomial")),
        )
        self._checkThresholdConsistency()
        solver = self.getSolver()
        warn_of_unused(self, solver)
        if self.getElasticNetParam() > 0 and self.getRegParam() > 0 and solver != "ftrl":
            raise InvalidInput(
                f"L1 needs solver='ftrl': with solver={solver!r} the `elasticNetParam` must be 0. Got"
                f" {self.getElasticNetParam()!r} instead.",
                param="elasticNetParam",
            )
        if solver in FULL_BATCH_SOLVERS and self.getConsistency().lower() != "bsp" and self.isSet(self.consistency):
            raise InvalidInput(
                f"solver={solver!r} needs consistency='bsp'. Got {self.getConsistency()!r} instead; mini-batch solvers take it.",
                param="consistency",
            )

    def _settings(self) -> FitSettings:
        weight = self.getWeightCol() if self.isDefined(self.weightCol) else ""
        strict: Literal["error", "skip"] = "skip" if self.getHandleInvalid() == "skip" else "error"
        columns = Columns(self.getLabelCol(), self.getFeaturesCol(), weight or "", self.getNumFeatures(), strict)
        l1 = self.getRegParam() * self.getElasticNetParam()
        return FitSettings(
            uid=self.uid,
            columns=columns,
            loss="logistic",
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
        )


class LogisticRegressionModel(
    Model, _LogisticRegressionParams, ColumnSetters, MLWritable, MLReadable["LogisticRegressionModel"]
):
    """A fitted logistic regression.

    Its coefficients are at the driver where they take at most 64 MiB; else they stay on the tier for as long as the model or
    a copy of it is referred to, and scoring pulls the rows of each batch.
    """

    def __init__(self, coefficients: Coefficients, facts: dict[str, Any]) -> None:
        super().__init__()
        #: Where the coefficients are.
        self.coefficients_ = coefficients
        #: Intercept, number of features, and how training went: what goes into the metadata.
        self.facts_ = facts
        self._summary: LogisticRegressionTrainingSummary | None = None
        #: What `coefficients` gave.
        self._vector: Vector | None = None

    @classmethod
    def _of(cls, found: Fit) -> Self:
        facts = {"intercept": found.intercept, "numFeatures": found.num_features, "width": found.width}
        model = cls(found.coefficients, facts)
        model._summary = LogisticRegressionTrainingSummary(
            found.history, found.iterations, found.reason, found.rows, found.skipped
        )
        return model

    @classmethod
    def _from_saved(cls, coefficients: Coefficients, facts: dict[str, Any]) -> Self:
        return cls(coefficients, facts)

    # ---- what it learned -----------------------------------------------------------------------------------------------

    @property
    def intercept(self) -> float:
        """Intercept."""
        return float(self.facts_["intercept"])

    @property
    def numFeatures(self) -> int:
        """Number of features."""
        return int(self.facts_["numFeatures"])

    @property
    def numClasses(self) -> int:
        """Number of classes: 2."""
        return 2

    @property
    def coefficients(self) -> Vector:
        """Coefficients as a vector of Spark, in whichever form is smaller.

        Raises
        ------
        InvalidInput
            There are more features than a vector can have: use `weights`.
        """
        if self._vector is None:
            self._vector = self._as_vector()
        return self._vector

    def _as_vector(self) -> Vector:
        if self.numFeatures > _MAX_VECTOR:
            raise InvalidInput(
                f"A vector of Spark must have at most {_MAX_VECTOR} elements. Got {self.numFeatures} features; use `model.weights`, a"
                " DataFrame of the coefficients that are not 0."
            )
        held = self.coefficients_
        if not isinstance(held, LocalCoefficients):
            held = brought_here(held.table)
        if 1.5 * (len(held.keys) + 1) < self.numFeatures:
            return SparseVector(self.numFeatures, held.keys.astype(np.int32), held.values)
        values = np.zeros(self.numFeatures)
        values[held.keys] = held.values
        return DenseVector(values)

    @property
    def coefficientMatrix(self) -> DenseMatrix:
        """The coefficients as a matrix of one row."""
        return DenseMatrix(1, self.numFeatures, self.coefficients.toArray(), True)

    @property
    def interceptVector(self) -> DenseVector:
        """The intercept as a vector."""
        return Vectors.dense([self.intercept])

    @property
    def weights(self) -> DataFrame:
        """Coefficients that are not 0: key bigint, weight double. For any number of features."""
        from pyspark.sql import SparkSession

        return weights_of(self.coefficients_, SparkSession.builder.getOrCreate())

    @property
    def hasSummary(self) -> bool:
        """Whether there is a `summary`: models that were loaded have none."""
        return self._summary is not None

    @property
    def summary(self) -> LogisticRegressionTrainingSummary:
        """How training went.

        Raises
        ------
        RuntimeError
            The model was loaded.
        """
        if self._summary is None:
            raise RuntimeError(f"No training summary available for this {type(self).__name__}")
        return self._summary

    # ---- scoring -------------------------------------------------------------------------------------------------------

    def _transform(self, dataset: DataFrame) -> DataFrame:
        from pyspark.sql import functions as sf

        name = self.getFeaturesCol()
        if name not in dataset.columns:
            raise InvalidInput(
                f"Column {name!r} must exist. The DataFrame has {', '.join(dataset.columns)}.", column=name
            )
        kind = dataset.schema[name].dataType
        check_features_type(name, kind)
        parts = {"rawPredictionCol": "raw", "probabilityCol": "probability", "predictionCol": "prediction"}
        names = {param: self.getOrDefault(param) for param in parts}
        check_outputs(dataset, names)
        features = sf.col(quoted(name))
        if self.getHandleInvalid() == "skip":
            dataset = dataset.where(has_valid_features(features, kind, int(self.facts_.get("width", 0))))
        if self._suits_spark(kind):
            dataset = dataset.where(never_null(features, name))
            in_spark: DataFrame = self.toSpark().transform(dataset)
            return in_spark
        # True of every row. Spark 4.3 hands a UDF the columns of a columnar scan (Parquet) as they are, and fails where one of
        # them is a vector; a filter in between runs row by row.
        dataset = dataset.where(features.isNull() | features.isNotNull())
        scored = self._scored(dataset, features)
        added = [output(parts[param], scored, column, self.numClasses) for param, column in names.items() if column]
        return dataset.select("*", *added)

    def _suits_spark(self, kind: Any) -> bool:
        """Whether pyspark.ml's own model scores features of that type: vectors as long as those it was trained on.

        It does so in the JVM, where they are. All else it cannot score, or would send to every task as a dense vector; nor does it
        quote the names of columns.
        """
        local = isinstance(self.coefficients_, LocalCoefficients)
        names = (self.getFeaturesCol(), self.getRawPredictionCol(), self.getProbabilityCol(), self.getPredictionCol())
        plain = all(not name or name.isidentifier() for name in names)
        fits = self.facts_.get("width", 0) == self.numFeatures <= LARGEST_IN_SPARK
        return local and plain and fits and isinstance(kind, VectorUDT)

    def _scored(self, dataset: DataFrame, features: Column) -> Column:
        """A struct of all that is predicted of a row."""
        from pyspark.sql import functions as sf
        from pyspark.sql.types import DoubleType, StructField, StructType

        held: Any = self.coefficients_
        if isinstance(held, LocalCoefficients):
            held = held.broadcast(dataset.sparkSession.sparkContext)
        width = int(self.facts_.get("width", 0))
        scorer = BinaryScorer(held, self.intercept, self.getThreshold(), self.getFeaturesCol(), width)
        kinds = {"raw": VectorUDT(), "probability": VectorUDT(), "prediction": DoubleType()}
        kind = StructType([StructField(name, part) for name, part in kinds.items()])
        arrow_udf: Any = getattr(sf, "arrow_udf")  # noqa: B009  # pyspark's stubs do not know it
        scored: Column = arrow_udf(scorer.__call__, kind)(features)
        return scored

    def predictRaw(self, value: Vector) -> DenseVector:
        """Raw prediction of one vector: [-margin, margin]."""
        if isinstance(value, SparseVector):
            keys, entries = value.indices.astype(np.int64), np.asarray(value.values)
        else:
            entries = value.toArray()
            keys = np.arange(len(entries), dtype=np.int64)
        ids, held = self.coefficients_.look_up(keys)
        known = ids >= 0
        margin = float(held[ids[known]] @ entries[known]) + self.intercept
        return Vectors.dense([-margin, margin])

    def predictProbability(self, value: Vector) -> DenseVector:
        """Probability of each label for one vector."""
        p = float(probabilities(np.array([self.predictRaw(value)[1]]))[0])
        return Vectors.dense([1.0 - p, p])

    def predict(self, value: Vector) -> float:
        """Label of one vector."""
        return float(self.predictProbability(value)[1] > self.getThreshold())

    # ---- elsewhere -----------------------------------------------------------------------------------------------------

    def write(self) -> ModelWriter:
        """The writer of this model."""
        return ModelWriter(self)

    @classmethod
    def read(cls) -> ModelReader:
        """The reader of models."""
        return ModelReader(cls)

    def toSpark(self) -> Any:
        """The same model as a pyspark.ml LogisticRegressionModel, where its coefficients fit in a vector."""
        from pyspark.ml.classification import LogisticRegressionModel as SparkModel
        from pyspark.ml.common import _py2java
        from pyspark.ml.wrapper import JavaParams
        from pyspark.sql import SparkSession

        context = SparkSession.builder.getOrCreate().sparkContext
        held = self.coefficients_
        if isinstance(held, LocalCoefficients):
            matrix = held.in_jvm(context, lambda: self.coefficientMatrix)
        else:
            matrix = _py2java(context, self.coefficientMatrix)
        vector = _py2java(context, self.interceptVector)
        name = "org.apache.spark.ml.classification.LogisticRegressionModel"
        made = SparkModel(JavaParams._new_java_obj(name, self.uid, matrix, vector, 2, False))
        for param in made.params:
            if self.hasParam(param.name) and self.isSet(param.name) and param.name not in ("solver",):
                made.set(param, self.getOrDefault(param.name))
        made._transfer_params_to_java()
        return made


__all__ = ["LogisticRegression", "LogisticRegressionModel", "LogisticRegressionTrainingSummary"]
