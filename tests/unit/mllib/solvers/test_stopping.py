"""Early stopping: the rules of `EarlyStopping`, alone."""

from __future__ import annotations

import pytest

from sparkps.mllib.solvers.stopping import EarlyStopping


def told(losses: list[float], rounds: int, tol: float = 0.0) -> tuple[EarlyStopping, list[str | None]]:
    stopping = EarlyStopping(rounds, tol)
    return stopping, [stopping.tell(loss)[1] for loss in losses]


def test_training_ends_after_so_many_iterations_without_a_better_loss() -> None:
    stopping, reasons = told([1.0, 0.8, 0.9, 0.85, 0.81], rounds=3)
    assert [reason is None for reason in reasons] == [True, True, True, True, False]
    assert stopping.best == 1
    assert "in 3 iterations; the best is that after iteration 1" in (reasons[-1] or "")


def test_a_better_loss_begins_the_count_anew() -> None:
    stopping, reasons = told([1.0, 1.1, 0.9, 1.0, 0.8, 0.9], rounds=2)
    assert reasons == [None] * 6
    assert stopping.best == 4


def test_0_rounds_never_end_it() -> None:
    stopping, reasons = told([1.0] + [2.0] * 50, rounds=0)
    assert reasons == [None] * 51
    assert stopping.best == 0


@pytest.mark.parametrize(("second", "best"), [(0.95, 0), (0.89, 1)])
def test_a_loss_is_better_by_more_than_the_tolerance(second: float, best: int) -> None:
    assert told([1.0, second], rounds=5, tol=0.1)[0].best == best


def test_the_first_loss_is_the_best_even_if_it_is_infinite() -> None:
    stopping, reasons = told([float("inf"), float("nan"), 1.0], rounds=2)
    assert (stopping.best, reasons) == (2, [None, None, None])
