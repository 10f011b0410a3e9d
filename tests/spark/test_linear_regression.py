"""LinearRegression against pyspark.ml on the same rows: by normal equations, by L-BFGS, and with Huber's loss."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pyspark.errors import IllegalArgumentException
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.linalg import Vectors
from pyspark.ml.regression import LinearRegression as SparkLinearRegression
from pyspark.sql import functions as sf

from sparkps.mllib.regression import LinearRegression, LinearRegressionModel
from tests.harness.cases import cases


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


def assert_alike(ours, theirs, rtol, atol=1e-7):
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
    assert_alike(ours, theirs, 1e-6)


@pytest.mark.parametrize("params", cases(GRID[::2], long=GRID[1::2]), ids=str)
def test_l_bfgs_takes_the_steps_of_pyspark(ps, rows, params):
    params = {**params, "solver": "l-bfgs", "maxIter": 100, "tol": 1e-11}
    ours, theirs = LinearRegression(**params).fit(rows), SparkLinearRegression(**params).fit(rows)
    assert_alike(ours, theirs, 1e-6)
    mine, other = ours.summary.objectiveHistory, theirs.summary.objectiveHistory
    shared = min(len(mine), len(other), 6)
    np.testing.assert_allclose(mine[:shared], other[:shared], rtol=1e-6)
    assert mine[-1] == pytest.approx(other[-1], rel=1e-8)


@pytest.mark.parametrize("params", [
    {}, {"regParam": 0.1}, {"regParam": 0.1, "standardization": False}, {"fitIntercept": False, "regParam": 0.01}, {"epsilon": 3.0},
    {"weightCol": "weight", "epsilon": 1.1},
], ids=str)  # fmt: skip
def test_huber_has_the_optimum_of_pyspark(ps, rows, params):
    params = {**params, "loss": "huber", "maxIter": 200, "tol": 1e-11}
    ours, theirs = LinearRegression(**params).fit(rows), SparkLinearRegression(**params).fit(rows)
    assert_alike(ours, theirs, 2e-4, 1e-4)
    assert ours.scale == pytest.approx(theirs.scale, rel=1e-4)
    assert ours.summary.objectiveHistory[-1] <= theirs.summary.objectiveHistory[-1] * (1 + 1e-8)


def test_predictions_summary_and_files(ps, rows, tmp_path):
    model = LinearRegression(regParam=0.1, predictionCol="y").fit(rows)
    theirs = SparkLinearRegression(regParam=0.1, predictionCol="y").fit(rows)
    mine, other, in_spark = (each.transform(rows).toPandas() for each in (model, theirs, model.toSpark()))
    assert list(mine.columns) == list(other.columns)
    np.testing.assert_allclose(mine["y"], other["y"], rtol=1e-6)
    np.testing.assert_allclose(mine["y"], in_spark["y"], rtol=1e-9)
    model.save(str(tmp_path / "model"))
    loaded = LinearRegressionModel.load(str(tmp_path / "model"))
    assert (loaded.coefficients, loaded.intercept, loaded.scale) == (model.coefficients, model.intercept, 1.0)
    assert repr(model) == f"LinearRegressionModel: uid={model.uid}, numFeatures=6"
    huber = LinearRegression(loss="huber", maxIter=5).fit(rows)
    huber.save(str(tmp_path / "huber"))
    assert LinearRegressionModel.load(str(tmp_path / "huber")).scale == huber.scale > 0
    assert huber.toSpark().scale == huber.scale


def test_a_grid_of_penalties_is_solved_in_one_pass(ps, rows):
    estimator = LinearRegression(solver="normal")
    maps = [{estimator.regParam: reg, estimator.elasticNetParam: net} for reg, net in ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0))]
    models = dict(estimator.fitMultiple(rows, maps))
    for place, params in enumerate(maps):
        alone = estimator.fit(rows, params)
        np.testing.assert_allclose(models[place].coefficients.toArray(), alone.coefficients.toArray(), rtol=1e-9)


@pytest.mark.parametrize("params", [{}, {"solver": "l-bfgs"}, {"loss": "huber"}], ids=str)
def test_labels_that_do_not_vary(spark, ps, params):
    frame = frame_of(spark, np.array([[1.0, 2.0], [2.0, -1.0], [0.0, 0.5]]), np.full(3, 0.1))
    model = LinearRegression(**params).fit(frame)
    assert (model.coefficients.toArray().tolist(), model.intercept) == ([0.0, 0.0], pytest.approx(0.1))
    assert model.summary.reason == "labels do not vary"


@pytest.mark.parametrize("solver", ["normal", "l-bfgs"])
def test_labels_that_do_not_vary_without_intercept(spark, ps, solver):
    frame = frame_of(spark, np.array([[1.0, 2.0], [2.0, -1.0], [0.0, 0.5]]), np.full(3, 4.0))
    params = {"solver": solver, "fitIntercept": False, "tol": 1e-12}
    assert_alike(LinearRegression(**params).fit(frame), SparkLinearRegression(**params).fit(frame), 1e-5)
    with pytest.raises(ValueError, match="`regParam` must be 0 where all labels are equal"):
        LinearRegression(**params, regParam=0.1).fit(frame)


@pytest.mark.parametrize(("params", "says"), [
    ({"loss": "huber", "solver": "normal"}, "huber loss doesn't support normal solver"),
    ({"loss": "huber", "solver": "adam"}, "huber loss doesn't support adam solver"),
    ({"loss": "huber", "elasticNetParam": 0.1}, "only supports L2 regularization"),
    ({"loss": "absolute"}, "The `loss` of LinearRegression must be one of squaredError, huber. Got 'absolute'"),
    ({"epsilon": 1.0}, "The `epsilon` of LinearRegression must be a float above 1. Got 1.0"),
    ({"solver": "newton"}, "The `solver` of LinearRegression must be one of auto, normal, l-bfgs"),
], ids=str)  # fmt: skip
def test_params_that_do_not_go_together(ps, rows, params, says):
    with pytest.raises(IllegalArgumentException, match=says):
        LinearRegression(**params).fit(rows)


def test_auto_takes_l_bfgs_where_features_are_many_or_unknown(spark, ps):
    rng = np.random.default_rng(3)
    made = [(float(y), ([int(k), 5_000_000_000], [float(v), 1.0])) for k, v, y in zip(
        rng.integers(0, 9, 60), rng.normal(size=60), rng.normal(size=60), strict=True)]  # fmt: skip
    frame = spark.createDataFrame(made, "label double, features struct<indices: array<bigint>, values: array<double>>")
    model = LinearRegression(regParam=0.01).fit(frame)
    assert model.summary.totalIterations > 0
    with pytest.raises(ValueError, match="solver='normal' must know of at most 4096 features how many there are"):
        LinearRegression(solver="normal").fit(frame)
    few = frame.selectExpr("label", "struct(array(features.indices[0]) as indices, array(features.values[0]) as values) as features")
    assert LinearRegression(numFeatures=10, regParam=0.1).fit(few).summary.totalIterations == 0


def test_mini_batch_solvers_come_near(ps, rows):
    best = LinearRegression(solver="l-bfgs").fit(rows)
    found = LinearRegression(solver="adam", maxIter=150, batchSize=50, stepSize=0.3).fit(rows)
    frame = rows.toPandas()
    x = np.stack([row.toArray() for row in frame["features"]])
    errors = [np.mean((x @ m.coefficients.toArray() + m.intercept - frame["label"]) ** 2) for m in (found, best)]
    assert errors[0] < 1.3 * errors[1]


def test_abalone(spark, ps, shared_data):
    frame = spark.read.format("libsvm").option("numFeatures", 8).load(str(shared_data / "abalone.libsvm"))
    for solver in ("auto", "l-bfgs"):
        scored = LinearRegression(solver=solver).fit(frame).transform(frame)
        assert RegressionEvaluator(metricName="r2").evaluate(scored) >= 0.53


@pytest.mark.parametrize("params", [{}, {"elasticNetParam": 0.5}, {"standardization": False}, {"fitIntercept": False}], ids=str)
def test_an_offset_is_as_good_as_taken_from_the_label_with_every_solver(ps, rows, params):
    shifted = rows.withColumn("shift", sf.col("weight") * 30 - 20)
    taken = rows.withColumn("label", sf.col("label") - sf.col("weight") * 30 + 20)
    estimator = LinearRegression(regParam=0.5, maxIter=1000, tol=1e-13, **params)
    models = []
    for solver in ("normal", "l-bfgs"):
        models.append(estimator.copy({estimator.solver: solver, estimator.offsetCol: "shift"}).fit(shifted))
        assert_alike(models[-1], estimator.copy({estimator.solver: solver}).fit(taken), 1e-6)
    assert_alike(*models, 2e-3, 1e-3)  # as in pyspark.ml, one divides by the deviation of the rows, the other by an estimate without bias


def test_so_it_is_with_the_loss_of_huber_and_row_by_row(ps, rows):
    shifted = rows.withColumn("shift", sf.col("weight") * 30 - 20)
    taken = rows.withColumn("label", sf.col("label") - sf.col("weight") * 30 + 20)
    huber = LinearRegression(loss="huber", regParam=0.1, maxIter=500, tol=1e-10)
    assert_alike(huber.copy({huber.offsetCol: "shift"}).fit(shifted), huber.fit(taken), 1e-3, 1e-4)
    online = LinearRegression(solver="online", maxIter=2, numWorkers=1, deterministic=True)
    assert_alike(online.copy({online.offsetCol: "shift"}).fit(shifted.coalesce(1)), online.fit(taken.coalesce(1)), 0.5, 1.0)


@pytest.mark.parametrize("mean", [0.0, 5e7, 1_763_800_000.0])
@pytest.mark.parametrize("params", [{}, {"solver": "l-bfgs"}, {"regParam": 0.01}, {"regParam": 0.1, "solver": "l-bfgs"}], ids=str)
def test_labels_far_from_0_are_learned_as_those_about_it(spark, ps, mean, params):
    """As seconds since 1970: sums of their squares do not see that they vary."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(200, 2))
    y = np.round(30 * x[:, 0] - 10 * x[:, 1] + rng.normal(size=200), 3)
    data = [(float(each + mean), float(each), Vectors.dense(row)) for each, row in zip(y, x, strict=True)]
    frame = spark.createDataFrame(data, ["far", "near", "features"])
    estimator = LinearRegression(tol=1e-10, **params)
    near, far = (estimator.copy({estimator.labelCol: name}).fit(frame) for name in ("near", "far"))
    np.testing.assert_allclose(far.coefficients.toArray(), near.coefficients.toArray(), rtol=1e-6)
    assert far.intercept == pytest.approx(near.intercept + mean, rel=1e-12)
    assert far.summary.rootMeanSquaredError == pytest.approx(near.summary.rootMeanSquaredError, rel=1e-4)


def test_labels_that_are_equal_are_the_intercept(spark, ps):
    frame = spark.createDataFrame([(0.1, [float(i)]) for i in range(30)], "label double, features array<double>")
    for solver in ("normal", "l-bfgs"):
        model = LinearRegression(solver=solver).fit(frame)
        assert model.coefficients.toArray().tolist() == [0.0]
        assert model.intercept == pytest.approx(0.1, rel=1e-12)
