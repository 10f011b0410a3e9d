"""Weighted least squares against numpy's, against minimisers of the objective, and where they are not to be solved."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from sparkps.errors import InvalidInput
from sparkps.mllib.solvers.coordinates import descended
from sparkps.mllib.solvers.least_squares import LeastSquares, LeastSquaresFit, weighted_least_squares
from sparkps.mllib.solvers.moments import Moments
from tests import naive_mllib as naive


def data(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features on different scales and far from 0, labels, weights."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(200, 4)) * [1, 10, 0.1, 1] + [0, 50, 1, -3]
    return x, x @ [1.0, 0.2, -3.0, 0.0] + 2.0 + rng.normal(size=200), rng.uniform(0.1, 3, 200)


def fit(x: np.ndarray, y: np.ndarray, w: np.ndarray | None = None, **asked) -> LeastSquaresFit:
    return weighted_least_squares(Moments.of_rows(x, y, w), LeastSquares(**asked))


def deviations(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    mean = np.average(x, axis=0, weights=w)
    return np.sqrt(np.average((x - mean) ** 2, axis=0, weights=w))


def objective(x, y, w, found: LeastSquaresFit, asked: LeastSquares) -> float:
    """In units of the label: half the mean square, and the penalty."""
    of_x, of_y = deviations(x, w), float(deviations(y, w))
    residual = x @ found.coefficients + found.intercept - y
    scaled = found.coefficients * (of_x if asked.standardize_features else 1.0)
    l1 = asked.reg_param * asked.elastic_net * np.abs(scaled).sum()
    l2 = asked.reg_param * (1 - asked.elastic_net) / (of_y if asked.standardize_label else 1.0) * scaled @ scaled / 2
    return float(np.average(residual**2, weights=w) / 2 + l1 + l2)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_without_penalty_it_is_least_squares_with_the_diagonal_of_the_inverse(fit_intercept: bool) -> None:
    x, y, w = data()
    found = fit(x, y, w, fit_intercept=fit_intercept)
    full = np.column_stack([x, np.ones(200)]) if fit_intercept else x
    inverse = np.linalg.inv(full.T @ (w[:, None] * full))
    best = inverse @ full.T @ (w * y)
    np.testing.assert_allclose(found.coefficients, best[:4], rtol=1e-8)
    assert found.intercept == pytest.approx(best[4] if fit_intercept else 0.0)
    np.testing.assert_allclose(found.inverse_diagonal, np.diagonal(inverse), rtol=1e-8)
    assert (found.history, found.reason) == ((0.0,), "the normal equations are solved")


#: L1 goes with a standardized label.
PENALTIES = [(0.0, True), (0.0, False), (0.4, True), (1.0, True)]


@pytest.mark.parametrize(("elastic_net", "standardize_label"), PENALTIES)
@pytest.mark.parametrize("standardize_features", [True, False])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_nothing_nearby_is_better(elastic_net, standardize_label, standardize_features, fit_intercept) -> None:
    x, y, w = data(1)
    asked = LeastSquares(fit_intercept, 0.3, elastic_net, standardize_features, standardize_label)
    found = weighted_least_squares(Moments.of_rows(x, y, w), asked)
    value = objective(x, y, w, found, asked)
    rng = np.random.default_rng(2)
    for step in (1e-2, 1e-4):
        for _ in range(50):
            moved = rng.normal(size=4) * step / deviations(x, w)
            b = np.average(y - x @ (found.coefficients + moved), weights=w) if fit_intercept else 0.0
            assert objective(x, y, w, LeastSquaresFit(found.coefficients + moved, b), asked) >= value - 1e-12


def test_l1_leaves_features_out() -> None:
    x, y, w = data(2)
    found = fit(x, y, w, reg_param=2.0, elastic_net=1.0)
    assert 0 < np.count_nonzero(found.coefficients) < 4
    assert found.history[0] > found.history[-1]
    assert found.inverse_diagonal.tolist() == []


def test_coordinate_descent_against_its_twin_and_scipy() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 5))
    gram, products, l1 = x.T @ x / 60, rng.normal(size=5), np.array([0.1, 0.2, 0.0, 0.4, 3.0])
    w, history = descended(gram, products, 4.0, l1)
    np.testing.assert_allclose(w, naive.lasso(gram, products, l1, 200), atol=1e-12)
    value = lambda z: 0.5 * (4.0 - 2 * z @ products + z @ gram @ z) + l1 @ np.abs(z)  # noqa: E731
    assert history[-1] == pytest.approx(value(w))
    assert minimize(value, w + 0.01, method="Powell").fun >= history[-1] - 1e-9


def test_coordinate_descent_skips_what_has_no_curvature() -> None:
    w, _ = descended(np.diag([1.0, 0.0]), np.array([2.0, 0.0]), 4.0, np.zeros(2))
    assert w.tolist() == [2.0, 0.0]


def test_of_features_that_are_alike_each_takes_its_share() -> None:
    x, y, w = data(4)
    found = fit(np.column_stack([x, x[:, 0]]), y, w, tol=1e-12, max_iter=1000)
    alone = fit(x, y, w)
    assert found.coefficients[0] == pytest.approx(found.coefficients[4])
    assert found.coefficients[0] * 2 == pytest.approx(alone.coefficients[0], rel=1e-5)
    assert found.inverse_diagonal.tolist() == []
    assert len(found.history) > 1


@pytest.mark.parametrize("reg_param", [0.0, 0.2])
@pytest.mark.parametrize("standardize_features", [True, False])
def test_a_constant_feature_has_coefficient_0(reg_param, standardize_features) -> None:
    x, y, w = data(5)
    x[:, 1] = 0.1
    found = fit(x, y, w, reg_param=reg_param, standardize_features=standardize_features, tol=1e-12)
    rest = fit(x[:, [0, 2, 3]], y, w, reg_param=reg_param, standardize_features=standardize_features)
    assert found.coefficients[1] == 0.0
    np.testing.assert_allclose(found.coefficients[[0, 2, 3]], rest.coefficients, rtol=1e-5)


@pytest.mark.parametrize("label", [0.0, 0.1, -3.0])
def test_labels_that_do_not_vary_are_the_intercept(label: float) -> None:
    x, _, w = data(6)
    found = fit(x, np.full(200, label), w, reg_param=0.1)
    assert found.coefficients.tolist() == [0.0] * 4
    assert found.intercept == pytest.approx(label)
    assert found.reason == "labels do not vary"


def test_labels_that_do_not_vary_are_fitted_without_intercept_unless_penalised() -> None:
    x, _, w = data(7)
    found = fit(x, np.full(200, 2.0), w, fit_intercept=False)
    np.testing.assert_allclose(found.coefficients, np.linalg.lstsq(x * np.sqrt(w)[:, None], 2 * np.sqrt(w), rcond=None)[0], rtol=1e-7)
    with pytest.raises(InvalidInput, match="`regParam` must be 0 where all labels are equal"):
        fit(x, np.full(200, 2.0), w, fit_intercept=False, reg_param=0.1)


def test_no_features_leave_the_mean() -> None:
    found = fit(np.empty((3, 0)), np.array([1.0, 2.0, 6.0]))
    assert (found.coefficients.tolist(), found.intercept, found.inverse_diagonal.tolist()) == ([], 3.0, [pytest.approx(1 / 3)])


def test_the_inverse_is_left_out_where_nobody_asks() -> None:
    x, y, w = data(8)
    found = fit(x, y, w, with_inverse=False)
    assert found.inverse_diagonal.tolist() == []
    np.testing.assert_allclose(found.coefficients, fit(x, y, w).coefficients, rtol=1e-12)
