"""Params that keep coefficients between bounds, and Params whose values are vectors and matrices."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.linalg import DenseMatrix, DenseVector, Matrices, SparseMatrix, Vectors

from sparkps.errors import InvalidInput
from sparkps.mllib.errors import InvalidParam
from sparkps.mllib.params.bounds import NAMES, BoundSetters
from sparkps.mllib.params.plain_values import from_plain, plain_params, to_plain
from sparkps.mllib.solvers.bounds import Bounds

LOW, HIGH = DenseMatrix(1, 2, [-1.0, 0.0]), DenseMatrix(1, 2, [1.0, math.inf])


class Bounded(BoundSetters):
    """Something with bounds."""


@pytest.mark.parametrize("name", NAMES)
def test_bounds_have_pysparks_text(name):
    assert Bounded().getParam(name).doc == getattr(LogisticRegression, name).doc


@pytest.mark.parametrize("value", [1.0, "a", [1.0], None])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_matrix_or_vector_is_refused(name, value):
    bounded = Bounded()
    if isinstance(value, list) and "Intercepts" in name:
        bounded.set(bounded.getParam(name), value)
        assert bounded.getOrDefault(name) == DenseVector(value)
        return
    with pytest.raises(TypeError, match="Could not convert"):
        bounded.set(bounded.getParam(name), value)


def test_bounds_that_are_not_set_are_infinite():
    bounded = Bounded().setLowerBoundsOnCoefficients(LOW).setUpperBoundsOnIntercepts(Vectors.sparse(1, [], []))
    low, high = bounded._bounds_on_coefficients(1, 2)
    np.testing.assert_array_equal(low, [[-1.0, 0.0]])
    np.testing.assert_array_equal(high, [[math.inf, math.inf]])
    low, high = bounded._bounds_on_intercepts(1)
    assert (low.tolist(), high.tolist()) == ([-math.inf], [0.0])


def test_a_matrix_has_a_row_for_each_output():
    bounded = Bounded().setUpperBoundsOnCoefficients(Matrices.dense(2, 3, range(6)))
    np.testing.assert_array_equal(bounded._bounds_on_coefficients(2, 3)[1], [[0, 2, 4], [1, 3, 5]])


@pytest.mark.parametrize(
    ("bounded", "what", "match"),
    [
        (Bounded().setLowerBoundsOnCoefficients(LOW), (True, 0.5), "`elasticNetParam` must be 0"),
        (Bounded().setLowerBoundsOnIntercepts(Vectors.dense(0.0)), (False, 0.0), "`fitIntercept` is False"),
        (Bounded().setLowerBoundsOnCoefficients(HIGH).setUpperBoundsOnCoefficients(LOW), (True, 0.0), "less than or equal"),
        (
            Bounded().setLowerBoundsOnIntercepts(Vectors.dense(1.0)).setUpperBoundsOnIntercepts(Vectors.dense(0.5)),
            (True, 0.0),
            "`lowerBoundsOnIntercepts` must be less",
        ),
    ],
)
def test_bounds_that_contradict_are_refused(bounded, what, match):
    with pytest.raises(InvalidParam, match=match):
        bounded._check_bounds(*what)


def test_bounds_of_another_shape_are_refused():
    bounded = Bounded().setLowerBoundsOnCoefficients(LOW).setLowerBoundsOnIntercepts(Vectors.dense(0.0))
    bounded._check_bounds(True, 0.0)
    with pytest.raises(InvalidParam, match="`lowerBoundsOnCoefficients` must be .* here \\(1, 3\\). Got \\(1, 2\\)"):
        bounded._bounds_on_coefficients(1, 3)
    with pytest.raises(InvalidParam, match="`lowerBoundsOnIntercepts` must be 1 or the number of classes"):
        bounded._bounds_on_intercepts(3)


def test_without_bounds_nothing_is_checked():
    Bounded()._check_bounds(False, 1.0)
    assert not Bounded()._is_bounded
    assert Bounded().setLowerBoundsOnCoefficients(LOW)._is_bounded


@pytest.mark.parametrize(
    "value",
    [
        Vectors.dense([1, -math.inf]),
        Vectors.sparse(4, [(1, 1.0), (3, 5.5)]),
        Matrices.dense(3, 2, [0, 1, 4, 5, 9, 10]),
        DenseMatrix(2, 2, [1, 2, 3, 4], True),
        SparseMatrix(1, 1, [0, 1], [0], [2.0]),
        [1.0, 2.0],
        "text",
        None,
    ],
)
def test_values_come_back_from_json(value):
    found = from_plain(json.loads(json.dumps(to_plain(value))))
    assert found == value
    assert type(found) is type(value)


def test_only_what_was_set_is_kept():
    assert plain_params(Bounded()) == {}
    assert plain_params(Bounded().setUpperBoundsOnIntercepts(Vectors.dense(2.0))) == {
        "upperBoundsOnIntercepts": {"class": "vector", "type": 1, "values": [2.0]}
    }


def test_a_start_beyond_the_bounds_is_brought_within_and_is_a_number() -> None:
    bounds = Bounds(lower=np.zeros((1, 3)), lower_intercepts=np.array([-1.0]))
    assert bounds.within(np.array([np.inf])).tolist() == [0.0]
    assert bounds.within(np.array([-np.inf])).tolist() == [-1.0]


def test_a_feature_beyond_the_bounds_is_refused() -> None:
    with pytest.raises(InvalidInput, match="must have a column for each feature"):
        Bounds(lower=np.zeros((1, 3))).rows(np.array([0, 3, -1]), np.ones(3), np.array([2]), 1, "features")
