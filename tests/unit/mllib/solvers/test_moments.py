"""Second moments of chunks against their slow twin, of sparse and of dense rows."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.mllib.data.store import Chunk
from sparkps.mllib.solvers import moments
from sparkps.mllib.solvers.moments import Moments, add_moments, moments_of, packed_size
from tests import naive_mllib as naive
from tests.unit.mllib.problems import KINDS, random_chunk

NO_WEIGHTS = np.empty(0)


def dense(chunk: Chunk, places: np.ndarray, features: int) -> np.ndarray:
    x = np.zeros((len(chunk), features))
    for r in range(len(chunk)):
        for k in range(chunk.indptr[r], chunk.indptr[r + 1]):
            x[r, places[chunk.ids[k]]] += chunk.values[k] if len(chunk.values) else 1.0
    return x


@pytest.mark.parametrize("features", [4, 40], ids=["dense rows", "sparse rows"])
@pytest.mark.parametrize(("values", "weighted"), KINDS)
def test_moments_against_the_twin(values: str, weighted: bool, features: int) -> None:
    """Rows may name a feature twice; keys have columns of their own."""
    rng = np.random.default_rng(3)
    chunk = random_chunk(rng, 60, features, values, weighted=weighted)
    places = rng.permutation(features)
    labels = rng.normal(size=60)
    packed = np.ones(packed_size(features))
    add_moments(chunk, places, labels, chunk.weights, features, packed)
    weights = chunk.weights if weighted else np.ones(60)
    np.testing.assert_allclose(packed - 1.0, naive.moments(dense(chunk, places, features), labels, weights), atol=1e-5, rtol=1e-6)


def test_both_ways_to_add_up_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    chunk = random_chunk(rng, 300, 9, "float64", weighted=True)
    places = np.arange(9)
    found = []
    for share in (0.0, 2.0):
        monkeypatch.setattr(moments, "_DENSE", share)
        monkeypatch.setattr(moments, "_BLOCK", 400)
        found.append(moments_of([(chunk, chunk.labels, chunk.weights)], places, 9))
    np.testing.assert_allclose(*found, rtol=1e-12)


def test_moments_are_those_of_all_chunks_together() -> None:
    rng = np.random.default_rng(5)
    x, y, w = rng.normal(size=(50, 3)), rng.normal(size=50), rng.uniform(0, 2, 50)
    found = Moments.of_rows(x, y, w)
    assert found.weight == pytest.approx(w.sum())
    np.testing.assert_allclose(found.mean, w @ x / w.sum())
    np.testing.assert_allclose(found.products, x.T @ (w[:, None] * x) / w.sum())
    assert (found.label_mean, found.label_square) == pytest.approx((w @ y / w.sum(), w @ y**2 / w.sum()))
    np.testing.assert_allclose(found.label_products, (w * y) @ x / w.sum())


def test_no_rows_have_no_moments() -> None:
    found = Moments.of(np.zeros(packed_size(2)), 2)
    assert (found.weight, found.label_mean, found.mean.tolist()) == (0.0, 0.0, [0.0, 0.0])


def test_rows_without_features_have_a_label() -> None:
    chunk = Chunk(np.array([2.0, 4.0]), NO_WEIGHTS, np.zeros(3, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))
    found = Moments.of(moments_of([(chunk, chunk.labels, NO_WEIGHTS)], np.empty(0, np.int64), 0), 0)
    assert (found.weight, found.label_mean, found.label_square) == (2.0, 3.0, 10.0)
