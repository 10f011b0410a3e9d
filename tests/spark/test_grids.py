"""Several fits at once, and fits that rows for validation end."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.linalg import Vectors
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder, TrainValidationSplit
from pyspark.sql import functions as sf

from sparkps.mllib.classification import LogisticRegression


@pytest.fixture(scope="module")
def rows(spark):
    """400 rows of 30 features of which 3 matter: without a penalty a fit takes noise for more."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(400, 30))
    y = rng.random(400) < 1 / (1 + np.exp(-2 * x[:, 0] + x[:, 1] - x[:, 2]))
    aside = rng.random(400) < 0.5
    data = [(float(a), Vectors.dense(b), bool(c)) for a, b, c in zip(y, x, aside, strict=True)]
    return spark.createDataFrame(data, ["label", "features", "aside"]).repartition(2).cache()


def test_a_grid_gives_the_models_of_single_fits_and_reads_the_rows_once(spark, ps, rows):
    estimator = LogisticRegression(maxIter=30, tol=1e-9)
    grid = (
        ParamGridBuilder()
        .addGrid(estimator.regParam, [0.0, 0.1])
        .addGrid(estimator.standardization, [True, False])
        .addGrid(estimator.fitIntercept, [True, False])
        .build()
    )
    read = spark.sparkContext.accumulator(0)

    @sf.udf("double")
    def counted(label):
        read.add(1)
        return label

    seen = rows.withColumn("label", counted.asNondeterministic()("label"))
    together = dict(estimator.fitMultiple(seen, grid))
    assert read.value == 400
    for number, params in enumerate(grid):
        alone = estimator.fit(rows, params)
        found = together[number]
        np.testing.assert_allclose(found.coefficients.toArray(), alone.coefficients.toArray(), rtol=1e-5, atol=1e-7)
        assert found.intercept == pytest.approx(alone.intercept, rel=1e-5, abs=1e-7)
        assert found.summary.totalIterations == alone.summary.totalIterations
        assert found.getRegParam() == params[estimator.regParam]
    assert [each["name"] for each in ps.status()["tables"]] == []


def test_settings_that_cannot_share_rows_are_fitted_apart(ps, rows):
    estimator = LogisticRegression(maxIter=3)
    maps = [{}, {estimator.solver: "adagrad"}, {estimator.regParam: 0.3}, {estimator.regParam: -1.0}]
    models = estimator.fitMultiple(rows, maps)
    found = [next(models) for _ in range(3)]
    assert [index for index, _ in found] == [0, 1, 2]
    with pytest.raises(ValueError, match="regParam"):
        next(models)


@pytest.mark.parametrize("kind", [CrossValidator, TrainValidationSplit])
def test_tuning_of_pyspark_chooses_the_better_penalty(ps, rows, kind):
    estimator = LogisticRegression(maxIter=20)
    grid = ParamGridBuilder().addGrid(estimator.regParam, [0.02, 50.0]).build()
    tuned = kind(estimator=estimator, estimatorParamMaps=grid, evaluator=BinaryClassificationEvaluator(metricName="areaUnderPR"), seed=1)
    assert tuned.fit(rows).bestModel.getRegParam() == 0.02


def test_training_ends_where_rows_for_validation_stop_improving(ps, rows):
    plain = LogisticRegression(maxIter=60, tol=0.0)
    stopped = plain.copy().setValidationIndicatorCol("aside").setEarlyStoppingRounds(3).fit(rows)
    summary = stopped.summary
    assert "validation loss" in summary.reason
    assert summary.totalIterations < 60
    losses = summary.validationHistory
    assert len(losses) == summary.totalIterations + 1
    best = int(np.argmin(losses))
    assert best == summary.totalIterations - 3
    # The model is that of the best iteration, trained on the rows that are not set aside.
    as_far = plain.copy({plain.maxIter: best}).fit(rows.where(~sf.col("aside")))
    np.testing.assert_allclose(stopped.coefficients.toArray(), as_far.coefficients.toArray(), rtol=1e-6, atol=1e-8)
    held = np.array(stopped.transform(rows.where("aside")).select("label", "probability").toPandas().values.tolist(), dtype=object)
    p = np.array([each[1] for each in held[:, 1]])
    y = held[:, 0].astype(float)
    assert losses[best] == pytest.approx(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)), rel=1e-6)


def test_0_rounds_go_on_and_the_model_is_still_the_best(ps, rows):
    estimator = LogisticRegression(maxIter=25, tol=0.0, validationIndicatorCol="aside", earlyStoppingRounds=0)
    summary = estimator.fit(rows).summary
    assert summary.totalIterations == 25
    assert len(summary.validationHistory) == 26


