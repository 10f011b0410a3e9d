"""Workers that learn side by side: what they push, how it is merged, and which rows make up which step."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from sparkps.mllib.linear.losses.logistic import Logistic
from sparkps.mllib.linear.softmax import Softmax
from sparkps.mllib.solvers import online_kernels
from sparkps.mllib.solvers.learning_state import state_of
from sparkps.mllib.solvers.together import GrowingSchedule, amplified, factor_for
from sparkps.optim import Consensus
from tests import naive

RATE = 0.5
NOTHING = np.empty(0)
FEATURES = 40


@cache
def data(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids of 8 features a row, some frequent and some rare, and labels."""
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.choice(FEATURES, 8, replace=False, p=ODDS) for _ in range(count)])
    margins = WEIGHTS[ids].sum(axis=1) - 1.0
    return ids.astype(np.int32), (rng.random(count) < 1 / (1 + np.exp(-margins))).astype(np.float64)


ODDS = 1.0 / np.arange(1, FEATURES + 1)
ODDS /= ODDS.sum()
WEIGHTS = np.random.default_rng(9).normal(size=FEATURES)
SCALES = np.full(FEATURES + 1, 1 / 3, np.float32)


def learned(rows: np.ndarray, ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    state = np.empty((len(rows), 4), np.float32)
    online_kernels.enter(rows, SCALES, 1.0, state)
    indptr = np.arange(len(ids) + 1, dtype=np.int32) * 8
    Logistic.online.of(np.dtype(np.float32))(
        indptr, ids.ravel(), np.empty(0, np.float32), labels, NOTHING, NOTHING, state, FEATURES, RATE, 0.0, 0.0, NOTHING, 0.0,
        np.empty((3, 9), np.float32), np.zeros(2),
    )  # fmt: skip
    return state


def pushed(rows: np.ndarray, state: np.ndarray, count: int, workers: int) -> np.ndarray:
    gained, moved, bins = np.empty(len(rows)), np.empty(len(rows)), np.zeros(2 * online_kernels.BINS)
    online_kernels.moves(rows, state, RATE, float(count), gained, moved, bins)
    shares, products = np.split(bins, 2)
    met = shares > 0
    pushes = np.empty((len(rows), 3), np.float32)
    factor = factor_for(shares[met], products[met] / shares[met], workers)
    online_kernels.leave(rows, state, 1.0, gained, moved, factor, pushes)
    return pushes


def trained(workers: int, batch_size: int, count: int = 12_000, *, late: bool = False) -> np.ndarray:
    """What so many workers make of the rows; `late`: each push is applied when the worker's next one comes."""
    ids, labels = data(1, count)
    parts = np.array_split(np.arange(count), workers)
    schedule = GrowingSchedule(tuple(map(len, parts)), batch_size, workers, 0)
    rows, waiting = np.zeros((FEATURES + 1, 3), np.float32), {}
    for step in range(schedule.steps_until(1)):
        pushes = {}
        for rank, part in enumerate(parts):
            first, last = schedule.span(len(part), step, shuffled=False)
            mine = part[first:last]
            if late and rank in waiting:
                merge(rows, waiting[rank])
            pushes[rank] = waiting[rank] = pushed(rows, learned(rows, ids[mine], labels[mine]), max(len(mine), 1), workers)
        if not late:
            merge(rows, np.sum([each.astype(np.float64) for each in pushes.values()], axis=0).astype(np.float32))
    for each in waiting.values() if late else ():
        merge(rows, each)
    return rows


def merge(rows: np.ndarray, pushes: np.ndarray) -> None:
    for row, push in zip(rows, pushes, strict=True):
        naive.merge(Consensus(RATE), row, push)


def loss_of(rows: np.ndarray) -> float:
    ids, labels = data(2, 3000)
    margins = rows[ids, 0].sum(axis=1) + rows[FEATURES, 0]
    return float(np.mean(np.log1p(np.exp(margins)) - labels * margins))


def test_result_of_one_worker_does_not_depend_on_the_size_of_batches() -> None:
    whole = trained(1, 12_000)
    for size in (10, 333):
        assert trained(1, size) == pytest.approx(whole, rel=2e-4, abs=2e-5)


@pytest.mark.parametrize("late", [False, True], ids=["bsp", "asp"])
@pytest.mark.parametrize("workers", [2, 4, 8])
@pytest.mark.parametrize("batch_size", [50, 500, 12_000])
def test_several_workers_learn_nearly_as_much_as_one(workers: int, batch_size: int, late: bool) -> None:
    assert loss_of(trained(workers, batch_size, late=late)) < loss_of(trained(1, 12_000)) + 0.012


def test_what_a_worker_pushes_brings_the_tier_to_what_it_has_learned() -> None:
    ids, labels = data(3, 200)
    rows = trained(1, 100, 500)
    state = learned(rows, ids, labels)
    after = rows.copy()
    merge(after, pushed(rows, state, 200, 8))
    assert after[:, 0] == pytest.approx(state[:, 0] * SCALES, rel=1e-4, abs=1e-5)
    assert after[:, 1] == pytest.approx(state[:, 1], rel=1e-5)


def test_nothing_is_pushed_of_what_has_not_changed() -> None:
    rows = trained(1, 100, 500)
    state = np.empty((len(rows), 4), np.float32)
    online_kernels.enter(rows, SCALES, 1.0, state)
    assert not pushed(rows, state, 1, 8).any()


def test_changes_that_settle_a_margin_together_are_amplified_less() -> None:
    assert factor_for(np.array([0.01]), np.array([0.01]), 8) == 1.0
    assert factor_for(np.full(100, 0.1), np.full(100, 0.1), 1) == 1.0
    many, shares = np.full(100, 0.1), np.full(100, 0.1)
    factor = factor_for(shares, many, 8)
    together = amplified(np.array([shares.sum()]), 8)[0]
    assert amplified(factor * many, 8)[0] == pytest.approx(1.5 * together, rel=1e-3)
    assert factor_for(shares, many, 2) <= factor


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("batch_size", [1, 64, 5000])
def test_every_row_is_in_one_step_of_each_epoch(workers: int, batch_size: int) -> None:
    schedule = GrowingSchedule((900, 0, 313), batch_size, workers, seed=4)
    for epoch in range(3):
        steps = range(schedule.steps_until(epoch), schedule.steps_until(epoch + 1))
        assert {schedule.epoch_of(t) for t in steps} == {epoch}
        for rows in schedule.rows:
            spans = sorted(schedule.span(rows, t, shuffled=True) for t in steps)
            assert [row for first, last in spans for row in range(first, last)] == list(range(rows))
            assert max(last - first for first, last in spans) <= batch_size


def test_each_epoch_has_an_order_of_its_own() -> None:
    schedule = GrowingSchedule((1000,), 50, 1, seed=3)
    steps = [range(schedule.steps_until(epoch), schedule.steps_until(epoch + 1)) for epoch in (1, 2)]
    orders = [[schedule.span(1000, t, shuffled=True) for t in each] for each in steps]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]


