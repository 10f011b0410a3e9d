"""Compiled passes against their slow twins, and gradients against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparkps.mllib.data import kernels
from sparkps.mllib.linear import passes
from sparkps.mllib.linear.losses import LOGISTIC
from sparkps.mllib.solvers.scaling import scaling
from tests.unit.mllib.problems import naive_logistic, random_chunk

KINDS = [(values, weighted) for values in ("ones", "float32", "float64") for weighted in (False, True)]


@pytest.mark.parametrize(("values", "weighted"), KINDS)
def test_logistic_pass_against_its_twin(values: str, weighted: bool) -> None:
    rng = np.random.default_rng(1)
    chunk = random_chunk(rng, 200, 15, values, weighted=weighted)
    w = rng.normal(size=15)
    state = np.stack([w, np.zeros(15)], axis=1)
    loss, derivative = LOGISTIC.add_up([chunk, chunk], state, 0.3)
    expected = naive_logistic(chunk, w, 0.3)
    assert loss == pytest.approx(2 * expected[0])
    assert derivative == pytest.approx(2 * expected[1])
    np.testing.assert_allclose(state[:, 1], 2 * expected[2], atol=1e-9)


def test_logistic_gradient_by_finite_differences() -> None:
    rng = np.random.default_rng(2)
    chunk = random_chunk(rng, 300, 8, "float64", weighted=True)
    w, h = rng.normal(size=8), 1e-6

    def value(point: np.ndarray, bias: float) -> float:
        return LOGISTIC.add_up([chunk], np.stack([point, np.zeros(8)], axis=1), bias)[0]

    state = np.stack([w, np.zeros(8)], axis=1)
    _, derivative = LOGISTIC.add_up([chunk], state, -0.2)
    for k in range(8):
        step = h * np.eye(8)[k]
        assert state[k, 1] == pytest.approx(
            (value(w + step, -0.2) - value(w - step, -0.2)) / (2 * h), rel=1e-5, abs=1e-5
        )
    assert derivative == pytest.approx((value(w, -0.2 + h) - value(w, -0.2 - h)) / (2 * h), rel=1e-6)


def logistic_of(margins: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count = len(margins)
    losses, derivatives = np.empty(count), np.empty(count)
    passes.logistic(margins, labels, count, np.empty(count, np.int64), losses, derivatives)
    return losses, derivatives


@pytest.mark.parametrize(
    ("margin", "label", "loss", "slope"),
    [(800.0, 1.0, 0.0, 0.0), (800.0, 0.0, 800.0, 1.0), (-800.0, 1.0, 800.0, -1.0), (1e300, 1.0, 0.0, 0.0)],
)
def test_logistic_does_not_overflow(margin: float, label: float, loss: float, slope: float) -> None:
    found = logistic_of(np.array([margin]), np.array([label]))
    assert (found[0][0], found[1][0]) == pytest.approx((loss, slope))


def test_logistic_of_nothing_known_is_not_a_number() -> None:
    assert np.isnan(logistic_of(np.array([np.nan]), np.array([1.0]))).all()


def test_logistic_is_as_exact_as_the_library() -> None:
    m = np.concatenate([np.linspace(-700, 700, 20011), np.linspace(-2, 2, 20011), [0.0, -0.0, 5e-324, -1e-300]])
    losses, derivatives = logistic_of(m, np.zeros(len(m)))
    e = np.array([math.exp(-abs(x)) for x in m])
    np.testing.assert_allclose(losses, np.maximum(m, 0) + [math.log1p(x) for x in e], rtol=1e-15)
    np.testing.assert_allclose(derivatives, np.where(m > 0, 1.0, e) / (1 + e), rtol=1e-15)


@pytest.mark.parametrize("rows", [0, 1, passes.BLOCK - 1, passes.BLOCK, passes.BLOCK + 1, 5 * passes.BLOCK + 7])
def test_rows_at_the_borders_of_blocks(rows: int) -> None:
    chunk = random_chunk(np.random.default_rng(rows), rows, 5, "float64", weighted=True)
    state = np.stack([np.linspace(-1, 1, 5), np.zeros(5)], axis=1)
    expected = naive_logistic(chunk, state[:, 0].copy(), 0.1)
    loss, derivative = LOGISTIC.add_up([chunk], state, 0.1)
    assert (loss, derivative) == pytest.approx(expected[:2])
    np.testing.assert_allclose(state[:, 1], expected[2], atol=1e-12)


def test_many_coefficients_are_asked_for_ahead() -> None:
    rng = np.random.default_rng(7)
    chunk = random_chunk(rng, 100, 600_000, "float32", weighted=False)
    state = np.stack([rng.normal(size=600_000), np.zeros(600_000)], axis=1)
    expected = naive_logistic(chunk, state[:, 0].copy(), 0.0)
    loss, _ = LOGISTIC.add_up([chunk], state, 0.0)
    assert loss == pytest.approx(expected[0])
    np.testing.assert_allclose(state[:, 1], expected[2], atol=1e-9)


@pytest.mark.parametrize(("values", "weighted"), KINDS)
def test_column_statistics_against_numpy(values: str, weighted: bool) -> None:
    rng = np.random.default_rng(3)
    chunk = random_chunk(rng, 150, 10, values, weighted=weighted)
    weights = chunk.weights if weighted else np.ones(150)
    x = np.zeros((150, 10))
    present = np.zeros((150, 10))
    entries = chunk.values if len(chunk.values) else np.ones(len(chunk.ids))
    unique = {}
    for r in range(150):
        for k in range(chunk.indptr[r], chunk.indptr[r + 1]):
            unique[r, chunk.ids[k]] = entries[k]
    for (r, k), value in unique.items():
        x[r, k], present[r, k] = value, 1.0
    rows = [sorted(k for r_, k in unique if r_ == r) for r in range(150)]
    ids = np.array([k for row in rows for k in row], np.int32)
    indptr = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int32)
    flat = np.array([unique[r, k] for r, row in enumerate(rows) for k in row], chunk.values.dtype)
    sums = np.zeros((10, 2))
    kernels.column_sums.of(flat.dtype)(indptr, ids, flat, chunk.weights, sums)
    np.testing.assert_allclose(sums, np.stack([weights @ x, weights @ present], axis=1), rtol=1e-5, atol=1e-9)
    squares = np.zeros(10)
    means = sums[:, 0] / weights.sum()
    kernels.centred_squares.of(flat.dtype)(indptr, ids, flat, chunk.weights, means, squares)
    statistics = np.stack([sums[:, 0], sums[:, 1], np.ones(10), squares], axis=1)
    found = scaling(statistics, weights.sum(), (weights**2).sum(), 9, l2=0.0, standardization=True)
    total = weights.sum()
    expected = np.sqrt((weights @ (x - means) ** 2) / (total - (weights**2).sum() / total))
    np.testing.assert_allclose(1 / found.inverse[:9], expected[:9], rtol=1e-6)


def test_a_constant_feature_is_switched_off() -> None:
    column = np.full(1000, 0.1)
    statistics = np.array([[column.sum(), 1000, 1, ((column - column.sum() / 1000) ** 2).sum()], [0, 0, 1, 0]])
    found = scaling(statistics, 1000.0, 1000.0, 1, l2=1.0, standardization=False)
    assert found.inverse.tolist() == [0.0, 1.0]
    assert found.penalty.tolist() == [0.0, 0.0]


def test_penalty_is_shared_out_over_holders() -> None:
    statistics = np.array([[2.0, 2.0, 4.0, 2.0], [0.0, 0.0, 4.0, 0.0]])
    scaled = scaling(statistics, 4.0, 4.0, 1, l2=0.8, standardization=True)
    raw = scaling(statistics, 4.0, 4.0, 1, l2=0.8, standardization=False)
    assert scaled.penalty[0] == pytest.approx(0.2)
    assert raw.penalty[0] == pytest.approx(0.2 * raw.inverse[0] ** 2)


def test_coordinates_in_and_out() -> None:
    rng = np.random.default_rng(4)
    x, inverse, penalty, g = rng.normal(size=(4, 6))
    state = np.full((6, 2), 7.0)
    kernels.enter(x, inverse, state)
    np.testing.assert_array_equal(state, np.stack([x * inverse, np.zeros(6)], axis=1))
    state[:, 1] = g
    gradient = np.empty(6)
    value = kernels.leave(x, inverse, penalty, 0.5, state, gradient)
    np.testing.assert_allclose(gradient, 0.5 * inverse * g + penalty * x)
    assert value == pytest.approx(0.5 * (penalty * x**2).sum())


def test_batch_numbering() -> None:
    ids = np.array([4, 2, 4, 0, 2], np.int32)
    stamps, found, places, local = (np.zeros(n, np.int32) for n in (5, 5, 5, 5))
    count = kernels.distinct_ids(ids, stamps, 1, found)
    assert found[:count].tolist() == [4, 2, 0]
    order = np.sort(found[:count])
    kernels.local_ids(ids, order, places, local)
    assert order[local].tolist() == ids.tolist()
