"""solver="auto": pyspark.ml's steps for few features; for many its optimum, sooner."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors

from sparkps.mllib.classification import LinearSVC, LogisticRegression
from sparkps.mllib.regression import LinearRegression
from tests.harness.cases import cases

FEATURES = 400


@pytest.fixture(scope="module")
def rows(spark):
    """4,000 rows of 12 of 400 features, of which few are common and most are rare, and of a constant one; none says how many there are."""
    rng = np.random.default_rng(6)
    weights = rng.normal(size=FEATURES)
    data = []
    for _ in range(4000):
        indices = np.unique((FEATURES ** rng.random(12)).astype(int) - 1)
        values = rng.uniform(0.5, 2, len(indices))
        margin = 0.7 * (values @ weights[indices]) - 1
        label = float(rng.random() < 1 / (1 + np.exp(-margin)))
        features = [*indices.tolist(), FEATURES], [*values.tolist(), 3.0]
        data.append((label, label + float(rng.integers(2)), float(margin + rng.normal()), features))
    schema = "label double, three double, amount double, features struct<indices: array<bigint>, values: array<double>>"
    return spark.createDataFrame(data, schema).repartition(2).cache()


def weights_of(model):
    found = {row.key: np.array(row[1]) for row in model.weights.collect()}  # a number, or one for each class
    zero = np.zeros_like(next(iter(found.values()), 0.0))
    return np.array([found.get(key, zero) for key in range(FEATURES)])


def needed(model, best):
    """Iterations until the objective was that near."""
    return next(i for i, value in enumerate(model.summary.objectiveHistory) if value < best * (1 + 1e-6))


PLAIN = {"regParam": 0.03, "standardization": False}
FITS = {
    "logistic": LogisticRegression(**PLAIN),
    "without intercept": LogisticRegression(fitIntercept=False, **PLAIN),
    "elastic net": LogisticRegression(elasticNetParam=0.02, **PLAIN),
    "one worker": LogisticRegression(numWorkers=1, **PLAIN),
    "multinomial": LogisticRegression(labelCol="three", **PLAIN),
    "squares": LinearRegression(labelCol="amount", regParam=0.3, standardization=False),
}


@pytest.mark.parametrize("name", FITS)
def test_the_optimum_is_the_same_and_comes_sooner(ps, rows, name):
    estimator = FITS[name].copy({FITS[name].maxIter: 500, FITS[name].tol: 1e-12})
    plain, sooner = (estimator.copy({estimator.solver: solver}).fit(rows) for solver in ("lbfgs", "auto"))
    np.testing.assert_allclose(weights_of(sooner), weights_of(plain), rtol=2e-3, atol=1e-4)
    best = min(each.summary.objectiveHistory[-1] for each in (plain, sooner))
    assert sooner.summary.objectiveHistory[0] == pytest.approx(plain.summary.objectiveHistory[0], rel=1e-12)
    assert sooner.summary.objectiveHistory[-1] == pytest.approx(plain.summary.objectiveHistory[-1], rel=1e-7)
    assert needed(sooner, best) <= 0.5 * needed(plain, best)


@pytest.mark.long
def test_a_loss_with_a_kink_comes_to_the_same_optimum(ps, rows):
    estimator = LinearSVC(maxIter=300, tol=1e-10, regParam=0.01, standardization=False)
    plain, sooner = (estimator.copy({estimator.solver: solver}).fit(rows) for solver in ("lbfgs", "auto"))
    assert sooner.summary.objectiveHistory[-1] <= plain.summary.objectiveHistory[-1] * (1 + 1e-4)


@pytest.mark.parametrize("params", [{"standardization": True, "regParam": 1e-3}, {"standardization": False, "regParam": 0.0}], ids=str)
def test_where_the_penalty_is_alike_for_all_steps_are_those_of_pyspark(ps, rows, params):
    plain, auto = (LogisticRegression(solver=solver, maxIter=15, tol=0.0, **params).fit(rows) for solver in ("lbfgs", "auto"))
    assert auto.summary.objectiveHistory == plain.summary.objectiveHistory


def test_few_features_are_fitted_by_the_steps_of_pyspark(spark, ps, caplog):
    rng = np.random.default_rng(1)
    data = [(float(rng.integers(2)), Vectors.dense(rng.normal(size=5) * [1, 10, 0.01, 1, 3])) for _ in range(100)]
    frame = spark.createDataFrame(data, ["label", "features"]).coalesce(1)
    with caplog.at_level(logging.INFO, logger="sparkps.mllib.solvers.fullbatch_driver"):
        plain, auto = (LogisticRegression(solver=solver, maxIter=8, tol=0.0, **PLAIN).fit(frame) for solver in ("lbfgs", "auto"))
    assert auto.summary.objectiveHistory == plain.summary.objectiveHistory
    (said,) = [record.getMessage() for record in caplog.records if "solver=auto" in record.getMessage()]
    assert "is L-BFGS by the steps of pyspark.ml: there are but 5 features" in said


def test_auto_is_what_is_done_where_nothing_is_said(ps, rows):
    assert LogisticRegression().getSolver() == LinearSVC().getSolver() == LinearRegression().getSolver() == "auto"


def test_the_log_says_what_was_chosen_and_why(ps, rows, caplog):
    with caplog.at_level(logging.INFO, logger="sparkps.mllib.solvers.fullbatch_driver"):
        for params in ({"regParam": 0.1, "standardization": False}, {"regParam": 0.1, "elasticNetParam": 0.5}):
            LogisticRegression(solver="auto", maxIter=1, **params).fit(rows)
    curved, standardized = [record.getMessage() for record in caplog.records if "solver=auto" in record.getMessage()]
    assert "is L-BFGS in units in which loss and penalty together are curved alike" in curved
    assert "is OWL-QN by the steps of pyspark.ml: there is no L2 that would weigh on some features more than on others" in standardized


GRIDS = {
    "penalties up": [{"regParam": each} for each in (0.0, 1e-9, 0.1, 10.0)],
    "penalties down": [{"regParam": each} for each in (1.0, 0.001, 0.0)],
    "iterations": [{"maxIter": each} for each in (20, 0, 1)],
    "tolerance": [{"tol": each} for each in (1e-9, 0.1)],
    "all": [
        {"regParam": 0.1, "fitIntercept": False}, {"regParam": 0.01, "standardization": False}, {"elasticNetParam": 0.1, "maxIter": 3},
        {"regParam": 0.3, "standardization": False, "tol": 0.01},
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("standardization", cases([True], long=[False]))
def test_a_fit_of_a_grid_is_that_fit_alone(ps, rows, name, standardization):
    """Whatever was fitted before it: their coordinates differ, and where one ended may be far from where the next one is looked for."""
    estimator = LogisticRegression(maxIter=20, regParam=0.01, standardization=standardization, numWorkers=2)
    maps = [{estimator.getParam(param): value for param, value in each.items()} for each in GRIDS[name]]
    for number, model in estimator.fitMultiple(rows, maps):
        alone = estimator.copy(maps[number]).fit(rows)
        np.testing.assert_allclose(model.summary.objectiveHistory, alone.summary.objectiveHistory, rtol=1e-9)
        np.testing.assert_allclose(weights_of(model), weights_of(alone), rtol=1e-6, atol=1e-9)


def test_a_grid_with_a_fit_that_is_solved_at_once_leaves_nothing_to_it(spark, ps):
    data = [(1.0, ([3], [1.0])), (1.0, ([3, 9], [2.0, 1.0]))] * 5
    frame = spark.createDataFrame(data, "label double, features struct<indices: array<bigint>, values: array<double>>")
    estimator = LogisticRegression(maxIter=5, regParam=0.1, standardization=False)
    _, second = (model for _, model in estimator.fitMultiple(frame, [{estimator.fitIntercept: False}, {estimator.fitIntercept: True}]))
    assert second.weights.count() == 0
    assert second.intercept == float("inf")


@pytest.mark.parametrize("size", cases([1e-4, 100.0], long=[1.0]))
@pytest.mark.parametrize("elastic", [0.0, 0.01])
def test_the_tolerance_is_about_what_it_is_about_in_pyspark(ps, rows, size, elastic):
    """In units of the penalty a gradient is small long before coefficients are right."""
    scaled = rows.selectExpr("label", f"struct(features.indices, transform(features.values, x -> x * {size}) as values) as features")
    estimator = LogisticRegression(regParam=0.05, elasticNetParam=elastic, standardization=False, numWorkers=1)
    found, best = estimator.fit(scaled), estimator.copy({estimator.tol: 1e-14, estimator.maxIter: 500}).fit(scaled)
    np.testing.assert_allclose(weights_of(found), weights_of(best), rtol=1e-3, atol=1e-4 * np.abs(weights_of(best)).max())


def test_rows_of_one_label_are_certain(spark, ps):
    frame = spark.createDataFrame([(1.0, [1.0]), (1.0, [2.0])], "label double, features array<double>")
    assert LogisticRegression(solver="auto").fit(frame).intercept == float("inf")
