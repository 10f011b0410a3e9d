"""Loss and gradient of factorization machines against their slow twin and finite differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sparkps.mllib.data.store import Chunk
from sparkps.mllib.fm import kernel
from sparkps.mllib.fm.objective import FactorizationMachine
from tests.naive_mllib import machine_margin
from tests.unit.mllib.problems import KINDS, random_chunk

Array = np.ndarray[Any, Any]
LOSSES = {
    "log": lambda m, y: math.log1p(math.exp(-m if y else m)),
    "square": lambda m, y: (m - y) ** 2,
}


def machine(loss: str, factors: int = 3, *, linear: bool = True) -> FactorizationMachine:
    return FactorizationMachine(factors, loss, linear, 0.1, 0)


def rows_of(chunk: Chunk) -> list[dict[int, float]]:
    """Rows as dicts; the twin knows no feature twice in a row."""
    rows = []
    for first, last in zip(chunk.indptr[:-1], chunk.indptr[1:], strict=True):
        values = chunk.values[first:last] if len(chunk.values) else np.ones(last - first)
        rows.append({int(i): float(x) for i, x in zip(chunk.ids[first:last], values, strict=True)})
    return rows


def distinct(chunk: Chunk, features: int) -> Chunk:
    """The chunk with no feature twice in a row."""
    ids = chunk.ids.copy()
    for first, last in zip(chunk.indptr[:-1], chunk.indptr[1:], strict=True):
        ids[first:last] = np.random.default_rng(int(first)).permutation(features)[: last - first]
    return Chunk(chunk.labels, chunk.weights, chunk.indptr, ids, chunk.values, chunk.offsets)


def evaluated(objective: FactorizationMachine, chunk: Chunk, w: Array, bias: float) -> tuple[float, float, Array]:
    state = np.stack([w, np.zeros_like(w)], axis=1)
    loss, derivatives = objective.loss_and_gradient([chunk], state, np.array([bias]))
    return loss, float(derivatives[0]), state[:, 1]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("values", "weighted"), KINDS)
@pytest.mark.parametrize("factors", [1, 8])
def test_loss_is_that_of_all_pairs(loss: str, values: str, weighted: bool, factors: int) -> None:
    rng = np.random.default_rng(1)
    chunk = distinct(random_chunk(rng, 60, 12, values, weighted=weighted), 12)
    w = rng.normal(size=(12, 1 + factors)) * 0.4
    weights = chunk.weights if weighted else np.ones(60)
    margins = [machine_margin(row, w[:, 0], w[:, 1:], 0.3) for row in rows_of(chunk)]
    expected = sum(v * LOSSES[loss](m, y) for v, m, y in zip(weights, margins, chunk.labels, strict=True))
    assert evaluated(machine(loss, factors), chunk, w, 0.3)[0] == pytest.approx(expected)
    out = np.empty(60)
    kernel.margins.of(chunk.values.dtype)(chunk.indptr, chunk.ids, chunk.values, w, 1, 0.3, out)
    np.testing.assert_allclose(out, margins, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("linear", [True, False])
def test_gradient_by_finite_differences(loss: str, linear: bool) -> None:
    rng = np.random.default_rng(2)
    chunk = random_chunk(rng, 100, 8, "float64", weighted=True)
    w, h, objective = rng.normal(size=(8, 4)) * 0.3, 1e-6, machine(loss, linear=linear)
    _, derivative, gradient = evaluated(objective, chunk, w, -0.2)
    for place in np.ndindex(w.shape):
        step = np.zeros_like(w)
        step[place] = h
        slope = (evaluated(objective, chunk, w + step, -0.2)[0] - evaluated(objective, chunk, w - step, -0.2)[0]) / (2 * h)
        assert gradient[place] == pytest.approx(slope if linear or place[1] else 0.0, rel=1e-5, abs=1e-5)
    ahead, behind = (evaluated(objective, chunk, w, -0.2 + d)[0] for d in (h, -h))
    assert derivative == pytest.approx((ahead - behind) / (2 * h), rel=1e-5)


def test_offsets_are_part_of_the_margin() -> None:
    rng = np.random.default_rng(3)
    chunk = random_chunk(rng, 20, 5, "ones")
    shifted = Chunk(chunk.labels, chunk.weights, chunk.indptr, chunk.ids, chunk.values, np.full(20, 0.7))
    w = rng.normal(size=(5, 4))
    assert evaluated(machine("square"), shifted, w, 0.1)[0] == pytest.approx(evaluated(machine("square"), chunk, w, 0.8)[0])


def test_many_coefficients_are_asked_for_ahead() -> None:
    rng = np.random.default_rng(7)
    chunk = random_chunk(rng, 50, 200_000, "float32")
    w = np.zeros((200_000, 4))
    w[:, 1:] = rng.normal(size=(200_000, 3))
    loss, _, gradient = evaluated(machine("log"), chunk, w, 0.0)
    _, near = np.unique(chunk.ids, return_inverse=True)
    few = Chunk(chunk.labels, chunk.weights, chunk.indptr, near.astype(np.int32), chunk.values)
    expected = evaluated(machine("log"), few, w[np.unique(chunk.ids)], 0.0)
    assert loss == expected[0]
    assert np.array_equal(gradient[np.unique(chunk.ids)], expected[2])


@pytest.mark.parametrize("margin", [-800.0, 0.0, 800.0])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_logistic_does_not_overflow(margin: float, label: float) -> None:
    chunk = Chunk(np.array([label]), np.empty(0), np.zeros(2, np.int32), np.empty(0, np.int32), np.empty(0))
    loss, derivative, _ = evaluated(machine("log"), chunk, np.zeros((1, 4)), margin)
    assert loss == pytest.approx(max(-margin if label else margin, 0.0) + (math.log(2) if margin == 0 else 0.0))
    assert 0 <= abs(derivative) <= 1
