"""FMClassifier and FMRegressor: the results of pyspark.ml with the same seed, what mini-batches come to, and their models."""

from __future__ import annotations

import numpy as np
import pyspark.ml.classification as theirs
import pyspark.ml.regression as their_regression
import pytest
from pyspark.ml.evaluation import BinaryClassificationEvaluator, RegressionEvaluator
from pyspark.ml.linalg import Vectors
from sklearn.metrics import log_loss, roc_auc_score

from sparkps.errors import InvalidInput
from sparkps.mllib.classification import FMClassificationModel, FMClassifier
from sparkps.mllib.regression import FMRegressor

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def rows(spark):
    """Rows whose labels depend on pairs of features; the last feature is in none of them."""
    rng = np.random.default_rng(5)
    x = np.where(rng.random((400, 9)) < 0.5, rng.normal(size=(400, 9)), 0.0)
    x[:, 8] = 0.0
    margin = x[:, 0] - x[:, 1] + 3 * x[:, 2] * x[:, 3] - 2 * x[:, 4] * x[:, 5]
    label = (rng.random(400) < 1 / (1 + np.exp(-margin))).astype(float)
    vectors = [Vectors.sparse(9, np.flatnonzero(row).tolist(), row[row != 0].tolist()) for row in x]
    data = list(zip(label.tolist(), margin.tolist(), vectors, strict=True))
    return spark.createDataFrame(data, ["label", "value", "features"]).repartition(2).cache()


#: Each of pyspark.ml's is some jobs of Spark.
ITERATIONS = 6

PARAMS = [
    {"seed": 3},
    {"seed": 7, "factorSize": 3, "regParam": 0.01, "stepSize": 0.1},
    {"seed": 4, "fitLinear": False, "stepSize": 0.3},
    {"seed": 5, "fitIntercept": False, "solver": "gd", "stepSize": 0.5},
    {"seed": 6, "solver": "gd", "regParam": 0.1, "tol": 0.1},
]


@pytest.mark.parametrize("params", PARAMS)
def test_a_classifier_comes_to_what_pyspark_comes_to(rows, ps, params):
    ours = FMClassifier(maxIter=ITERATIONS, **params).fit(rows)
    spark = theirs.FMClassifier(maxIter=ITERATIONS, **params).fit(rows)
    assert ours.intercept == pytest.approx(spark.intercept, rel=1e-6, abs=1e-9)
    np.testing.assert_allclose(ours.linear.toArray(), spark.linear.toArray(), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.factors.toArray(), spark.factors.toArray(), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.summary.objectiveHistory, spark.summary().objectiveHistory, rtol=1e-6)
    assert ours.summary().totalIterations == spark.summary().totalIterations


