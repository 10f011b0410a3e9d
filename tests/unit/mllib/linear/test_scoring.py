"""Scores of rows, and where coefficients are looked up."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest

from sparkps.errors import InvalidInput
from sparkps.mllib.coefficients import LocalCoefficients
from sparkps.mllib.data import kernels
from sparkps.mllib.data.sources import VectorColumn
from sparkps.mllib.linear.scoring import BinaryScorer, MeanScorer, MultinomialScorer, SideScorer
from sparkps.mllib.models.source import ScoredRows
from tests import naive_mllib as naive
from tests.unit.mllib.problems import pairs_column, random_chunk, vector_column

HELD = LocalCoefficients(np.array([1, 5, 10**12]), np.array([[2.0], [-1.0], [0.5]]))


def score(features: pa.Array, threshold: float = 0.5, intercept: float = 0.25) -> pa.StructArray:
    wanted = ("raw", "probability", "prediction")
    scorer = BinaryScorer(HELD, ScoredRows(VectorColumn("f")), wanted, intercepts=[intercept], link="sigmoid", threshold=threshold)
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
    empty = LocalCoefficients(np.empty(0, np.int64), np.empty((0, 1)))
    assert MeanScorer(empty, ScoredRows(VectorColumn("f")), intercepts=[0.5])(pa.array([[1.0]])).to_pylist() == [{"prediction": 0.5}]


def test_null_features_name_their_column() -> None:
    with pytest.raises(InvalidInput, match="Column 'f': features must not be null"):
        score(pairs_column([([1], [1.0]), None]))


# ---- several outputs, and other kinds ------------------------------------------------------------------------------------

OF_THREE = LocalCoefficients(np.array([0, 2]), np.array([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]]))
ROWS = pa.array([[1.0, 9.0, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]])


def test_a_margin_for_each_class_gives_raw_probability_and_class() -> None:
    scorer = MultinomialScorer(
        OF_THREE, ScoredRows(VectorColumn("f")), ("raw", "probability", "prediction"), intercepts=[0.0, -1.0, 0.5], link="softmax"
    )
    found = pickle.loads(pickle.dumps(scorer))(ROWS).to_pylist()
    expected = np.array([[1.0, -1.0, -0.5], [1.0, 3.0, 0.5], [0.0, -1.0, 0.5]])
    np.testing.assert_allclose([row["raw"]["values"] for row in found], expected)
    p = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([row["probability"]["values"] for row in found], p)
    assert [row["prediction"] for row in found] == [0.0, 1.0, 2.0]


def test_thresholds_divide_probabilities_before_a_class_is_chosen() -> None:
    scorer = MultinomialScorer(
        OF_THREE, ScoredRows(VectorColumn("f")), intercepts=[0.0, -1.0, 0.5], link="softmax", thresholds=[1.0, 0.01, 1.0]
    )
    assert scorer(ROWS).field("prediction").to_pylist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("threshold", "labels"), [(0.0, [1.0, 0.0]), (-2.0, [1.0, 1.0]), (1.0, [0.0, 0.0])])
def test_a_side_is_told_by_the_margin_itself(threshold: float, labels: list[float]) -> None:
    held = LocalCoefficients(np.array([1]), np.array([[1.0]]))
    scorer = SideScorer(held, ScoredRows(VectorColumn("f")), ("raw", "prediction"), intercepts=[0.0], threshold=threshold)
    found = scorer(pa.array([[0.0, 1.0], [0.0, -1.0]])).to_pylist()
    assert [row["prediction"] for row in found] == labels
    assert [row["raw"]["values"] for row in found] == [[-1.0, 1.0], [1.0, -1.0]]


def test_offsets_are_added_to_margins_and_must_be_finite() -> None:
    scorer = MeanScorer(OF_ONE, ScoredRows(VectorColumn("f")), ("prediction", "link"), "o", intercepts=[0.5], link="log")
    found = scorer(ROWS, pa.array([1, 2, 0])).to_pylist()
    np.testing.assert_allclose([row["link"] for row in found], [2.5, 2.5, 0.5])
    np.testing.assert_allclose([row["prediction"] for row in found], np.exp([2.5, 2.5, 0.5]))
    with pytest.raises(InvalidInput, match="Column 'o': an offset must be finite. Got None"):
        scorer(ROWS, pa.array([1.0, None, 0.0]))


OF_ONE = LocalCoefficients(np.array([0]), np.array([[1.0]]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("outputs", [1, 2, 7])
def test_margins_are_those_of_the_slow_twin(dtype: type, outputs: int) -> None:
    rng = np.random.default_rng(outputs)
    chunk = random_chunk(rng, 50, 30, np.dtype(dtype).name)
    ids = np.where(rng.random(len(chunk.ids)) < 0.3, -1, chunk.ids).astype(np.int32)
    coefficients, biases = rng.normal(size=(30, outputs)), rng.normal(size=outputs)
    expected = naive.margins(chunk.indptr, ids, chunk.values, coefficients, biases)
    many = np.empty((50, outputs))
    kernels.margins_of_many.of(chunk.values.dtype)(chunk.indptr, ids, chunk.values, coefficients, biases, many)
    np.testing.assert_array_equal(many, expected)
    for output in range(outputs):
        one = np.empty(50)
        column = np.ascontiguousarray(coefficients[:, output])
        kernels.margins.of(chunk.values.dtype)(chunk.indptr, ids, chunk.values, column, biases[output], one)
        np.testing.assert_array_equal(one, expected[:, output])
