"""Summaries of regressions: every value beside that of pyspark.ml's own summary, here of pyspark.ml's own models."""

from __future__ import annotations

import math
import types

import numpy as np
import pytest
from pyspark.errors import IllegalArgumentException, UnsupportedOperationException
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.linalg import Vectors
from pyspark.ml.regression import GeneralizedLinearRegression, LinearRegression

from sparkps.mllib.linear.distributions import DISTRIBUTIONS, tweedie_of
from sparkps.mllib.linear.mean_links import MEAN_LINKS, Power
from sparkps.mllib.summaries.generalized import (
    GeneralizedLinearRegressionSummary,
    GeneralizedLinearRegressionTrainingSummary,
)
from sparkps.mllib.summaries.history import TrainingHistory
from sparkps.mllib.summaries.regression import LinearRegressionSummary, LinearRegressionTrainingSummary

ERRORS = [
    "explainedVariance", "meanAbsoluteError", "meanSquaredError", "rootMeanSquaredError", "r2", "r2adj", "numInstances",
    "degreesOfFreedom", "devianceResiduals", "predictionCol", "labelCol", "featuresCol",
]  # fmt: skip
STATISTICS = ["coefficientStandardErrors", "tValues", "pValues"]
DEVIANCES = ["deviance", "nullDeviance", "dispersion", "aic"]
DEGREES = ["rank", "numInstances", "degreesOfFreedom", "residualDegreeOfFreedom", "residualDegreeOfFreedomNull", "predictionCol"]


pytestmark = pytest.mark.timeout(300)  # each asks two summaries for everything, in dozens of jobs


@pytest.fixture(scope="module")
def rows(spark):
    """Labels of any sign, positive ones, counts and shares, with weights, whole weights of which some are 0, and offsets."""
    rng = np.random.default_rng(6)
    x = rng.normal(size=(300, 3)) * 0.4
    margin = x @ np.array([1.0, -0.5, 0.3]) + 0.4
    columns = {
        "any": margin + 0.3 * rng.normal(size=300), "positive": rng.gamma(3.0, np.exp(margin) / 3.0) + 0.01,
        "count": rng.poisson(np.exp(margin)), "share": rng.random(300) < 1 / (1 + np.exp(-margin)),
        "weight": rng.uniform(0.5, 2.0, 300), "times": rng.integers(0, 4, 300), "shift": 0.3 * rng.normal(size=300),
    }  # fmt: skip
    given = [(*(float(column[i]) for column in columns.values()), Vectors.dense(x[i])) for i in range(300)]
    return spark.createDataFrame(given, [*columns, "features"]).coalesce(2).cache()


def assert_like(mine, other, names, tolerance=1e-9):
    for name in names:
        found, expected = getattr(mine, name), getattr(other, name)
        assert type(found) is type(expected), name
        if isinstance(found, str):
            assert found == expected
        else:
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=1e-12, err_msg=name)


def same_column(mine, other):
    assert mine.columns == other.columns
    assert mine.schema[0].dataType == other.schema[0].dataType
    np.testing.assert_allclose(np.array(mine.collect()), np.array(other.collect()), rtol=1e-9, atol=1e-12)


def history_of(model, **more):
    diagonal = list(model.summary._java_obj.diagInvAtWA())
    return TrainingHistory([0.0], 0, "", 300, inverse_diagonal=[] if diagonal == [0.0] else diagonal, **more)


@pytest.mark.parametrize("more", [{}, {"weightCol": "weight", "fitIntercept": False}, {"weightCol": "times", "regParam": 0.01}], ids=str)
def test_linear_regression(rows, more):
    model = LinearRegression(labelCol="any", solver="normal", **more).fit(rows)
    mine, theirs = LinearRegressionTrainingSummary.of(model, rows, history_of(model)), model.summary
    assert_like(mine, theirs, [*ERRORS, *STATISTICS, "objectiveHistory", "totalIterations"])
    same_column(mine.residuals, theirs.residuals)
    assert mine.predictions.columns == theirs.predictions.columns


def test_what_other_rows_do_not_tell_is_refused_as_pyspark_does(rows):
    model = LinearRegression(labelCol="any", solver="normal").fit(rows)
    mine = LinearRegressionSummary.of(model, rows.limit(50))
    assert_like(mine, model.evaluate(rows.limit(50)), ERRORS)
    for name in STATISTICS:
        with pytest.raises(UnsupportedOperationException) as expected:
            getattr(model.evaluate(rows), name)
        with pytest.raises(UnsupportedOperationException, match=str(expected.value).split(" for ")[0]):
            getattr(mine, name)
    without = LinearRegressionTrainingSummary.of(model, rows, TrainingHistory([0.5, 0.4], 1, "", 300))
    with pytest.raises(UnsupportedOperationException):
        _ = without.pValues


