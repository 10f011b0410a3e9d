"""What a model adds to a DataFrame, and what it refuses: beside pyspark.ml's own model of the same coefficients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import SparseVector, Vectors
from pyspark.sql import functions as sf

from sparkps.errors import InvalidInput
from sparkps.mllib.classification import LogisticRegression, LogisticRegressionModel


@pytest.fixture(scope="module")
def rows(spark):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(200, 3))
    y = (rng.random(200) < 1 / (1 + np.exp(-x @ np.array([1.0, -2.0, 0.5])))).astype(float)
    return spark.createDataFrame([(float(b), Vectors.dense(a)) for a, b in zip(x, y, strict=True)], ["label", "features"]).cache()


@pytest.fixture(scope="module")
def lr():
    return LogisticRegression(maxIter=5, regParam=0.01)


@pytest.fixture(scope="module")
def model(ps, lr, rows):
    return lr.fit(rows)


def test_columns_are_those_of_pyspark(model, rows):
    ours, theirs = model.transform(rows).schema, model.toSpark().transform(rows).schema
    assert ours.names == theirs.names
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dataType == other.dataType
        assert mine.nullable == other.nullable, mine.name
        assert mine.metadata == other.metadata, mine.name


def test_all_types_of_features_are_scored_alike(spark, model, rows):
    arrays = rows.select("label", vector_to_array("features").alias("features"))
    pairs = arrays.select(sf.struct(sf.array(*map(sf.lit, (0, 1, 2))).cast("array<bigint>").alias("indices"),
                                    sf.col("features").alias("values")).alias("features"))  # fmt: skip
    expected = np.array([row.probability.toArray() for row in model.transform(rows).collect()])
    for other in (arrays, pairs):
        found = np.array([row.probability.toArray() for row in model.transform(other).collect()])
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_params_of_the_estimator_are_those_of_its_model(lr, model, rows):
    assert model.uid == lr.uid
    assert model.transform(rows, {lr.threshold: 0.0}).where("prediction = 0").count() == 0
    assert model.transform(rows, {lr.predictionCol: "p"}).columns[-1] == "p"


@pytest.mark.parametrize("thresholds", [[1.0, 0.0], [0.0, 1.0], [0.3, 0.7], [2.0, 2.0]])
def test_thresholds_mean_what_they_mean_in_pyspark(model, rows, thresholds):
    ours = model.copy().setThresholds(thresholds)
    theirs = model.toSpark().setThresholds(thresholds)
    assert ours.transform(rows).select("prediction").collect() == theirs.transform(rows).select("prediction").collect()


def test_thresholds_of_nothing_are_refused(model):
    with pytest.raises(ValueError, match="sum above 0"):
        model.copy().setThresholds([0.0, 0.0]).getThreshold()


@pytest.mark.parametrize(
    ("param", "name", "why"),
    [
        ("predictionCol", "features", "a column of the DataFrame"),
        ("predictionCol", "Label", "a column of the DataFrame"),
        ("probabilityCol", "prediction", "the `probabilityCol`"),
        ("rawPredictionCol", "label", "a column of the DataFrame"),
    ],
)
def test_a_column_that_is_there_is_never_overwritten(model, rows, param, name, why):
    with pytest.raises(InvalidInput, match=f"must name a new column. Got '{name}', which is {why}"):
        model.copy({model.getParam(param): name}).transform(rows)


def test_vectors_of_another_length_are_refused(spark, model):
    for wrong in (Vectors.dense([1.0, 2.0]), SparseVector(4, [0], [1.0])):
        with pytest.raises(Exception, match=r"non-matching sizes|as many elements as the model has features \(3\)"):
            model.transform(spark.createDataFrame([(wrong,)], ["features"])).collect()
    arrays = spark.createDataFrame([([1.0, 2.0, 3.0, 4.0],)], ["features"])
    with pytest.raises(Exception, match=r"as many elements as the model has features \(3\)"):
        model.transform(arrays).collect()


@pytest.mark.parametrize(
    "params",
    [{"solver": "lbfgs"}, *({"solver": "adagrad", "consistency": how, "maxIter": 100_000} for how in ("bsp", "ssp", "asp"))],
    ids=str,
)
def test_vectors_of_different_lengths_in_different_ranks_are_refused_before_training(spark, ps, monkeypatch, params):
    """The epochs would take minutes."""
    monkeypatch.setattr("sparkps.mllib.solvers.quasi_newton.QuasiNewton.minimize", None)
    rows = spark.createDataFrame([(float(i % 2), Vectors.dense([1.0] * (3 if i < 20 else 5))) for i in range(40)], ["label", "features"])
    lr = LogisticRegression(numWorkers=2, **params)
    with pytest.raises(InvalidInput, match=r"'features': all vectors must have the same size. Got vectors of sizes 3, 5") as caught:
        lr.fit(rows.coalesce(2))
    assert caught.value.column == "features"


def test_a_model_scores_the_rows_that_it_was_trained_on(ps, rows):
    """Though more features were declared than the vectors have."""
    model = LogisticRegression(maxIter=2, numFeatures=5).fit(rows)
    assert (model.numFeatures, model.transform(rows).count()) == (5, 200)
    assert model.transform(rows).agg(sf.count("prediction")).first()[0] == 200


@pytest.mark.parametrize(
    "names", [{"rawPredictionCol": "raw.x"}, {"probabilityCol": "p.x", "rawPredictionCol": ""}, {"predictionCol": "a b"}]
)
def test_output_columns_of_any_name(model, rows, names):
    scored = model.copy({model.getParam(param): name for param, name in names.items()}).transform(rows)
    assert set(scored.columns) >= {name for name in names.values() if name}
    assert len(scored.collect()) == 200


def test_a_row_without_features_is_named_as_what_is_wrong(model, rows):
    without = rows.limit(2).union(rows.limit(1).withColumn("features", sf.lit(None).cast(rows.schema["features"].dataType)))
    with pytest.raises(Exception, match="Column 'features': features must not be null"):
        model.transform(without).collect()


def test_invalid_rows_are_skipped_where_that_is_wished(spark, ps, rows):
    schema = "id int, features struct<indices: array<bigint>, values: array<float>>"
    given = [(0, ([1], [1.0])), (1, None), (2, ([1, 2], [1.0])), (3, ([1, None], [1.0, 2.0])), (4, (None, [1.0])), (5, ([], []))]
    frame = spark.createDataFrame(given, schema)
    strict = LogisticRegression(maxIter=1).fit(rows)
    with pytest.raises(Exception, match=r"Column 'features': .* must (not be null|be of the same length)"):
        strict.transform(frame).collect()
    model = LogisticRegression(maxIter=1, handleInvalid="skip").fit(rows)
    assert [row.id for row in model.transform(frame).orderBy("id").collect()] == [0, 5]
    arrays = spark.createDataFrame([(0, [1.0, 2.0, 3.0]), (1, [1.0, None, 3.0]), (2, None)], "id int, features array<double>")
    assert [row.id for row in model.transform(arrays).collect()] == [0]
    assert model.transform(spark.createDataFrame([([1.0, 2.0, 3.0],), ([1.0, 2.0],)], ["features"])).count() == 1
    short = spark.createDataFrame([(Vectors.dense([1.0, 2.0, 3.0]),), (Vectors.dense([1.0, 2.0]),)], ["features"])
    assert len(model.transform(short).collect()) == 1
    vectors = rows.limit(2).select("features").union(rows.limit(1).select(sf.lit(None).cast(rows.schema["features"].dataType)))
    assert model.transform(vectors).count() == 2


def test_transforms_of_one_model_leave_one_file(spark, model, rows):
    rows = rows.select(vector_to_array("features").alias("features"))  # vectors are scored in the JVM
    model.transform(rows).agg(sf.sum("prediction")).collect()
    files = Path(spark.sparkContext._temp_dir)
    before = set(files.iterdir())
    for threshold in (0.1, 0.2, 0.3):
        model.copy().setThreshold(threshold).transform(rows).agg(sf.sum("prediction")).collect()
    assert set(files.iterdir()) == before


def test_an_empty_path_is_refused(lr, model):
    for attempt in (lambda: model.save(""), lambda: lr.save(""), lambda: LogisticRegressionModel.load("")):
        with pytest.raises(InvalidInput, match="must not be empty"):
            attempt()


@pytest.mark.parametrize("solver", ["lbfgs", "adagrad"])
def test_weights_that_are_all_0_are_refused(ps, rows, solver):
    with pytest.raises(InvalidInput, match="'w': the weights of all rows together must be above 0"):
        LogisticRegression(maxIter=1, solver=solver, weightCol="w").fit(rows.withColumn("w", sf.lit(0.0)))
