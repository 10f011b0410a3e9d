"""Perceptron: one worker learns as in books, several average what they came to."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.linalg import Vectors

from sparkps.mllib.classification import Perceptron, PerceptronModel

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5))
    return x, (x @ [2.0, -1.0, 0.5, 0.0, 1.0] + 0.5 > 0).astype(float)


@pytest.fixture(scope="module")
def rows(spark, data):
    x, y = data
    pairs = [(label, Vectors.dense(row)) for row, label in zip(x.tolist(), y.tolist(), strict=True)]
    return spark.createDataFrame(pairs, ["label", "features"])


@pytest.mark.parametrize("params", [{}, {"numWorkers": 1}, {"averaged": False}])
def test_classes_that_a_plane_divides_are_told_apart(rows, ps, params):
    model = Perceptron(maxIter=30, batchSize=20, seed=1, **params).fit(rows)
    assert BinaryClassificationEvaluator().evaluate(model.transform(rows)) > 0.99
    history = model.summary.objectiveHistory
    assert len(history) == 30
    assert history[-1] < 0.1


def test_one_worker_comes_to_the_average_of_the_algorithm_of_the_books(rows, data, ps, tmp_path):
    x, y = data
    model = Perceptron(maxIter=2, batchSize=1000, numWorkers=1).fit(rows.coalesce(1))
    w, after = np.zeros(6), []
    for row, label in [*zip(x, y, strict=True)] * 2:
        side = 2 * label - 1
        w = w + side * np.append(row, 1.0) if side * (w[:-1] @ row + w[-1]) <= 0 else w
        after.append(w)
    expected = np.mean(after, axis=0)
    np.testing.assert_allclose(np.append(model.coefficients.toArray(), model.intercept), expected, rtol=1e-9)
    model.save(str(tmp_path / "model"))
    loaded = PerceptronModel.load(str(tmp_path / "model"))
    assert loaded.transform(rows).select("rawPrediction").collect() == model.transform(rows).select("rawPrediction").collect()
