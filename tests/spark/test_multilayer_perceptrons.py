"""Multilayer perceptrons beside pyspark.ml's, on rows in one block, where both minimise the same."""

from __future__ import annotations

import pathlib

import numpy as np
import pyspark
import pytest
from pyspark.ml.classification import MultilayerPerceptronClassifier as SparkClassifier
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as sf

from sparkps.errors import InvalidInput
from sparkps.mllib.classification import MultilayerPerceptronClassificationModel, MultilayerPerceptronClassifier
from sparkps.mllib.errors import InvalidParam

LAYERS = [5, 6, 4, 3]
WEIGHTS = 5 * 6 + 6 + 6 * 4 + 4 + 4 * 3 + 3
SAMPLE = pathlib.Path(pyspark.__file__).parent / "data/mllib/sample_multiclass_classification_data.txt"


@pytest.fixture(scope="module")
def rows(spark, ps):
    """60 rows of four features that vary, one of them far from 0 and wide, and one that is 0 in all."""
    rng = np.random.default_rng(3)
    x = np.hstack([rng.normal(size=(60, 3)), rng.normal(20.0, 8.0, (60, 1)), np.zeros((60, 1))])
    y = np.where(x[:, 0] * x[:, 1] > 0, 0.0, np.where(x[:, 2] > 0, 1.0, 2.0))
    forms = [Vectors.dense(a) if i % 2 else Vectors.sparse(5, np.flatnonzero(a), a[a != 0]) for i, a in enumerate(x)]
    made = [(float(label), features, 1.0) for label, features in zip(y, forms, strict=True)]
    frame = spark.createDataFrame(made, ["label", "features", "weight"]).coalesce(1).cache()
    frame.count()
    return frame


@pytest.fixture(scope="module")
def begun():
    """Weights to begin with."""
    return Vectors.dense(np.random.default_rng(4).normal(size=WEIGHTS) * 0.5)


def both(rows, begun, **params):
    """Our model and pyspark.ml's."""
    params = {"layers": LAYERS, "tol": 0.0, **({"initialWeights": begun} if begun is not None else {}), **params}
    return MultilayerPerceptronClassifier(numWorkers=1, **params).fit(rows), SparkClassifier(blockSize=1000, **params).fit(rows)


def weights_of(model):
    return model.weights.toArray()


# ---- beside pyspark.ml --------------------------------------------------------------------------------------------------


def test_objective_and_gradient_are_those_of_spark(rows, begun):
    """A step of gradient descent by 1 shows the gradient."""
    ours, theirs = both(rows, begun, solver="gd", stepSize=1.0, maxIter=1)
    np.testing.assert_allclose(ours.summary().objectiveHistory, theirs.summary().objectiveHistory, rtol=1e-9)
    gradients = [begun.toArray() - weights_of(model) for model in (ours, theirs)]
    np.testing.assert_allclose(*gradients, rtol=1e-9, atol=1e-9 * np.abs(gradients[1]).max())


def test_the_first_weights_are_those_of_spark(rows):
    for seed in (123, -9):
        ours, theirs = both(rows, None, seed=seed, maxIter=0)
        np.testing.assert_array_equal(weights_of(ours), weights_of(theirs))
        assert (ours.summary().objectiveHistory, ours.summary().totalIterations) == (pytest.approx(theirs.summary().objectiveHistory), 0)


@pytest.mark.parametrize("solver", ["l-bfgs", "gd"])
def test_steps_are_those_of_spark(rows, begun, solver):
    ours, theirs = both(rows, begun, solver=solver, maxIter=15, stepSize=0.3)
    np.testing.assert_allclose(ours.summary().objectiveHistory, theirs.summary().objectiveHistory, rtol=1e-6)
    np.testing.assert_allclose(weights_of(ours), weights_of(theirs), rtol=1e-4, atol=1e-5)


def test_gradient_descent_ends_where_that_of_spark_does(rows, begun):
    ours, theirs = both(rows, begun, solver="gd", maxIter=200, stepSize=0.1, tol=3e-3)
    assert 2 <= ours.summary().totalIterations < 200
    losses = ours.summary().objectiveHistory
    np.testing.assert_allclose(losses[:-1], theirs.summary().objectiveHistory, rtol=1e-9)  # which lacks that after the last step
    np.testing.assert_allclose(weights_of(ours), weights_of(theirs), rtol=1e-8, atol=1e-10)


