"""What holds for every estimator, whatever it learns. `tests.harness.contract.TABLE` has a row for each."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pyspark.errors import IllegalArgumentException
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import OneVsRest
from pyspark.ml.evaluation import MulticlassClassificationEvaluator, RegressionEvaluator
from pyspark.ml.feature import VectorSlicer
from pyspark.ml.linalg import Vectors
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import functions as sf

from sparkps.errors import InvalidInput, SparkPSError
from sparkps.mllib.scoring import load_model
from tests.harness.contract import TABLE, WRONG_LABELS, make_frame, public_classes, row_of, scores

ROWS = [row for row in TABLE if row.cls is not None]
IDS = [f"{row.name}-{'-'.join(map(str, row.params.values()))}".rstrip("-") for row in ROWS]
NO_POOL = pytest.mark.filterwarnings("ignore:Exception ignored in. <function Pool.__del__:pytest.PytestUnraisableExceptionWarning")


PARAMS = [pytest.param(row, marks=pytest.mark.long) if row.is_like_another else row for row in ROWS]


@pytest.fixture(scope="module", params=PARAMS, ids=IDS)
def row(request, spark, ps):
    return request.param


@pytest.fixture(scope="module")
def frame(spark, row):
    made = row.frame(spark).cache()
    made.count()
    return made


@pytest.fixture(scope="module")
def model(row, frame):
    return row.make().fit(frame)


@pytest.fixture(scope="module")
def expected(model, frame):
    found = scores(model, frame)
    assert np.isfinite(found).all()
    return found


def test_every_public_estimator_has_a_row():
    assert {(row.module, row.name) for row in ROWS} == set(public_classes())


# ---- Params ------------------------------------------------------------------------------------------------------------


def test_params_are_copied_and_explained(row):
    estimator = row.make(predictionCol="p")
    copied = estimator.copy({estimator.maxIter: 7})
    assert (copied.uid, copied.getMaxIter(), copied.getPredictionCol()) == (estimator.uid, 7, "p")
    assert estimator.getMaxIter() == 2
    explained = estimator.explainParams()
    for param in estimator.params:
        assert param.doc
        assert param.parent == estimator.uid
        assert f"{param.name}: {param.doc}" in explained
    estimator.clear(estimator.maxIter)
    assert estimator.getMaxIter() == row.cls().getMaxIter()


def test_an_estimator_is_saved_and_loaded(row, tmp_path):
    estimator = row.make(predictionCol="p")
    estimator.save(str(tmp_path / "estimator"))
    loaded = row.cls.load(str(tmp_path / "estimator"))
    assert (loaded.uid, str(loaded), loaded.maxIter.parent) == (estimator.uid, str(estimator), estimator.uid)
    assert loaded.extractParamMap() == estimator.extractParamMap()
    with pytest.raises(InvalidInput, match="overwrite"):
        estimator.save(str(tmp_path / "estimator"))
    estimator.write().overwrite().save(str(tmp_path / "estimator"))


def test_fit_takes_params_for_the_call(row, frame):
    estimator = row.make()
    fewer, renamed = {estimator.maxIter: 1}, {estimator.predictionCol: "p"}
    first, second = (model for _, model in sorted(estimator.fitMultiple(frame, [fewer, renamed])))
    assert (first.getMaxIter(), first.getPredictionCol()) == (1, "prediction")
    assert (second.getMaxIter(), second.getPredictionCol()) == (2, "p")
    assert estimator.getMaxIter() == 2
    assert "p" in second.transform(frame).columns


# ---- models ------------------------------------------------------------------------------------------------------------


def test_a_model_has_what_its_estimator_was_told(row, model, frame):
    assert model.uid.startswith(row.name)
    assert model.numFeatures == 4
    assert model.getMaxIter() == 2
    assert model.hasSummary
    assert {"label", "features", "weight", "prediction"} <= set(model.transform(frame).columns)


def test_a_model_is_saved_and_loaded(row, model, frame, expected, tmp_path):
    model.save(str(tmp_path / "model"))
    loaded = type(model).load(str(tmp_path / "model"))
    assert (loaded.uid, str(loaded), loaded.hasSummary) == (model.uid, str(model), False)
    assert loaded.extractParamMap() == model.extractParamMap()
    np.testing.assert_array_equal(scores(loaded, frame), expected)
    found, alone = model.transform(frame).collect(), load_model(tmp_path / "model")
    rows = np.array([each.features.toArray() for each in found])
    np.testing.assert_allclose(alone.predict(rows), [each.prediction for each in found], rtol=1e-9)
    if "probability" in found[0]:
        np.testing.assert_allclose(alone.predict_proba(rows), [each.probability.toArray() for each in found], rtol=1e-9, atol=1e-12)


def test_a_copied_model_says_the_same(model, frame, expected):
    copied = model.copy({model.predictionCol: "p"})
    assert (copied.uid, copied.getPredictionCol(), model.getPredictionCol()) == (model.uid, "p", "prediction")
    np.testing.assert_array_equal(scores(model.copy(), frame), expected)
    assert "p" in model.transform(frame, {model.predictionCol: "p"}).columns


def test_one_vector_is_predicted_as_its_row(model, frame):
    for found in model.transform(frame).limit(2).collect():
        assert model.predict(found.features) == pytest.approx(found.prediction)


# ---- forms of features -------------------------------------------------------------------------------------------------


def test_forms_of_features_make_no_difference(spark, row, frame, expected):
    dense = [each.features.toArray() for each in frame.collect()]
    labels = [each.label for each in frame.collect()]
    forms = {
        "array<double>": [x.tolist() for x in dense],
        "struct<indices: array<bigint>, values: array<double>>": [(np.flatnonzero(x).tolist(), x[x != 0].tolist()) for x in dense],
    }
    made = [
        spark.createDataFrame(list(zip(labels, rows, strict=True)), f"label double, features {kind}").coalesce(1)
        for kind, rows in forms.items()
    ]
    for other in made:
        np.testing.assert_allclose(scores(row.make(numFeatures=4).fit(other), other), expected, rtol=1e-6, atol=1e-9)


# ---- rows that are wrong, few or alike ---------------------------------------------------------------------------------

BAD = {
    "null label": (None, Vectors.dense(1.0, 1.0, 1.0, 0.0), 1.0),
    "NaN label": (math.nan, Vectors.dense(1.0, 1.0, 1.0, 0.0), 1.0),
    "null features": (1.0, None, 1.0),
    "NaN features": (1.0, Vectors.dense(1.0, math.nan, 1.0, 0.0), 1.0),
    "infinite features": (1.0, Vectors.sparse(4, [1], [math.inf]), 1.0),
}


def rows_of(row, count=6):
    return [row_of(row.labels, place) for place in range(count)]


def test_wrong_rows_end_the_fit_or_are_left_out(spark, row, expected, frame):
    rows = rows_of(row)
    with pytest.raises(InvalidInput, match="Column '(label|features)'") as caught:
        row.make().fit(make_frame(spark, [*rows, *BAD.values()]))
    assert caught.value.column in ("label", "features")
    left = row.make(handleInvalid="skip").fit(make_frame(spark, [*rows, *BAD.values()]))
    np.testing.assert_allclose(scores(left, frame), expected, rtol=1e-6, atol=1e-9)
    assert (left.summary.rows, left.summary.skippedRows) == (6, len(BAD))


def test_rows_without_features_are_not_scored_where_they_are_to_be_skipped(spark, row, model):
    with_bad = make_frame(spark, [*rows_of(row), *BAD.values()])
    scored = model.copy({model.handleInvalid: "skip"}).transform(with_bad)
    assert scored.count() == 6 + len(BAD) - 1
    with pytest.raises(Exception, match="features must not be null"):
        model.transform(with_bad).collect()


def test_labels_of_no_meaning_are_refused(spark, row):
    rows = [(label, Vectors.dense(1.0, 1.0, 1.0, 0.0), 1.0) for label in WRONG_LABELS[row.labels]]
    with pytest.raises(InvalidInput, match="Column 'label'") as caught:
        row.make().fit(make_frame(spark, [*rows_of(row), *rows]))
    assert (caught.value.column, caught.value.row) == ("label", 6)
    assert row.make(handleInvalid="skip").fit(make_frame(spark, [*rows_of(row), *rows])).summary.skippedRows == len(rows)


def test_one_row_and_more_workers_than_rows(spark, row):
    one = make_frame(spark, rows_of(row, 1)).repartition(3)
    model = row.make(numWorkers=2).fit(one)
    assert model.summary.rows == 1
    assert not np.isnan(scores(model, one)).any()


def test_partitions_without_rows_make_no_difference(spark, row, frame, expected):
    if row.name == "Perceptron":
        pytest.skip("it depends on the order of rows, which comes out otherwise here")
    spread = row.frame(spark).repartitionByRange(4, sf.lit(1))
    np.testing.assert_allclose(scores(row.make(numWorkers=2).fit(spread), frame), expected, rtol=1e-5, atol=1e-9)


def test_labels_that_are_all_alike(spark, row):
    if row.name == "FMClassifier":
        pytest.skip("two steps of adamW, of size 1 as by default, lead past it, as they do in pyspark.ml")
    alike = make_frame(spark, [(1.0, features, weight) for _, features, weight in rows_of(row)])
    model = row.make().fit(alike)
    predictions = [each.prediction for each in model.transform(alike).collect()]
    assert not np.isnan(predictions).any()
    if row.module == "classification":
        assert set(predictions) == {1.0}


def test_features_that_do_not_vary(spark, row):
    constant = make_frame(spark, [(label, Vectors.dense(3.0, 0.0), weight) for label, _, weight in rows_of(row)])
    found = scores(row.make(features=2).fit(constant), constant)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, np.broadcast_to(found[0], found.shape))


def test_no_rows(spark, row):
    with pytest.raises(SparkPSError, match="at least one row"):
        row.make().fit(make_frame(spark, []))


# ---- weights -----------------------------------------------------------------------------------------------------------


def test_rows_of_weight_zero_count_as_if_they_were_not_there(spark, row, frame):
    if not row.takes("weightCol"):
        pytest.skip("it has no `weightCol`")
    without = row.make(weightCol="weight").fit(frame)
    zero = [(label, features, 0.0) for label, features, _ in rows_of(row, 3)]
    found = row.make(weightCol="weight").fit(make_frame(spark, [*rows_of(row), *zero]))
    np.testing.assert_allclose(scores(found, frame), scores(without, frame), rtol=1e-6, atol=1e-9)
    for wrong in ([0.0] * 6, [1.0, -1.0, math.nan, 1.0, 1.0, 1.0]):
        rows = [(label, features, weight) for (label, features, _), weight in zip(rows_of(row), wrong, strict=True)]
        with pytest.raises(InvalidInput, match="weight"):
            row.make(weightCol="weight").fit(make_frame(spark, rows))


# ---- columns -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [{"labelCol": "nowhere"}, {"featuresCol": "nowhere"}, {"featuresCol": "label"}, {"labelCol": "features"}, {"labelCol": "word"}],
    ids=str,
)
def test_columns_that_are_missing_or_of_another_type(row, frame, params):
    with pytest.raises(InvalidInput, match="Column") as caught:
        row.make(**params).fit(frame.withColumn("word", sf.lit("a")))
    assert isinstance(caught.value, IllegalArgumentException)
    assert caught.value.column in params.values()


def test_a_model_needs_its_features_and_room_for_what_it_adds(model, frame):
    for wrong in (frame.drop("features"), frame.withColumn("prediction", sf.lit(1.0)), frame.withColumn("features", sf.lit("a"))):
        with pytest.raises(IllegalArgumentException) as caught:
            model.transform(wrong)
        assert isinstance(caught.value, InvalidInput)


# ---- with the tools of pyspark.ml --------------------------------------------------------------------------------------


def test_a_pipeline_is_trained_saved_and_loaded(row, frame, tmp_path):
    slicer = VectorSlicer(inputCol="features", outputCol="two", indices=[0, 1])
    fitted = Pipeline(stages=[slicer, row.make(features=2, featuresCol="two")]).fit(frame)
    fitted.save(str(tmp_path / "pipeline"))
    loaded = PipelineModel.load(str(tmp_path / "pipeline"))
    np.testing.assert_array_equal(scores(loaded, frame), scores(fitted, frame))
    assert [stage.uid for stage in loaded.stages] == [stage.uid for stage in fitted.stages]


@NO_POOL
def test_cross_validation_chooses_among_its_params(spark, row):
    estimator = row.make()
    grid = ParamGridBuilder().addGrid(estimator.maxIter, [1, 2]).build()
    evaluator = MulticlassClassificationEvaluator() if row.module == "classification" else RegressionEvaluator()
    validator = CrossValidator(estimator=estimator, estimatorParamMaps=grid, evaluator=evaluator, numFolds=2, seed=5)
    fitted = validator.fit(row.frame(spark, 48).repartition(2))
    assert len(fitted.avgMetrics) == 2
    assert np.isfinite(fitted.avgMetrics).all()
    assert fitted.bestModel.getMaxIter() in (1, 2)


@NO_POOL
def test_each_of_several_classes_is_told_from_the_rest(spark, row):
    if not row.one_vs_rest:
        pytest.skip("it takes more than two classes, or no classes")
    rows = make_frame(spark, [row_of("classes", place) for place in range(12)])
    fitted = OneVsRest(classifier=row.make(), parallelism=2).fit(rows)
    assert len(fitted.models) == 3
    assert {each.prediction for each in fitted.transform(rows).collect()} <= {0.0, 1.0, 2.0}
