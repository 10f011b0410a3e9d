"""solver="auto": L-BFGS that begins at what one pass row by row has learned, and comes to the same optimum."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from sparkps.mllib.classification import LinearSVC, LogisticRegression


@pytest.fixture(scope="module")
def rows(spark):
    """4,000 rows of 12 of 400 features, of which some are common."""
    rng = np.random.default_rng(6)
    weights = rng.normal(size=400)
    data = []
    for _ in range(4000):
        indices = np.unique((400 * rng.random(12) ** 3).astype(int))
        values = rng.uniform(0.5, 2, len(indices))
        p = 1 / (1 + np.exp(-(values @ weights[indices]) * 0.7 + 1))
        data.append((float(rng.random() < p), (indices.tolist(), values.tolist())))
    schema = "label double, features struct<indices: array<bigint>, values: array<double>>"
    return spark.createDataFrame(data, schema).repartition(2).cache()


def weights_of(model):
    found = {row.key: row.weight for row in model.weights.collect()}
    return np.array([found.get(key, 0.0) for key in range(400)])


@pytest.mark.parametrize("more", [{}, {"standardization": False}, {"fitIntercept": False}, {"numWorkers": 1}], ids=str)
def test_the_optimum_is_the_same_and_comes_no_later(ps, rows, more):
    params = {"maxIter": 300, "tol": 1e-10, "regParam": 1e-3, **more}
    plain, warm = (LogisticRegression(solver=solver, **params).fit(rows) for solver in ("lbfgs", "auto"))
    np.testing.assert_allclose(weights_of(warm), weights_of(plain), rtol=1e-3, atol=1e-4)
    assert warm.intercept == pytest.approx(plain.intercept, abs=1e-3)
    first, best = warm.summary.objectiveHistory[0], plain.summary.objectiveHistory[-1]
    assert first < 0.5 * (plain.summary.objectiveHistory[0] + best)
    near = [next(i for i, f in enumerate(m.summary.objectiveHistory) if f < best * (1 + 1e-5)) for m in (warm, plain)]
    assert near[0] <= near[1] + 2  # a small problem, of which L-BFGS needs few steps anyway


def test_a_grid_goes_on_from_one_optimum_to_the_next(ps, rows):
    estimator = LogisticRegression(solver="auto", maxIter=200, tol=1e-9)
    maps = [{estimator.regParam: value} for value in (0.1, 0.01, 0.001)]
    for index, model in estimator.fitMultiple(rows, maps):
        plain = LogisticRegression(maxIter=200, tol=1e-9, regParam=maps[index][estimator.regParam]).fit(rows)
        np.testing.assert_allclose(weights_of(model), weights_of(plain), rtol=2e-3, atol=2e-4)


def test_the_log_says_what_was_chosen_and_why(ps, rows, caplog):
    with caplog.at_level(logging.INFO, logger="sparkps.mllib.linear.estimator"):
        LogisticRegression(solver="auto", maxIter=1).fit(rows)
        LogisticRegression(solver="auto", maxIter=1, regParam=0.1, elasticNetParam=0.5).fit(rows)
    said = [record.getMessage() for record in caplog.records]
    assert any("lbfgs after one pass row by row" in each for each in said)
    assert any("from 0: L1 wants" in each for each in said)


def test_other_losses_begin_so_too(ps, rows):
    params = {"maxIter": 100, "regParam": 0.01, "tol": 1e-8}
    plain, warm = (LinearSVC(solver=solver, **params).fit(rows) for solver in ("lbfgs", "auto"))
    assert warm.summary.objectiveHistory[-1] == pytest.approx(plain.summary.objectiveHistory[-1], rel=1e-3)


def test_rows_of_one_label_are_certain(spark, ps):
    frame = spark.createDataFrame([(1.0, [1.0]), (1.0, [2.0])], "label double, features array<double>")
    assert LogisticRegression(solver="auto").fit(frame).intercept == float("inf")