def test_the_sample_of_spark_is_learned_as_well(spark, ps):
    """After 100 iterations of L-BFGS on a loss that is not convex, losses differ by how a processor rounds: pyspark.ml's own, with rows
    added up one by one or together, by 1 % and more. Ours is to be among them, and step by step the same where steps are few (above)."""
    sample = spark.read.format("libsvm").option("numFeatures", 4).load(str(SAMPLE)).coalesce(1).cache()
    ours = MultilayerPerceptronClassifier(layers=[4, 5, 4, 3], seed=1234, numWorkers=1).fit(sample)
    theirs = [SparkClassifier(layers=[4, 5, 4, 3], seed=1234, blockSize=size).fit(sample) for size in (1, 1000)]
    assert ours.summary().objectiveHistory[-1] <= 1.05 * max(model.summary().objectiveHistory[-1] for model in theirs)
    assert ours.evaluate(sample).accuracy >= min(model.evaluate(sample).accuracy for model in theirs) - 1 / 150
    found, expected = (np.array([each.prediction for each in model.transform(sample).collect()]) for model in (ours, theirs[0]))
    assert (found != expected).sum() <= 2


def test_exclusive_or_is_learned_as_in_the_doctest_of_spark(spark, ps, tmp_path):
    points = [(0.0, [0.0, 0.0]), (1.0, [0.0, 1.0]), (1.0, [1.0, 0.0]), (0.0, [1.0, 1.0])]
    frame = spark.createDataFrame([(label, Vectors.dense(x)) for label, x in points], ["label", "features"]).coalesce(1)
    mlp = MultilayerPerceptronClassifier(layers=[2, 2, 2], seed=123)
    model = mlp.setMaxIter(100).setBlockSize(1).fit(frame)
    assert (model.getLayers(), model.weights.size, model.numClasses, model.getBlockSize()) == ([2, 2, 2], 12, 2, 1)
    one = Vectors.dense([1.0, 0.0])
    assert model.predict(one) == 1.0
    assert model.predictProbability(one).toArray() == pytest.approx([0.0, 1.0], abs=1e-4)
    assert [each.prediction for each in model.transform(frame).collect()] == [label for label, _ in points]
    theirs = SparkClassifier(layers=[2, 2, 2], seed=123, blockSize=1).fit(frame)
    np.testing.assert_allclose(model.predictRaw(one).toArray(), theirs.predictRaw(one).toArray(), rtol=0.05)
    model.save(str(tmp_path / "model"))
    loaded = MultilayerPerceptronClassificationModel.load(str(tmp_path / "model"))
    assert (loaded.weights, loaded.getLayers(), str(loaded)) == (model.weights, model.getLayers(), str(model))
    third = mlp.setInitialWeights(list(range(12))).fit(frame)
    assert third.weights != model.weights


def test_the_model_of_spark_says_the_same(rows, begun):
    ours, _ = both(rows, begun, maxIter=5)
    theirs = ours.copy({ours.thresholds: [0.2, 0.5, 0.3]})
    for model in (ours, theirs):
        found, expected = (each.transform(rows).collect() for each in (model, model.toSpark()))
        for name in ("rawPrediction", "probability"):
            np.testing.assert_allclose(*([row[name].toArray() for row in part] for part in (found, expected)), rtol=1e-9, atol=1e-12)
        assert [row.prediction for row in found] == [row.prediction for row in expected]
    assert (ours.toSpark().weights, ours.toSpark().getLayers(), str(ours)) == (ours.weights, LAYERS, str(ours.toSpark()))


# ---- rows ---------------------------------------------------------------------------------------------------------------


def test_no_hidden_layer_is_a_softmax(rows):
    ours, theirs = both(rows, Vectors.dense(np.zeros(5 * 3 + 3)), layers=[5, 3], maxIter=10)
    np.testing.assert_allclose(ours.summary().objectiveHistory, theirs.summary().objectiveHistory, rtol=1e-6)


def test_features_without_a_row_keep_their_first_weights(rows, begun):
    ours, _ = both(rows, begun, maxIter=3)
    np.testing.assert_array_equal(weights_of(ours)[24:30], begun.toArray()[24:30])


def test_several_workers_learn_what_one_does(rows, begun):
    params = {"layers": LAYERS, "initialWeights": begun, "maxIter": 8}
    one = MultilayerPerceptronClassifier(numWorkers=1, **params).fit(rows)
    two = MultilayerPerceptronClassifier(numWorkers=2, **params).fit(rows.repartition(4))
    np.testing.assert_allclose(two.summary.objectiveHistory, one.summary.objectiveHistory, rtol=1e-9)
    np.testing.assert_allclose(weights_of(two), weights_of(one), rtol=1e-8, atol=1e-9)


