"""Multinomial logistic regression against pyspark.ml, and how the family is found."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.classification import LogisticRegression as SparkLogisticRegression
from pyspark.ml.feature import StringIndexer
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as sf

from sparkps.mllib.classification import LogisticRegression, LogisticRegressionModel


@pytest.fixture(scope="module")
def rows(spark):
    """500 rows of 3 classes and 6 features of different scales, with weights; dense and sparse vectors mixed."""
    rng = np.random.default_rng(11)
    x = rng.normal(size=(500, 6)) * np.array([1, 5, 0.1, 1, 2, 1]) + np.array([0, 2, 0, 0, -1, 0])
    x[rng.random(x.shape) < 0.3] = 0.0
    margins = x @ rng.normal(size=(6, 3)) * 0.5 + rng.gumbel(size=(500, 3))
    vectors = [Vectors.dense(r) if i % 2 else Vectors.sparse(6, np.flatnonzero(r), r[r != 0]) for i, r in enumerate(x)]
    data = [(float(y), v, float(w)) for y, v, w in zip(margins.argmax(axis=1), vectors, rng.uniform(0.1, 2, 500), strict=True)]
    return spark.createDataFrame(data, ["label", "features", "weight"]).repartition(3).cache()


GRID = {
    "plain": {},
    "ridge": {"regParam": 0.1},
    "not standardized": {"regParam": 0.05, "standardization": False},
    "no intercept": {"regParam": 0.01, "fitIntercept": False},
    "weighted": {"regParam": 0.02, "weightCol": "weight"},
}


@pytest.mark.parametrize("case", GRID)
def test_same_coefficients_as_pyspark(ps, rows, case):
    params = {"maxIter": 300, "tol": 1e-10, **GRID[case]}
    ours, theirs = LogisticRegression(**params).fit(rows), SparkLogisticRegression(**params).fit(rows)
    np.testing.assert_allclose(ours.coefficientMatrix.toArray(), theirs.coefficientMatrix.toArray(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.interceptVector.toArray(), theirs.interceptVector.toArray(), rtol=1e-4, atol=1e-5)
    assert ours.summary.objectiveHistory[-1] == pytest.approx(theirs.summary.objectiveHistory[-1], rel=1e-7)
    assert (ours.numClasses, ours.numFeatures) == (3, 6)
    ours_scored, theirs_scored = (model.transform(rows).select("probability", "prediction").collect() for model in (ours, theirs))
    for mine, other in zip(ours_scored, theirs_scored, strict=True):
        np.testing.assert_allclose(mine.probability.toArray(), other.probability.toArray(), atol=1e-4)


def test_few_iterations_take_the_steps_of_pyspark(ps, rows):
    ours, theirs = (kind(maxIter=5, regParam=0.01).fit(rows) for kind in (LogisticRegression, SparkLogisticRegression))
    np.testing.assert_allclose(ours.summary.objectiveHistory, theirs.summary.objectiveHistory, rtol=1e-7)


def test_two_classes_have_two_margins_where_the_family_is_multinomial(ps, rows):
    two = rows.where("label < 2")
    params = {"maxIter": 200, "tol": 1e-10, "regParam": 0.05, "family": "multinomial"}
    ours, theirs = LogisticRegression(**params).fit(two), SparkLogisticRegression(**params).fit(two)
    np.testing.assert_allclose(ours.coefficientMatrix.toArray(), theirs.coefficientMatrix.toArray(), rtol=1e-4, atol=1e-5)


def test_a_class_that_only_metadata_know_is_a_class(ps, rows):
    words = rows.withColumn("word", sf.element_at(sf.array(*(sf.lit(w) for w in "abc")), (sf.col("label") + 1).cast("int")))
    indexed = StringIndexer(inputCol="word", outputCol="y", stringOrderType="alphabetAsc").fit(words).transform(words)
    model = LogisticRegression(labelCol="y", maxIter=5).fit(indexed.where("label < 2"))
    assert (model.numClasses, model.coefficientMatrix.numRows) == (3, 3)


@pytest.mark.parametrize("solver", ["adagrad", "adam", "ftrl", "momentum", "sgd"])
def test_mini_batches_train_several_classes(ps, rows, solver):
    model = LogisticRegression(solver=solver, maxIter=40, batchSize=50, regParam=0.001).fit(rows)
    scored = model.transform(rows)
    assert scored.where("prediction = label").count() / 500 > 0.62
    assert len(model.interceptVector) == 3


def test_binomial_refuses_a_third_class(ps, rows):
    with pytest.raises(ValueError, match="a label must be 0 or 1"):
        LogisticRegression(family="binomial").fit(rows)


def test_rows_of_a_third_class_are_not_skipped_as_invalid(ps, rows):
    model = LogisticRegression(maxIter=3, handleInvalid="skip").fit(rows)
    assert (model.numClasses, model.summary.skippedRows) == (3, 0)


@pytest.mark.parametrize("label", [0.5, -1.0, float("nan")])
def test_labels_that_number_no_class_are_refused(spark, ps, label):
    frame = spark.createDataFrame([(label, [1.0]), (2.0, [0.0]), (1.0, [2.0])], "label double, features array<double>")
    for family in ("auto", "multinomial"):
        with pytest.raises(ValueError, match="Column 'label': a label must be"):
            LogisticRegression(family=family).fit(frame)


def test_one_class_is_certain(spark, ps):
    frame = spark.createDataFrame([(2.0, [1.0]), (2.0, [3.0])], "label double, features array<double>")
    model = LogisticRegression().fit(frame)
    assert model.numClasses == 3
    assert model.interceptVector.toArray().tolist() == [0.0, 0.0, float("inf")]
    assert model.transform(frame).select("prediction").distinct().collect() == [(2.0,)]


def test_a_multinomial_model_is_saved_and_loaded(ps, rows, tmp_path):
    model = LogisticRegression(maxIter=5).fit(rows)
    model.save(str(tmp_path / "model"))
    loaded = LogisticRegressionModel.load(str(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.coefficientMatrix.toArray(), model.coefficientMatrix.toArray())
    assert loaded.interceptVector == model.interceptVector


@pytest.mark.parametrize("family", ["auto", "multinomial"])
def test_a_class_whose_rows_weigh_nothing_is_none(spark, ps, family):
    rng = np.random.default_rng(9)
    x = rng.normal(size=(120, 2))
    labels = np.where(np.arange(120) % 5 == 0, 2.0, x[:, 0] + rng.normal(size=120) > 0)
    data = [(float(label), Vectors.dense(row), float(label < 2)) for label, row in zip(labels, x, strict=True)]
    frame = spark.createDataFrame(data, ["label", "features", "w"])
    params = {"weightCol": "w", "regParam": 0.1, "family": family, "tol": 1e-10}
    ours, theirs = LogisticRegression(**params).fit(frame), SparkLogisticRegression(**params).fit(frame)
    assert ours.numClasses == theirs.numClasses
    np.testing.assert_allclose(ours.coefficientMatrix.toArray(), theirs.coefficientMatrix.toArray(), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(ours.interceptVector.toArray(), theirs.interceptVector.toArray(), rtol=1e-5, atol=1e-8)
