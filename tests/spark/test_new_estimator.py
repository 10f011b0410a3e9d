"""What a new estimator takes: the lines between the marks, and a loss of one module that the package does not know."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from pyspark import keyword_only
from pyspark.ml.linalg import Vectors
from pyspark.ml.util import DefaultParamsReadable, MLReadable

from sparkps.mllib.linear.estimator import LinearEstimator
from sparkps.mllib.linear.model import LinearModel
from tests.unit.mllib import pseudo_huber

# ---- the estimator -----------------------------------------------------------------------------------------------------


class RobustRegressionModel(LinearModel, MLReadable["RobustRegressionModel"]):
    """A fitted robust regression."""


class RobustRegression(LinearEstimator[RobustRegressionModel], DefaultParamsReadable["RobustRegression"]):
    """Linear regression that few outliers do not mislead."""

    _loss = pseudo_huber.PseudoHuber.name
    _model = RobustRegressionModel

    @keyword_only
    def __init__(self, *, featuresCol="features", labelCol="label", predictionCol="prediction", maxIter=100, **more):
        super().__init__()
        self._take(self._input_kwargs)


# ---- its tests ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows(spark):
    """300 rows of y = 2 a - b + 4 with noise, a tenth of them far away."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 2))
    y = x @ [2.0, -1.0] + 4.0 + 0.1 * rng.normal(size=300) + 50.0 * (rng.random(300) < 0.1)
    return spark.createDataFrame([(float(b), Vectors.dense(a)) for a, b in zip(x, y, strict=True)], ["label", "features"]).cache()


@pytest.fixture(scope="module")
def model(ps, rows):
    return RobustRegression(predictionCol="y").fit(rows)


def test_it_is_40_lines_at_most():
    _, _, rest = pathlib.Path(__file__).read_text().partition("# ---- the estimator")
    assert len(rest.partition("# ---- its tests")[0].strip().splitlines()) <= 40


@pytest.mark.parametrize("params", [{}, {"solver": "adagrad", "maxIter": 60, "batchSize": 50}], ids=["lbfgs", "adagrad"])
def test_every_solver_trains_it(ps, rows, params):
    found = RobustRegression(**params).fit(rows)
    np.testing.assert_allclose([*found.coefficients.toArray(), found.intercept], [2.0, -1.0, 4.0], atol=0.4)
    history = found.summary.objectiveHistory
    assert history[-1] < history[0]


def test_labels_are_those_of_its_loss(spark, ps):
    frame = spark.createDataFrame([(3.0, [1.0]), (3.0, [2.0])], "label double, features array<double>")
    found = RobustRegression().fit(frame)
    assert (found.intercept, found.coefficients.toArray().tolist()) == (3.0, [0.0])
    assert found.summary.reason == "labels do not vary"
    with pytest.raises(ValueError, match="Column 'label': a label must be finite. Got the row label=inf"):
        RobustRegression().fit(spark.createDataFrame([(float("inf"), [1.0])], frame.schema))


def test_what_it_predicts_is_the_margin(model, rows):
    scored = model.transform(rows)
    assert scored.columns == ["label", "features", "y"]
    w, b = model.coefficients.toArray(), model.intercept
    for row in scored.limit(5).collect():
        assert row.y == pytest.approx(row.features.toArray() @ w + b)
        assert model.predict(row.features) == pytest.approx(row.y)


def test_both_are_saved_and_loaded(model, rows, tmp_path):
    model.save(str(tmp_path / "model"))
    loaded = RobustRegressionModel.load(str(tmp_path / "model"))
    assert (loaded.uid, loaded.coefficients, loaded.intercept) == (model.uid, model.coefficients, model.intercept)
    assert loaded.getPredictionCol() == "y"
    RobustRegression(maxIter=7).save(str(tmp_path / "estimator"))
    assert RobustRegression.load(str(tmp_path / "estimator")).getMaxIter() == 7
