"""LinearSVC against pyspark.ml on the same rows, and on real data."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.classification import LinearSVC as SparkLinearSVC
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as sf

from sparkps.mllib.classification import LinearSVC, LinearSVCModel
from tests.harness.cases import cases


@pytest.fixture(scope="module")
def rows(spark):
    """300 rows of 5 features on different scales, one of them constant, dense and sparse vectors mixed."""
    rng = np.random.default_rng(17)
    x = rng.normal(size=(300, 5)) * np.array([1, 10, 0.01, 3, 1]) + np.array([0, 5, 1, 0, -1])
    x[rng.random(x.shape) < 0.4] = 0.0
    x[:, 4] = 2.5
    y = rng.random(300) < 1 / (1 + np.exp(-2 * (x @ np.array([1, -0.1, 20, 0.3, 0])) + 1))
    vectors = [Vectors.dense(r) if i % 2 else Vectors.sparse(5, np.flatnonzero(r), r[r != 0]) for i, r in enumerate(x)]
    weights = rng.uniform(0.1, 3, 300)
    frame = spark.createDataFrame(
        [(float(a), b, float(w)) for a, b, w in zip(y, vectors, weights, strict=True)], ["label", "features", "weight"]
    )
    frame = frame.repartition(3).cache()
    frame.count()
    return frame


def objective(frame, coefficients, intercept, params):
    """Mean hinge loss and penalty."""
    table = frame.toPandas()
    x, y = np.stack([row.toArray() for row in table["features"]]), 2 * table["label"].to_numpy() - 1
    w = table[params["weightCol"]].to_numpy() if "weightCol" in params else np.ones(len(y))
    mean = np.average(x, axis=0, weights=w)
    freedom = w.sum() - (w**2).sum() / w.sum()
    deviation = np.sqrt(w @ (x - mean) ** 2 / freedom) if params.get("standardization", True) else 1.0
    loss = np.average(np.maximum(0.0, 1 - y * (x @ coefficients + intercept)), weights=w)
    return loss + params.get("regParam", 0.0) / 2 * ((coefficients * deviation) ** 2).sum()


GRID = [
    {"regParam": 0.1}, {"regParam": 0.1, "standardization": False}, {"regParam": 0.05, "fitIntercept": False},
    {"regParam": 0.2, "weightCol": "weight"}, {"regParam": 0.01},
]  # fmt: skip


@pytest.mark.parametrize("params", cases(GRID[:3], long=GRID[3:]), ids=str)
def test_the_objective_is_as_low_as_pyspark_s(ps, rows, params):
    """Where the loss has kinks neither ends at the very optimum."""
    params = {"maxIter": 60, "tol": 1e-8, **params}
    ours, theirs = LinearSVC(**params).fit(rows), SparkLinearSVC(**params).fit(rows)
    mine, other = (objective(rows, m.coefficients.toArray(), m.intercept, params) for m in (ours, theirs))
    assert mine <= other * (1 + 1e-4)
    assert ours.summary.objectiveHistory[-1] == pytest.approx(mine, rel=1e-9)
    np.testing.assert_allclose(ours.coefficients.toArray(), theirs.coefficients.toArray(), rtol=0.05, atol=0.01)
    assert (ours.numFeatures, ours.numClasses) == (theirs.numFeatures, theirs.numClasses)


def test_predictions_are_those_of_pyspark_s_model(ps, rows, tmp_path):
    model = LinearSVC(regParam=0.1, threshold=0.3, rawPredictionCol="raw").fit(rows)
    mine, other = (each.transform(rows).toPandas() for each in (model, model.toSpark()))
    assert list(mine.columns) == list(other.columns)
    assert mine["prediction"].tolist() == other["prediction"].tolist()
    np.testing.assert_allclose(np.stack(mine["raw"]), np.stack(other["raw"]), rtol=1e-9)
    model.save(str(tmp_path / "model"))
    loaded = LinearSVCModel.load(str(tmp_path / "model"))
    vector = rows.first().features
    assert (loaded.getThreshold(), loaded.predict(vector)) == (0.3, model.predict(vector))
    assert loaded.setThreshold(float("inf")).predict(vector) == 0.0


def test_a9a(spark, ps, shared_data):
    reader = spark.read.format("libsvm").option("numFeatures", 123)
    parts = [reader.load(str(shared_data / f"a9a.{part}.libsvm")) for part in ("train", "test")]
    train, test = (part.withColumn("label", (sf.col("label") > 0).cast("double")) for part in parts)
    scored = LinearSVC(regParam=1e-3).fit(train).transform(test)
    assert BinaryClassificationEvaluator().evaluate(scored) > 0.895
