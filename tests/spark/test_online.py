"""`solver="online"`: learning row by row, by itself and side by side."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.evaluation import BinaryClassificationEvaluator

from sparkps import PSContext
from sparkps.errors import InvalidInput
from sparkps.mllib.classification import LogisticRegression, MLRClassifier
from sparkps.mllib.regression import LinearRegression

#: Each fit is a group of workers of its own.
pytestmark = pytest.mark.timeout(240)

SCHEMA = "label double, features struct<indices: array<bigint>, values: array<double>>, weight double"


@pytest.fixture(scope="module")
def ps(spark):
    with PSContext(spark, num_nodes=2) as context:
        yield context


@pytest.fixture(scope="module")
def rows(spark):
    """Rows of 8 of 60 features on many scales, a third of them positive."""
    rng = np.random.default_rng(5)
    weights, scales = rng.normal(size=60), 10.0 ** (np.arange(60) % 5 - 2)
    made = []
    for _ in range(3000):
        keys = rng.choice(60, 8, replace=False)
        x = rng.uniform(-1, 1, 8)
        label = float(rng.random() < 1 / (1 + np.exp(1.0 - 2 * weights[keys] @ x)))
        made.append((label, (keys.tolist(), (x * scales[keys]).tolist()), float(rng.integers(1, 3))))
    return spark.createDataFrame(made, SCHEMA).repartition(2).cache()


def fitted(rows, **params):
    return LogisticRegression(solver="online", maxIter=1, **params).fit(rows)


def coefficients(model):
    return np.append(model.coefficients.toArray(), model.intercept)


def test_what_one_worker_learns_does_not_depend_on_the_size_of_batches(ps, rows):
    params = {"numWorkers": 1, "deterministic": True, "weightCol": "weight"}
    models = [coefficients(fitted(rows, batchSize=size, **params)) for size in (37, 1000, 100_000)]
    for model in models[1:]:
        np.testing.assert_allclose(model, models[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("consistency", ["bsp", "ssp", "asp"])
def test_several_workers_learn_nearly_as_much_from_one_epoch_as_one(ps, rows, consistency):
    alone = fitted(rows, numWorkers=1)
    together = fitted(rows, numWorkers=2, consistency=consistency)
    auc = [BinaryClassificationEvaluator().evaluate(model.transform(rows)) for model in (alone, together)]
    assert auc[1] > auc[0] - 0.005
    assert auc[0] > BinaryClassificationEvaluator().evaluate(LogisticRegression().fit(rows).transform(rows)) - 0.02


def test_penalties_shrink_coefficients_and_bring_some_to_zero(ps, rows):
    plain, ridge, lasso = (
        fitted(rows, regParam=reg, elasticNetParam=ratio) for reg, ratio in ((0.0, 0.0), (0.05, 0.0), (0.02, 1.0))
    )
    assert np.linalg.norm(coefficients(ridge)) < 0.9 * np.linalg.norm(coefficients(plain))
    assert len(plain.coefficients_.keys) == 60
    assert 0 < len(lasso.coefficients_.keys) < 60


def test_squared_errors_are_learned_row_by_row(spark, ps):
    line = spark.createDataFrame(
        [(1000 * (2 * x - z) + 50, ([0, 1], [x, 1000 * z]), 1.0) for x, z in np.random.default_rng(2).random((3000, 2)).tolist()], SCHEMA
    )
    regression = LinearRegression(solver="online", maxIter=5).fit(line)
    assert regression.coefficients.toArray() == pytest.approx([2000.0, -1.0], rel=0.1)


@pytest.mark.parametrize(("consistency", "workers"), [("bsp", 1), ("bsp", 2), ("asp", 2)])
def test_labels_far_from_0_are_learned(spark, ps, consistency, workers):
    pairs = np.random.default_rng(2).normal(size=(3000, 2)).tolist()
    line = spark.createDataFrame([(1e5 + 3 * x - z, ([0, 1], [x, z]), 1.0) for x, z in pairs], SCHEMA)
    model = LinearRegression(solver="online", maxIter=3, consistency=consistency, numWorkers=workers).fit(line)
    assert model.coefficients.toArray() == pytest.approx([3.0, -1.0], abs=0.1)
    assert model.intercept == pytest.approx(1e5, abs=0.5)


@pytest.mark.parametrize("consistency", ["bsp", "asp"])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("others", ["none", "of weight 0"])
def test_labels_far_from_0_are_learned_by_whichever_rank_has_rows(spark, ps, rank, others, consistency):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2))
    rows = [(float(1e5 + each @ [3.0, -1.0]), ([0, 1], each.tolist()), 1.0) for each in x]
    rest = [(7.0, ([0], [1.0]), 0.0)] * 10 if others != "none" else []
    parts = spark.sparkContext.parallelize(range(2), 2).mapPartitionsWithIndex(lambda number, _: rows if number == rank else rest)
    made = LinearRegression(solver="online", maxIter=5, numWorkers=2, consistency=consistency, weightCol="weight")
    model = made.fit(spark.createDataFrame(parts, SCHEMA))
    assert model.coefficients.toArray() == pytest.approx([3.0, -1.0], abs=0.1)
    assert model.intercept == pytest.approx(1e5, abs=0.5)


@pytest.mark.parametrize("size", [1e39, 1e300])
def test_labels_that_no_float32_holds_are_refused_by_name(spark, ps, size):
    frame = spark.createDataFrame([(size * (i % 3), ([i % 2], [1.0]), 1.0) for i in range(50)], SCHEMA)
    with pytest.raises(InvalidInput, match="Divide large features and labels by their size"):
        LinearRegression(solver="online", maxIter=1).fit(frame)


def test_losses_are_in_the_unit_of_the_labels(spark, ps):
    rows = [(float(i % 10), ([i % 10], [1.0]), 1.0) for i in range(600)]
    small, large = (spark.createDataFrame([(times * y, x, w) for y, x, w in rows], SCHEMA).coalesce(1) for times in (1.0, 1000.0))
    found = [LinearRegression(solver="online", maxIter=2).fit(each).summary.objectiveHistory for each in (small, large)]
    assert np.array(found[1]) == pytest.approx(1e6 * np.array(found[0]), rel=1e-3)


def test_losses_that_it_does_not_know_are_refused(spark, ps):
    two = spark.createDataFrame([(float(i % 2), ([i % 3], [1.0]), 1.0) for i in range(30)], SCHEMA)
    with pytest.raises(InvalidInput, match="that has a kernel for it"):
        MLRClassifier(solver="online").fit(two)


def test_no_epoch_leaves_a_model_of_zeros(ps, rows):
    model = LogisticRegression(solver="online", maxIter=0).fit(rows)
    assert len(model.coefficients_.keys) == 0
    assert model.intercept == 0.0
