"""Models of logistic regression: saved and loaded, in pipelines and cross-validation, small and large."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder

from sparkps import PSContext
from sparkps.errors import InvalidInput, UnknownTable
from sparkps.mllib.classification import LogisticRegression, LogisticRegressionModel
from sparkps.mllib.coefficients import LocalCoefficients, TableCoefficients, collect
from sparkps.mllib.models import persistence
from sparkps.mllib.scoring import load_model


@pytest.fixture(scope="module")
def raw(spark):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(300, 3))
    y = (rng.random(300) < 1 / (1 + np.exp(-x @ np.array([1.0, -2.0, 0.5])))).astype(float)
    frame = spark.createDataFrame([(float(b), *map(float, a)) for a, b in zip(x, y, strict=True)], ["label", "a", "b", "c"])
    return frame.coalesce(2).cache()


@pytest.fixture(scope="module")
def rows(raw):
    return VectorAssembler(inputCols=["a", "b", "c"], outputCol="features").transform(raw).select("label", "features")


@pytest.fixture(scope="module")
def model(ps, rows):
    return LogisticRegression(maxIter=10, regParam=0.01, predictionCol="predicted").fit(rows)


def probabilities(model, rows):
    return np.stack([row.probability.toArray() for row in model.transform(rows).select("probability").collect()])


def test_save_and_load(spark, model, rows, tmp_path):
    path = str(tmp_path / "model")
    model.save(path)
    loaded = LogisticRegressionModel.load(path)
    assert loaded.uid == model.uid
    assert loaded.coefficients == model.coefficients
    assert (loaded.intercept, loaded.numFeatures) == (model.intercept, model.numFeatures)
    assert loaded.getPredictionCol() == "predicted"
    assert loaded.getRegParam() == 0.01
    assert not loaded.hasSummary
    np.testing.assert_array_equal(probabilities(loaded, rows), probabilities(model, rows))


def test_vectors_read_from_parquet_are_scored(spark, model, rows, tmp_path):
    path = str(tmp_path / "rows")
    rows.write.parquet(path)
    scored = model.transform(spark.read.parquet(path))
    assert {"label", "features", "predicted"} <= set(scored.columns)
    assert len(scored.collect()) == rows.count()
    assert sum(row.predicted for row in scored.collect()) == sum(row.predicted for row in model.transform(rows).collect())


def test_files_are_parquet_and_json(spark, model, tmp_path):
    path = str(tmp_path / "model")
    model.save(path)
    saved = {row.key: row.weight for row in spark.read.parquet(f"{path}/data").collect()}
    assert saved == dict(enumerate(model.coefficients.toArray().tolist()))
    metadata = json.loads(spark.read.text(f"{path}/metadata").first()[0])
    assert metadata["class"] == "sparkps.mllib.classification.LogisticRegressionModel"
    assert metadata["sparkps"]["intercepts"] == [model.intercept]


def test_overwriting_must_be_asked_for(model, tmp_path):
    path = str(tmp_path / "model")
    model.save(path)
    with pytest.raises(InvalidInput, match="overwrite\\(\\)"):
        model.save(path)
    model.write().overwrite().save(path)
    assert LogisticRegressionModel.load(path).coefficients == model.coefficients


def test_paths_that_cannot_be_used(model, tmp_path):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(InvalidInput, match="must be written to"):
        model.save(str(tmp_path / "file" / "model"))
    with pytest.raises(InvalidInput, match="must be read from"):
        LogisticRegressionModel.load(str(tmp_path / "nothing"))


def test_estimator_is_saved_with_its_params(spark, tmp_path):
    lr = LogisticRegression(solver="ftrl", stepSize=0.3, thresholds=[0.3, 0.7], numFeatures=2**40)
    lr.write().overwrite().save(str(tmp_path / "lr"))
    loaded = LogisticRegression.load(str(tmp_path / "lr"))
    assert (loaded.uid, loaded.getSolver(), loaded.getStepSize()) == (lr.uid, "ftrl", 0.3)
    assert (loaded.getThresholds(), loaded.getNumFeatures()) == ([0.3, 0.7], 2**40)


def test_pipeline_is_fitted_saved_and_loaded(ps, raw, tmp_path):
    stages = [VectorAssembler(inputCols=["a", "b", "c"], outputCol="features"), LogisticRegression(maxIter=5)]
    fitted = Pipeline(stages=stages).fit(raw)
    fitted.write().overwrite().save(str(tmp_path / "pipeline"))
    loaded = PipelineModel.load(str(tmp_path / "pipeline"))
    np.testing.assert_array_equal(probabilities(loaded, raw), probabilities(fitted, raw))


# CrossValidator leaves its pool of threads to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <function Pool.__del__:pytest.PytestUnraisableExceptionWarning")
def test_cross_validation_with_two_fits_at_once(ps, rows):
    lr = LogisticRegression(maxIter=3)
    grid = ParamGridBuilder().addGrid(lr.regParam, [0.001, 10.0]).build()
    loss = MulticlassClassificationEvaluator(metricName="logLoss")
    fitted = CrossValidator(estimator=lr, estimatorParamMaps=grid, evaluator=loss, numFolds=2, parallelism=2).fit(rows)
    assert fitted.bestModel.getRegParam() == 0.001
    assert fitted.avgMetrics[0] < 0.6 < fitted.avgMetrics[1]


def test_to_spark(model, rows):
    theirs = model.toSpark()
    assert theirs.coefficients == model.coefficients
    assert theirs.getPredictionCol() == "predicted"
    np.testing.assert_allclose(probabilities(theirs, rows), probabilities(model, rows), rtol=1e-12)


def test_thresholds_move_predictions(model, rows):
    ones = []
    for threshold in (0.0, 0.5, 1.0):
        scored = model.copy().setThreshold(threshold).transform(rows)
        ones.append(scored.where("predicted = 1").count())
    assert ones[0] == 300
    assert 0 < ones[1] < 300
    assert ones[2] == 0
    assert model.copy().setThresholds([0.2, 0.8]).getThreshold() == pytest.approx(0.8)


def test_empty_names_leave_columns_out(model, rows):
    only = model.copy().setRawPredictionCol("").setProbabilityCol("")
    assert only.transform(rows).columns == ["label", "features", "predicted"]


@pytest.mark.parametrize("solver", ["lbfgs", "adagrad"])
def test_large_models_stay_on_the_tier(spark, ps, rows, tmp_path, monkeypatch, solver):
    small = LogisticRegression(maxIter=4, solver=solver, deterministic=True, numWorkers=2).fit(rows)
    monkeypatch.setattr("sparkps.mllib.training.collect", lambda table: collect(table, limit=0))
    large = LogisticRegression(maxIter=4, solver=solver, deterministic=True, numWorkers=2).fit(rows)
    assert isinstance(small.coefficients_, LocalCoefficients)
    assert isinstance(large.coefficients_, TableCoefficients)
    np.testing.assert_allclose(probabilities(large, rows), probabilities(small, rows), rtol=1e-12)
    assert large.weights.count() == 3
    assert large.coefficients == small.coefficients
    large.save(str(tmp_path / "large"))
    assert LogisticRegressionModel.load(str(tmp_path / "large")).coefficients == small.coefficients
    table = large.coefficients_.table
    del large
    with pytest.raises(UnknownTable):
        table.pull([0])


def test_a_large_model_is_loaded_onto_the_tier(spark, ps, model, rows, tmp_path, monkeypatch):
    model.save(str(tmp_path / "model"))
    whole = persistence.coefficients_from
    monkeypatch.setattr(persistence, "coefficients_from", lambda weights, uid, dim: whole(weights, uid, dim, limit=0))
    loaded = LogisticRegressionModel.load(str(tmp_path / "model"))
    assert isinstance(loaded.coefficients_, TableCoefficients)
    np.testing.assert_allclose(probabilities(loaded, rows), probabilities(model, rows), rtol=1e-12)


def test_small_models_outlive_the_tier(ps, model):
    held = model.coefficients_
    assert isinstance(held, LocalCoefficients)
    assert isinstance(PSContext.active(), PSContext)
    assert model.predictRaw(model.coefficients)[1] == pytest.approx(
        float(model.coefficients.toArray() @ model.coefficients.toArray()) + model.intercept
    )


def test_saved_model_scores_without_spark_as_with_it(model, rows, tmp_path):
    model.copy({model.threshold: 0.4}).save(str(tmp_path / "model"))
    scorer = load_model(tmp_path / "model")
    found = model.transform(rows).select("features", "rawPrediction", "probability", "predicted").collect()
    x = np.stack([row.features.toArray() for row in found])
    np.testing.assert_allclose(scorer.decision_function(x), [row.rawPrediction[1] for row in found], rtol=1e-9)
    np.testing.assert_allclose(scorer.predict_proba(x), np.stack([row.probability.toArray() for row in found]), rtol=1e-9)
    np.testing.assert_array_equal(scorer.predict(x), [float(row.probability[1] > 0.4) for row in found])
    assert (scorer.uid, scorer.num_features) == (model.uid, model.numFeatures)