@pytest.mark.parametrize("consistency", ["bsp", "ssp", "asp"])
def test_epochs_of_mini_batches_end_where_rows_for_validation_stop_improving(ps, rows, consistency):
    estimator = LogisticRegression(solver="adagrad", maxIter=60, batchSize=20, stepSize=1.0, consistency=consistency, numWorkers=2)
    estimator.setParams(validationIndicatorCol="aside", earlyStoppingRounds=2)
    model = estimator.fit(rows)
    losses = model.summary.validationHistory
    assert len(losses) < 60
    assert "validation loss" in model.summary.reason
    held = model.transform(rows.where("aside")).select("label", "probability").collect()
    loss = -np.mean([np.log(row.probability[int(row.label)]) for row in held])
    if consistency == "bsp":  # the others measure while some still train
        assert loss == pytest.approx(min(losses), rel=1e-4)
        assert int(np.argmin(losses)) == len(losses) - 3
    elif consistency == "ssp":
        assert loss < 1.2 * min(losses)
    else:  # one worker may be done before the other has measured: the model is then that of a later epoch, but one that has learned
        ranked = model.transform(rows.where("aside"))
        assert BinaryClassificationEvaluator().evaluate(ranked) > 0.75


def test_a_fit_of_a_grid_that_is_solved_at_once_has_nothing_of_the_one_before(spark, ps):
    frame = spark.createDataFrame([(1.0, [1.0, 2.0]), (1.0, [0.0, 1.0])] * 5, "label double, features array<double>")
    for solver in ("lbfgs", "auto"):
        estimator = LogisticRegression(solver=solver, maxIter=5, regParam=0.1)
        _, second = (model for _, model in estimator.fitMultiple(frame, [{estimator.fitIntercept: False}, {estimator.fitIntercept: True}]))
        assert second.coefficients.toArray().tolist() == [0.0, 0.0]
        assert second.intercept == float("inf")


def test_rows_for_validation_do_not_choose_the_model_of_another_fit(ps, rows):
    estimator = LogisticRegression(solver="auto", maxIter=40, validationIndicatorCol="aside", numWorkers=2)
    maps = [{estimator.regParam: 0.001}, {estimator.regParam: 1.0}]
    _, second = (model for _, model in estimator.fitMultiple(rows, maps))
    alone = estimator.copy({estimator.regParam: 1.0, estimator.solver: "lbfgs"}).fit(rows)
    np.testing.assert_allclose(second.coefficients.toArray(), alone.coefficients.toArray(), atol=0.02)


def test_what_a_grid_reads_is_what_its_maps_say(spark, ps):
    data = [(float(i % 3), float(i % 2), [float(i), 1.0], [float(i)]) for i in range(12)]
    frame = spark.createDataFrame(data, "three double, label double, features array<double>, one array<double>")
    estimator = LogisticRegression(maxIter=3)
    found = dict(estimator.fitMultiple(frame, [{estimator.labelCol: "three"}, {estimator.featuresCol: "one"}]))
    assert (found[0].numClasses, found[1].numClasses) == (3, 2)
    assert (found[0].numFeatures, found[1].numFeatures) == (2, 1)


@pytest.mark.parametrize("consistency", ["ssp", "asp"])
def test_weights_count_between_workers_that_do_not_wait(spark, ps, consistency):
    rows = [(1.0, [1.0], 100.0)] * 100 + [(0.0, [1.0], 1.0)] * 100
    frame = spark.createDataFrame(rows, "label double, features array<double>, w double").coalesce(1)
    halves = frame.where("label = 1").coalesce(1).union(frame.where("label = 0").coalesce(1))
    estimator = LogisticRegression(solver="sgd", consistency=consistency, numWorkers=2, weightCol="w", maxIter=20, batchSize=20)
    model = estimator.fit(halves)
    assert model.transform(frame.limit(1)).head().probability[1] > 0.9


@pytest.mark.parametrize("params", [{}, {"regParam": 0.002, "elasticNetParam": 0.3}, {"family": "multinomial", "regParam": 0.001}])
def test_epochs_of_learning_row_by_row_end_where_rows_for_validation_stop_improving(ps, rows, params):
    estimator = LogisticRegression(solver="online", maxIter=40, batchSize=20, numWorkers=2, **params)
    model = estimator.setParams(validationIndicatorCol="aside", earlyStoppingRounds=2).fit(rows)
    losses = model.summary.validationHistory
    assert len(losses) == len(model.summary.objectiveHistory)
    held = model.transform(rows.where("aside")).select("label", "probability").collect()
    assert -np.mean([np.log(row.probability[int(row.label)]) for row in held]) == pytest.approx(min(losses), rel=1e-4)
    if not params:
        assert len(losses) < 40
        assert "validation loss" in model.summary.reason


@pytest.mark.parametrize("consistency", ["ssp", "asp"])
def test_learners_that_do_not_wait_measure_rows_for_validation(ps, rows, consistency):
    estimator = LogisticRegression(solver="online", maxIter=5, batchSize=20, numWorkers=2, consistency=consistency, regParam=0.001)
    losses = estimator.setParams(validationIndicatorCol="aside").fit(rows).summary.validationHistory
    assert 0 < len(losses) <= 5
    assert losses[-1] < 0.7
