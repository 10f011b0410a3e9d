"""The schedule of mini-batch training: every row once an epoch, the same steps on every rank."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from sparkps.mllib.solvers.minibatch import OPTIMIZERS, Schedule


@pytest.mark.parametrize("rows", [(0,), (1,), (10,), (7, 3), (100, 0, 41), (5, 5, 5)])
@pytest.mark.parametrize("batch_size", [1, 4, 1000])
def test_batches_cover_every_row_once(rows: tuple[int, ...], batch_size: int) -> None:
    schedule = Schedule(rows, batch_size, seed=1)
    for mine in rows:
        spans = [schedule.span(mine, batch) for batch in range(schedule.steps)]
        assert [row for first, last in spans for row in range(first, last)] == list(range(mine if schedule.steps else 0))
        assert all(last - first <= batch_size for first, last in spans)
    assert sum(schedule.size(batch) for batch in range(schedule.steps)) == sum(rows)


def test_every_step_has_rows_somewhere() -> None:
    schedule = Schedule((9, 2, 0), 2, seed=1)
    assert all(schedule.size(batch) > 0 for batch in range(schedule.steps))


@pytest.mark.parametrize("shuffled", [True, False])
def test_order_depends_on_seed_and_epoch_alone(shuffled: bool) -> None:
    orders = [Schedule((500, n), 10, seed=3).order(2, shuffled=shuffled) for n in (1, 400)]
    np.testing.assert_array_equal(*orders)
    assert sorted(orders[0].tolist()) == list(range(50))
    others = [Schedule((500,), 10, seed=s).order(e, shuffled=shuffled).tolist() for s, e in [(3, 1), (4, 2), (5, 2)]]
    assert any(other != orders[0].tolist() for other in others)


def test_unshuffled_batches_stay_in_the_order_of_the_file() -> None:
    order = Schedule((500,), 10, seed=3).order(0, shuffled=False)
    assert set(np.diff(order).tolist()) <= {1, -49}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_penalties_reach_the_optimizer(name: str) -> None:
    job = SimpleNamespace(step_size=0.1, momentum=0.8)
    optimizer = OPTIMIZERS[name](job, 0.02, 0.3)
    assert optimizer.l2 == 0.3
    assert getattr(optimizer, "momentum", 0.8) == 0.8
    assert optimizer.l1 == (0.02 if name == "ftrl" else 0.0)


def test_every_solver_that_can_be_asked_for_has_a_driver() -> None:
    from sparkps.mllib.params.factorization import DESCENT_SOLVERS
    from sparkps.mllib.params.shared import FULL_BATCH_SOLVERS, MINI_BATCH_SOLVERS
    from sparkps.mllib.solvers.drivers import DRIVERS

    assert {*FULL_BATCH_SOLVERS, *DESCENT_SOLVERS, *MINI_BATCH_SOLVERS, "normal", "irls", "mixing"} == set(DRIVERS)
