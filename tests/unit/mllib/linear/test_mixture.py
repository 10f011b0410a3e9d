"""The loss of mixtures of logistic regressions, against its formula and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparkps.mllib.linear.mixture import Mixture
from sparkps.mllib.models.links import mixture
from sparkps.mllib.solvers.objective import LabelSums
from tests.naive_mllib import mixture_loss
from tests.unit.mllib.problems import KINDS, random_chunk

Array = np.ndarray[Any, Any]


def evaluated(chunk: Any, w: Array, bias: Array) -> tuple[float, Array, Array]:
    state = np.stack([w, np.zeros_like(w)], axis=1)
    loss, derivatives = Mixture(len(bias)).loss_and_gradient([chunk], state, bias)
    return loss, derivatives, state[:, 1]


@pytest.mark.parametrize(("values", "weighted"), KINDS)
@pytest.mark.parametrize("regions", [1, 3])
def test_loss_is_that_of_the_formula(values: str, weighted: bool, regions: int) -> None:
    rng = np.random.default_rng(1)
    chunk = random_chunk(rng, 50, 6, values, weighted=weighted)
    w, bias = rng.normal(size=(6, 2 * regions)), rng.normal(size=2 * regions)
    x = np.zeros((50, 6))
    for r in range(50):
        for k in range(chunk.indptr[r], chunk.indptr[r + 1]):
            x[r, chunk.ids[k]] += chunk.values[k] if len(chunk.values) else 1.0
    weights = chunk.weights if weighted else np.ones(50)
    expected = sum(v * mixture_loss(m, y) for v, m, y in zip(weights, x @ w + bias, chunk.labels, strict=True))
    assert evaluated(chunk, w, bias)[0] == pytest.approx(expected)


def test_gradient_by_finite_differences() -> None:
    rng = np.random.default_rng(2)
    chunk = random_chunk(rng, 100, 5, "float64", weighted=True)
    w, bias, h = rng.normal(size=(5, 6)), rng.normal(size=6), 1e-6
    _, derivatives, gradient = evaluated(chunk, w, bias)
    for place in np.ndindex(w.shape):
        step = np.zeros_like(w)
        step[place] = h
        slope = (evaluated(chunk, w + step, bias)[0] - evaluated(chunk, w - step, bias)[0]) / (2 * h)
        assert gradient[place] == pytest.approx(slope, rel=1e-5, abs=1e-5)
    for k in range(6):
        step = h * np.eye(6)[k]
        slope = (evaluated(chunk, w, bias + step)[0] - evaluated(chunk, w, bias - step)[0]) / (2 * h)
        assert derivatives[k] == pytest.approx(slope, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("size", [-900.0, 900.0])
def test_large_margins_do_not_overflow(size: float) -> None:
    rng = np.random.default_rng(3)
    chunk = random_chunk(rng, 8, 2, "ones")
    loss, derivatives, _ = evaluated(chunk, np.zeros((2, 4)), np.array([size, -size, size, -size]))
    assert np.isfinite(loss)
    assert np.isfinite(derivatives).all()


def test_probabilities_add_up_and_one_region_is_a_logistic_regression() -> None:
    margins = np.random.default_rng(4).normal(size=(20, 6))
    zero, one = mixture(margins).T
    np.testing.assert_allclose(zero + one, 1.0)
    np.testing.assert_allclose(mixture(margins[:, :2])[:, 1], 1 / (1 + np.exp(-margins[:, 1])))


@pytest.mark.parametrize(("positive", "sign"), [(0.0, -1.0), (4.0, 1.0)])
def test_labels_that_are_all_equal_are_certain(positive: float, sign: float) -> None:
    start = Mixture(4).start(LabelSums(4.0, positive, positive))
    assert start.solved == "all labels are equal"
    assert mixture(start.intercepts[None, :])[:, 1].tolist() == [float(sign > 0)]
