"""Scores of rows, and where coefficients are looked up."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest

from sparkps.errors import InvalidInput
from sparkps.mllib.coefficients import LocalCoefficients
from sparkps.mllib.linear.losses.logistic import Logistic
from sparkps.mllib.linear.scoring import BinaryScorer, LinearScorer
from tests.unit.mllib.problems import pairs_column, vector_column

HELD = LocalCoefficients(np.array([1, 5, 10**12]), np.array([2.0, -1.0, 0.5]))


def score(features: pa.Array, threshold: float = 0.5, intercept: float = 0.25) -> pa.StructArray:
    scorer = BinaryScorer(HELD, intercept, "f", probabilities=Logistic().probabilities, threshold=threshold)
    return pickle.loads(pickle.dumps(scorer))(features)


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (pairs_column([([1, 10**12], [1.0, 4.0]), ([7], [9.0]), ([], [])]), [4.25, 0.25, 0.25]),
        (vector_column([[0.0, 1.0, 0, 0, 0, 3.0], (6, [5], [1.0])]), [-0.75, -0.75]),
        (pa.array([[0.0, 0.5], [0.0, 0.0]]), [1.25, 0.25]),
        (pa.array([], pa.list_(pa.float64())), []),
    ],
)
def test_margins_of_all_types_of_features(features: pa.Array, expected: list[float]) -> None:
    scored = score(features)
    assert [row["raw"]["values"] for row in scored.to_pylist()] == [[-m, m] for m in expected]
    p = 1 / (1 + np.exp(-np.array(expected)))
    np.testing.assert_allclose([row["probability"]["values"][1] for row in scored.to_pylist()], p)
    assert [row["prediction"] for row in scored.to_pylist()] == (p > 0.5).astype(float).tolist()


@pytest.mark.parametrize(("threshold", "labels"), [(0.0, [1.0, 1.0]), (0.6, [1.0, 0.0]), (1.0, [0.0, 0.0])])
def test_label_1_is_predicted_above_the_threshold(threshold: float, labels: list[float]) -> None:
    scored = score(pa.array([[0.0, 2.0], [0.0, 0.0]]), threshold)
    assert scored.field("prediction").to_pylist() == labels


def test_an_infinite_intercept_decides_everything() -> None:
    assert score(pa.array([[0.0, -9.0]]), intercept=np.inf).to_pylist()[0]["probability"]["values"] == [0.0, 1.0]


def test_a_model_without_coefficients_scores_its_intercept() -> None:
    empty = LocalCoefficients(np.empty(0, np.int64), np.empty(0))
    assert LinearScorer(empty, 0.5, "f")(pa.array([[1.0]])).to_pylist() == [{"prediction": 0.5}]


def test_null_features_name_their_column() -> None:
    with pytest.raises(InvalidInput, match="Column 'f': features must not be null"):
        score(pairs_column([([1], [1.0]), None]))
