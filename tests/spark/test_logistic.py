"""LogisticRegression against pyspark.ml on the same rows, on real data, and by every solver."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.classification import LogisticRegression as SparkLogisticRegression
from pyspark.ml.evaluation import BinaryClassificationEvaluator, MulticlassClassificationEvaluator
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as sf

from sparkps.mllib.classification import LogisticRegression
from sparkps.mllib.solvers.job import RankJob


def model_tables(ps):
    return [table["name"] for table in ps.status()["tables"] if table["name"].startswith("LogisticRegression")]


@pytest.fixture(scope="module")
def rows(spark):
    """600 rows of 8 features on very different scales, one of them constant, dense and sparse vectors mixed."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(600, 8)) * np.array([1, 10, 0.01, 3, 1, 1, 0.5, 2]) + np.array([0, 5, 1, 0, -1, 0, 0, 0])
    x[rng.random(x.shape) < 0.4] = 0.0
    x[:, 6] = 2.5
    y = rng.random(600) < 1 / (1 + np.exp(-x @ np.array([1, -0.1, 20, 0.3, 0, -1, 0, 0.2]) + 0.4))
    vectors = [Vectors.dense(r) if i % 2 else Vectors.sparse(8, np.flatnonzero(r), r[r != 0]) for i, r in enumerate(x)]
    weights = rng.uniform(0.1, 3, 600)
    frame = spark.createDataFrame(
        [(float(a), b, float(w)) for a, b, w in zip(y, vectors, weights, strict=True)], ["label", "features", "weight"]
    )
    frame = frame.repartition(3).cache()
    frame.count()
    return frame


GRID = {
    "plain": {},
    "ridge": {"regParam": 0.1},
    "not standardized": {"regParam": 0.05, "standardization": False},
    "no intercept": {"regParam": 0.01, "fitIntercept": False},
    "weighted": {"regParam": 0.02, "weightCol": "weight"},
    "few iterations": {"regParam": 0.001, "maxIter": 4},
}


@pytest.mark.parametrize("case", GRID)
def test_same_steps_and_coefficients_as_pyspark(ps, rows, case):
    params = {"maxIter": 200, "tol": 1e-9, **GRID[case]}
    ours, theirs = LogisticRegression(**params).fit(rows), SparkLogisticRegression(**params).fit(rows)
    shared = min(len(ours.summary.objectiveHistory), len(theirs.summary.objectiveHistory), 12)
    np.testing.assert_allclose(
        ours.summary.objectiveHistory[:shared], theirs.summary.objectiveHistory[:shared], rtol=1e-6
    )
    assert ours.summary.objectiveHistory[-1] == pytest.approx(theirs.summary.objectiveHistory[-1], rel=1e-8)
    np.testing.assert_allclose(ours.coefficients.toArray(), theirs.coefficients.toArray(), rtol=1e-4, atol=1e-6)
    assert ours.intercept == pytest.approx(theirs.intercept, rel=1e-4, abs=1e-6)
    assert (ours.numFeatures, ours.numClasses) == (8, 2)


def test_predictions_are_those_of_pyspark(ps, rows):
    ours = LogisticRegression(regParam=0.01, threshold=0.6).fit(rows)
    theirs = SparkLogisticRegression(regParam=0.01, threshold=0.6).fit(rows)
    mine, other = (model.transform(rows).toPandas() for model in (ours, theirs))
    assert list(mine.columns) == list(other.columns)
    assert mine["label"].tolist() == other["label"].tolist()
    assert mine["prediction"].tolist() == other["prediction"].tolist()
    for name in ("rawPrediction", "probability"):
        np.testing.assert_allclose(np.stack(mine[name]), np.stack(other[name]), rtol=1e-3, atol=1e-5)
    one = rows.first().features
    assert ours.predict(one) == theirs.predict(one)
    np.testing.assert_allclose(ours.predictProbability(one), theirs.predictProbability(one), atol=1e-5)


def test_fits_in_determined_order_are_bit_equal(ps, rows):
    fits = [LogisticRegression(maxIter=5, deterministic=True, numWorkers=2).fit(rows) for _ in range(2)]
    assert fits[0].coefficients == fits[1].coefficients
    assert fits[0].summary.objectiveHistory == fits[1].summary.objectiveHistory


SOLVERS = {
    "sgd": {"stepSize": 5.0},
    "momentum": {"stepSize": 0.5},
    "a little momentum under ssp": {"solver": "momentum", "momentum": 0.5, "stepSize": 2.0, "consistency": "ssp", "staleness": 2},
    # With more of it, workers that do not wait overshoot: to be late is momentum, too (Mitliagkas et al. 2016).
    "a little momentum under asp": {"solver": "momentum", "momentum": 0.5, "stepSize": 1.0, "consistency": "asp"},
    "adagrad": {"stepSize": 0.5},
    "adam": {"stepSize": 0.05},
    "ftrl": {"stepSize": 2.0},
    "online": {},
    "online under ssp": {"solver": "online", "consistency": "ssp", "staleness": 2},
    "online under asp": {"solver": "online", "consistency": "asp"},
    "ssp": {"solver": "adagrad", "consistency": "ssp", "staleness": 2, "stepSize": 0.3},
    "asp": {"solver": "adagrad", "consistency": "asp", "stepSize": 0.3},
}


