"""GeneralizedLinearRegression against pyspark.ml on the same rows: every family with every link, penalties, weights and offsets."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.ml.regression import GeneralizedLinearRegression as SparkGeneralizedLinearRegression

from sparkps.errors import InvalidInput
from sparkps.mllib.regression import GeneralizedLinearRegression, GeneralizedLinearRegressionModel
from sparkps.mllib.scoring import load_model


@pytest.fixture(scope="module")
def rows(spark):
    """200 rows of 3 features, with a label for each family, weights, and offsets that are small."""
    rng = np.random.default_rng(13)
    x = np.abs(rng.normal(size=(200, 3))) * np.array([1.0, 0.3, 2.0])
    x[rng.random(x.shape) < 0.3] = 0.0
    eta = 0.6 + x @ np.array([0.4, -0.5, 0.2])
    columns = {
        "gaussian": 2.0 + eta + 0.3 * rng.normal(size=200), "binomial": (rng.random(200) < 1 / (1 + np.exp(-2 * eta + 2))) * 1.0,
        "poisson": rng.poisson(np.exp(eta)) * 1.0, "gamma": rng.gamma(4.0, np.exp(eta) / 4), "weight": rng.uniform(0.2, 2, 200),
        "offset": rng.uniform(-0.1, 0.1, 200), "tweedie": rng.gamma(2.0, np.exp(eta)) * (rng.random(200) < 0.8),
    }  # fmt: skip
    vectors = [Vectors.dense(r) if i % 2 else Vectors.sparse(3, np.flatnonzero(r), r[r != 0]) for i, r in enumerate(x)]
    names = list(columns)
    made = [(v, *(float(columns[name][i]) for name in names)) for i, v in enumerate(vectors)]
    frame = spark.createDataFrame(made, ["features", *names]).repartition(3).cache()
    frame.count()
    return frame


GRID = [
    *({"family": family, "link": link} for family, links in {
        "gaussian": ("identity", "log", "inverse"), "binomial": ("logit", "probit", "cloglog"), "poisson": ("log", "identity", "sqrt"),
        "gamma": ("inverse", "identity", "log"),
    }.items() for link in links),
    {"family": "tweedie", "variancePower": 1.5, "linkPower": 0.0},
    {"family": "tweedie", "variancePower": 1.2, "linkPower": 0.4},
    {"family": "poisson", "weightCol": "weight", "offsetCol": "offset"},
    {"family": "poisson", "regParam": 0.3, "weightCol": "weight"},
    {"family": "binomial", "regParam": 0.1, "fitIntercept": False},
    {"family": "gaussian", "regParam": 0.2, "offsetCol": "offset"},
    {"family": "gamma", "link": "log", "maxIter": 2, "offsetCol": "offset"},
    {"family": "poisson", "maxIter": 0},
]  # fmt: skip


@pytest.mark.parametrize("params", GRID, ids=str)
def test_coefficients_are_those_of_pyspark(ps, rows, params):
    params = {"maxIter": 25, "tol": 1e-8, **params, "labelCol": params["family"]}
    ours, theirs = GeneralizedLinearRegression(**params).fit(rows), SparkGeneralizedLinearRegression(**params).fit(rows)
    np.testing.assert_allclose(ours.coefficients.toArray(), theirs.coefficients.toArray(), rtol=1e-6, atol=1e-9)
    assert ours.intercept == pytest.approx(theirs.intercept, rel=1e-6, abs=1e-9)
    assert ours.numFeatures == 3


def test_predictions_and_links_are_those_of_pyspark(ps, rows):
    params = {"family": "poisson", "labelCol": "poisson", "linkPredictionCol": "eta", "offsetCol": "offset"}
    ours, theirs = GeneralizedLinearRegression(**params).fit(rows), SparkGeneralizedLinearRegression(**params).fit(rows)
    mine, other = ours.transform(rows).toPandas(), theirs.transform(rows).toPandas()
    assert list(mine.columns) == list(other.columns), (mine.columns, other.columns)
    for name in ("prediction", "eta"):
        np.testing.assert_allclose(mine[name], other[name], rtol=1e-6)
    np.testing.assert_allclose(ours.toSpark().transform(rows).toPandas()["prediction"], mine["prediction"], rtol=1e-9)
    vector = rows.first().features
    assert ours.predict(vector) == pytest.approx(theirs.predict(vector), rel=1e-6)


def test_a_model_is_saved_and_loaded(ps, rows, tmp_path):
    params = {"family": "tweedie", "variancePower": 1.2, "linkPower": 0.4, "labelCol": "tweedie"}
    model = GeneralizedLinearRegression(**params).fit(rows)
    model.save(str(tmp_path / "model"))
    loaded = GeneralizedLinearRegressionModel.load(str(tmp_path / "model"))
    assert (loaded.uid, loaded.coefficients, loaded.intercept) == (model.uid, model.coefficients, model.intercept)
    assert repr(loaded) == f"GeneralizedLinearRegressionModel: uid={model.uid}, family=tweedie, link=power, numFeatures=3"
    vector = rows.first().features
    assert loaded.predict(vector) == model.predict(vector)
    by_numpy = load_model(str(tmp_path / "model")).predict(vector.toArray()[None, :])
    assert by_numpy[0] == pytest.approx(model.predict(vector))
    GeneralizedLinearRegression(**params).save(str(tmp_path / "estimator"))
    assert GeneralizedLinearRegression.load(str(tmp_path / "estimator")).getLinkPower() == 0.4


@pytest.mark.parametrize(("params", "says"), [
    ({"family": "poisson", "link": "logit"}, "The `link` of GeneralizedLinearRegression must be one of log, identity, sqrt"),
    ({"family": "nothing"}, "The `family` of GeneralizedLinearRegression must be one of gaussian"),
    ({"family": "tweedie", "variancePower": 0.5}, "The `variancePower` of GeneralizedLinearRegression must be 0, or a float >= 1"),
    ({"family": "gamma", "labelCol": "poisson"}, r"Column 'poisson': a label must be a number in \(0, inf\)"),
], ids=str)  # fmt: skip
def test_what_cannot_be_fitted_says_so(ps, rows, params, says):
    with pytest.raises(InvalidInput, match=says):
        GeneralizedLinearRegression(**{"labelCol": "poisson", **params}).fit(rows)


@pytest.mark.parametrize("params", [{"family": "poisson"}, {"family": "binomial"}, {"family": "gamma", "link": "log"}], ids=str)
def test_l_bfgs_finds_the_same_where_there_is_no_penalty(ps, rows, params):
    params = {**params, "labelCol": params["family"], "tol": 1e-12}
    one, other = (GeneralizedLinearRegression(**params, solver=solver, maxIter=200).fit(rows) for solver in ("irls", "lbfgs"))
    np.testing.assert_allclose(one.coefficients.toArray(), other.coefficients.toArray(), rtol=1e-4, atol=1e-6)
    assert one.summary.objectiveHistory[-1] == pytest.approx(other.summary.objectiveHistory[-1], rel=1e-8)
