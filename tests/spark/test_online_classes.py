"""`solver="online"` with several classes: row by row, by one worker and by several."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.sql import functions as sf

from sparkps import PSContext
from sparkps.mllib.classification import LogisticRegression

#: Each fit is a group of workers of its own.
pytestmark = pytest.mark.timeout(240)

SCHEMA = "label double, features struct<indices: array<bigint>, values: array<double>>, weight double"


@pytest.fixture(scope="module")
def ps(spark):
    with PSContext(spark, num_nodes=2) as context:
        yield context


@pytest.fixture(scope="module")
def rows(spark):
    """Rows of 6 of 50 features on many scales, and 4 classes."""
    rng = np.random.default_rng(5)
    weights, scales = 2 * rng.normal(size=(50, 4)), 10.0 ** (np.arange(50) % 5 - 2)
    made = []
    for _ in range(3000):
        keys = rng.choice(50, 6, replace=False)
        x = rng.uniform(-1, 1, 6)
        label = float(np.argmax(x @ weights[keys] + rng.gumbel(size=4)))
        made.append((label, (keys.tolist(), (x * scales[keys]).tolist()), float(rng.integers(1, 3))))
    return spark.createDataFrame(made, SCHEMA).repartition(2).cache()


def fitted(rows, **params):
    return LogisticRegression(solver="online", family="multinomial", **params).fit(rows)


def loss(model, rows):
    return MulticlassClassificationEvaluator(metricName="logLoss").evaluate(model.transform(rows))


def test_what_one_worker_learns_does_not_depend_on_the_size_of_batches(ps, rows):
    params = {"numWorkers": 1, "deterministic": True, "weightCol": "weight", "maxIter": 1, "regParam": 0.001}
    first, second = (fitted(rows, batchSize=size, **params) for size in (41, 100_000))
    np.testing.assert_allclose(second.coefficientMatrix.toArray(), first.coefficientMatrix.toArray(), rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(second.interceptVector, first.interceptVector, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("consistency", ["bsp", "ssp", "asp"])
def test_a_few_epochs_of_several_workers_come_near_the_optimum(ps, rows, consistency):
    best = loss(LogisticRegression(family="multinomial", regParam=0.003, standardization=False, numFeatures=50).fit(rows), rows)
    found = fitted(rows, numWorkers=2, maxIter=3, regParam=0.0, numFeatures=50, consistency=consistency)
    assert found.coefficientMatrix.numRows == 4
    assert loss(found, rows) < best + 0.1


def test_penalties_shrink_coefficients_alike_for_one_worker_and_two(ps, rows):
    sizes = [
        np.linalg.norm(fitted(rows, maxIter=4, numWorkers=workers, regParam=reg).coefficientMatrix.toArray())
        for workers, reg in ((2, 0.0), (1, 0.01), (2, 0.01))
    ]
    assert sizes[1] < 0.9 * sizes[0]
    assert sizes[2] == pytest.approx(sizes[1], rel=0.25)


def test_three_classes_of_dna_are_told_after_five_epochs(spark, ps, shared_data):
    read = spark.read.format("libsvm").option("numFeatures", 180)
    files = (str(shared_data / f"dna.{part}.libsvm") for part in ("train", "test"))
    train, test = (read.load(each).withColumn("label", sf.col("label") - 1) for each in files)
    model = LogisticRegression(solver="online", maxIter=5, numWorkers=2).fit(train)
    accuracy = MulticlassClassificationEvaluator(metricName="accuracy").evaluate(model.transform(test))
    assert accuracy >= 0.945
