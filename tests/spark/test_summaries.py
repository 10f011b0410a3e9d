"""Summaries of trainings and evaluations: every value beside that of pyspark.ml's own summary of the same model and rows."""

from __future__ import annotations

import gc
import io
import logging
import weakref

import numpy as np
import pyspark.ml.regression
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from sparkps.mllib import classification as ours
from sparkps.mllib import regression
from sparkps.mllib.classification import LogisticRegression
from sparkps.mllib.summaries.history import TrainingHistory
from sparkps.mllib.summaries.training import warn_if_overfit

pytestmark = pytest.mark.timeout(300)  # each asks two summaries for everything, in dozens of jobs

LABELLED = ["truePositiveRateByLabel", "falsePositiveRateByLabel", "precisionByLabel", "recallByLabel", "labels"]
SCALARS = ["accuracy", "weightedTruePositiveRate", "weightedFalsePositiveRate", "weightedRecall", "weightedPrecision"]
COLUMNS = ["predictionCol", "labelCol", "weightCol", "featuresCol", "probabilityCol", "scoreCol"]
CURVES = ["roc", "pr", "fMeasureByThreshold", "precisionByThreshold", "recallByThreshold"]


@pytest.fixture(scope="module")
def rows(spark):
    """1,500 rows of two classes with weights, some of them 0."""
    return two_classes(spark, 1500)


def two_classes(spark, n):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(n, 3))
    y = (rng.random(n) < 1 / (1 + np.exp(-x @ np.array([1.0, -2.0, 0.5]) - 0.5))).astype(float)
    w = rng.integers(0, 3, n).astype(float)
    given = [(float(b), float(c), Vectors.dense(a)) for a, b, c in zip(x, y, w, strict=True)]
    return spark.createDataFrame(given, ["label", "w", "features"]).coalesce(2).cache()


@pytest.fixture(scope="module", params=["", "w"], ids=["plain", "weighted"])
def model(request, ps, rows):
    lr = LogisticRegression(maxIter=10, regParam=0.01)
    return (lr.setWeightCol(request.param) if request.param else lr).fit(rows)


@pytest.fixture(scope="module")
def theirs(model, rows):
    return model.toSpark().evaluate(rows)


def assert_like(mine, other, names):
    for name in names:
        found, expected = getattr(mine, name), getattr(other, name)
        assert type(found) is type(expected), name
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=name)


def test_metrics_are_those_of_pyspark(model, theirs):
    summary = model.summary
    assert_like(summary, theirs, [*LABELLED, *SCALARS])
    for beta in (0.5, 1.0, 2.0):
        np.testing.assert_allclose(summary.fMeasureByLabel(beta), theirs.fMeasureByLabel(beta), rtol=1e-12)
        assert summary.weightedFMeasure(beta) == pytest.approx(theirs.weightedFMeasure(beta), rel=1e-12)
    assert summary.fMeasureByLabel() == summary.fMeasureByLabel(1.0)
    assert [getattr(summary, name) for name in COLUMNS] == [getattr(theirs, name) for name in COLUMNS]


def test_curves_are_those_of_pyspark(model, theirs):
    summary = model.summary
    assert summary.areaUnderROC == pytest.approx(theirs.areaUnderROC, rel=1e-12)
    for name in CURVES:
        found, expected = getattr(summary, name), getattr(theirs, name)
        assert isinstance(found, DataFrame)
        assert found.schema == expected.schema, name
        np.testing.assert_allclose(np.array(found.collect()), np.array(expected.collect()), rtol=1e-12, err_msg=name)


def test_curves_of_many_scores_are_thinned_as_those_of_pyspark(spark, model):
    """Which of them are left depends on a sample that Spark draws anew each time."""
    rows = two_classes(spark, 5000)
    mine, other = model.evaluate(rows), model.toSpark().evaluate(rows)
    assert mine.areaUnderROC == pytest.approx(other.areaUnderROC, abs=1e-4)
    assert mine.roc.count() == pytest.approx(other.roc.count(), abs=4)
    assert mine.roc.count() < 1100


def test_predictions_are_what_transform_gives(model, rows, theirs):
    found = model.summary.predictions
    assert isinstance(found, DataFrame)
    assert found.schema == theirs.predictions.schema
    assert found.count() == rows.count()


def test_evaluating_the_training_rows_gives_what_the_training_summary_says(model, rows):
    evaluated = model.evaluate(rows)
    assert type(evaluated) is ours.BinaryLogisticRegressionSummary
    assert type(model.summary) is ours.BinaryLogisticRegressionTrainingSummary
    assert isinstance(model.summary, ours.BinaryLogisticRegressionSummary)
    assert isinstance(model.summary, ours.LogisticRegressionTrainingSummary)
    assert evaluated.areaUnderROC == pytest.approx(model.summary.areaUnderROC, rel=1e-12)
    assert evaluated.accuracy == model.summary.accuracy
    for name in ("objectiveHistory", "totalIterations"):
        with pytest.raises(AttributeError):
            getattr(evaluated, name)


