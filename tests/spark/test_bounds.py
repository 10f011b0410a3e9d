"""LogisticRegression under bounds takes the steps of pyspark.ml on the same rows, and what it refuses."""

from __future__ import annotations

import pathlib

import numpy as np
import pyspark
import pytest
from pyspark.ml.classification import LogisticRegression as SparkLogisticRegression
from pyspark.ml.linalg import DenseMatrix, Matrices, Vectors

from sparkps.errors import InvalidInput
from sparkps.mllib.classification import LogisticRegression
from tests.harness.cases import cases

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
#: Cases that say little more than the others.
LONG = ("a box", "some", "no intercept", "intercept")
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
    "away from 0, centred": (2, {"lowerBoundsOnCoefficients": matrix([0.2, 0.01, 0.5, 0.0, 0.1]), "regParam": 0.01}),
    "several classes, away from 0, centred": (
        3,
        {
            "lowerBoundsOnCoefficients": matrix([0.1] * 5, [-1.0] * 5, [-INF, -INF, 1.0, -1.0, -INF]),
            "upperBoundsOnCoefficients": matrix([2.0] * 5, [-0.05] * 5, [INF, 0.05, 9.0, 1.0, INF]),
            "regParam": 0.1,
            "standardization": False,
        },
    ),
    "several classes, no intercept": (
        3,
        {"upperBoundsOnCoefficients": matrix(*[[0.1] * 5] * 3), "fitIntercept": False, "standardization": False, "regParam": 0.02},
    ),
    "few iterations": (3, {"lowerBoundsOnCoefficients": matrix(*[[0.0] * 5] * 3), "maxIter": 3}),
    "stands still": (2, {"upperBoundsOnIntercepts": Vectors.dense([-0.5]), "maxIter": 100, "tol": 1.0}),
}


@pytest.mark.parametrize("case", cases([case for case in CASES if case not in LONG], long=LONG))
def test_same_steps_as_pyspark_within_the_bounds(ps, frames, case):
    classes, params = CASES[case]
    params = {"maxIter": 500, "tol": 1e-12, **params}
    ours, theirs = (lr(**params).fit(frames[classes]) for lr in (LogisticRegression, SparkLogisticRegression))
    np.testing.assert_allclose(ours.summary.objectiveHistory, list(theirs.summary.objectiveHistory), rtol=1e-8)
    np.testing.assert_allclose(ours.coefficientMatrix.toArray(), theirs.coefficientMatrix.toArray(), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(ours.interceptVector.toArray(), theirs.interceptVector.toArray(), rtol=1e-6, atol=1e-7)
    lower, upper = (params.get(f"{side}BoundsOnCoefficients") for side in ("lower", "upper"))
    varying = [0, 1, 2, 4]  # the coefficient of a constant feature is 0
    found = ours.coefficientMatrix.toArray()[:, varying]
    assert lower is None or (found >= lower.toArray()[:, varying] - 1e-12).all()
    assert upper is None or (found <= upper.toArray()[:, varying] + 1e-12).all()


def test_same_steps_as_pyspark_for_as_long_as_rounding_lets_it_repeat_its_own(ps, frames):
    """Features that are not centred make a narrow valley: to its end pyspark.ml needs 86 to 103 iterations, by the number of partitions."""
    params = {"upperBoundsOnIntercepts": Vectors.dense([-0.5, 0.0, 0.0]), "regParam": 0.01, "maxIter": 40, "tol": 1e-12}
    ours, theirs = (lr(**params).fit(frames[3]).summary.objectiveHistory for lr in (LogisticRegression, SparkLogisticRegression))
    np.testing.assert_allclose(ours, list(theirs), rtol=1e-8)


def test_features_that_no_row_has_stay_zero_whatever_their_bounds(ps, spark):
    rng = np.random.default_rng(8)
    rows = []
    for _ in range(200):
        places = np.sort(rng.choice([0, 2, 3, 6, 7], 3, replace=False))  # of 9
        values = rng.normal(size=3)
        rows.append((float(values.sum() + rng.logistic() > 0), Vectors.sparse(9, places.tolist(), values.tolist())))
    frame = spark.createDataFrame(rows, ["label", "features"]).coalesce(1)
    params = {"lowerBoundsOnCoefficients": matrix([0.4, 0.3] * 4 + [0.5]), "upperBoundsOnCoefficients": matrix([1.0] * 9), "regParam": 0.01}
    ours, theirs = (lr(**params).fit(frame) for lr in (LogisticRegression, SparkLogisticRegression))
    np.testing.assert_allclose(ours.summary.objectiveHistory, list(theirs.summary.objectiveHistory), rtol=1e-8)
    np.testing.assert_allclose(ours.coefficients.toArray(), theirs.coefficients.toArray(), rtol=1e-6, atol=1e-9)
    assert (ours.coefficients.toArray()[[1, 4, 5, 8]] == 0).all()


def test_a_grid_of_bounds_ends_where_single_fits_end(ps, frames):
    lr = LogisticRegression(regParam=0.01, deterministic=True)
    params = [
        {lr.lowerBoundsOnCoefficients: matrix([0.1] * 5)},
        {lr.upperBoundsOnIntercepts: Vectors.dense([-0.5])},
        {},
        {lr.upperBoundsOnCoefficients: matrix([INF, 0.01, INF, 0.0, -0.1])},
    ]
    together = [model.summary.objectiveHistory for _, model in sorted(lr.fitMultiple(frames[2], params), key=lambda each: each[0])]
    for found, extra in zip(together, params, strict=True):
        np.testing.assert_allclose(found, lr.fit(frames[2], extra).summary.objectiveHistory, rtol=1e-10)


def test_pysparks_own_example_ends_where_pyspark_ends_it(ps, spark):
    data = pathlib.Path(pyspark.__file__).parent / "data" / "mllib" / "sample_multiclass_classification_data.txt"
    frame = spark.read.format("libsvm").option("numFeatures", 4).load(str(data))
    params = {"regParam": 0.01, "lowerBoundsOnCoefficients": Matrices.dense(3, 4, range(12))}
    params["upperBoundsOnIntercepts"] = Vectors.dense([0.0, 0.0, 0.0])
    model = LogisticRegression(**params).fit(frame)
    # As in pyspark's test_multinomial_logistic_regression_with_bound.
    expected = [[4.593, 4.5516, 9.0099, 12.2904], [1.0, 8.1093, 7.0, 10.0], [3.041, 5.0, 8.0, 11.0]]
    np.testing.assert_allclose(model.coefficientMatrix.toArray(), expected, atol=1e-4)
    np.testing.assert_allclose(model.interceptVector.toArray(), [-0.9057, -1.1392, -0.0033], atol=1e-4)
    assert model.summary.totalIterations == 19


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
