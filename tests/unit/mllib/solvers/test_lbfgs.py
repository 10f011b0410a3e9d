"""L-BFGS and its line search, against scipy, against a two-loop recursion on real vectors, and on functions that resist."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der

from sparkps.mllib.solvers.lbfgs import Lbfgs
from sparkps.mllib.solvers.linesearch import LineSearchError, Point, Search
from sparkps.mllib.solvers.local_vectors import LocalVectors
from sparkps.mllib.solvers.pairs import Pairs
from sparkps.mllib.solvers.quasi_newton import POINT, Progress, SolverStanding
from tests.unit.mllib.problems import NumpyVectors, logistic_objective


def logistic_problem(rows: int = 400, features: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(rows, features)) * rng.uniform(0.1, 4, features)
    return x, (rng.random(rows) < 1 / (1 + np.exp(-x @ rng.normal(size=features)))).astype(float)


@pytest.mark.parametrize("l2", [0.0, 1e-3, 0.5])
def test_finds_the_optimum_of_logistic_regression(l2: float) -> None:
    x, y = logistic_problem()
    function = logistic_objective(x, y, l2)
    vectors = NumpyVectors(function, np.zeros(13))
    found = Lbfgs(vectors, 500, 1e-10).minimize()
    best = minimize(function, np.zeros(13), jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000})
    assert found.history[-1] == pytest.approx(best.fun, rel=1e-9)
    np.testing.assert_allclose(vectors.held[POINT], best.x, rtol=1e-4, atol=1e-6)


def test_finds_the_bottom_of_a_curved_valley() -> None:
    vectors = NumpyVectors(lambda w: (rosen(w), rosen_der(w)), np.array([-1.2, 1.0, -0.5, 2.0]))
    found = Lbfgs(vectors, 300, 1e-9).minimize()
    np.testing.assert_allclose(vectors.held[POINT], np.ones(4), atol=1e-5)
    assert found.evaluations < 200


def test_objective_never_rises() -> None:
    x, y = logistic_problem()
    found = Lbfgs(NumpyVectors(logistic_objective(x, y, 0.01), np.zeros(13)), 60, 0.0).minimize()
    assert all(b <= a for a, b in zip(found.history, found.history[1:], strict=False))


@pytest.mark.parametrize("pairs", [1, 3, 5])
def test_direction_is_that_of_the_two_loop_recursion(pairs: int) -> None:
    rng = np.random.default_rng(pairs)
    held, ours = [], Pairs(3)
    for _ in range(pairs):
        g, s = rng.normal(size=(2, 8))
        y = s * rng.uniform(0.5, 2, 8)
        slot = ours.next_slot()
        held = [pair for pair in held if pair[0] != slot] + [(slot, s, y)]
        vectors = {"g": g, **{f"s{i}": v for i, v, _ in held}, **{f"y{i}": v for i, _, v in held}}
        ours.take(slot, {(a, b): va @ vb for a, va in vectors.items() for b, vb in vectors.items()}, "g")
    q, alphas = g.copy(), []
    for _, s, y in reversed(held):
        alphas.append(s @ q / (s @ y))
        q -= alphas[-1] * y
    q *= held[-1][1] @ held[-1][2] / (held[-1][2] @ held[-1][2])
    for (_, s, y), alpha in zip(held, reversed(alphas), strict=True):
        q += (alpha - y @ q / (s @ y)) * s
    coefficients, slope = ours.direction("p")
    named = {"p": g, **vectors}
    direction = sum(c * named[name] for name, c in coefficients.items())
    np.testing.assert_allclose(direction, -q, rtol=1e-10)
    assert slope == pytest.approx(-q @ g)


def test_stops_at_max_iter_and_reports_every_iteration() -> None:
    x, y = logistic_problem()
    seen: list[Progress] = []
    found = Lbfgs(NumpyVectors(logistic_objective(x, y, 0.0), np.zeros(13)), 5, 0.0, report=seen.append).minimize()
    assert (found.iterations, len(found.history), found.reason) == (5, 6, "maxIter was reached")
    assert [p.iteration for p in seen] == list(range(6))
    assert [p.objective for p in seen] == found.history


def test_zero_iterations_leave_the_start() -> None:
    vectors = NumpyVectors(lambda w: (float(w @ w), 2 * w), np.array([3.0]))
    assert Lbfgs(vectors, 0, 1e-6).minimize().history == [9.0]
    assert vectors.held[POINT].tolist() == [3.0]


def test_a_start_at_the_optimum_ends_at_once() -> None:
    found = Lbfgs(NumpyVectors(lambda w: (float(w @ w), 2 * w), np.zeros(3)), 10, 1e-6).minimize()
    assert (found.iterations, found.reason) == (0, "the gradient is small")


def test_a_function_without_a_minimum_along_its_gradient_gives_up_where_it_was() -> None:
    vectors = NumpyVectors(lambda w: (float(np.abs(w).sum()), -np.sign(w)), np.array([1.0, -2.0]))
    found = Lbfgs(vectors, 10, 1e-6).minimize()
    assert found.reason.startswith("the line search failed")
    assert vectors.held[POINT].tolist() == [1.0, -2.0]


def walk(function, first: float) -> tuple[float, int]:
    search = Search(Point(0.0, *function(0.0)), first)
    t, steps = first, 0
    while True:
        steps += 1
        following = search.tell(Point(t, *function(t)))
        if following is None:
            return t, steps
        t = following


@pytest.mark.parametrize("first", [1e-2, 0.3, 1.0, 10.0, 40.0])
def test_line_search_satisfies_the_strong_wolfe_conditions(first: float) -> None:
    def function(t: float) -> tuple[float, float]:
        return (t - 2) ** 4 - 3 * t, 4 * (t - 2) ** 3 - 3

    t, _ = walk(function, first)
    value, slope = function(t)
    assert value <= function(0.0)[0] + 1e-4 * t * function(0.0)[1]
    assert abs(slope) <= 0.9 * abs(function(0.0)[1])


def test_line_search_halves_a_step_that_overflows() -> None:
    def function(t: float) -> tuple[float, float]:
        return (np.inf, np.nan) if t > 3 else ((t - 1) ** 2, 2 * (t - 1))

    assert walk(function, 8.0)[0] == 2.0 or walk(function, 8.0)[0] < 3


def test_line_search_ends_on_a_function_that_only_falls() -> None:
    with pytest.raises(LineSearchError, match="no interval"):
        walk(lambda t: (-t, -1.0), 1.0)


@pytest.mark.parametrize("history", [2, 10])
def test_goes_on_bit_for_bit_from_where_it_stood_after_any_iteration(history: int) -> None:
    x, y = logistic_problem()
    function = logistic_objective(x, y, 1e-3)
    kept = []

    def keep(iteration, standing):
        kept.append((iteration, standing().encoded(), {name: held.copy() for name, held in vectors.held.items()}))

    vectors = NumpyVectors(function, np.zeros(13), history)
    whole = Lbfgs(vectors, 15, 0.0, history, keep=keep).minimize()
    assert [iteration for iteration, *_ in kept] == list(range(15))
    for iteration, standing, held in kept:
        others = NumpyVectors(function, np.zeros(13), history)
        others.held = held
        begun = SolverStanding.decoded(standing)
        assert len(begun.history) == iteration + 1
        found = Lbfgs(others, 15, 0.0, history).minimize(begun)
        assert found == whole
        assert others.held[POINT].tobytes() == vectors.held[POINT].tobytes()


def test_stands_nowhere_between_a_failed_line_search_and_the_next() -> None:
    """What it then forgets is not in the standing."""
    asked = []
    vectors = NumpyVectors(lambda w: (float(np.abs(w).sum()), np.sign(w)), np.array([1.0, -0.3]))
    found = Lbfgs(vectors, 30, 0.0, keep=lambda iteration, _: asked.append(iteration)).minimize()
    assert "line search failed" in found.reason
    assert asked == sorted(set(asked))


def test_a_search_goes_no_further_than_its_longest_step() -> None:
    search = Search(Point(0.0, 0.0, -1.0), 1.0, 1.2)
    assert search.tell(Point(1.0, -1.0, -1.0)) == 1.2
    assert search.tell(Point(1.2, -1.2, -1.0)) is None


class _Steep(Lbfgs):
    """Whose gradient is never small."""

    def _gradient_norm(self) -> float:
        return 1.0


def test_the_objective_stands_still_when_twenty_iterations_have_not_changed_it() -> None:
    solver = _Steep(LocalVectors(lambda w: (float(w @ w), 2 * w), np.ones(2)), 100, 1e-3)
    assert solver._converged(19, [5.0] + [1.0] * 19) is None
    assert solver._converged(20, [5.0] + [1.0] * 20) == "the objective stands still"
    assert solver._converged(20, [5.0] + [1.0051] * 19 + [1.0]) is None  # by more than tol of where it began
    assert solver._converged(20, [5.0] + [1.0049] * 19 + [1.0]) == "the objective stands still"


def test_a_gradient_is_small_when_it_is_so_by_the_measure_that_is_given() -> None:
    def steep(w: np.ndarray) -> tuple[float, np.ndarray]:
        return 1.0 + float(w @ w), 2 * w

    vectors = LocalVectors(steep, np.array([1e-5, 0.0]))
    vectors.held["u"] = np.array([1e6, 1.0])
    for measure, iterations in (("", 0), ("u", 1)):
        vectors.held["x"] = np.array([1e-5, 0.0])
        assert Lbfgs(vectors, 10, 1e-4, measure=measure).minimize().iterations == iterations