@pytest.mark.parametrize("params", [{"seed": 1, "stepSize": 0.1}, {"seed": 2, "solver": "gd", "stepSize": 0.05, "regParam": 0.01}])
def test_a_regressor_comes_to_what_pyspark_comes_to(rows, ps, params):
    ours = FMRegressor(labelCol="value", maxIter=ITERATIONS, **params).fit(rows)
    spark = their_regression.FMRegressor(labelCol="value", maxIter=ITERATIONS, **params).fit(rows)
    assert ours.intercept == pytest.approx(spark.intercept, rel=1e-6, abs=1e-9)
    np.testing.assert_allclose(ours.linear.toArray(), spark.linear.toArray(), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.factors.toArray(), spark.factors.toArray(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "params",
    [
        {"solver": "adagrad"},
        {"solver": "adam", "consistency": "ssp", "staleness": 2},
        {"solver": "sgd", "consistency": "asp"},
        {"solver": "ftrl"},
        {"solver": "momentum"},
    ],
)
def test_mini_batches_learn_pairs(rows, ps, params):
    model = FMClassifier(maxIter=40, batchSize=20, initStd=0.1, seed=1, **params).fit(rows)
    assert BinaryClassificationEvaluator().evaluate(model.transform(rows)) > 0.85
    assert model.summary.objectiveHistory[-1] < 0.5


def test_a_share_of_the_rows_is_drawn_anew_for_each_step(rows, ps):
    params = {"labelCol": "value", "stepSize": 0.1, "initStd": 0.1, "maxIter": 150, "miniBatchFraction": 0.5}
    first, again, other = (FMRegressor(seed=seed, **params).fit(rows) for seed in (1, 1, 2))
    assert np.array_equal(first.factors.toArray(), again.factors.toArray())
    assert not np.array_equal(first.factors.toArray(), other.factors.toArray())
    assert RegressionEvaluator(labelCol="value", metricName="r2").evaluate(first.transform(rows)) > 0.9


def test_spark_scores_with_our_coefficients_what_we_score(rows, ps):
    model = FMClassifier(seed=3, stepSize=0.3, maxIter=30).fit(rows)
    spark = model.toSpark()
    for row in rows.take(5):
        np.testing.assert_allclose(model.predictRaw(row.features).toArray(), spark.predictRaw(row.features).toArray(), rtol=1e-12)
        assert model.predict(row.features) == spark.predict(row.features)
    for features, probability in model.transform(rows).select("features", "probability").take(50):
        np.testing.assert_allclose(model.predictProbability(features).toArray(), probability.toArray(), rtol=1e-9)


def test_a_model_of_more_features_than_a_vector_has_is_trained_saved_and_scored(spark, ps, tmp_path):
    rng = np.random.default_rng(2)
    keys = rng.integers(0, 1 << 60, 30)
    data = []
    for _ in range(600):
        chosen = rng.choice(30, 4, replace=False)
        data.append((float(len({0, 1} & set(chosen.tolist())) == 2 or 7 in chosen), (keys[chosen].tolist(), [1.0] * 4)))
    df = spark.createDataFrame(data, "label double, features struct<indices: array<bigint>, values: array<float>>")
    model = FMClassifier(factorSize=4, solver="adagrad", stepSize=0.3, maxIter=30, batchSize=50, initStd=0.1).fit(df)
    with pytest.raises(InvalidInput, match="must have at most"):
        _ = model.factors
    assert model.weights.count() == 30
    model.save(str(tmp_path / "model"))
    loaded = FMClassificationModel.load(str(tmp_path / "model"))
    scored = [m.transform(df).select("probability", "label").toPandas() for m in (model, loaded)]
    first, again = (np.array([p[1] for p in each.probability]) for each in scored)
    assert np.array_equal(first, again)
    assert roc_auc_score(scored[0].label, first) > 0.95


def test_adam_over_all_rows_begins_with_factors_of_each_key_where_features_are_without_number(spark, ps):
    data = [(float(i % 2), ([i % 2, 1 << 50], [1.0, 1.0])) for i in range(20)]
    df = spark.createDataFrame(data, "label double, features struct<indices: array<bigint>, values: array<float>>")
    model = FMClassifier(factorSize=2, maxIter=50, stepSize=0.1).fit(df)
    found = model.transform(df).select("label", "probability").collect()
    assert log_loss([r.label for r in found], [r.probability[1] for r in found]) < 0.05


def test_labels_of_a_classifier_are_0_and_1(spark, ps):
    df = spark.createDataFrame([(2.0, Vectors.dense(1.0))], ["label", "features"])
    with pytest.raises(InvalidInput, match="a label must be 0 or 1"):
        FMClassifier().fit(df)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"factorSize": 0}, "factorSize"),
        ({"initStd": 0.0}, "initStd"),
        ({"miniBatchFraction": 1.5}, "miniBatchFraction"),
        ({"solver": "lbfgs"}, "one of adamW, gd"),
        ({"consistency": "asp"}, "needs consistency='bsp'"),
    ],
)
def test_params_out_of_range_are_named(rows, ps, params, message):
    with pytest.raises(InvalidInput, match=message):
        FMClassifier(**params).fit(rows)