def test_steps_of_several_workers_begin_short_and_grow_with_what_was_seen() -> None:
    schedule = GrowingSchedule((100_000, 100_000), 100_000, 2, 0)
    lengths = np.diff(schedule.first)
    assert lengths[0] == 100
    assert np.all(lengths[1:] <= np.maximum(100, 0.125 * np.array(schedule.first[1:-1])))
    assert len(GrowingSchedule((100_000,), 100_000, 1, 0).first) == 2


def test_ages_that_a_successor_works_out_are_those_of_learning() -> None:
    indptr, ids = np.array([0, 2, 3, 5], np.int32), np.array([0, 1, 2, 1, 3], np.int32)
    ages = np.zeros(5)
    assert online_kernels.pass_by(indptr, ids, np.array([1.0, 2.0, 0.5]), ages, 10.0) == 13.5
    assert ages.tolist() == [11.0, 13.5, 13.0, 13.5, 0.0]


def test_rows_of_weight_0_age_nothing() -> None:
    indptr, ids = np.array([0, 2, 3], np.int32), np.array([0, 1, 2], np.int32)
    ages = np.zeros(3)
    assert online_kernels.pass_by(indptr, ids, np.array([0.0, 2.0]), ages, 10.0) == 12.0
    assert ages.tolist() == [0.0, 0.0, 12.0]


@pytest.mark.parametrize("objective", [Logistic(), Softmax(3)])
@pytest.mark.parametrize("workers", [1, 2, 8])
def test_what_workers_settle_together_is_where_penalties_lead_and_not_past_it(workers: int, objective: Logistic | Softmax) -> None:
    form = state_of(objective)
    outputs, merger = form.outputs, form.optimizer(RATE)
    before = np.zeros((4, form.columns), np.float32)
    before[:, :outputs], before[:, outputs], before[:, outputs + 1] = [[1.0], [-0.5], [1e-3], [0.0]], [4.0, 1e-4, 30.0, 0.0], 1.0
    scales = np.full(4, 0.5, np.float32)
    ended = {}
    for ways in ("together", "alone"):
        rows, pushes = before.copy(), np.zeros(before.shape)
        for _ in range(workers if ways == "together" else 1):
            state = form.enter(before, scales)
            form.penalise(state, np.full(4, 100.0), RATE, 0.001, 0.01)
            pushes += form.settled(before, state, RATE)
        for row, push in zip(rows, pushes.astype(np.float32), strict=True):
            naive.merge(merger, row, push)
        ended[ways] = rows[:, :outputs]
        wanted = state[:, :outputs] * scales[:, None]
        assert rows[:, :outputs] == pytest.approx(wanted, rel=1e-5, abs=1e-7)
        assert (rows[:, :outputs][wanted == 0.0] == 0.0).all()
    assert ended["together"] == pytest.approx(ended["alone"], rel=1e-5, abs=1e-7)
