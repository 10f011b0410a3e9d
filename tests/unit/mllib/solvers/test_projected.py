"""L-BFGS under bounds against scipy's L-BFGS-B, and on problems whose bounds hold everything, nothing, or change their mind."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der

from sparkps.mllib.solvers.lbfgs import Lbfgs
from sparkps.mllib.solvers.projected import LOWER, UPPER, ProjectedLbfgs
from sparkps.mllib.solvers.quasi_newton import POINT, SolverStanding
from tests.unit.mllib.problems import NumpyVectors, logistic_objective
from tests.unit.mllib.solvers.test_lbfgs import logistic_problem

#: What stands for no bound: tables hold finite numbers.
FAR = np.finfo(np.float64).max


def vectors_of(function, start, lower, upper, history: int = 10) -> NumpyVectors:
    return NumpyVectors(function, start, history, ProjectedLbfgs, **{LOWER: lower, UPPER: upper})


def scipys(function, start, lower, upper) -> np.ndarray:
    options = {"ftol": 1e-16, "gtol": 1e-11, "maxiter": 20_000, "maxfun": 100_000}
    bounds = list(zip(lower, upper, strict=True))
    return minimize(function, np.clip(start, lower, upper), jac=True, method="L-BFGS-B", bounds=bounds, options=options).x


BOUNDS = {
    "none": (-FAR, FAR),
    "not negative": (0.0, FAR),
    "narrow": (-0.1, 0.2),
    "above": (-FAR, 0.05),
    "away from zero": (0.3, 0.9),
}


@pytest.mark.parametrize("l2", [0.0, 0.01])
@pytest.mark.parametrize("bounds", BOUNDS)
def test_finds_the_optimum_of_scipy(bounds: str, l2: float) -> None:
    x, y = logistic_problem()
    function = logistic_objective(x, y, l2)
    lower, upper = (np.append(np.full(12, each), far) for each, far in zip(BOUNDS[bounds], (-FAR, FAR), strict=True))
    vectors = vectors_of(function, np.zeros(13), lower, upper)
    found = ProjectedLbfgs(vectors, 500, 1e-12).minimize()
    best = scipys(function, np.zeros(13), lower, upper)
    assert found.history[-1] == pytest.approx(function(best)[0], rel=1e-11)
    np.testing.assert_allclose(vectors.held[POINT], best, rtol=1e-6, atol=1e-6)
    assert ((vectors.held[POINT] >= lower) & (vectors.held[POINT] <= upper)).all()


@pytest.mark.parametrize("seed", range(6))
def test_finds_the_optimum_under_bounds_of_all_kinds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(40, 30)) * rng.uniform(0.2, 5, 30)
    b = rng.normal(size=40) * 3

    def function(w: np.ndarray) -> tuple[float, np.ndarray]:
        left = a @ w - b
        return float(left @ left) / 80 + 0.0005 * float(w @ w), a.T @ left / 40 + 0.001 * w

    lower, upper = np.sort(rng.normal(size=(2, 30)), axis=0)
    lower[rng.random(30) < 0.3], upper[rng.random(30) < 0.3] = -FAR, FAR
    upper[:2] = lower[:2] = 0.25  # held from both sides
    vectors = vectors_of(function, rng.normal(size=30), lower, upper)
    found = ProjectedLbfgs(vectors, 1000, 1e-13).minimize()
    best = scipys(function, np.zeros(30), lower, upper)
    np.testing.assert_allclose(vectors.held[POINT], best, rtol=1e-5, atol=1e-6)
    assert found.evaluations < 300


def test_finds_the_bottom_of_a_curved_valley_that_a_bound_cuts() -> None:
    vectors = vectors_of(lambda w: (rosen(w), rosen_der(w)), np.array([-1.2, 1.0, -0.5]), np.full(3, -2.0), np.array([2.0, 0.8, 2.0]))
    ProjectedLbfgs(vectors, 500, 1e-12).minimize()
    best = scipys(lambda w: (rosen(w), rosen_der(w)), np.array([-1.2, 0.8, -0.5]), np.full(3, -2.0), np.array([2.0, 0.8, 2.0]))
    np.testing.assert_allclose(vectors.held[POINT], best, rtol=1e-5)


def test_never_looks_outside_of_the_bounds_after_the_start_and_never_rises() -> None:
    x, y = logistic_problem()
    vectors = vectors_of(logistic_objective(x, y, 0.0), np.full(13, 5.0), np.full(13, -0.1), np.full(13, 0.2))
    found = ProjectedLbfgs(vectors, 100, 0.0).minimize()
    assert all((abs(trial - 0.05) <= 0.15 + 1e-15).all() for trial in vectors.trials[1:])
    assert all(b <= a for a, b in zip(found.history, found.history[1:], strict=False))


def test_bounds_may_be_written_while_the_start_is_evaluated() -> None:
    def function(w: np.ndarray) -> tuple[float, np.ndarray]:
        vectors.held[LOWER], vectors.held[UPPER] = np.array([1.0, -1.0]), np.array([5.0, 5.0])
        return float(w @ w), 2 * w

    vectors = vectors_of(function, np.zeros(2), np.zeros(2), np.zeros(2))
    ProjectedLbfgs(vectors, 10, 1e-9).minimize()
    assert vectors.held[POINT].tolist() == [1.0, 0.0]


def test_bounds_that_hold_everything_leave_nothing_to_do() -> None:
    vectors = vectors_of(lambda w: (float(w @ w), 2 * w), np.full(3, 9.0), np.full(3, 1.0), np.full(3, 1.0))
    found = ProjectedLbfgs(vectors, 10, 1e-6).minimize()
    assert (found.iterations, found.reason) == (0, "the gradient is small")
    assert vectors.held[POINT].tolist() == [1.0] * 3


def test_needs_about_as_many_evaluations_as_without_bounds() -> None:
    x, y = logistic_problem()
    function = logistic_objective(x, y, 1e-3)
    free = Lbfgs(NumpyVectors(function, np.zeros(13)), 200, 1e-9).minimize()
    lower = np.append(np.zeros(12), -FAR)
    bounded = ProjectedLbfgs(vectors_of(function, np.zeros(13), lower, np.full(13, FAR)), 200, 1e-9).minimize()
    assert bounded.evaluations <= 1.5 * free.evaluations


def test_asks_the_tier_once_for_each_trial_and_once_more_at_the_start() -> None:
    x, y = logistic_problem()
    vectors = vectors_of(logistic_objective(x, y, 0.0), np.zeros(13), np.zeros(13), np.full(13, FAR))
    found = ProjectedLbfgs(vectors, 15, 0.0).minimize()
    assert vectors.requests == found.evaluations + 1


@pytest.mark.parametrize("history", [2, 10])
def test_goes_on_bit_for_bit_from_where_it_stood_after_any_iteration(history: int) -> None:
    x, y = logistic_problem()
    function, kept = logistic_objective(x, y, 1e-3), []
    bounds = np.append(np.full(12, -0.2), -FAR), np.append(np.full(12, 0.1), FAR)

    def keep(iteration, standing):
        kept.append((iteration, standing().encoded(), {name: held.copy() for name, held in vectors.held.items()}))

    vectors = vectors_of(function, np.zeros(13), *bounds, history)
    whole = ProjectedLbfgs(vectors, 10, 0.0, history, keep=keep).minimize()
    assert kept
    for _, standing, held in kept:
        others = vectors_of(function, np.zeros(13), *bounds, history)
        others.held = held
        found = ProjectedLbfgs(others, 10, 0.0, history).minimize(SolverStanding.decoded(standing))
        assert found == whole
        assert others.held[POINT].tobytes() == vectors.held[POINT].tobytes()
