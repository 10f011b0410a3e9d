"""LinearRegression against pyspark.ml on the same rows: by normal equations, by L-BFGS, and with Huber's loss."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.ml.regression import LinearRegression as SparkLinearRegression

from sparkps.mllib.regression import LinearRegression


def frame_of(spark, x, y, weights=None):
    """Rows with dense and sparse vectors mixed, in three partitions."""
    many = x.shape[1]
    vectors = [Vectors.dense(r) if i % 2 else Vectors.sparse(many, np.flatnonzero(r), r[r != 0]) for i, r in enumerate(x)]
    weights = np.ones(len(y)) if weights is None else weights
    made = spark.createDataFrame(
        [(float(a), b, float(w)) for a, b, w in zip(y, vectors, weights, strict=True)], ["label", "features", "weight"]
    )
    made = made.repartition(3).cache()
    made.count()
    return made


@pytest.fixture(scope="module")
def rows(spark):
    """300 rows of 6 features on different scales, far from 0, one constant; two matter little; labels far from 0; some outliers."""
    rng = np.random.default_rng(11)
    x = rng.normal(size=(300, 6)) * np.array([1, 10, 0.01, 3, 1, 1]) + np.array([0, 5, 1, 0, -1, 0])
    x[rng.random(x.shape) < 0.3] = 0.0
    x[:, 5] = 2.5
    y = x @ np.array([1, -0.1, 20, 0.3, 0.02, 1.0]) + 40 + rng.normal(size=300) * 0.7 + 30 * (rng.random(300) < 0.03)
    return frame_of(spark, x, y, rng.uniform(0.1, 3, 300))


def compare(ours, theirs, rtol, atol=1e-7):
    np.testing.assert_allclose(ours.coefficients.toArray(), theirs.coefficients.toArray(), rtol=rtol, atol=atol)
    assert ours.intercept == pytest.approx(theirs.intercept, rel=rtol, abs=atol)
    assert ours.numFeatures == theirs.numFeatures


GRID = [
    {"regParam": reg, "elasticNetParam": net, "standardization": standardization, "fitIntercept": intercept, **weight}
    for reg, net in ((0.0, 0.0), (0.3, 0.0), (0.2, 0.5), (0.1, 1.0))
    for standardization, intercept, weight in itertools.product((True, False), (True, False), ({}, {"weightCol": "weight"}))
]


@pytest.mark.parametrize("params", GRID, ids=str)
def test_normal_equations_give_the_coefficients_of_pyspark(ps, rows, params):
    params = {**params, "solver": "normal", "maxIter": 1000, "tol": 1e-13}
    ours, theirs = LinearRegression(**params).fit(rows), SparkLinearRegression(**params).fit(rows)
    compare(ours, theirs, 1e-6)


@pytest.mark.parametrize("params", [each for each in GRID if not each["elasticNetParam"]], ids=str)
def test_l_bfgs_takes_the_steps_of_pyspark(ps, rows, params):
    params = {**params, "solver": "l-bfgs", "maxIter": 500, "tol": 1e-12}
    ours, theirs = LinearRegression(**params).fit(rows), SparkLinearRegression(**params).fit(rows)
    compare(ours, theirs, 1e-6)
    mine, other = ours.summary.objectiveHistory, theirs.summary.objectiveHistory
    shared = min(len(mine), len(other), 6)
    np.testing.assert_allclose(mine[:shared], other[:shared], rtol=1e-6)
    assert mine[-1] == pytest.approx(other[-1], rel=1e-8)


@pytest.mark.parametrize("params", [
    {}, {"regParam": 0.1}, {"regParam": 0.1, "standardization": False}, {"fitIntercept": False, "regParam": 0.01}, {"epsilon": 3.0},
    {"weightCol": "weight", "epsilon": 1.1},
], ids=str)  # fmt: skip
def test_huber_has_the_optimum_of_pyspark(ps, rows, params):
    params = {**params, "loss": "huber", "maxIter": 2000, "tol": 1e-13}
    ours, theirs = LinearRegression(**params).fit(rows), SparkLinearRegression(**params).fit(rows)
    compare(ours, theirs, 2e-4, 1e-4)
    assert ours.scale == pytest.approx(theirs.scale, rel=1e-4)
    assert ours.summary.objectiveHistory[-1] <= theirs.summary.objectiveHistory[-1] * (1 + 1e-8)