def test_other_rows_are_evaluated_as_they_are(model, rows):
    part = rows.where("features is not null and label = 1").drop("w")
    found = model.evaluate(part)
    assert found.labels == [1.0]
    assert found.accuracy == pytest.approx(model.toSpark().evaluate(part).accuracy)
    assert np.isnan(found.falsePositiveRateByLabel).all()
    with pytest.raises(TypeError, match="dataset must be a DataFrame"):
        model.evaluate([1, 2])


def test_figures_of_the_training(model):
    summary = model.summary
    assert all(isinstance(each, float) for each in summary.objectiveHistory)
    assert summary.totalIterations == len(summary.objectiveHistory) - 1 > 0
    assert (summary.rows, summary.skippedRows, summary.reason) == (1500, 0, summary.reason)
    assert len(summary.secondsHistory) == len(summary.objectiveHistory)
    assert summary.secondsHistory == sorted(summary.secondsHistory)
    assert (summary.validationHistory, summary.validationMetrics, summary.overfitting) == ([], {}, None)


def test_rows_set_aside_are_not_in_the_summary_of_the_training(ps, rows):
    aside = rows.withColumn("aside", sf.when(sf.col("w") == 0, True).when(sf.col("w") == 1, False))
    model = LogisticRegression(maxIter=3, validationIndicatorCol="aside", earlyStoppingRounds=0).fit(aside.where("aside is not null"))
    summary = model.summary
    assert summary.rows == summary.predictions.count() == rows.where("w = 1").count()
    assert summary.validationRows == rows.where("w = 0").count()
    assert len(summary.validationHistory) == len(summary.objectiveHistory)
    assert summary.accuracy == pytest.approx(model.evaluate(rows.where("w = 1")).accuracy)


def test_columns_that_a_model_leaves_out_are_there_for_its_summary(ps, rows):
    model = LogisticRegression(maxIter=3, predictionCol="", probabilityCol="").fit(rows)
    summary = model.summary
    assert summary.predictionCol.startswith("prediction_")
    assert summary.probabilityCol == summary.scoreCol
    assert summary.probabilityCol.startswith("probability_")
    assert {summary.predictionCol, summary.probabilityCol} <= set(summary.predictions.columns)
    assert (summary.accuracy > 0.5, summary.areaUnderROC > 0.5) == (True, True)
    assert model.transform(rows).columns == [*rows.columns, "rawPrediction"]


def test_names_that_need_quotes(ps, rows):
    named = rows.select(sf.col("label").alias("the label"), sf.col("features"), sf.col("w").alias("w.x"))
    model = LogisticRegression(maxIter=3, labelCol="the label", weightCol="w.x", predictionCol="a b", probabilityCol="p.q").fit(named)
    plain = LogisticRegression(maxIter=3, weightCol="w").fit(rows)
    assert model.summary.accuracy == pytest.approx(plain.summary.accuracy)
    assert model.summary.areaUnderROC == pytest.approx(plain.summary.areaUnderROC, abs=1e-6)


def test_rows_left_out_of_the_training_are_left_out_of_its_summary(spark, ps, rows):
    wrong = spark.createDataFrame([(None, 1.0), (float("nan"), 1.0), (1.0, None), (1.0, -1.0)], "label double, w double")
    wrong = wrong.crossJoin(rows.limit(1).select("features"))
    both = rows.union(wrong.select(rows.columns)).coalesce(2)
    model = LogisticRegression(maxIter=3, weightCol="w", handleInvalid="skip").fit(both)
    assert (model.summary.rows, model.summary.skippedRows) == (1500, 4)
    assert model.summary.accuracy == pytest.approx(model.evaluate(rows).accuracy)
    assert model.summary.areaUnderROC == pytest.approx(model.evaluate(rows).areaUnderROC, abs=1e-6)


def test_a_summary_is_of_the_model_that_was_fitted(model, rows):
    before = model.summary.accuracy
    changed = model.copy().setThreshold(0.99).setPredictionCol("other")
    assert changed.summary.accuracy == before
    assert changed.summary.predictionCol == "prediction"
    assert changed.evaluate(rows).accuracy < before
    assert changed.evaluate(rows).predictionCol == "other"