def test_weights_of_rows_are_as_good_as_copies(rows, begun):
    params = {"layers": LAYERS, "initialWeights": begun, "maxIter": 5, "numWorkers": 1}
    twice = rows.withColumn("weight", sf.when(sf.col("label") == 1.0, 2.0).otherwise(1.0))
    weighted = MultilayerPerceptronClassifier(weightCol="weight", **params).fit(twice)
    copied = MultilayerPerceptronClassifier(**params).fit(rows.union(rows.where("label = 1")).coalesce(1))
    np.testing.assert_allclose(weighted.summary.objectiveHistory, copied.summary.objectiveHistory, rtol=1e-9)


def test_rows_for_validation_choose_the_best_weights(rows, begun):
    aside = rows.withColumn("aside", sf.rand(7) < 0.3).cache()
    mlp = MultilayerPerceptronClassifier(
        layers=LAYERS, initialWeights=begun, numWorkers=1, validationIndicatorCol="aside", earlyStoppingRounds=3
    )
    model = mlp.fit(aside)
    losses = model.summary.validationHistory
    assert len(losses) < 100
    found = model.transform(aside.where("aside")).collect()
    loss = -np.mean([np.log(row.probability[int(row.label)]) for row in found])
    assert loss == pytest.approx(min(losses), rel=1e-9)
    assert set(model.summary.validationMetrics) == {"logLoss", "accuracy"}


def test_a_fit_goes_on_from_its_checkpoint(rows, begun, tmp_path, monkeypatch):
    params = {"layers": LAYERS, "initialWeights": begun, "maxIter": 9, "numWorkers": 1, "tol": 0.0, "deterministic": True}
    whole = MultilayerPerceptronClassifier(**params).fit(rows)
    mlp = MultilayerPerceptronClassifier(checkpointDir=f"file://{tmp_path}/fit", checkpointInterval=4, **params)
    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="the driver is gone"):
        patched.setattr("sparkps.mllib.training._trained", _gone)
        mlp.fit(rows)
    assert any(tmp_path.rglob("*"))
    again = mlp.fit(rows)
    np.testing.assert_array_equal(weights_of(again), weights_of(whole))
    assert again.summary.objectiveHistory == whole.summary.objectiveHistory


def _gone(*_):
    raise RuntimeError("the driver is gone")


# ---- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "said", "param"),
    [
        ({}, "must be set", "layers"),
        ({"layers": [5]}, "two ints >= 1 or more", "layers"),
        ({"layers": [5, 0, 3]}, "two ints >= 1 or more", "layers"),
        ({"layers": [4, 3, 3]}, "number of features, 5. Got 4", "layers"),
        ({"layers": [6, 3, 3]}, "number of features, 5. Got 6", "layers"),
        ({"layers": LAYERS, "numFeatures": 7}, "first of `layers`, 5. Got 7", "numFeatures"),
        ({"layers": LAYERS, "initialWeights": [1.0, 2.0]}, f"must be {WEIGHTS}, .* Got 2", "initialWeights"),
        ({"layers": LAYERS, "solver": "adam"}, "one of l-bfgs, gd", "solver"),
    ],
    ids=str,
)
def test_params_that_do_not_fit_are_refused(rows, params, said, param):
    with pytest.raises(InvalidParam, match=said) as caught:
        MultilayerPerceptronClassifier(numWorkers=1, **params).fit(rows)
    assert caught.value.param == param


@pytest.mark.parametrize("params", [{"regParam": 0.1}, {"fitIntercept": False}, {"offsetCol": "weight"}], ids=str)
def test_what_no_network_of_spark_has_is_refused(params):
    with pytest.raises(InvalidParam) as caught:
        MultilayerPerceptronClassifier(**params)
    assert caught.value.param in params


def test_labels_without_an_output_are_refused(rows):
    with pytest.raises(InvalidInput, match="from 0 to 1.*last of `layers`") as caught:
        MultilayerPerceptronClassifier(layers=[5, 2], numWorkers=1).fit(rows)
    assert (caught.value.column, caught.value.label) == ("label", 2.0)


def test_thresholds_are_one_for_each_class(rows, begun):
    ours, _ = both(rows, begun, maxIter=1)
    with pytest.raises(InvalidParam, match="3 classes must be 3"):
        ours.setThresholds([0.5, 0.5]).transform(rows)
