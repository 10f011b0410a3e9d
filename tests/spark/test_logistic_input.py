"""What LogisticRegression does with rows, columns and Params that are wrong, and with few, no or one-sided rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors

from sparkps.errors import InvalidInput, SparkPSError
from sparkps.mllib.classification import LogisticRegression

PAIRS = "label double, features struct<indices: array<bigint>, values: array<float>>"
ARRAYS = "label double, features array<double>"


def model_tables(ps):
    return [table["name"] for table in ps.status()["tables"] if table["name"].startswith("LogisticRegression")]


BAD = {
    "label": (ARRAYS, (-3.0, [1.0, 2.0]), "label", "a label must be 0 or 1"),
    "label null": (ARRAYS, (None, [1.0, 2.0]), "label", "must not be null"),
    "features null": (ARRAYS, (1.0, None), "features", "must not be null"),
    "NaN": (ARRAYS, (1.0, [1.0, math.nan]), "features", "must be finite"),
    "size": (ARRAYS, (1.0, [1.0]), "features", "the same size"),
    "negative index": (PAIRS, (1.0, ([-5], [1.0])), "features", "must not be negative"),
    "null index": (PAIRS, (1.0, ([None], [1.0])), "features", "must not be null"),
    "lengths": (PAIRS, (1.0, ([1, 2], [1.0])), "features", "the same length"),
    "too large": (PAIRS, (1.0, ([99], [1.0])), "features", "less than numFeatures"),
}


def frame_with(spark, case):
    schema, bad, *_ = BAD[case]
    good = [(0.0, [1.0, 0.0]), (1.0, [0.0, 2.0])] if schema is ARRAYS else [(0.0, ([0], [1.0])), (1.0, ([7], [1.0]))]
    return spark.createDataFrame([*good, bad, *good], schema).coalesce(1)


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_ends_the_fit_with_its_cause(spark, ps, case):
    with pytest.raises(SparkPSError, match=BAD[case][3]) as raised:
        LogisticRegression(numFeatures=50, numWorkers=1, maxIter=2).fit(frame_with(spark, case))
    assert raised.value.column == BAD[case][2]
    assert raised.value.rank == 0
    assert model_tables(ps) == []


@pytest.mark.parametrize("solver", ["lbfgs", "adagrad"])
@pytest.mark.parametrize("case", ["label", "lengths"])
def test_a_bad_row_is_left_out_where_asked_for(spark, ps, case, solver):
    lr = LogisticRegression(numFeatures=50, handleInvalid="skip", maxIter=2, solver=solver, numWorkers=1)
    model = lr.fit(frame_with(spark, case))
    assert (model.summary.rows, model.summary.skippedRows, model.numFeatures) == (4, 1, 50)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"maxIter": -1}, "The `maxIter` of LogisticRegression must be an int >= 0. Got -1"),
        ({"regParam": -0.5}, "`regParam`"),
        ({"elasticNetParam": 0.5, "regParam": 0.1, "solver": "sgd"}, "L1 needs solver='lbfgs', 'ftrl' or 'online'"),
        ({"solver": "newton"}, "`solver` of LogisticRegression must be one of auto, lbfgs, sgd"),
        ({"consistency": "psp"}, "one of bsp, ssp, asp"),
        ({"consistency": "asp"}, "needs consistency='bsp'"),
        ({"batchSize": 0}, "`batchSize`"),
        ({"handleInvalid": "keep"}, "one of error, skip"),
        ({"family": "poisson"}, "one of auto, binomial, multinomial"),
        ({"labelCol": "y"}, "Column 'y' must exist"),
        ({"featuresCol": "label"}, "Column 'label' must hold features"),
        ({"labelCol": "features"}, "Column 'features' must be numeric"),
    ],
)
def test_wrong_params_and_columns_are_refused_at_once(spark, ps, params, message):
    frame = spark.createDataFrame([(1.0, [1.0])], ARRAYS)
    with pytest.raises(InvalidInput, match=message):
        LogisticRegression(**params).fit(frame)


def test_unknown_param():
    with pytest.raises(TypeError, match="no Param 'maxIters'"):
        LogisticRegression(maxIters=3)


@pytest.mark.parametrize("solver", ["lbfgs", "ftrl"])
def test_no_rows(spark, ps, solver):
    with pytest.raises(SparkPSError, match="at least one row"):
        LogisticRegression(solver=solver, maxIter=2).fit(spark.createDataFrame([], ARRAYS))
    assert model_tables(ps) == []


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_fewer_rows_than_workers(spark, ps, solver):
    frame = spark.createDataFrame([(1.0, [1.0, 3.0])], ARRAYS)
    model = LogisticRegression(maxIter=2, numWorkers=2, solver=solver, fitIntercept=False).fit(frame)
    assert model.summary.rows == 1
    assert np.isfinite(model.coefficients.toArray()).all()


@pytest.mark.parametrize(("label", "intercept"), [(0.0, -math.inf), (1.0, math.inf)])
def test_one_label_only_is_always_predicted(spark, ps, label, intercept):
    frame = spark.createDataFrame([(label, [1.0, 2.0]), (label, [0.0, 1.0])], ARRAYS)
    model = LogisticRegression().fit(frame)
    assert model.intercept == intercept
    assert model.coefficients.toArray().tolist() == [0.0, 0.0]
    assert {row.prediction for row in model.transform(frame).collect()} == {label}


def test_all_types_of_features_give_the_same_model(spark, ps):
    rng = np.random.default_rng(3)
    x = np.where(rng.random((80, 4)) < 0.4, 0.0, rng.integers(-4, 5, (80, 4)).astype(float))
    labels = (rng.random(80) < 1 / (1 + np.exp(-x[:, 0]))).astype(float).tolist()
    forms = {
        "array<double>": [r.tolist() for r in x],
        "array<float>": [r.tolist() for r in x],
        "struct<indices: array<bigint>, values: array<float>>": [(np.flatnonzero(r).tolist(), r[r != 0].tolist()) for r in x],
        "struct<indices: array<int>, values: array<double>>": [(np.flatnonzero(r).tolist(), r[r != 0].tolist()) for r in x],
    }
    frames = [spark.createDataFrame(list(zip(labels, f, strict=True)), f"label double, features {t}") for t, f in forms.items()]
    vectors = [Vectors.dense(r) if i % 3 else Vectors.sparse(4, np.flatnonzero(r), r[r != 0]) for i, r in enumerate(x)]
    frames.append(spark.createDataFrame(list(zip(labels, vectors, strict=True)), ["label", "features"]))
    lr = LogisticRegression(maxIter=4, regParam=0.1, numWorkers=1)
    models = [lr.fit(frame) for frame in frames]
    scores = [np.stack([row.probability.toArray() for row in models[0].transform(frame).collect()]) for frame in frames]
    for model, score in zip(models, scores, strict=True):
        np.testing.assert_allclose(model.coefficients.toArray(), models[0].coefficients.toArray(), rtol=1e-9)
        np.testing.assert_allclose(score, scores[0], rtol=1e-12)


def test_rows_that_cannot_be_scored(spark, ps):
    model = LogisticRegression(maxIter=1).fit(spark.createDataFrame([(1.0, [1.0]), (0.0, [2.0])], ARRAYS))
    with pytest.raises(Exception, match="Column 'features': features must not be null"):
        model.transform(spark.createDataFrame([(None,)], "features array<double>")).collect()
    with pytest.raises(InvalidInput, match="Column 'features' must exist"):
        model.transform(spark.range(1))


@pytest.mark.parametrize("seed", [1, 12])
def test_labels_that_are_all_equal_are_seen_to_be_with_any_weights(spark, ps, seed):
    """Of such weights the sums in two ways differ in their last bit."""
    weights = np.random.default_rng(seed).random(100)
    rows = spark.createDataFrame([(1.0, Vectors.dense([float(i)]), float(w)) for i, w in enumerate(weights)], ["label", "features", "w"])
    model = LogisticRegression(maxIter=5, weightCol="w", numWorkers=1).fit(rows.coalesce(1))
    assert model.intercept == np.inf
    assert not model.coefficients.toArray().any()


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_weights_that_add_up_to_more_than_a_float_are_refused(spark, ps, solver):
    rows = spark.createDataFrame([(float(i % 2), Vectors.dense([1.0]), 1e308) for i in range(4)], ["label", "features", "w"])
    with pytest.raises(InvalidInput, match="the weights of all rows together must be above 0, and at most"):
        LogisticRegression(maxIter=2, weightCol="w", solver=solver, numWorkers=2).fit(rows)


def test_a_wrong_row_shows_its_vector_as_spark_does(spark, ps):
    rows = spark.createDataFrame([(-2.0, Vectors.sparse(9, [4], [1.5])), (0.5, Vectors.dense([1.0] * 9))], ["label", "features"])
    with pytest.raises(InvalidInput, match=r"SparseVector\(9, \{4: 1\.5\}\)|DenseVector\(\[1\.0, 1\.0"):
        LogisticRegression(maxIter=1).fit(rows)


def test_predict_refuses_vectors_of_another_length(spark, ps):
    rows = spark.createDataFrame([(float(i % 2), Vectors.dense([1.0, float(i)])) for i in range(4)], ["label", "features"])
    model = LogisticRegression(maxIter=1).fit(rows)
    for predict in (model.predict, model.predictRaw, model.predictProbability):
        with pytest.raises(InvalidInput, match=r"A vector must have 2 elements.* Got 3 instead"):
            predict(Vectors.dense([1.0, 2.0, 3.0]))
