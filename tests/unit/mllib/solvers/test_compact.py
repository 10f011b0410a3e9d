"""The quadratic model of L-BFGS-B against its Hessian written out, and walks along its path one corner at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparkps.mllib.solvers import compact
from sparkps.mllib.solvers.compact import (
    Direction,
    Model,
    cauchy_point,
    from_cauchy,
    longest,
    middle_of,
    subspace_minimum,
)
from sparkps.mllib.solvers.linesearch import LineSearchError

#: Elements, and those of them that have a bound: the others are known by sums alone.
SIZE, BOUNDED = 40, 30

Array = np.ndarray[Any, Any]


class Written:
    """A model of random pairs, with all that it stands for: point, gradient, W and Hessian of all elements."""

    def __init__(self, seed: int, pairs: int, width: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        a = rng.normal(size=(SIZE, SIZE))
        s = rng.normal(size=(SIZE, pairs))
        y = (a @ a.T / SIZE + np.diag(rng.uniform(0.1, 3, SIZE))) @ s
        self.theta = float(y[:, -1] @ y[:, -1] / (s[:, -1] @ y[:, -1])) if pairs else 1.0
        middle = middle_of(s.T @ y, s.T @ s, self.theta) if pairs else np.zeros((0, 0))
        self.w = np.hstack([y, self.theta * s])
        self.hessian = self.theta * np.eye(SIZE) - self.w @ middle @ self.w.T
        self.last = (s[:, -1], y[:, -1]) if pairs else None
        self.gradient = rng.normal(size=SIZE)
        self.lower, self.upper = np.full(SIZE, -np.inf), np.full(SIZE, np.inf)
        self.lower[:BOUNDED], self.upper[:BOUNDED] = -width * rng.uniform(0, 1, BOUNDED), width * rng.uniform(0, 1, BOUNDED)
        self.lower[:4], self.upper[4:8], self.lower[8:10] = -np.inf, np.inf, 0.0
        self.point = np.zeros(SIZE)
        held, far = slice(0, BOUNDED), slice(BOUNDED, SIZE)
        wf, gf = self.w[far], self.gradient[far]
        self.model = Model(
            self.point[held], self.gradient[held], self.lower[held], self.upper[held],
            self.w[held], wf.T @ wf, wf.T @ gf, float(gf @ gf), self.theta, middle,
        )  # fmt: skip

    def value(self, way: Array) -> float:
        return float(self.gradient @ way + way @ self.hessian @ way / 2)

    def way(self, direction: Direction) -> Array:
        """The direction of all elements."""
        far = direction.along * self.gradient[BOUNDED:] + self.w[BOUNDED:] @ direction.columns
        return np.append(direction.bounded, far)

    def along(self, time: float) -> Array:
        """Where the projected steepest descent is."""
        return np.clip(self.point - time * self.gradient, self.lower, self.upper)


@pytest.mark.parametrize("pairs", [1, 3, 10])
def test_the_last_pair_is_a_secant_of_the_hessian_which_is_positive_definite(pairs: int) -> None:
    written = Written(0, pairs)
    step, change = written.last
    np.testing.assert_allclose(written.hessian @ step, change, rtol=1e-8, atol=1e-10)
    assert np.linalg.eigvalsh(written.hessian).min() > 0


@pytest.mark.parametrize("block", [1, 3, 512])
@pytest.mark.parametrize("pairs", [0, 1, 4])
@pytest.mark.parametrize("seed", range(4))
def test_cauchy_point_is_the_first_minimum_along_the_projected_gradient(seed, pairs, block, monkeypatch) -> None:
    monkeypatch.setattr(compact, "_BLOCK", block)
    written = Written(seed, pairs)
    found = cauchy_point(written.model)
    way = written.way(from_cauchy(written.model, found))
    np.testing.assert_allclose(way, written.along(found.step), atol=1e-12)
    np.testing.assert_allclose(found.c, written.w.T @ way, atol=1e-9)
    before = [written.value(written.along(part * found.step)) for part in np.linspace(0, 1, 400)]
    assert (np.diff(before) < 0).all()
    assert written.value(written.along(1.001 * found.step)) > before[-1]


@pytest.mark.parametrize("pairs", [0, 1, 4, 10])
@pytest.mark.parametrize("seed", range(4))
def test_subspace_minimum_is_that_of_the_free_elements_where_no_bound_is_in_the_way(seed, pairs) -> None:
    written = Written(seed, pairs)
    found = cauchy_point(written.model)
    wide = np.where(found.point == written.model.upper, written.model.upper, np.inf)
    low = np.where(found.point == written.model.lower, written.model.lower, -np.inf)
    model = Model(**{**vars(written.model), "lower": low, "upper": wide})
    way = written.way(subspace_minimum(model, found))
    free = np.append((found.point != low) & (found.point != wide), np.ones(SIZE - BOUNDED, bool))
    np.testing.assert_allclose((written.gradient + written.hessian @ way)[free], 0.0, atol=1e-8)
    np.testing.assert_array_equal(way[~free], (found.point - written.model.point)[~free[:BOUNDED]])


@pytest.mark.parametrize("pairs", [1, 4])
@pytest.mark.parametrize("seed", range(4))
def test_subspace_minimum_keeps_within_the_bounds_and_goes_no_higher_than_the_cauchy_point(seed, pairs) -> None:
    written = Written(seed, pairs, width=0.3)
    found = cauchy_point(written.model)
    way = written.way(subspace_minimum(written.model, found))
    assert ((way >= written.lower) & (way <= written.upper)).all()
    assert written.value(way) <= written.value(written.along(found.step)) + 1e-12
    assert written.gradient @ way < 0


def test_pairs_that_are_dependent_give_no_model() -> None:
    with pytest.raises(LineSearchError, match="no model"):
        middle_of(np.zeros((2, 2)), np.zeros((2, 2)), 1.0)


def test_a_model_that_falls_for_ever_has_no_cauchy_point() -> None:
    empty = np.zeros((1, 0))
    bounds = np.array([-np.inf]), np.array([np.inf])
    model = Model(np.zeros(1), np.ones(1), *bounds, empty, np.zeros((0, 0)), np.zeros(0), 0.0, 0.0, np.zeros((0, 0)))
    with pytest.raises(LineSearchError, match="no minimum"):
        cauchy_point(model)


def test_longest_of_a_step_that_meets_no_bound_is_infinite() -> None:
    assert longest(np.zeros(2), np.array([1.0, 0.0]), np.full(2, -1.0), np.array([np.inf, 1.0])) == np.inf
    assert longest(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0)) == np.inf
