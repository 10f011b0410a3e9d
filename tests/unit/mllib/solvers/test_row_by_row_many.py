"""Learning row by row with several margins a row: the kernels against their twins, and what one or several workers make of the rows."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from sparkps.mllib.linear.softmax import Softmax, flow, row_loss
from sparkps.mllib.solvers.learning_state import OneMargin, SeveralMargins, state_of
from sparkps.mllib.solvers.row_by_row_many import penalise_many
from sparkps.mllib.solvers.together import GrowingSchedule
from sparkps.optim import Consensus
from tests import naive_mllib as naive
from tests.naive import merge as merge_row

RATE = 0.5
NOTHING = np.empty(0)
OUTPUTS, FEATURES = 5, 40

LEARN: Any = Softmax.online


# ---- the flow ----------------------------------------------------------------------------------------------------------


def changes_of(margins: np.ndarray, label: int, time: float) -> np.ndarray:
    derivatives, changes = np.empty(len(margins)), np.empty(len(margins))
    row_loss(margins, float(label), derivatives)
    flow(float(label), derivatives, time, changes)
    return changes


@pytest.mark.parametrize("outputs", [2, 3, 12])
@pytest.mark.parametrize("spread", [0.1, 2.0, 5.0])
@pytest.mark.parametrize("time", [1e-6, 0.05, 1.0, 20.0])
def test_flow_is_what_many_small_steps_come_to(outputs: int, spread: float, time: float) -> None:
    rng = np.random.default_rng(outputs)
    for label in (0, outputs - 1):
        margins = rng.normal(size=outputs) * spread
        expected = naive.softmax_flow(margins, label, time, 4000)
        exact = 1e-3 if outputs == 2 else 0.03
        assert changes_of(margins, label, time) == pytest.approx(expected, rel=exact, abs=exact * np.abs(expected).max())


def test_flow_of_two_classes_is_that_of_the_logistic_loss() -> None:
    from sparkps.mllib.linear.losses.logistic import flow as logistic_flow

    for margin, time in ((0.0, 0.3), (-3.0, 2.0), (4.0, 0.7)):
        first, second = changes_of(np.array([0.0, margin]), 1, time)
        assert second - first == pytest.approx(logistic_flow(margin, 1.0, 2 * time), rel=1e-5)


@pytest.mark.parametrize("margins", [[0.0, 800.0, -800.0], [900.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
@pytest.mark.parametrize("time", [1e-30, 1e9])
def test_flow_of_certain_and_of_endless_rows_is_finite(margins: list[float], time: float) -> None:
    changes = changes_of(np.array(margins), 0, time)
    assert np.isfinite(changes).all()
    assert abs(changes.sum()) <= 1e-6 * max(1.0, np.abs(changes).max())
    assert changes[0] >= 0.0


# ---- the kernels -------------------------------------------------------------------------------------------------------


class Problem:
    """Rows of 12 features and 4 classes, and a state to learn in; the last row of the state is the intercepts'."""

    outputs = 4

    def __init__(self, seed: int, *, ones: bool = False, dtype: str = "float32") -> None:
        rng = np.random.default_rng(seed)
        kept = rng.random((60, 12)) < 0.6
        values = np.ones((60, 12)) if ones else rng.uniform(-1, 1, (60, 12))
        self.rows = [{j: float(np.float32(x)) for j, x in enumerate(row) if kept[i, j]} for i, row in enumerate(values)]
        self.labels = rng.integers(0, self.outputs, 60).astype(np.float64)
        self.weights, self.offsets = rng.integers(0, 3, 60).astype(np.float64), rng.normal(size=60)
        self.ids = np.array([j for row in self.rows for j in row], np.int32)
        self.indptr = np.cumsum([0, *(len(row) for row in self.rows)]).astype(np.int32)
        given = NOTHING if ones else np.array([x for row in self.rows for x in row.values()])
        self.values = given.astype(dtype)
        self.state = np.zeros((13, self.outputs + 3), np.float32)
        self.state[:, self.outputs + 1] = [0.3] * 12 + [0.5]

    def learn(self, bias: int, l1: float = 0.0, l2: float = 0.0, *, more: bool) -> np.ndarray:
        totals, ages = np.zeros(2), np.zeros(13)
        weights, offsets = (self.weights, self.offsets) if more else (NOTHING, NOTHING)
        LEARN.of(self.values.dtype)(
            self.indptr, self.ids, self.values, self.labels, weights, offsets, self.state, bias, RATE, l1, l2, ages, 0.0,
            np.empty((3, 14), np.float32), totals,
        )  # fmt: skip
        return totals


