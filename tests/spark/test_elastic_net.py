"""LogisticRegression with L1 against pyspark.ml: the same steps, the same zeros."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.classification import LogisticRegression as SparkLogisticRegression
from pyspark.ml.linalg import Vectors

from sparkps.mllib.classification import LogisticRegression
from tests.harness.cases import cases

#: Rows of the data sets, and their classes.
CLASSES = {"two": 2, "three": 3}


@pytest.fixture(scope="module")
def frames(spark):
    """By name: 400 rows of 10 features on very different scales, one of them constant and half of them of no use."""
    frames = {}
    for seed, (name, classes) in enumerate(CLASSES.items()):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(400, 10)) * np.array([1, 10, 0.01, 3, 1, 1, 0.5, 2, 5, 0.1]) + np.array([0, 5, 1, 0, -1, 0, 0, 0, 9, 0])
        x[rng.random(x.shape) < 0.3] = 0.0
        x[:, 6] = 2.5
        truth = rng.normal(size=(10, classes)) / x.std(axis=0).clip(0.01)[:, None] * (np.arange(10) % 2 == 0)[:, None]
        margins = (x - x.mean(axis=0)) @ truth + rng.gumbel(size=(400, classes))
        rows = [
            (float(label), Vectors.dense(row) if i % 2 else Vectors.sparse(10, np.flatnonzero(row), row[row != 0]), float(weight))
            for i, (label, row, weight) in enumerate(zip(margins.argmax(axis=1), x, rng.uniform(0.1, 3, 400), strict=True))
        ]
        frames[name] = spark.createDataFrame(rows, ["label", "features", "weight"]).repartition(2).cache()
        frames[name].count()
    return frames


GRID = {
    "lasso": {"regParam": 0.02, "elasticNetParam": 1.0},
    "both": {"regParam": 0.05, "elasticNetParam": 0.3},
    "not standardized": {"regParam": 0.01, "elasticNetParam": 0.8, "standardization": False},
    "no intercept": {"regParam": 0.02, "elasticNetParam": 0.5, "fitIntercept": False},
    "weighted": {"regParam": 0.02, "elasticNetParam": 0.5, "weightCol": "weight"},
    "all zero": {"regParam": 3.0, "elasticNetParam": 1.0},
}


@pytest.mark.parametrize("case", GRID)
@pytest.mark.parametrize("name", cases(["three"], long=["two"]))
def test_same_steps_zeros_and_coefficients_as_pyspark(ps, frames, name, case):
    params = {"maxIter": 200, "tol": 1e-12, **GRID[case]}
    ours, theirs = LogisticRegression(**params).fit(frames[name]), SparkLogisticRegression(**params).fit(frames[name])
    mine, other = ours.summary.objectiveHistory, theirs.summary.objectiveHistory
    shared = min(len(mine), len(other), 12)
    np.testing.assert_allclose(mine[:shared], other[:shared], rtol=1e-6)
    assert mine[-1] == pytest.approx(other[-1], rel=1e-9)
    found, expected = ours.coefficientMatrix.toArray(), theirs.coefficientMatrix.toArray()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert ((found == 0) == (expected == 0)).all()
    np.testing.assert_allclose(ours.interceptVector.toArray(), theirs.interceptVector.toArray(), rtol=1e-5, atol=1e-6)


def test_few_iterations_end_where_those_of_pyspark_do(ps, frames):
    params = {"maxIter": 7, "tol": 0.0, "regParam": 0.01, "elasticNetParam": 0.9}
    ours, theirs = LogisticRegression(**params).fit(frames["two"]), SparkLogisticRegression(**params).fit(frames["two"])
    np.testing.assert_allclose(ours.coefficients.toArray(), theirs.coefficients.toArray(), rtol=1e-5, atol=1e-9)
    assert len(ours.summary.objectiveHistory) == len(theirs.summary.objectiveHistory) == 8


def test_a_grid_of_penalties_gives_what_each_gives_alone(ps, frames):
    lr = LogisticRegression(maxIter=40, deterministic=True, numWorkers=2)
    grid = [
        {lr.regParam: 0.05, lr.elasticNetParam: 0.7},
        {lr.regParam: 0.05},
        {lr.regParam: 0.01, lr.elasticNetParam: 1.0, lr.standardization: False},
    ]
    together = dict(lr.fitMultiple(frames["two"], grid))
    for place, params in enumerate(grid):
        alone = lr.fit(frames["two"], params)
        assert together[place].coefficients == alone.coefficients
        assert together[place].summary.objectiveHistory == alone.summary.objectiveHistory


def test_features_that_l1_leaves_out_are_not_in_the_model(ps, frames):
    model = LogisticRegression(regParam=0.05, elasticNetParam=1.0).fit(frames["two"])
    assert 0 < model.weights.count() == np.count_nonzero(model.coefficients.toArray()) < 9
