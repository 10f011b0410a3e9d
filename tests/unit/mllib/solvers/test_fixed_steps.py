"""Gradient descent by constant steps against the same steps written out."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.mllib.solvers.fixed_steps import FixedSteps
from sparkps.mllib.solvers.quasi_newton import POINT, SolverStanding
from tests.unit.mllib.problems import NumpyVectors

CURVATURE = np.array([1.0, 0.25, 3.0])
BEGIN = np.array([2.0, -4.0, 1.0])


def bowl(w: np.ndarray) -> tuple[float, np.ndarray]:
    return 0.5 * float(CURVATURE @ w**2), CURVATURE * w


def minimised(max_iter: int, tol: float = 0.0, **more):
    vectors = NumpyVectors(bowl, BEGIN, method=FixedSteps)
    return vectors, FixedSteps(vectors, max_iter, tol, step_size=0.5, **more).minimize()


def test_every_step_is_the_gradient_times_the_step_size() -> None:
    vectors, found = minimised(7)
    np.testing.assert_allclose(vectors.held[POINT], BEGIN * (1 - 0.5 * CURVATURE) ** 7, rtol=1e-12)
    assert found.history == pytest.approx([bowl(BEGIN * (1 - 0.5 * CURVATURE) ** n)[0] for n in range(8)])
    assert (found.iterations, found.evaluations, found.reason) == (7, 8, "maxIter was reached")


def test_it_ends_after_the_first_step_that_is_short_but_never_after_one() -> None:
    _, found = minimised(100, tol=0.05)
    points = [BEGIN * (1 - 0.5 * CURVATURE) ** n for n in range(101)]
    short = [n for n in range(1, 101) if np.linalg.norm(points[n] - points[n - 1]) < 0.05 * max(np.linalg.norm(points[n]), 1.0)]
    assert (found.iterations, found.reason) == (short[0], "the coefficients moved less than tol")
    assert minimised(100, tol=1e6)[1].iterations == 2


def test_it_goes_on_from_where_it_stood() -> None:
    kept: list[tuple[int, bytes, dict[str, np.ndarray]]] = []

    def keep(iteration, standing) -> None:
        kept.append((iteration, standing().encoded(), {name: values.copy() for name, values in vectors.held.items()}))

    vectors = NumpyVectors(bowl, BEGIN, method=FixedSteps)
    whole = FixedSteps(vectors, 30, 0.02, step_size=0.5, keep=keep).minimize()
    _, standing, held = kept[4]
    again = NumpyVectors(bowl, BEGIN, method=FixedSteps)
    again.held = held
    found = FixedSteps(again, 30, 0.02, step_size=0.5).minimize(SolverStanding.decoded(standing))
    assert (found.history, found.reason, found.evaluations) == (whole.history, whole.reason, whole.evaluations)
    np.testing.assert_array_equal(again.held[POINT], vectors.held[POINT])
