"""Losses whose rows numpy computes: against slow twins, finite differences, and scikit-learn's and scipy's solutions."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import HuberRegressor

from sparkps.mllib.data.store import Chunk
from sparkps.mllib.linear import rowwise
from sparkps.mllib.linear.concomitant import ConcomitantHuber
from sparkps.mllib.linear.distributions import DISTRIBUTIONS, Tweedie
from sparkps.mllib.linear.likelihood import HalfDeviance
from sparkps.mllib.linear.mean_links import MEAN_LINKS, Power
from sparkps.mllib.linear.rowwise import RowwiseLoss
from sparkps.mllib.solvers.objective import LabelSums
from tests.unit.mllib.problems import KINDS, random_chunk

Array = np.ndarray


def glm(family: str, link: str) -> HalfDeviance:
    return HalfDeviance(DISTRIBUTIONS[family], MEAN_LINKS[link])


#: Losses with labels for them, and an intercept that keeps all means in their range.
TABLE: dict[str, tuple[RowwiseLoss, tuple[float, ...], float]] = {
    "huber": (ConcomitantHuber(1.35), (-1.5, 0.0, 40.0), 0.3),
    "wide huber": (ConcomitantHuber(30.0), (-1.5, 0.0, 40.0), 0.3),
    "tweedie": (HalfDeviance(Tweedie(1.5), Power(0.0)), (0.2, 1.0, 5.0), 0.3),
    **{f"{family} {link}": (glm(family, link), labels, bias) for family, link, labels, bias in [
        ("gaussian", "identity", (-1.0, 0.0, 3.0), 0.3), ("gaussian", "log", (1.0, 2.0), 0.3), ("gaussian", "inverse", (1.0, 2.0), 9.0),
        ("binomial", "logit", (0.0, 1.0, 0.3), 0.3), ("binomial", "probit", (0.0, 1.0), 0.3), ("binomial", "cloglog", (0.0, 1.0), -0.5),
        ("poisson", "log", (0.0, 1.0, 5.0), 0.3), ("poisson", "identity", (0.0, 4.0), 9.0), ("poisson", "sqrt", (0.0, 4.0), 9.0),
        ("gamma", "inverse", (0.5, 2.0), 9.0), ("gamma", "identity", (0.5, 2.0), 9.0), ("gamma", "log", (0.5, 2.0), 0.3),
    ]},
}  # fmt: skip

named = pytest.mark.parametrize("name", TABLE)


def problem(name: str, rows: int = 80, values: str = "float64", *, weighted: bool = True) -> tuple[RowwiseLoss, Chunk, Array, Array]:
    loss, labels, bias = TABLE[name]
    rng = np.random.default_rng(5)
    chunk = replace(random_chunk(rng, rows, 6, values, weighted=weighted, labels=labels), offsets=rng.uniform(-0.1, 0.1, rows))
    return loss, chunk, rng.normal(size=6) * 0.2, np.array([bias, *([0.4] * loss.scalars)])


def evaluated(loss: RowwiseLoss, chunks: list[Chunk], w: Array, bias: Array) -> tuple[float, Array]:
    """Loss, and the gradient by coefficients, intercept and scalars."""
    state = np.stack([w, np.zeros(len(w))], axis=1)[:, :, None]
    total, derivatives = loss.loss_and_gradient(chunks, state, bias)
    return total, np.append(state[:, 1, 0], derivatives)


@named
def test_the_gradient_by_finite_differences(name: str) -> None:
    loss, chunk, w, bias = problem(name)
    value, gradient = evaluated(loss, [chunk], w, bias)
    h = 1e-6
    for k, step in enumerate(h * np.eye(len(w) + len(bias))):
        up, down = (evaluated(loss, [chunk], w + s * step[: len(w)], bias + s * step[len(w) :])[0] for s in (1, -1))
        assert gradient[k] == pytest.approx((up - down) / (2 * h), rel=1e-4, abs=1e-4 * max(1.0, value))


@named
@pytest.mark.parametrize(("values", "weighted"), KINDS)
def test_sums_over_rows_one_by_one(name: str, values: str, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, chunk, w, bias = problem(name, 40, values, weighted=weighted)
    monkeypatch.setattr(rowwise, "_ROWS", 7)
    value, gradient = evaluated(loss, [chunk, chunk], w, bias)
    total, expected = 0.0, np.zeros(len(gradient))
    for r in range(len(chunk)):
        x = np.zeros(6)
        for k in range(chunk.indptr[r], chunk.indptr[r + 1]):
            x[chunk.ids[k]] += chunk.values[k] if len(chunk.values) else 1.0
        margin = bias[:1] + w @ x + chunk.offsets[r]
        of_row, slope, by_scalars = loss.of_rows(margin, chunk.labels[r : r + 1], bias[1:])
        weight = chunk.weights[r] if weighted else 1.0
        total += 2 * weight * of_row[0]
        expected += 2 * weight * np.concatenate([slope[0] * x, slope, by_scalars[0]])
    assert value == pytest.approx(total)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


@named
def test_no_rows_add_nothing_and_a_loss_travels(name: str) -> None:
    loss, chunk, w, bias = problem(name, 0)
    loss = pickle.loads(pickle.dumps(loss))
    assert evaluated(loss, [chunk], w, bias)[0] == 0.0
    assert set(loss.kernels) <= {"sparkps.mllib.linear.rowwise", "sparkps.mllib.linear.special"}


def test_twin_of_huber() -> None:
    """The formula of Owen's paper, one row at a time."""
    loss, margins = ConcomitantHuber(1.5), np.linspace(-5, 5, 41)
    scale = 1.7
    losses, _, _ = loss.of_rows(margins, np.full(41, 0.3), np.array([math.log(scale)]))
    for m, found in zip(margins, losses, strict=True):
        z = abs(0.3 - m) / scale
        assert found == pytest.approx(scale / 2 * (1 + (z * z if z <= 1.5 else 3 * z - 1.5**2)))


