"""What the contract of all estimators is checked with: a row for each estimator, and rows of data of the kinds that they train on."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pyspark.ml import Estimator
from pyspark.ml.linalg import Vectors

MODULES = ("classification", "regression")

#: Labels of six rows, by kind.
LABELS = {
    "binary": [0.0, 1.0, 1.0, 0.0, 1.0, 0.0],
    "classes": [0.0, 1.0, 2.0, 0.0, 1.0, 2.0],
    "numbers": [-1.5, 0.25, 2.0, 4.0, 0.5, 1.0],
    "positive": [0.5, 1.0, 2.0, 3.0, 0.25, 1.5],
}

#: A label that estimators of the kind cannot train on, and what numbers them wrongly.
WRONG_LABELS = {
    "binary": (-1.0, 0.5, 2.0, np.inf),
    "classes": (-1.0, 0.5, np.inf),
    "numbers": (np.inf,),
    "positive": (-1.0, np.inf),
}


@dataclass(frozen=True)
class Row:
    """An estimator, and what of the contract holds for it."""

    #: Module of `sparkps.mllib`, and class.
    module: str
    name: str
    #: Kind of its labels, a key of `LABELS`.
    labels: str
    #: Params that it is tried with.
    params: dict[str, Any] = field(default_factory=dict)
    #: Whether a class of several can be told from all others with it.
    one_vs_rest: bool = False
    #: Param that is a list which begins with the number of features; empty: it has none.
    sized: str = ""
    #: What it is tried with says little more than what others are: left to the long tests.
    is_like_another: bool = False

    @property
    def cls(self) -> Any:
        """The class; None: the package has none."""
        return public_classes().get((self.module, self.name))

    def make(self, features: int = 4, **more: Any) -> Any:
        """An estimator, for rows of so many features."""
        sizes = {self.sized: [features, *self.params[self.sized][1:]]} if self.sized else {}
        return self.cls(**{"maxIter": 2, "numWorkers": 1, **self.params, **sizes, **more})

    def frame(self, spark: Any, count: int = 6, **columns: Any) -> Any:
        """Rows in one partition: label, features and weight."""
        return make_frame(spark, [row_of(self.labels, place) for place in range(count)])

    def takes(self, param: str) -> bool:
        """Whether it has the Param."""
        return bool(self.make().hasParam(param))


#: A new estimator adds its row here.
TABLE = (
    Row("classification", "LogisticRegression", "binary", {"family": "binomial", "regParam": 0.1}, one_vs_rest=True),
    Row("classification", "LogisticRegression", "classes", {"family": "multinomial", "regParam": 0.1}),
    Row("classification", "LinearSVC", "binary", {"regParam": 0.1}, one_vs_rest=True, is_like_another=True),
    Row("classification", "Perceptron", "binary", one_vs_rest=True, is_like_another=True),
    Row("classification", "FMClassifier", "binary", {"factorSize": 2}, one_vs_rest=True),
    Row("classification", "FFMClassifier", "binary", {"factorSize": 2, "fieldStarts": [0, 2]}, is_like_another=True),
    Row("classification", "MLRClassifier", "binary"),
    Row("classification", "FTRLClassifier", "binary"),
    Row("classification", "MultilayerPerceptronClassifier", "classes", {"layers": [4, 3, 3]}, sized="layers"),
    Row("regression", "LinearRegression", "numbers", {"solver": "lbfgs", "regParam": 0.1}, is_like_another=True),
    Row("regression", "LinearRegression", "numbers", {"solver": "normal", "regParam": 0.1}),
    Row("regression", "LinearRegression", "numbers", {"loss": "huber", "regParam": 0.1}, is_like_another=True),
    Row("regression", "GeneralizedLinearRegression", "numbers", {"family": "gaussian"}, is_like_another=True),
    Row("regression", "GeneralizedLinearRegression", "positive", {"family": "gamma", "link": "log", "regParam": 0.1}),
    Row("regression", "FMRegressor", "numbers", {"factorSize": 2}, is_like_another=True),
)


def public_classes() -> dict[tuple[str, str], Any]:
    """Every estimator that the package offers, by module and name."""
    found = {}
    for module in MODULES:
        if importlib.util.find_spec(f"sparkps.mllib.{module}") is None:
            continue
        loaded = importlib.import_module(f"sparkps.mllib.{module}")
        classes = {name: getattr(loaded, name) for name in loaded.__all__}
        found.update({(module, name): cls for name, cls in classes.items() if isinstance(cls, type) and issubclass(cls, Estimator)})
    return found


def row_of(kind: str, place: int) -> tuple[float, Any, float]:
    """Label, features (dense and sparse ones in turn) and weight of one of six rows that come again and again."""
    rng = np.random.default_rng(place % 6)
    x = np.array([rng.normal(), round(2 * rng.normal()), 1.0, 0.0])
    features = Vectors.dense(x) if place % 2 else Vectors.sparse(4, np.flatnonzero(x), x[x != 0])
    return LABELS[kind][place % 6], features, 1.0 + place % 2


def make_frame(spark: Any, rows: list[tuple[Any, Any, Any]]) -> Any:
    """The rows as one partition, in their order."""
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql.types import DoubleType, StructField, StructType

    kinds = (("label", DoubleType()), ("features", VectorUDT()), ("weight", DoubleType()))
    return spark.createDataFrame(rows, StructType([StructField(*each) for each in kinds])).coalesce(1)


def scores(model: Any, frame: Any) -> np.ndarray:
    """What a model says of each row, as numbers: its raw predictions, or else its predictions."""
    scored = model.transform(frame)
    if "rawPrediction" in scored.columns:
        return np.array([row.rawPrediction.toArray() for row in scored.select("rawPrediction").collect()])
    return np.array([row.prediction for row in scored.select("prediction").collect()])