@pytest.fixture(scope="module")
def ones(spark):
    """2,000 rows of 5 out of 60 features, all of value 1, as pairs of indices and values."""
    rng = np.random.default_rng(8)
    w = rng.normal(size=60)
    made = []
    for _ in range(2000):
        keys = rng.choice(60, 5, replace=False) * 10**11
        made.append((float(rng.random() < 1 / (1 + np.exp(-w[keys // 10**11].sum()))), (keys.tolist(), [1.0] * 5)))
    schema = "label double, features struct<indices: array<bigint>, values: array<float>>"
    frame = spark.createDataFrame(made, schema).cache()
    frame.count()
    return frame


@pytest.mark.parametrize("case", SOLVERS)
def test_mini_batch_solvers_come_near_the_optimum(ps, ones, case):
    params = {"solver": case, "batchSize": 50, "maxIter": 8, "seed": 3, **SOLVERS[case]}
    best = LogisticRegression(regParam=1e-4).fit(ones).summary.objectiveHistory[-1]
    model = LogisticRegression(**params).fit(ones)
    history = model.summary.objectiveHistory
    assert len(history) == 8
    assert history[-1] < history[0]
    loss = MulticlassClassificationEvaluator(metricName="logLoss").evaluate(model.transform(ones))
    assert loss < 1.05 * best


def test_a_step_size_that_is_not_set_suits_the_solver(spark):
    solvers = ("lbfgs", "sgd", "momentum", "adagrad", "adam", "ftrl", "online")
    steps = {solver: LogisticRegression(solver=solver).getStepSize() for solver in solvers}
    assert steps == {"lbfgs": 1.0, "sgd": 1.0, "momentum": 0.1, "adagrad": 1.0, "adam": 0.01, "ftrl": 3.0, "online": 0.5}
    assert LogisticRegression(solver="adam", stepSize=0.2).getStepSize() == 0.2
    assert LogisticRegression(solver="adam").setStepSize(0.3).copy().getStepSize() == 0.3


@pytest.mark.parametrize("solver", ["adagrad", "online"])
def test_mini_batch_training_under_bsp_is_bit_equal(ps, ones, solver):
    params = {"solver": solver, "maxIter": 2, "batchSize": 100, "seed": 5, "deterministic": True, "numWorkers": 2}
    fits = [LogisticRegression(**params).fit(ones) for _ in range(2)]
    assert fits[0].coefficients_.values.tolist() == fits[1].coefficients_.values.tolist()
    assert fits[0].intercept == fits[1].intercept


def test_l1_of_ftrl_leaves_few_coefficients(ps, ones):
    counts = []
    for reg in (0.0, 0.1, 1000.0):
        model = LogisticRegression(solver="ftrl", regParam=reg, elasticNetParam=1.0, maxIter=3, batchSize=100).fit(ones)
        counts.append(len(model.coefficients_.keys))
    assert counts[0] == 60
    assert 0 < counts[1] < 60
    assert counts[2] == 0


def test_more_features_than_a_vector_can_have(ps, ones):
    model = LogisticRegression(maxIter=3).fit(ones)
    assert model.numFeatures > 2**31
    with pytest.raises(ValueError, match="use `model.weights`"):
        _ = model.coefficients
    weights = model.weights.toPandas()
    assert weights["key"].is_monotonic_increasing
    assert set(weights["key"]) == {k * 10**11 for k in range(60)}


def test_a9a(spark, ps, shared_data):
    def read(name):
        frame = spark.read.format("libsvm").option("numFeatures", 123).load(str(shared_data / name))
        return frame.select(sf.when(frame.label < 0, 0.0).otherwise(1.0).alias("label"), "features")

    model = LogisticRegression(regParam=3e-4, standardization=False).fit(read("a9a.train.libsvm"))
    scored = model.transform(read("a9a.test.libsvm")).cache()
    assert BinaryClassificationEvaluator().evaluate(scored) >= 0.9020
    assert MulticlassClassificationEvaluator(metricName="logLoss").evaluate(scored) <= 0.325


def test_tables_are_dropped_after_the_fit(ps, rows):
    LogisticRegression(maxIter=1).fit(rows)
    assert model_tables(ps) == []


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_progress_bar_has_the_name_of_the_class_and_counts_epochs(ps, rows, monkeypatch, capsys, solver):
    monkeypatch.setattr("sparkps.driver_bridge.groups.progress.is_watched", lambda: True)
    fitted = LogisticRegression(solver=solver, maxIter=3, tol=0.0).fit(rows)
    last = capsys.readouterr().err.rpartition("LogisticRegression: ")[2]
    assert last.startswith(f"epoch 3/3, loss={fitted.summary.objectiveHistory[-1]:.6g} [")


def test_spilled_rows_give_the_same_model(spark, ps, rows, monkeypatch):
    plain = LogisticRegression(maxIter=5, deterministic=True, numWorkers=1).fit(rows)

    def without_room(jobs, names, budget, scratch, **more):
        roomless.append(budget)
        return RankJob(jobs, names, 0, scratch, **more)

    roomless = []
    monkeypatch.setattr("sparkps.mllib.solvers.driver.RankJob", without_room)
    spilled = LogisticRegression(maxIter=5, deterministic=True, numWorkers=1).fit(rows)
    assert roomless  # the driver made its job here, not by another name
    assert plain.coefficients == spilled.coefficients
