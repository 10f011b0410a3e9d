"""L-BFGS-B against scipy's, and on problems whose bounds hold everything, nothing, or change their mind."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der

from sparkps.mllib.solvers.lbfgs import Lbfgs
from sparkps.mllib.solvers.lbfgsb import LOWER, UNBOUNDED, UPPER, LbfgsB
from sparkps.mllib.solvers.quasi_newton import POINT, TRIAL, SolverStanding
from tests.unit.mllib.problems import BoundedNumpyVectors, NumpyVectors, logistic_objective
from tests.unit.mllib.solvers.test_lbfgs import logistic_problem

INF = np.inf


def scipys(function, start, lower, upper) -> np.ndarray:
    options = {"ftol": 1e-16, "gtol": 1e-11, "maxiter": 20_000, "maxfun": 100_000}
    bounds = list(zip(lower, upper, strict=True))
    return minimize(function, np.clip(start, lower, upper), jac=True, method="L-BFGS-B", bounds=bounds, options=options).x


def move(function, point, lower, upper) -> float:
    """The largest element of P(x - g) - x: 0 at an optimum."""
    return float(np.abs(np.clip(point - function(point)[1], lower, upper) - point).max())


BOUNDS = {
    "none": (-INF, INF),
    "not negative": (0.0, INF),
    "narrow": (-0.1, 0.2),
    "above": (-INF, 0.05),
    "away from zero": (0.3, 0.9),
}


@pytest.mark.parametrize("l2", [0.0, 0.01])
@pytest.mark.parametrize("bounds", BOUNDS)
def test_finds_the_optimum_of_scipy(bounds: str, l2: float) -> None:
    x, y = logistic_problem()
    function = logistic_objective(x, y, l2)
    lower, upper = (np.append(np.full(12, each), far) for each, far in zip(BOUNDS[bounds], (-INF, INF), strict=True))
    vectors = BoundedNumpyVectors(function, np.zeros(13), lower, upper)
    found = LbfgsB(vectors, 500, 1e-12).minimize()
    best = scipys(function, np.zeros(13), lower, upper)
    assert found.history[-1] == pytest.approx(function(best)[0], rel=1e-8)
    assert move(function, vectors.held[POINT], lower, upper) < 1e-5
    assert ((vectors.held[POINT] >= lower) & (vectors.held[POINT] <= upper)).all()


def random_problem(rng: np.random.Generator, n: int = 30):
    """Least squares with elements of different scales, and a box that has sides of all kinds."""
    a = rng.normal(size=(n + 10, n)) * rng.uniform(0.2, 5, n)
    b = rng.normal(size=n + 10) * 3

    def function(w: np.ndarray) -> tuple[float, np.ndarray]:
        left = a @ w - b
        return float(left @ left) / 2 + 0.005 * float(w @ w), a.T @ left + 0.01 * w

    lower, upper = np.sort(rng.normal(size=(2, n)), axis=0)
    lower[rng.random(n) < 0.3], upper[rng.random(n) < 0.3] = -INF, INF
    upper[:2] = lower[:2] = 0.25  # held from both sides
    return function, lower, upper


@pytest.mark.parametrize("history", [1, 10])
@pytest.mark.parametrize("seed", range(8))
def test_finds_the_optimum_under_bounds_of_all_kinds(seed: int, history: int) -> None:
    rng = np.random.default_rng(seed)
    function, lower, upper = random_problem(rng)
    vectors = BoundedNumpyVectors(function, rng.normal(size=30), lower, upper, history)
    found = LbfgsB(vectors, 2000, 1e-15, history).minimize()
    best = scipys(function, np.zeros(30), lower, upper)
    np.testing.assert_allclose(vectors.held[POINT], best, atol=1e-3)
    assert found.history[-1] == pytest.approx(function(best)[0], rel=1e-7)
    assert ((vectors.held[POINT] >= lower) & (vectors.held[POINT] <= upper)).all()


@pytest.mark.parametrize("seed", range(5))
def test_elements_without_bounds_are_the_same_as_sums_and_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    function, lower, upper = random_problem(rng)
    histories = []
    for one_by_one in (False, True):
        vectors = BoundedNumpyVectors(function, np.zeros(30), lower, upper)
        if one_by_one:
            vectors.has = np.ones(30, bool)
            vectors.held[UNBOUNDED] = np.zeros(30)
        else:
            assert 0 < vectors.has.sum() < 30
        histories.append(LbfgsB(vectors, 12, 0.0).minimize().history)
    np.testing.assert_allclose(*histories, rtol=1e-9)


def test_finds_the_bottom_of_a_curved_valley_that_a_bound_cuts() -> None:
    lower, upper = np.full(3, -2.0), np.array([2.0, 0.8, 2.0])
    vectors = BoundedNumpyVectors(lambda w: (rosen(w), rosen_der(w)), np.array([-1.2, 1.0, -0.5]), lower, upper)
    LbfgsB(vectors, 500, 1e-12).minimize()
    best = scipys(lambda w: (rosen(w), rosen_der(w)), np.array([-1.2, 0.8, -0.5]), lower, upper)
    np.testing.assert_allclose(vectors.held[POINT], best, rtol=1e-4)


def test_never_looks_outside_of_the_bounds_after_the_start_and_never_rises() -> None:
    x, y = logistic_problem()
    vectors = BoundedNumpyVectors(logistic_objective(x, y, 0.0), np.full(13, 5.0), np.full(13, -0.1), np.full(13, 0.2))
    found = LbfgsB(vectors, 100, 0.0).minimize()
    assert all((abs(trial - 0.05) <= 0.15 + 1e-15).all() for trial in vectors.trials[1:])
    assert all(b <= a for a, b in zip(found.history, found.history[1:], strict=False))


def test_bounds_may_be_written_while_the_start_is_evaluated() -> None:
    def function(w: np.ndarray) -> tuple[float, np.ndarray]:
        vectors.held[LOWER], vectors.held[UPPER] = np.array([1.0, -1.0]), np.array([5.0, 5.0])
        return float(w @ w), 2 * w

    vectors = BoundedNumpyVectors(function, np.zeros(2), np.zeros(2), np.zeros(2))
    LbfgsB(vectors, 10, 1e-9).minimize()
    assert vectors.held[POINT].tolist() == [1.0, 0.0]


def test_bounds_that_hold_everything_leave_nothing_to_do() -> None:
    vectors = BoundedNumpyVectors(lambda w: (float(w @ w), 2 * w), np.full(3, 9.0), np.full(3, 1.0), np.full(3, 1.0))
    found = LbfgsB(vectors, 10, 1e-6).minimize()
    assert (found.iterations, found.reason) == (0, "the gradient leads nowhere within the bounds")
    assert vectors.held[POINT].tolist() == [1.0] * 3


def test_reaches_a_corner_where_all_elements_come_to_a_bound() -> None:
    goal, lower, upper = np.array([5.0, -7.0, 2.0]), np.full(3, -1.0), np.full(3, 1.5)
    vectors = BoundedNumpyVectors(lambda w: (float((w - goal) @ (w - goal)), 2 * (w - goal)), np.zeros(3), lower, upper)
    found = LbfgsB(vectors, 10, 1e-9).minimize()
    assert vectors.held[POINT].tolist() == [1.5, -1.0, 1.5]
    assert found.iterations <= 2


def test_a_path_with_thousands_of_corners_is_walked_in_blocks() -> None:
    rng = np.random.default_rng(3)
    goal, n = rng.normal(size=3000) * 4, 3000
    curve = rng.uniform(0.5, 20, n)
    lower, upper = -rng.uniform(0, 3, n), rng.uniform(0, 3, n)
    vectors = BoundedNumpyVectors(lambda w: (float(curve @ (w - goal) ** 2) / 2, curve * (w - goal)), np.zeros(n), lower, upper)
    LbfgsB(vectors, 100, 1e-15).minimize()
    np.testing.assert_allclose(vectors.held[POINT], np.clip(goal, lower, upper), atol=1e-4)


def test_ends_where_no_step_descends() -> None:
    """The gradient has the wrong sign: the line search fails, and again from steepest descent."""
    start, bounds = np.ones(4), (np.zeros(4), np.full(4, 3.0))
    vectors = BoundedNumpyVectors(lambda w: (float(w @ w), -2 * w), start, *bounds)
    found = LbfgsB(vectors, 100, 1e-9).minimize()
    assert found.reason.startswith("the line search failed")
    assert vectors.held[POINT].tolist() == start.tolist()


def test_ends_where_the_function_is_nowhere_finite_but_at_the_start() -> None:
    def function(w: np.ndarray) -> tuple[float, np.ndarray]:
        return (0.0 if (w == 0).all() else np.nan), np.full(2, -1.0)

    vectors = BoundedNumpyVectors(function, np.zeros(2), np.full(2, -1.0), np.full(2, 1.0))
    found = LbfgsB(vectors, 100, 1e-9).minimize()
    assert found.reason.startswith("the line search failed")
    assert found.history == [0.0]


def test_a_step_without_curvature_is_not_remembered() -> None:
    vectors = BoundedNumpyVectors(lambda w: (float(-w.sum()), np.full(2, -1.0)), np.zeros(2), np.full(2, -INF), np.array([1e3, 2e3]))
    solver = LbfgsB(vectors, 20, 1e-9)
    solver.minimize()
    assert vectors.held[POINT].tolist() == [1e3, 2e3]
    assert solver.pairs.order == []


def test_needs_about_as_many_evaluations_as_without_bounds() -> None:
    x, y = logistic_problem()
    function = logistic_objective(x, y, 1e-3)
    free = Lbfgs(NumpyVectors(function, np.zeros(13)), 200, 1e-9).minimize()
    lower = np.append(np.zeros(12), -INF)
    bounded = LbfgsB(BoundedNumpyVectors(function, np.zeros(13), lower, np.full(13, INF)), 200, 1e-9).minimize()
    assert bounded.evaluations <= 1.5 * free.evaluations


@pytest.mark.parametrize("history", [2, 10])
def test_goes_on_bit_for_bit_from_where_it_stood_after_any_iteration(history: int) -> None:
    x, y = logistic_problem()
    function, kept = logistic_objective(x, y, 1e-3), []
    bounds = np.append(np.full(12, -0.2), -INF), np.append(np.full(12, 0.1), INF)

    def keep(iteration, standing):
        kept.append((iteration, standing().encoded(), {name: held.copy() for name, held in vectors.held.items()}))

    vectors = BoundedNumpyVectors(function, np.zeros(13), *bounds, history)
    whole = LbfgsB(vectors, 10, 0.0, history, keep=keep).minimize()
    assert len(kept) > 3
    for _, standing, held in kept:
        others = BoundedNumpyVectors(function, np.zeros(13), *bounds, history)
        others.held = {**held, TRIAL: np.full(13, np.nan)}  # it begins from the accepted point
        found = LbfgsB(others, 10, 0.0, history).minimize(SolverStanding.decoded(standing))
        assert found == whole
        assert others.held[POINT].tobytes() == vectors.held[POINT].tobytes()


def test_vectors_are_named_once() -> None:
    names = LbfgsB.vector_names(2)
    assert len(set(names)) == len(names)
    assert {LOWER, UPPER, UNBOUNDED} <= set(names)
