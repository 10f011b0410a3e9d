"""Metrics of rows for validation, measured by all workers as training goes: those of all these rows at once."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors
from sklearn import metrics as theirs

from sparkps.mllib.classification import FMClassifier, LinearSVC, LogisticRegression, MLRClassifier
from sparkps.mllib.regression import FMRegressor, GeneralizedLinearRegression, LinearRegression

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def rows(spark):
    """600 rows with labels of each kind, weights, and offsets; a third is for validation."""
    rng = np.random.default_rng(11)
    x = rng.normal(size=(600, 6))
    margin = x[:, 0] - x[:, 1] + 0.5 * x[:, 2]
    columns = [
        rng.random(600) < 1 / (1 + np.exp(-margin)), rng.poisson(np.exp(0.3 * margin)), (np.digitize(margin, [-0.7, 0.7])),
        30 * margin + rng.normal(size=600), rng.uniform(0.5, 2.0, 600), rng.normal(size=600) * 0.1,
    ]  # fmt: skip
    data = [(*(float(c[i]) for c in columns), Vectors.dense(x[i]), bool(i % 3 == 0)) for i in range(600)]
    return spark.createDataFrame(data, ["label", "count", "class", "size", "w", "o", "features", "aside"]).repartition(3).cache()


def held_out(model, rows, *columns):
    """Columns of the rows for validation as the model scores them."""
    found = model.transform(rows.where("aside")).select(*columns).collect()
    return [np.array([np.asarray(getattr(row[i], "values", row[i]), float) for row in found]) for i in range(len(columns))]


def best_of(summary):
    """The metrics where the validation loss was least: of the model."""
    assert all(len(values) == len(summary.validationHistory) for values in summary.validationMetrics.values())
    best = int(np.argmin(summary.validationHistory))
    return {name: values[best] for name, values in summary.validationMetrics.items()}


@pytest.mark.parametrize("params", [{"maxIter": 6}, {"solver": "adagrad", "maxIter": 4, "batchSize": 50}], ids=["lbfgs", "adagrad"])
def test_of_two_classes_they_are_those_of_all_rows_with_any_number_of_workers(ps, rows, params):
    classifier = LogisticRegression(validationIndicatorCol="aside", weightCol="w", offsetCol="o", earlyStoppingRounds=0, **params)
    models = [classifier.copy({classifier.numWorkers: n}).fit(rows) for n in (1, 2)]
    for model in models:
        labels, weights, raw = held_out(model, rows, "label", "w", "rawPrediction")
        found = best_of(model.summary)
        assert found["areaUnderROC"] == pytest.approx(theirs.roc_auc_score(labels, raw[:, 1], sample_weight=weights), abs=5e-4)
        expected = theirs.log_loss(labels, 1 / (1 + np.exp(-raw[:, 1])), sample_weight=weights)
        assert found["logLoss"] == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(model.summary.validationMetrics["logLoss"], model.summary.validationHistory, rtol=1e-5)
    if "solver" not in params:  # the batches of two workers are others
        for name, values in models[0].summary.validationMetrics.items():
            np.testing.assert_allclose(models[1].summary.validationMetrics[name], values, rtol=1e-4, err_msg=name)


def test_of_several_classes(ps, rows):
    model = LogisticRegression(labelCol="class", validationIndicatorCol="aside", maxIter=5).fit(rows)
    labels, probabilities, predicted = held_out(model, rows, "class", "probability", "prediction")
    found = best_of(model.summary)
    assert found == pytest.approx({"logLoss": theirs.log_loss(labels, probabilities), "accuracy": theirs.accuracy_score(labels, predicted)})


@pytest.mark.parametrize(
    "regression",
    [
        LinearRegression(labelCol="size", offsetCol="o", maxIter=5),
        LinearRegression(labelCol="size", loss="huber", maxIter=5),
        LinearRegression(labelCol="size", solver="adagrad", maxIter=3, batchSize=50, stepSize=10.0),
        FMRegressor(labelCol="size", solver="adagrad", maxIter=3, batchSize=50),
        GeneralizedLinearRegression(labelCol="count", family="poisson", offsetCol="o", maxIter=5),
    ],
    ids=["squared", "huber", "adagrad", "machine", "poisson"],
)
def test_of_regressions_errors_are_in_the_unit_of_the_labels(ps, rows, regression):
    model = regression.copy().setValidationIndicatorCol("aside").fit(rows)
    labels, predicted = held_out(model, rows, regression.getLabelCol(), "prediction")
    assert best_of(model.summary) == pytest.approx(
        {"rmse": theirs.root_mean_squared_error(labels, predicted), "mae": theirs.mean_absolute_error(labels, predicted)}, rel=1e-4
    )


@pytest.mark.parametrize(
    "classifier",
    [
        LinearSVC(maxIter=5),
        MLRClassifier(numRegions=2, maxIter=5),
        FMClassifier(solver="adagrad", maxIter=3),
        FMClassifier(solver="adagrad", maxIter=3, consistency="asp"),
    ],
    ids=["svc", "mixture", "machine", "machine under asp"],
)
def test_other_classifiers_have_theirs(ps, rows, classifier):
    model = classifier.copy().setValidationIndicatorCol("aside").fit(rows)
    labels, raw, predicted = held_out(model, rows, "label", "rawPrediction", "prediction")
    found, moves = best_of(model.summary), classifier.getConsistency() == "asp"  # others train on while one measures
    if "accuracy" in found:
        assert found["accuracy"] == theirs.accuracy_score(labels, predicted)
    else:
        expected = theirs.log_loss(labels, 1 / (1 + np.exp(-raw[:, 1])))
        assert found["logLoss"] == pytest.approx(expected, rel=0.1 if moves else 1e-4)
    assert found["areaUnderROC"] == pytest.approx(theirs.roc_auc_score(labels, raw[:, 1]), abs=0.05 if moves else 1e-3)


def test_each_fit_of_a_grid_has_its_own(ps, rows):
    estimator = LogisticRegression(maxIter=4, validationIndicatorCol="aside", numWorkers=2)
    maps = [{estimator.regParam: 0.0}, {estimator.regParam: 1.0}]
    for _, model in estimator.fitMultiple(rows, maps):
        labels, raw = held_out(model, rows, "label", "rawPrediction")
        assert best_of(model.summary)["areaUnderROC"] == pytest.approx(theirs.roc_auc_score(labels, raw[:, 1]), abs=5e-4)


def test_without_rows_for_validation_there_are_none(ps, rows):
    assert LogisticRegression(maxIter=1).fit(rows).summary.validationMetrics == {}


def test_they_are_drawn_beside_the_loss_where_they_say_more(ps, rows):
    classifier = LogisticRegression(maxIter=4, validationIndicatorCol="aside")
    loss, other = classifier.fit(rows).summary.plot("loss").axes
    assert [line.get_label().split(":")[0] for line in loss.get_lines()] == ["training objective", "validation loss", "best"]
    assert [line.get_label().split(":")[0] for line in other.get_lines()] == ["validation areaUnderROC", "best"]
    one_class = classifier.fit(rows.where("not aside or label = 1")).summary  # which has no area
    assert np.isnan(one_class.validationMetrics["areaUnderROC"]).all()
    assert len(one_class.plot("loss").axes) == 1


@pytest.mark.parametrize("solver", ["auto", "online", "adagrad"])
def test_rows_are_set_aside_where_all_values_are_1(spark, ps, solver):
    """Values that are all 1 are kept nowhere: a rank wrote them behind the end of its memory."""
    rng = np.random.default_rng(8)
    data = [(float(i % 2), (sorted(rng.choice(40, 4, replace=False).tolist()), [1.0] * 4), bool(i % 3 == 0)) for i in range(6000)]
    frame = spark.createDataFrame(data, "label double, features struct<indices: array<bigint>, values: array<double>>, aside boolean")
    estimator = LogisticRegression(solver=solver, maxIter=2, numWorkers=1, batchSize=500, regParam=0.01)
    found = estimator.copy({estimator.validationIndicatorCol: "aside"}).fit(frame.coalesce(1))
    assert len(found.summary.validationHistory) >= 2
    if solver == "auto":
        alone = estimator.fit(frame.where("not aside").coalesce(1))
        assert found.summary.objectiveHistory == pytest.approx(alone.summary.objectiveHistory, rel=1e-12)
