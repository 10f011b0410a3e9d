"""solver="auto": pyspark.ml's steps for few features; for many its optimum, sooner."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors

from sparkps.mllib.classification import LinearSVC, LogisticRegression
from sparkps.mllib.regression import LinearRegression

FEATURES = 400


@pytest.fixture(scope="module")
def rows(spark):
    """4,000 rows of 12 of 400 features, of which few are common and most are rare; nobody knows that there are no more."""
    rng = np.random.default_rng(6)
    weights = rng.normal(size=FEATURES)
    data = []
    for _ in range(4000):
        indices = np.unique((FEATURES ** rng.random(12)).astype(int) - 1)
        values = rng.uniform(0.5, 2, len(indices))
        margin = 0.7 * (values @ weights[indices]) - 1
        label = float(rng.random() < 1 / (1 + np.exp(-margin)))
        data.append((label, label + float(rng.integers(2)), float(margin + rng.normal()), (indices.tolist(), values.tolist())))
    schema = "label double, three double, amount double, features struct<indices: array<bigint>, values: array<double>>"
    return spark.createDataFrame(data, schema).repartition(2).cache()


def weights_of(model):
    found = {row.key: np.array(row[1]) for row in model.weights.collect()}  # a number, or one for each class
    zero = np.zeros_like(next(iter(found.values())))
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
    assert "is L-BFGS by the steps of pyspark.ml, for there are but 5 features" in said


def test_auto_is_what_is_done_where_nothing_is_said(ps, rows):
    assert LogisticRegression().getSolver() == LinearSVC().getSolver() == LinearRegression().getSolver() == "auto"


def test_the_log_says_what_was_chosen_and_why(ps, rows, caplog):
    with caplog.at_level(logging.INFO, logger="sparkps.mllib.solvers.fullbatch_driver"):
        for params in ({"regParam": 0.1, "standardization": False}, {"regParam": 0.1, "elasticNetParam": 0.5}):
            LogisticRegression(solver="auto", maxIter=1, **params).fit(rows)
    curved, standardized = [record.getMessage() for record in caplog.records if "solver=auto" in record.getMessage()]
    assert "is L-BFGS in units in which loss and penalty together are curved alike" in curved
    assert "is OWL-QN in units of the features' deviations, in which the penalty is alike for all" in standardized


@pytest.mark.parametrize("standardization", [True, False])
@pytest.mark.parametrize("intercept", [True, False])
def test_a_grid_goes_on_from_one_optimum_to_the_next(ps, rows, standardization, intercept):
    """The coordinates of its fits differ, where the penalty is on raw coefficients; the objective says that the point does not."""
    estimator = LogisticRegression(maxIter=300, tol=1e-10, standardization=standardization, fitIntercept=intercept, numWorkers=2)
    penalties = (0.1, 0.01, 0.001)
    models = dict(estimator.fitMultiple(rows, [{estimator.regParam: value} for value in penalties]))
    for number, value in enumerate(penalties):
        alone = estimator.copy({estimator.regParam: value}).fit(rows)
        np.testing.assert_allclose(weights_of(models[number]), weights_of(alone), rtol=2e-3, atol=2e-4)
        if number:
            before, history = models[number - 1], models[number].summary.objectiveHistory
            assert history[0] < alone.summary.objectiveHistory[0]
            if not standardization:
                less = 0.5 * (penalties[number - 1] - value) * float((weights_of(before) ** 2).sum())
                assert history[0] == pytest.approx(before.summary.objectiveHistory[-1] - less, rel=1e-9)


def test_rows_of_one_label_are_certain(spark, ps):
    frame = spark.createDataFrame([(1.0, [1.0]), (1.0, [2.0])], "label double, features array<double>")
    assert LogisticRegression(solver="auto").fit(frame).intercept == float("inf")