@pytest.mark.parametrize(("ones", "dtype"), [(True, "float32"), (False, "float32"), (False, "float64")])
@pytest.mark.parametrize("more", [True, False], ids=["weights and offsets", "neither"])
@pytest.mark.parametrize("bias", [-1, 12])
@pytest.mark.parametrize("penalties", [(0.0, 0.0), (0.0, 0.05), (0.01, 0.05)])
def test_kernel_equals_its_twin(ones: bool, dtype: str, more: bool, bias: int, penalties: tuple[float, float]) -> None:
    problem = Problem(3, ones=ones, dtype=dtype)
    state, age, ages, total, loss = problem.state.astype(np.float64), 0.0, np.zeros(13), 0.0, 0.0
    for i, row in enumerate(problem.rows):
        weight, offset = (problem.weights[i], problem.offsets[i]) if more else (1.0, 0.0)
        if not weight:
            continue
        age += weight
        for j in row if any(penalties) else ():
            naive.penalise_row_many(RATE, state, j, age - ages[j], *penalties)
            ages[j] = age
        known = {**row, bias: 1.0} if bias >= 0 else row
        loss += weight * naive.learn_row_many(RATE, state, known, problem.labels[i], weight, offset, row_loss, flow)
        total += weight
    totals = problem.learn(bias, *penalties, more=more)
    assert problem.state == pytest.approx(state, rel=5e-4, abs=5e-5)
    assert totals == pytest.approx([loss, total], rel=1e-4)


def test_many_coefficients_are_asked_for_ahead() -> None:
    problem, far = Problem(3), Problem(3)
    far.state = np.vstack([far.state, np.zeros((100_000, far.state.shape[1]), np.float32)])
    problem.learn(12, more=False)
    far.learn(12, more=False)
    assert np.array_equal(far.state[:13], problem.state)


def test_a_row_of_weight_a_million_is_learned_and_not_overshot() -> None:
    problem = Problem(1)
    problem.weights[:] = 0.0
    problem.weights[7] = 1e6
    problem.learn(12, more=True)
    row = {**problem.rows[7], 12: 1.0}
    margins = sum(problem.state[j, :4].astype(float) * problem.state[j, 5] * x for j, x in row.items())
    label = int(problem.labels[7])
    others = np.delete(margins, label)
    assert margins[label] - others.max() > 3
    assert np.ptp(others) < 1e-3


def test_late_penalties_equal_their_twin() -> None:
    state = np.array([[0.5, -0.2, 2.0, 0.3, 0], [-0.001, 0.7, 0.5, 1.0, 0], [0.0, 0.0, 0.0, 1.0, 0]], np.float32)
    twin = state.astype(np.float64)
    for j in range(2):
        naive.penalise_row_many(RATE, twin, j, 3.0, 0.01, 0.1)
    penalise_many(state, np.full(3, 3.0), RATE, 0.01, 0.1)
    assert state[:, :4] == pytest.approx(twin[:, :4], rel=1e-5)
    assert state[:, 4].tolist() == [1.0, 1.0, 0.0]
    assert state[1, 0] == 0.0


# ---- one worker, and several -------------------------------------------------------------------------------------------

ODDS = 1.0 / np.arange(1, FEATURES + 1)
ODDS /= ODDS.sum()
WEIGHTS = np.random.default_rng(9).normal(size=(FEATURES, OUTPUTS))
SCALES = np.full(FEATURES + 1, 1 / 3, np.float32)
FORM = SeveralMargins(Softmax(OUTPUTS))


@cache
def data(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids of 8 features a row, some frequent and some rare, and labels."""
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.choice(FEATURES, 8, replace=False, p=ODDS) for _ in range(count)])
    margins = WEIGHTS[ids].sum(axis=1) + rng.gumbel(size=(count, OUTPUTS))
    return ids.astype(np.int32), margins.argmax(axis=1).astype(np.float64)


def learned(rows: np.ndarray, ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    state = FORM.enter(rows, SCALES)
    indptr = np.arange(len(ids) + 1, dtype=np.int32) * 8
    LEARN.of(np.dtype(np.float32))(
        indptr, ids.ravel(), np.empty(0, np.float32), labels, NOTHING, NOTHING, state, FEATURES, RATE, 0.0, 0.0, NOTHING, 0.0,
        np.empty((3, 9), np.float32), np.zeros(2),
    )  # fmt: skip
    return state


def merge(rows: np.ndarray, pushes: np.ndarray) -> None:
    for row, push in zip(rows, pushes, strict=True):
        merge_row(Consensus(RATE, shared=True), row, push)


def trained(workers: int, batch_size: int, count: int = 8_000, *, late: bool = False) -> np.ndarray:
    """What so many workers make of the rows; `late`: each push is applied when the worker's next one comes."""
    ids, labels = data(1, count)
    parts = np.array_split(np.arange(count), workers)
    schedule = GrowingSchedule(tuple(map(len, parts)), batch_size, workers, 0)
    rows, waiting = np.zeros((FEATURES + 1, OUTPUTS + 2), np.float32), {}
    for step in range(schedule.steps_until(1)):
        pushes = {}
        for rank, part in enumerate(parts):
            first, last = schedule.span(len(part), step, shuffled=False)
            mine = part[first:last]
            if late and rank in waiting:
                merge(rows, waiting[rank])
            state = learned(rows, ids[mine], labels[mine])
            pushes[rank] = waiting[rank] = FORM.pushes(rows, state, RATE, max(len(mine), 1), workers)
        if not late:
            merge(rows, np.sum([each.astype(np.float64) for each in pushes.values()], axis=0).astype(np.float32))
    for each in waiting.values() if late else ():
        merge(rows, each)
    return rows


def loss_of(rows: np.ndarray) -> float:
    ids, labels = data(2, 3000)
    margins = rows[ids, :OUTPUTS].sum(axis=1) + rows[FEATURES, :OUTPUTS]
    margins = margins - margins.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(margins).sum(axis=1)) - margins[np.arange(len(ids)), labels.astype(int)]))