def test_rows_that_leave_no_degree_of_freedom(rows):
    model = LinearRegression(labelCol="any", solver="normal").fit(rows)
    few = LinearRegressionSummary.of(model, rows.limit(4))
    assert few.degreesOfFreedom == 0
    assert math.isnan(few.r2adj)
    one = LinearRegressionSummary.of(model, rows.limit(1))
    assert (one.numInstances, one.r2) == (1, model.evaluate(rows.limit(1)).r2)


def likelihood(family, link, power=0.0):
    distribution = DISTRIBUTIONS[family] if family != "tweedie" else tweedie_of(power)
    mean_link = MEAN_LINKS[link] if family != "tweedie" else Power(1.0 - power)
    return types.SimpleNamespace(distribution=distribution, mean_link=mean_link)


#: Family, label, link, other Params, and the kind of residuals that is looked at.
FITS = [
    ("gaussian", "any", "identity", {}, "deviance"),
    ("gaussian", "positive", "inverse", {"weightCol": "weight"}, "working"),
    ("gaussian", "any", "identity", {"weightCol": "weight", "offsetCol": "shift"}, "response"),
    ("binomial", "share", "logit", {"weightCol": "times"}, "deviance"),
    ("binomial", "share", "probit", {"offsetCol": "shift"}, "working"),
    ("poisson", "count", "log", {"weightCol": "weight", "offsetCol": "shift"}, "pearson"),
    ("gamma", "positive", "log", {"weightCol": "weight", "fitIntercept": False}, "pearson"),
]


def generalized(rows, family, label, link, **more):
    estimator = GeneralizedLinearRegression(family=family, labelCol=label, maxIter=50, tol=1e-12, **more)
    model = (estimator.setLink(link) if link else estimator).fit(rows)
    model._likelihood = lambda: likelihood(family, link, more.get("variancePower", 0.0))
    mine = GeneralizedLinearRegressionTrainingSummary.of(model, rows, history_of(model, solver="irls"))
    return mine, model.summary


@pytest.mark.parametrize(("family", "label", "link", "more", "kind"), FITS)
def test_generalized_linear_models(rows, family, label, link, more, kind):
    mine, theirs = generalized(rows, family, label, link, **more)
    assert_like(mine, theirs, [*DEGREES, *DEVIANCES, *STATISTICS, "solver"], 1e-7)
    assert repr(mine) == repr(theirs)
    same_column(mine.residuals(kind), theirs.residuals(kind))


def test_a_distribution_without_density(rows):
    mine, theirs = generalized(rows, "tweedie", "positive", None, variancePower=1.5)
    assert_like(mine, theirs, ["deviance", "nullDeviance", "dispersion", *STATISTICS], 1e-8)
    with pytest.raises(UnsupportedOperationException, match="No AIC available for the tweedie family"):
        _ = mine.aic
    assert repr(mine) == repr(theirs)


def test_names_of_features_are_told(rows):
    named = VectorAssembler(inputCols=["weight", "shift"], outputCol="named").transform(rows)
    mine, theirs = generalized(named, "gaussian", "any", "identity", featuresCol="named")
    assert "shift" in repr(mine)
    assert repr(mine) == repr(theirs)


def test_evaluations_of_generalized_linear_models(rows):
    model = GeneralizedLinearRegression(family="poisson", labelCol="count").fit(rows)
    model._likelihood = lambda: likelihood("poisson", "log")
    mine, theirs = GeneralizedLinearRegressionSummary.of(model, rows.limit(50)), model.evaluate(rows.limit(50))
    assert_like(mine, theirs, [*DEGREES, *DEVIANCES], 1e-9)
    with pytest.raises(IllegalArgumentException, match="must be one of deviance, pearson, working, response"):
        mine.residuals("other")


def test_pictures_of_regressions(rows, tmp_path):
    model = LinearRegression(labelCol="any").fit(rows)
    summary = LinearRegressionTrainingSummary.of(model, rows, TrainingHistory([0.5, 0.4], 1, "", 300))
    for kind in ("loss", "residuals", "predicted"):
        (ax, *_) = summary.plot(kind, path=tmp_path / f"{kind}.png").axes
        assert ax.get_xlabel()
        assert ax.get_ylabel()
    summary.plot(path=tmp_path / "all.png")
    one = LinearRegressionSummary.of(model, rows.limit(1))
    one.plot(path=tmp_path / "one.png")
    LinearRegressionSummary.of(model, rows.limit(0)).plot(path=tmp_path / "none.png")
