"""Coefficients of pyspark.ml's LogisticRegression over a grid of Params, kept in a file so that tests need not compute them.

Run once to write the file, and again when data or grid change: ``python -m tests.harness.golden_logistic``.
"""

from __future__ import annotations

import itertools
import json
import pathlib
from typing import Any

import numpy as np
from pyspark.ml.linalg import Vectors

FILE = pathlib.Path(__file__).parent / "golden_logistic.json"

#: Number of classes and family; with two classes both families are defined.
PROBLEMS = ((2, "binomial"), (3, "multinomial"), (2, "multinomial"))
PENALTIES = ((0.0, 0.0), (0.01, 0.0), (0.2, 0.0), (0.01, 0.5), (0.1, 0.5), (0.05, 1.0))

#: So that both sides converge fully.
CONVERGED = {"tol": 1e-13, "maxIter": 1000}


def rows_of(classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (90, 5) on different scales, four out of ten of them 0; labels that no plane parts; and weights."""
    rng = np.random.default_rng(classes)
    x = rng.normal(size=(90, 5)) * [1.0, 10.0, 0.1, 3.0, 1.0] + [0.0, 5.0, 0.0, 0.0, -1.0]
    x[rng.random(x.shape) < 0.4] = 0.0
    margins = 0.3 * (x @ rng.normal(size=(5, classes))) + rng.gumbel(size=(90, classes)) * 1.5
    return x, margins.argmax(axis=1).astype(float), rng.uniform(0.2, 3.0, 90)


def frame_of(spark: Any, classes: int, sparse: bool) -> Any:
    """The rows as a DataFrame of two partitions: label, features, weight."""
    x, labels, weights = rows_of(classes)
    vectors = [Vectors.sparse(5, np.flatnonzero(row), row[row != 0]) if sparse else Vectors.dense(row) for row in x]
    rows = [(float(a), b, float(w)) for a, b, w in zip(labels, vectors, weights, strict=True)]
    return spark.createDataFrame(rows, ["label", "features", "weight"]).repartition(2).cache()


def grid() -> list[dict[str, Any]]:
    """Params of each fit but for those of a problem."""
    found = []
    for (reg, net), standardization, intercept in itertools.product(PENALTIES, (True, False), (True, False)):
        found.append({"regParam": reg, "elasticNetParam": net, "standardization": standardization, "fitIntercept": intercept})
    return found


def result_of(model: Any) -> list[list[float]]:
    """A row for each output: its coefficients, and its intercept last."""
    return np.column_stack([model.coefficientMatrix.toArray(), model.interceptVector.toArray()]).tolist()


def key_of(classes: int, family: str, weighted: bool) -> str:
    """Under which the results of the grid stand in the file."""
    return f"{classes} {family} {'weighted' if weighted else 'plain'}"


def main() -> None:
    """Write the file."""
    from pyspark.ml.classification import LogisticRegression
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    found = {}
    for (classes, family), weighted in itertools.product(PROBLEMS, (False, True)):
        frame = frame_of(spark, classes, False).coalesce(1).cache()
        more = {"weightCol": "weight"} if weighted else {}
        fits = [LogisticRegression(family=family, **CONVERGED, **more, **params).fit(frame) for params in grid()]
        found[key_of(classes, family, weighted)] = [result_of(model) for model in fits]
    blocks = (json.dumps(key) + ": [\n" + ",\n".join(map(json.dumps, each)) + "\n]" for key, each in found.items())
    FILE.write_text("{\n" + ",\n".join(blocks) + "\n}\n")
    spark.stop()


if __name__ == "__main__":
    main()