def test_one_pass_learns_most_of_what_there_is() -> None:
    ids, labels = data(2, 3000)
    truth = WEIGHTS[ids].sum(axis=1)
    truth -= truth.max(axis=1, keepdims=True)
    best = float(np.mean(np.log(np.exp(truth).sum(axis=1)) - truth[np.arange(len(ids)), labels.astype(int)]))
    assert loss_of(trained(1, 8_000)) < best + 0.1 * (np.log(OUTPUTS) - best)


def test_result_of_one_worker_does_not_depend_on_the_size_of_batches() -> None:
    whole = trained(1, 8_000)
    for size in (30, 333):
        assert trained(1, size) == pytest.approx(whole, rel=5e-4, abs=5e-5)


@pytest.mark.parametrize("late", [False, True], ids=["bsp", "asp"])
@pytest.mark.parametrize("workers", [2, 8])
@pytest.mark.parametrize("batch_size", [50, 8_000])
def test_several_workers_learn_nearly_as_much_as_one(workers: int, batch_size: int, late: bool) -> None:
    alone = loss_of(trained(1, 8_000))
    assert loss_of(trained(workers, batch_size, late=late)) < alone + 0.05 * (np.log(OUTPUTS) - alone)


def test_what_a_worker_pushes_brings_the_tier_to_what_it_has_learned() -> None:
    ids, labels = data(3, 200)
    rows = trained(1, 100, 500)
    state = learned(rows, ids, labels)
    after = rows.copy()
    merge(after, FORM.pushes(rows, state, RATE, 200, 8))
    assert after[:, :OUTPUTS] == pytest.approx(state[:, :OUTPUTS] * SCALES[:, None], rel=1e-3, abs=1e-5)
    assert after[:, OUTPUTS] == pytest.approx(state[:, OUTPUTS], rel=1e-5)


@pytest.mark.parametrize("penalties", [(0.0, 40.0), (20.0, 0.0)], ids=["l2", "l1"])
@pytest.mark.parametrize("gained", [0.0, 0.01])
def test_coefficients_that_penalties_bring_to_nothing_at_each_worker_are_nothing_together(
    penalties: tuple[float, float], gained: float
) -> None:
    rows = np.array([[0.5, -0.2, 0.3, -0.3, -0.3, 100.0, 1.0]], np.float32)
    given = []
    for waited in (500.0, 900.0):
        state = FORM.enter(rows, SCALES[:1])
        state[:, OUTPUTS] += gained
        FORM.penalise(state, np.array([waited]), RATE, *penalties)
        decays = FORM.decays(rows, state, np.array([waited]), RATE, *penalties)
        given.append(FORM.pushes(rows, state, RATE, 1, 8, decays).astype(np.float64))
    alone = rows.copy()
    merge(alone, given[0].astype(np.float32))
    assert alone[:, :OUTPUTS] == pytest.approx(np.zeros((1, OUTPUTS)), abs=1e-4)
    merge(rows, np.sum(given * 4, axis=0).astype(np.float32))
    assert rows[:, :OUTPUTS] == pytest.approx(np.zeros((1, OUTPUTS)), abs=1e-4)


def test_nothing_is_pushed_of_what_has_not_changed() -> None:
    rows = trained(1, 100, 500)
    assert not FORM.pushes(rows, FORM.enter(rows, SCALES), RATE, 1, 8).any()


def test_coefficients_of_a_step_keep_within_bounds_however_many_classes() -> None:
    few, many = SeveralMargins(Softmax(3)), SeveralMargins(Softmax(10_000))
    assert few.most_rows(20_000) == 20_000
    assert 1 <= many.most_rows(20_000) < 1000
    held = np.arange(100_000)
    assert np.concatenate(many.pieces(held)).tolist() == held.tolist()
    assert max(len(piece) for piece in many.pieces(held)) * 10_000 < 100_000_000
    assert isinstance(state_of(Softmax(2)), SeveralMargins)
    assert OneMargin.columns == 3
