"""OWL-QN against a twin that takes breeze's steps on whole vectors, and against the optima of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sparkps.mllib.solvers.backtracking import Backtracking
from sparkps.mllib.solvers.linesearch import LineSearchError, Point
from sparkps.mllib.solvers.owlqn import WEIGHTS, OwlQn
from sparkps.mllib.solvers.quasi_newton import POINT, Progress, SolverStanding
from tests import naive_mllib as naive
from tests.unit.mllib.problems import NumpyVectors, logistic_objective
from tests.unit.mllib.solvers.test_lbfgs import logistic_problem


def vectors_of(function, start: np.ndarray, weights: np.ndarray, history: int = 10) -> NumpyVectors:
    return NumpyVectors(function, start, history, OwlQn, **{WEIGHTS: weights})


def penalty(l1: float) -> np.ndarray:
    """Of 12 coefficients and an intercept."""
    return np.append(np.full(12, l1), 0.0)


def points_of(vectors: NumpyVectors, iterations: int) -> tuple[list[np.ndarray], list[float]]:
    """Points after each iteration, and their objectives."""
    points, values = [], []

    def report(progress: Progress) -> None:
        points.append(vectors.held[POINT].copy())
        values.append(progress.objective)

    OwlQn(vectors, iterations, 0.0, report=report).minimize()
    return points, values


@pytest.mark.parametrize("start", ["zero", "elsewhere"])
@pytest.mark.parametrize("l1", [0.0, 1e-3, 0.02, 0.2])
def test_takes_the_steps_of_its_twin(l1: float, start: str) -> None:
    x, y = logistic_problem()
    function = logistic_objective(x, y, 1e-3)
    first = np.zeros(13) if start == "zero" else np.random.default_rng(3).normal(size=13)
    expected = naive.Owlqn(function, penalty(l1)).minimize(first, 12)
    found, values = points_of(vectors_of(function, first, penalty(l1)), 12)
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-9)
    twin = naive.Owlqn(function, penalty(l1))
    np.testing.assert_allclose(values, [twin.adjusted(each)[0] for each in expected], rtol=1e-9)


@pytest.mark.parametrize("l1", [1e-3, 0.02, 0.2])
def test_finds_the_optimum_of_scikit_learn_and_its_zeros(l1: float) -> None:
    x, y = logistic_problem()
    vectors = vectors_of(logistic_objective(x, y, 0.0), np.zeros(13), penalty(l1))
    found = OwlQn(vectors, 1000, 1e-13).minimize()
    best = LogisticRegression(l1_ratio=1, C=1 / (l1 * len(y)), solver="saga", tol=1e-12, max_iter=100_000).fit(x, y)
    expected = np.append(best.coef_[0], best.intercept_)
    np.testing.assert_allclose(vectors.held[POINT], expected, rtol=1e-5, atol=1e-7)
    assert ((vectors.held[POINT] == 0) == (expected == 0)).all()
    value, _ = naive.Owlqn(logistic_objective(x, y, 0.0), penalty(l1)).adjusted(expected)
    assert found.history[-1] == pytest.approx(value, rel=1e-10)


def test_a_large_penalty_leaves_the_intercept_alone() -> None:
    x, y = logistic_problem()
    vectors = vectors_of(logistic_objective(x, y, 0.0), np.zeros(13), penalty(50.0))
    OwlQn(vectors, 100, 1e-10).minimize()
    assert not vectors.held[POINT][:12].any()
    assert vectors.held[POINT][12] == pytest.approx(np.log(y.mean() / (1 - y.mean())), rel=1e-5)


def test_weights_may_differ_from_element_to_element() -> None:
    x, y = logistic_problem()
    scale = np.random.default_rng(1).uniform(0.5, 3, 12)
    plain = vectors_of(logistic_objective(x, y, 0.0), np.zeros(13), penalty(0.02))
    scaled = vectors_of(logistic_objective(x / scale, y, 0.0), np.zeros(13), np.append(0.02 / scale, 0.0))
    for vectors in (plain, scaled):
        OwlQn(vectors, 1000, 1e-13).minimize()
    np.testing.assert_allclose(scaled.held[POINT][:12] / scale, plain.held[POINT][:12], rtol=1e-4, atol=1e-6)


def test_asks_the_tier_once_for_each_trial_and_once_for_each_direction() -> None:
    x, y = logistic_problem()
    vectors = vectors_of(logistic_objective(x, y, 0.0), np.zeros(13), penalty(0.02))
    found = OwlQn(vectors, 15, 0.0).minimize()
    assert vectors.requests == found.evaluations + found.iterations


def test_without_a_penalty_half_of_the_evaluations_are_spared() -> None:
    """breeze looks at a first step that it refuses whatever it finds there."""
    x, y = logistic_problem()
    vectors = vectors_of(logistic_objective(x, y, 0.01), np.zeros(13), penalty(0.0))
    found = OwlQn(vectors, 10, 0.0).minimize()
    assert found.evaluations < 2 * found.iterations


@pytest.mark.parametrize("history", [2, 10])
def test_goes_on_bit_for_bit_from_where_it_stood_after_any_iteration(history: int) -> None:
    x, y = logistic_problem()
    function, kept = logistic_objective(x, y, 1e-3), []

    def keep(iteration, standing):
        kept.append((iteration, standing().encoded(), {name: held.copy() for name, held in vectors.held.items()}))

    vectors = vectors_of(function, np.zeros(13), penalty(0.01), history)
    whole = OwlQn(vectors, 15, 0.0, history, keep=keep).minimize()
    assert [iteration for iteration, *_ in kept] == list(range(15))
    for _, standing, held in kept:
        others = vectors_of(function, np.zeros(13), penalty(0.01), history)
        others.held = held
        found = OwlQn(others, 15, 0.0, history).minimize(SolverStanding.decoded(standing))
        assert found == whole
        assert others.held[POINT].tobytes() == vectors.held[POINT].tobytes()


def test_a_function_that_overflows_is_stepped_back_from() -> None:
    def function(w: np.ndarray) -> tuple[float, np.ndarray]:
        return (np.inf, np.full(2, np.nan)) if abs(w).max() > 0.4 else (float(((w - 0.3) ** 2).sum()), 2 * (w - 0.3))

    vectors = vectors_of(function, np.zeros(2), np.full(2, 0.01))
    OwlQn(vectors, 50, 1e-12).minimize()
    np.testing.assert_allclose(vectors.held[POINT], np.full(2, 0.295), rtol=1e-6)


def test_a_search_that_only_shrinks_ends_with_an_error() -> None:
    search = Backtracking(Point(0.0, 1.0, -1.0), 0.0, 1e-9, 0.1)
    with pytest.raises(LineSearchError, match="a step must be between"):
        while True:
            search.tell(Point(search.step, 9.0, 1.0))


def test_a_search_takes_the_step_before_its_last_change() -> None:
    search, steps = Backtracking(Point(0.0, 1.0, -1.0), 0.0, 1.0, 0.5), [1.0]
    while (step := search.tell(Point(steps[-1], 9.0, 5.0))) is not None:
        steps.append(step)
    assert len(steps) == 20
    assert search.step == steps[-1] == 0.5**19
