"""What the benchmarks work by: models of delays, loads whose sums are known, figures of workers."""

from __future__ import annotations

import time

import numpy as np
import pytest

from benchmarks.first_step import column
from benchmarks.soak_load import WORKERS, Load, Progress
from benchmarks.stragglers import Curve, Delays, loss, modelled


def test_delays_are_on_another_rank_in_each_clock_and_have_their_mean():
    delays = Delays.drawn(0.3, 20_000, seed=5)
    assert all(one != other for one, other in zip(delays.ranks, delays.ranks[1:], strict=False))
    assert np.mean(delays.seconds) == pytest.approx(0.3, rel=0.05)
    assert delays == Delays.drawn(0.3, 20_000, seed=5)


def test_the_model_of_bsp_waits_for_each_delay_and_that_of_asp_for_those_of_a_rank():
    delays = Delays([0, 1, 0, 2], [1.0, 2.0, 4.0, 8.0])
    assert modelled(delays, 1.0, 4, 0.0) == 4 * 1.0 + 15.0
    assert modelled(delays, 1.0, 4, float("inf")) == 4 * 1.0 + 8.0
    assert modelled(delays, 1.0, 4, 1.0) == 13.0


def test_the_model_gives_ssp_two_thirds_of_the_time_of_bsp():
    delays = Delays.drawn(1.0, 4000, seed=1)
    assert modelled(delays, 1.0, 4000, 4.0) / modelled(delays, 1.0, 4000, 0.0) == pytest.approx(0.67, abs=0.02)


def test_a_curve_reaches_a_loss_at_the_first_time_it_is_as_low():
    curve = Curve("x", 1.0, [0.0, 1.0, 2.0], [0.7, 0.5, 0.6])
    assert (curve.reaches(0.5), curve.reaches(0.1)) == (1.0, float("inf"))


def test_the_loss_is_that_of_each_row_by_its_definition():
    rows, labels = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([1.0, 0.0])
    probability = 1 / (1 + np.exp(-np.array([0.75, 0.25])))
    expected = -(np.log(probability[0]) + np.log(1 - probability[1])) / 2
    assert loss(rows, labels, np.array([0.5, 0.25])) == pytest.approx(expected)


def test_what_a_round_adds_is_what_its_pushes_add():
    load = Load(seed=3, keys=50, batch=10)
    expected = np.zeros(50)
    for rank in range(WORKERS):
        for clock in range(5):
            np.add.at(expected, load.keys_of(2, rank, clock), 1.0)
    assert (load.added(2, 5) == expected).all()
    assert expected.sum() == WORKERS * 5 * 10


def test_recovery_is_the_time_to_the_end_of_a_push_that_every_rank_began_after_the_fault(tmp_path):
    progress = Progress(tmp_path / "progress", create=True)
    for rank in range(WORKERS):
        progress.starts(rank)
        progress.pushed(rank, time.monotonic())
    assert progress.all_run()
    at = time.monotonic()
    with pytest.raises(AssertionError, match=r"ranks \[0, 1, 2, 3\] have not pushed"):
        progress.pushed_after(at, 0.05)
    for rank in range(WORKERS):
        progress.pushed(rank, at - 1.0 if rank == 2 else at + 1e-4)
    with pytest.raises(AssertionError, match=r"ranks \[2\] have not pushed"):
        progress.pushed_after(at, 0.05)
    progress.pushed(2, at + 1e-4)
    assert 0.0 < progress.pushed_after(at, 5.0) <= time.monotonic() - at
    progress.finished(1)
    assert progress.pushed_after(time.monotonic(), 5.0) is None
    assert not progress.all_run()


def test_the_parts_of_a_start_are_all_of_it():
    at = 1000.0
    tier = {"asked": at + 13, "executors": at + 20, "processes": at + 23, "ready": at + 24}
    names = ("began", "admitted", "tasks", "ranks", "rows", "step", "ended")
    fits = [{name: at + first + i for i, name in enumerate(names)} | {"kernels": 0.5} for first in (24, 60)]
    fits[1]["tasks"] = at + 30  # its executors were there before it was admitted
    told = {"submitted": at, "accepted": at + 5, "python": at + 10, "entered": at + 11, "session": at + 13}
    *parts, whole, kernels, _ = column({**told, "tier kernels": 2.0, "tier": tier, "fits": fits, "compiled": True}, 0)
    assert (sum(parts), kernels) == (whole, 2.5)
    *parts, whole, kernels, _ = column({**told, "tier kernels": 2.0, "tier": tier, "fits": fits, "compiled": True}, 1)
    assert [part for part in parts if part != ""] == [1.0, 0.0, 2.0, 1.0, 1.0]
    assert (whole, kernels) == (5.0, 0.5)