def test_the_minimum_of_huber_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(200, 3))
    y = x @ [1.0, -2.0, 0.5] + 3.0 + rng.standard_t(2, 200)
    chunk = Chunk(y, np.empty(0), np.arange(0, 603, 3, dtype=np.int32), np.tile(np.arange(3, dtype=np.int32), 200), x.ravel())
    loss = ConcomitantHuber()
    start = loss.start(LabelSums(200.0, float(y.sum()), float(y @ y)))
    assert math.exp(start.scalars[0]) == pytest.approx(y.std())
    first = np.concatenate([np.zeros(3), start.intercepts, start.scalars])
    found = minimize(lambda p: evaluated(loss, [chunk], p[:3], p[3:]), first, jac=True, options={"gtol": 1e-7}).x
    best = HuberRegressor(epsilon=1.35, alpha=0.0, max_iter=1000, tol=1e-9).fit(x, y)
    np.testing.assert_allclose([*found[:4], math.exp(found[4])], [*best.coef_, best.intercept_, best.scale_], rtol=1e-4)


def test_labels_that_do_not_vary_have_scale_1() -> None:
    start = ConcomitantHuber().start(LabelSums(3.0, 6.0, 12.0))
    assert (start.intercepts.tolist(), start.scalars.tolist(), start.solved) == ([2.0], [0.0], "labels do not vary")


@pytest.mark.parametrize("name", [name for name in TABLE if "huber" not in name])
def test_reweighted_least_squares_end_where_the_gradient_is_zero(name: str) -> None:
    loss, chunk, _, _ = problem(name, 300)
    assert isinstance(loss, HalfDeviance)
    x = np.zeros((300, 7))
    x[:, 6] = 1.0
    for r in range(300):
        for k in range(chunk.indptr[r], chunk.indptr[r + 1]):
            x[r, chunk.ids[k]] += chunk.values[k]
    responses, weights = loss.first_responses(chunk)
    for _ in range(60):
        point = np.linalg.solve(x.T @ (weights[:, None] * x), x.T @ (weights * responses))
        responses, weights = loss.working_responses(chunk, point[:6], point[6])
    value, gradient = evaluated(loss, [chunk], point[:6], point[6:])
    assert np.abs(gradient).max() < 1e-6 * max(1.0, value)


def test_training_of_a_likelihood_starts_at_the_mean_label() -> None:
    start = glm("poisson", "log").start(LabelSums(4.0, 12.0, 50.0))
    assert start.intercepts.tolist() == [pytest.approx(math.log(3))]
    assert glm("binomial", "logit").start(LabelSums(4.0, 0.0, 0.0)).intercepts[0] < -30
