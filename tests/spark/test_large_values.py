"""Features that are finite and too large for some solvers: a model of finite numbers, or an error that says what to do."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.errors import InvalidInput
from sparkps.mllib.classification import (
    FFMClassifier,
    FMClassifier,
    FTRLClassifier,
    LinearSVC,
    LogisticRegression,
    MLRClassifier,
    Perceptron,
)
from sparkps.mllib.regression import GeneralizedLinearRegression, LinearRegression

pytestmark = pytest.mark.timeout(240)

#: Each solver once, and whether float64 is all that it works in.
FITS = [
    *((LogisticRegression(solver=solver, maxIter=2), solver in ("lbfgs", "auto"))
      for solver in ("lbfgs", "auto", "online", "sgd", "momentum", "adagrad", "adam", "ftrl")),
    *((LinearRegression(solver=solver, maxIter=2), solver != "online") for solver in ("normal", "l-bfgs", "online")),
    (LogisticRegression(family="multinomial", maxIter=2), True),
    (LogisticRegression(family="multinomial", solver="online", maxIter=2), False),
    (LogisticRegression(regParam=0.1, elasticNetParam=0.5, maxIter=2), True),
    (LinearRegression(loss="huber", maxIter=2), True),
    (LinearSVC(maxIter=2), True),
    (MLRClassifier(maxIter=2), True),
    (GeneralizedLinearRegression(family="binomial", maxIter=2), True),
    (Perceptron(maxIter=2), True),
    (FMClassifier(maxIter=2), True),
    (FMClassifier(solver="gd", maxIter=2), True),
    (FMClassifier(solver="sgd", maxIter=2), False),
    (FFMClassifier(fieldStarts=[0, 1], maxIter=2), False),
    (FTRLClassifier(), False),
]  # fmt: skip


def name_of(value):
    return f"{type(value).__name__}-{value.getSolver()}" if hasattr(value, "getSolver") else ""


@pytest.fixture(scope="module")
def rows_of(spark):
    """Rows of a feature of about 1, and of a much larger one."""

    def of(size):
        rng = np.random.default_rng(1)
        data = [(float(i % 2), (rng.normal(size=2) * [1.0, size]).tolist()) for i in range(60)]
        return spark.createDataFrame(data, "label double, features array<double>").coalesce(2)

    frames = {size: of(size).cache() for size in (1e39, 1e200)}
    return frames.__getitem__


def outcome(estimator, frame):
    """The coefficients, or what was said."""
    try:
        model = estimator.fit(frame)
    except InvalidInput as error:
        return np.zeros(0), str(error)
    return np.concatenate([np.ravel(row[1]) for row in model.weights.collect()]), ""


@pytest.mark.parametrize("size", [1e39, 1e200])
@pytest.mark.parametrize(("estimator", "exact"), FITS, ids=name_of)
def test_values_too_large_for_a_float32_are_learned_from_or_refused(ps, rows_of, estimator, exact, size):
    coefficients, said = outcome(estimator, rows_of(size))
    assert np.isfinite(coefficients).all()
    if exact and size < 1e100:
        assert not said
    if said:
        assert "Divide large features and labels by their size" in said
        assert "Rank" not in said
    assert [each["name"] for each in ps.status()["tables"]] == []


def test_the_optimum_of_large_values_is_found_by_any_steps(ps, rows_of):
    plain, auto = (LogisticRegression(solver=solver, maxIter=20, tol=1e-9, numWorkers=1).fit(rows_of(1e39)) for solver in ("lbfgs", "auto"))
    np.testing.assert_allclose(auto.coefficients.toArray(), plain.coefficients.toArray(), rtol=1e-5)


def test_steps_that_lead_to_infinity_are_no_model(spark, ps):
    data = [(float(i % 2), [(2.0 * (i % 2) - 1.0) * 1e38]) for i in range(20)]
    frame = spark.createDataFrame(data, "label double, features array<double>")
    with pytest.raises(InvalidInput, match="a smaller `stepSize` where the solver has one. Got coefficients that are not"):
        LogisticRegression(solver="sgd", stepSize=100.0, maxIter=1, numWorkers=1).fit(frame)
