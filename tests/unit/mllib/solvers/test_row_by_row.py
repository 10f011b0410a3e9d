"""Learning row by row: the kernel against its twin, and what its steps promise."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from sparkps.mllib.linear.loss import loss_named
from sparkps.mllib.solvers.row_by_row import flow_of, penalise
from tests import naive_mllib as naive

RATE = 0.5
LOSSES = ("logistic", "squared", "hinge")
DERIVATIVES: dict[str, Callable[[float, float], float]] = {
    "logistic": lambda m, y: 1 / (1 + math.exp(-m)) - y,
    "squared": lambda m, y: m - y,
    "hinge": lambda m, y: -(2 * y - 1) if (2 * y - 1) * m < 1 else 0.0,
}
NOTHING = np.empty(0)

each_loss = pytest.mark.parametrize("loss", LOSSES)


def flow_named(loss: str) -> Callable[[float, float, float], float]:
    found: Callable[[float, float, float], float] = import_module(f"sparkps.mllib.linear.losses.{loss}").flow
    return found


@each_loss
@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("margin", [-8.0, -1.5, 0.0, 0.3, 2.0, 40.0])
@pytest.mark.parametrize("time", [1e-9, 0.01, 0.7, 30.0])
def test_flow_is_what_many_small_steps_come_to(loss: str, label: float, margin: float, time: float) -> None:
    change = flow_named(loss)(margin, label, time)
    assert change == pytest.approx(naive.flow(DERIVATIVES[loss], margin, label, time, 20_000), rel=2e-3, abs=2e-3)


@each_loss
def test_flow_for_one_time_and_then_another_is_that_for_both(loss: str) -> None:
    flow = flow_named(loss)
    half = flow(0.2, 0.0, 0.4)
    assert half + flow(0.2 + half, 0.0, 0.9) == pytest.approx(flow(0.2, 0.0, 1.3), rel=1e-9)


@pytest.mark.parametrize("loss", ["logistic", "squared"])
@pytest.mark.parametrize("time", [0.01, 0.5, 5.0])
def test_flow_of_any_loss_comes_close_with_its_derivative_alone(loss: str, time: float) -> None:
    general = flow_of(DERIVATIVES[loss])
    for margin in (-3.0, 0.0, 1.0):
        assert general(margin, 1.0, time) == pytest.approx(flow_named(loss)(margin, 1.0, time), rel=0.05, abs=1e-3)


class Problem:
    """Rows of 12 features, no two alike, and a state to learn in; the last row of the state is the intercept's."""

    def __init__(self, seed: int, *, ones: bool = False, scale: float = 1.0, dtype: str = "float32") -> None:
        rng = np.random.default_rng(seed)
        kept = rng.random((60, 12)) < 0.6
        values = np.ones((60, 12)) if ones else rng.uniform(-1, 1, (60, 12))
        self.rows = [{j: float(np.float32(x)) * scale for j, x in enumerate(row) if kept[i, j]} for i, row in enumerate(values)]
        self.labels = (rng.random(60) < 0.4).astype(np.float64)
        self.weights, self.offsets = rng.integers(0, 3, 60).astype(np.float64), rng.normal(size=60)
        self.ids = np.array([j for row in self.rows for j in row], np.int32)
        self.indptr = np.cumsum([0, *(len(row) for row in self.rows)]).astype(np.int32)
        given = NOTHING if ones else np.array([x for row in self.rows for x in row.values()])
        self.values = given.astype(dtype)
        self.state = np.zeros((13, 4), np.float32)
        self.state[:, 2] = np.array([0.3] * 12 + [0.5]) / np.array([scale] * 12 + [1.0])

    def learn(self, loss: str, bias: int, l1: float = 0.0, l2: float = 0.0, *, more: bool) -> np.ndarray:
        kernel: Any = loss_named(loss).online
        totals, ages = np.zeros(2), np.zeros(13)
        weights, offsets = (self.weights, self.offsets) if more else (NOTHING, NOTHING)
        kernel.of(self.values.dtype)(
            self.indptr, self.ids, self.values, self.labels, weights, offsets, self.state, bias, RATE, l1, l2, ages, 0.0,
            np.empty((3, 14), np.float32), totals,
        )  # fmt: skip
        return totals


@each_loss
@pytest.mark.parametrize("ones", [True, False])
@pytest.mark.parametrize("more", [True, False], ids=["weights and offsets", "neither"])
@pytest.mark.parametrize("bias", [-1, 12])
@pytest.mark.parametrize("penalties", [(0.0, 0.0), (0.01, 0.05)])
def test_kernel_equals_its_twin(loss: str, ones: bool, more: bool, bias: int, penalties: tuple[float, float]) -> None:
    problem = Problem(3, ones=ones)
    state, age, ages, total = problem.state.astype(np.float64), 0.0, np.zeros(13), 0.0
    for i, row in enumerate(problem.rows):
        weight, offset = (problem.weights[i], problem.offsets[i]) if more else (1.0, 0.0)
        if not weight:
            continue
        age += weight
        for j in row if any(penalties) else ():
            naive.penalise_row(RATE, state, j, age - ages[j], *penalties)
            ages[j] = age
        known = {**row, bias: 1.0} if bias >= 0 else row
        naive.learn_row(RATE, state, known, problem.labels[i], weight, offset, DERIVATIVES[loss], flow_named(loss))
        total += weight
    totals = problem.learn(loss, bias, *penalties, more=more)
    assert problem.state == pytest.approx(state, rel=3e-4, abs=3e-5)
    assert totals[1] == total


def test_unit_of_a_feature_does_not_matter() -> None:
    one, other = Problem(5), Problem(5, scale=1000.0)
    assert one.learn("logistic", 12, more=False)[0] == pytest.approx(other.learn("logistic", 12, more=False)[0], rel=1e-4)


@each_loss
def test_a_row_of_weight_a_million_is_learned_and_not_overshot(loss: str) -> None:
    problem = Problem(1)
    problem.weights[:] = 0.0
    problem.weights[7] = 1e6
    problem.learn(loss, 12, more=True)
    margin = problem.offsets[7] + sum(
        float(problem.state[j, 0] * problem.state[j, 2]) * x for j, x in {**problem.rows[7], 12: 1.0}.items()
    )
    label = problem.labels[7]
    if loss == "squared":
        assert margin == pytest.approx(label, abs=1e-4)
    elif loss == "hinge":
        assert (2 * label - 1) * margin == pytest.approx(max(1.0, (2 * label - 1) * problem.offsets[7]), abs=1e-4)
    else:
        assert (2 * label - 1) * margin > 3


def test_late_penalties_equal_their_twin() -> None:
    state = np.array([[0.5, 2.0, 0.3, 0], [-0.001, 0.5, 1.0, 0], [0.0, 1.0, 1.0, 0]], np.float32)
    twin = state.astype(np.float64)
    for j in range(3):
        naive.penalise_row(RATE, twin, j, 3.0, 0.01, 0.1)
    penalise(state, np.full(3, 3.0), RATE, 0.01, 0.1)
    assert state[:, :3] == pytest.approx(twin[:, :3], rel=1e-5)
    assert state[1, 0] == 0.0
