"""MLRClassifier: piecewise linear models of what no linear one can tell apart."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.linalg import Vectors

from sparkps.errors import InvalidInput
from sparkps.mllib.classification import LogisticRegression, MLRClassifier, MLRModel

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def rows(spark):
    """Label 1 where the signs of two features are the same."""
    x = np.random.default_rng(0).normal(size=(400, 2))
    data = [(float(a * b > 0), Vectors.dense(a, b)) for a, b in x.tolist()]
    return spark.createDataFrame(data, ["label", "features"]).coalesce(2).cache()


def auc(model, rows) -> float:
    return BinaryClassificationEvaluator().evaluate(model.transform(rows))


@pytest.mark.parametrize(
    "params", [{"maxIter": 200, "regParam": 1e-4}, {"solver": "adagrad", "maxIter": 60, "batchSize": 20, "initStd": 0.5}]
)
def test_a_mixture_tells_apart_what_no_linear_model_can(rows, ps, params):
    model = MLRClassifier(numRegions=4, seed=1, **params).fit(rows)
    assert auc(model, rows) > 0.97
    assert auc(LogisticRegression(maxIter=20).fit(rows), rows) < 0.65


def test_a_model_has_coefficients_of_gates_and_regions_and_is_saved_with_them(rows, ps, tmp_path):
    model = MLRClassifier(numRegions=3, seed=2, maxIter=20, regParam=0.01).fit(rows)
    assert model.coefficientMatrix.toArray().shape == (6, 2)
    assert len(model.interceptVector) == 6
    with pytest.raises(InvalidInput, match="use coefficientMatrix"):
        _ = model.coefficients
    model.save(str(tmp_path / "model"))
    loaded = MLRModel.load(str(tmp_path / "model"))
    scored = [each.transform(rows).select("rawPrediction", "probability", "prediction").collect() for each in (model, loaded)]
    assert scored[0] == scored[1]
    first = scored[0][0]
    assert first.probability[1] == pytest.approx(1 / (1 + np.exp(-first.rawPrediction[1])))
    vector = rows.first().features
    assert model.predictProbability(vector).toArray() == pytest.approx(first.probability.toArray())


def test_one_region_is_a_logistic_regression(rows, ps):
    one = MLRClassifier(numRegions=1, seed=3, regParam=0.1, tol=1e-9).fit(rows)
    plain = LogisticRegression(regParam=0.1, tol=1e-9).fit(rows)
    np.testing.assert_allclose(one.coefficientMatrix.toArray()[1], plain.coefficients.toArray(), atol=1e-5)
    assert one.interceptVector[1] == pytest.approx(plain.intercept, abs=1e-5)


def test_params_out_of_range_are_named(rows, ps):
    with pytest.raises(InvalidInput, match="numRegions"):
        MLRClassifier(numRegions=0).fit(rows)
