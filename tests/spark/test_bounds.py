"""LogisticRegression under bounds against pyspark.ml on the same rows, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.classification import LogisticRegression as SparkLogisticRegression
from pyspark.ml.linalg import DenseMatrix, Vectors

from sparkps.errors import InvalidInput
from sparkps.mllib.classification import LogisticRegression

INF = float("inf")


@pytest.fixture(scope="module")
def frames(spark):
    """By number of classes: 300 rows of 5 features on different scales, one of them constant."""
    frames = {}
    for classes in (2, 3):
        rng = np.random.default_rng(classes)
        x = rng.normal(size=(300, 5)) * np.array([1, 10, 0.1, 1, 3]) + np.array([0, 5, 1, 0, 0])
        x[:, 3] = 2.5
        margins = (x - x.mean(axis=0)) @ (rng.normal(size=(5, classes)) / np.array([1, 10, 0.1, 1, 3])[:, None])
        labels = (margins + rng.gumbel(size=margins.shape)).argmax(axis=1)
        rows = [(float(label), Vectors.dense(row)) for label, row in zip(labels, x, strict=True)]
        frames[classes] = spark.createDataFrame(rows, ["label", "features"]).repartition(2).cache()
        frames[classes].count()
    return frames


def matrix(*rows: list[float]) -> DenseMatrix:
    return DenseMatrix(len(rows), len(rows[0]), np.array(rows).ravel().tolist(), True)


#: Number of classes, and Params. pyspark.ml can have no infinite bound on the constant feature: it multiplies it by 0.
CASES = {
    "not negative": (2, {"lowerBoundsOnCoefficients": matrix([0.0] * 5)}),
    "a box": (2, {"lowerBoundsOnCoefficients": matrix([-0.1] * 5), "upperBoundsOnCoefficients": matrix([0.3] * 5)}),
    "some": (2, {"upperBoundsOnCoefficients": matrix([INF, 0.01, INF, 0.0, -0.1]), "regParam": 0.01}),
    "not standardized": (2, {"lowerBoundsOnCoefficients": matrix([0.0] * 5), "regParam": 0.05, "standardization": False}),
    "intercept": (2, {"upperBoundsOnIntercepts": Vectors.dense([-0.5]), "regParam": 0.01}),
    "all": (
        2,
        {
            "lowerBoundsOnCoefficients": matrix([0.0, -0.05, 1.0, -1.0, -1.0]),
            "upperBoundsOnCoefficients": matrix([1.0, 0.05, 4.0, 1.0, 0.1]),
            "lowerBoundsOnIntercepts": Vectors.dense([0.25]),
            "upperBoundsOnIntercepts": Vectors.dense([1.5]),
        },
    ),
    "no intercept": (2, {"lowerBoundsOnCoefficients": matrix([0.0] * 5), "fitIntercept": False}),
    "several classes": (
        3,
        {
            "lowerBoundsOnCoefficients": matrix([0.0] * 5, [-1.0] * 5, [-9.0] * 5),
            "upperBoundsOnCoefficients": matrix([0.5] * 5, [0.2] * 5, [9.0] * 5),
            "lowerBoundsOnIntercepts": Vectors.dense([-1.0, -INF, 0.0]),
            "regParam": 0.05,
        },
    ),
    "several classes, their coefficients": (3, {"lowerBoundsOnCoefficients": matrix(*[[0.0] * 5] * 3), "regParam": 0.02}),
}


@pytest.mark.parametrize("case", CASES)
def test_same_optimum_as_pyspark_within_the_bounds(ps, frames, case):
    classes, params = CASES[case]
    params = {"maxIter": 500, "tol": 1e-12, **params}
    ours, theirs = (lr(**params).fit(frames[classes]) for lr in (LogisticRegression, SparkLogisticRegression))
    mine, other = ours.summary.objectiveHistory[-1], theirs.summary.objectiveHistory[-1]
    assert mine <= other * (1 + 1e-9)
    assert mine == pytest.approx(other, rel=1e-6)
    # pyspark.ml ends at a projected gradient of 1e-5, whatever `tol` says.
    np.testing.assert_allclose(ours.coefficientMatrix.toArray(), theirs.coefficientMatrix.toArray(), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(ours.interceptVector.toArray(), theirs.interceptVector.toArray(), rtol=1e-3, atol=1e-3)
    lower, upper = (params.get(f"{side}BoundsOnCoefficients") for side in ("lower", "upper"))
    varying = [0, 1, 2, 4]  # the coefficient of a constant feature is 0
    found = ours.coefficientMatrix.toArray()[:, varying]
    assert lower is None or (found >= lower.toArray()[:, varying] - 1e-12).all()
    assert upper is None or (found <= upper.toArray()[:, varying] + 1e-12).all()


def test_bounds_are_kept_through_save_and_load(ps, frames, tmp_path):
    lr = LogisticRegression(lowerBoundsOnCoefficients=matrix([0.0] * 5), maxIter=5)
    lr.write().overwrite().save(str(tmp_path / "lr"))
    again = LogisticRegression.load(str(tmp_path / "lr"))
    assert again.getLowerBoundsOnCoefficients() == lr.getLowerBoundsOnCoefficients()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"lowerBoundsOnCoefficients": matrix([0.0] * 4)}, "must have a column for each feature: column 'features' has 5. Got 4"),
        ({"lowerBoundsOnCoefficients": matrix([0.0] * 6)}, "must have a column for each feature"),
        ({"lowerBoundsOnCoefficients": matrix([0.0] * 5, [0.0] * 5)}, "The shape of `lowerBoundsOnCoefficients`"),
        ({"upperBoundsOnIntercepts": Vectors.dense([0.0, 1.0])}, "The shape of `upperBoundsOnIntercepts`"),
        ({"upperBoundsOnIntercepts": Vectors.dense([0.0]), "fitIntercept": False}, "Bounds on intercepts must not be set"),
        ({"upperBoundsOnIntercepts": Vectors.dense([0.0]), "elasticNetParam": 0.5}, "`elasticNetParam` must be 0"),
        ({"upperBoundsOnIntercepts": Vectors.dense([0.0]), "solver": "adam"}, "Bounds need solver='lbfgs'"),
    ],
)
def test_bounds_that_cannot_be_kept_are_refused(ps, frames, params, message):
    with pytest.raises(InvalidInput, match=message):
        LogisticRegression(maxIter=1, **params).fit(frames[2])