def test_a_summary_keeps_neither_its_model_nor_another_summary_alive(ps, rows):
    model = LogisticRegression(maxIter=1).fit(rows)
    kept = model.evaluate(rows)
    model_gone, summary_gone = weakref.ref(model), weakref.ref(model.summary)
    gc.disable()  # what only a cycle keeps alive counts as alive
    try:
        del model
        assert (model_gone(), summary_gone()) == (None, None)
    finally:
        gc.enable()
    assert kept.accuracy > 0.5


def test_a_loaded_model_has_no_summary_and_evaluates(model, rows, tmp_path):
    model.save(str(tmp_path / "model"))
    loaded = type(model).load(str(tmp_path / "model"))
    assert not loaded.hasSummary
    with pytest.raises(RuntimeError, match="No training summary available"):
        _ = loaded.summary
    assert loaded.evaluate(rows).accuracy == model.summary.accuracy


def test_several_classes(ps, spark):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 3))
    y = (x @ rng.normal(size=(3, 4)) + rng.gumbel(size=(400, 4))).argmax(axis=1).astype(float)
    given = [(float(b), Vectors.dense(a)) for a, b in zip(x, y, strict=True)]
    rows = spark.createDataFrame(given, ["label", "features"]).coalesce(2)
    model = LogisticRegression(maxIter=5).fit(rows)
    theirs = model.toSpark().evaluate(rows)
    assert type(model.summary) is ours.LogisticRegressionTrainingSummary
    assert type(model.evaluate(rows)) is ours.LogisticRegressionSummary
    assert_like(model.summary, theirs, [*LABELLED, *SCALARS])
    assert model.summary.weightedFMeasure(2.0) == pytest.approx(theirs.weightedFMeasure(2.0), rel=1e-12)
    assert not hasattr(model.summary, "roc")
    assert len(model.summary.plot().axes) == 3


STATISTICS = ["coefficientStandardErrors", "tValues", "pValues"]


@pytest.mark.parametrize(
    ("name", "params", "figures"),
    [
        ("LinearRegression", {"solver": "normal"}, ["r2", "r2adj", "totalIterations", "degreesOfFreedom"]),
        ("GeneralizedLinearRegression", {"family": "binomial"}, ["deviance", "nullDeviance", "aic", "numIterations", "solver"]),
        ("GeneralizedLinearRegression", {}, ["deviance", "dispersion", "aic", "numIterations", "solver"]),
    ],
)
def test_trained_regressions(ps, rows, name, params, figures):
    params = {**params, "weightCol": "w"} if params else params
    mine = getattr(regression, name)(**params).fit(rows).summary
    theirs = getattr(pyspark.ml.regression, name)(**params).fit(rows).summary
    assert type(mine).__name__ == type(theirs).__name__
    for figure in (*STATISTICS, *figures):
        found, expected = getattr(mine, figure), getattr(theirs, figure)
        assert type(found) is type(expected), figure
        same = expected if isinstance(expected, str) else pytest.approx(expected, rel=1e-5, abs=1e-12)
        assert found == same, figure


def test_an_overfit_model_is_told_once_and_says_so(caplog):
    history = TrainingHistory([0.7, 0.6, 0.4, 0.2], 3, "", 10, validation=[0.7, 0.6, 0.65, 0.8])
    with caplog.at_level(logging.WARNING, logger="sparkps"):
        warn_if_overfit(history, "lr_1")
        warn_if_overfit(TrainingHistory([0.7, 0.6], 1, "", 10), "lr_2")
    assert [record.message.startswith("lr_1: training overfits from iteration 1 of 3 on") for record in caplog.records] == [True]


def test_every_kind_is_drawn_and_all_of_them_together(model, tmp_path):
    summary = model.summary
    for kind in ("loss", "seconds", "roc", "pr", "calibration", "confusion"):
        figure = summary.plot(kind, path=tmp_path / f"{kind}.png")
        (ax, *_) = figure.axes
        assert ax.get_xlabel(), kind
        assert ax.get_ylabel(), kind
        assert (tmp_path / f"{kind}.png").read_bytes().startswith(b"\x89PNG"), kind
    made = io.BytesIO()
    figure = summary.plot(path=made)
    assert made.getvalue().startswith(b"\x89PNG")
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert len(figure.axes) == 6


def test_pictures_are_drawn_where_they_are_wanted(model, rows):
    from matplotlib.figure import Figure

    figure = Figure()
    ax = figure.subplots()
    evaluated = model.evaluate(rows)
    assert evaluated.plot("roc", ax=ax) is figure
    assert ax.get_title() == "ROC"
    with pytest.raises(ValueError, match="`kind` must be one of roc, pr, calibration, confusion"):
        evaluated.plot("loss")
    with pytest.raises(ValueError, match="`ax` takes one kind"):
        evaluated.plot(ax=ax)
