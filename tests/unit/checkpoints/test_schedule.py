"""When a checkpoint is due."""

from __future__ import annotations

import itertools
import random

import pytest

from sparkps.checkpoints.schedule import CheckpointSchedule
from sparkps.errors import ConfigError


def clocks_of(schedule: CheckpointSchedule, last: int, takes: int = 0) -> list[int]:
    """Clocks at which checkpoints begin where each takes `takes` clocks, a clock being a second."""
    begun, ends = [], None
    for clock in range(last + 1):
        if ends is not None and clock >= ends:
            schedule.end(float(clock))
            ends = None
        if schedule.due(clock, float(clock)):
            schedule.begin(clock, float(clock))
            begun.append(clock)
            ends = clock + takes
    return begun


def test_every_k_clocks() -> None:
    assert clocks_of(CheckpointSchedule(10, 0, now=0.0), 45) == [9, 19, 29, 39]


def test_a_job_that_continues_counts_from_its_checkpoint() -> None:
    assert clocks_of(CheckpointSchedule(10, 0, now=0.0, clock=19), 45) == [29, 39]


def test_never_two_at_once() -> None:
    assert clocks_of(CheckpointSchedule(2, 0, now=0.0), 20, takes=5) == [1, 6, 11, 16]


def test_every_t_seconds_but_not_of_nothing_new() -> None:
    assert clocks_of(CheckpointSchedule(0, 7.5, now=0.0), 30) == [8, 16, 24]
    schedule = CheckpointSchedule(0, 1.0, now=0.0, clock=4)
    assert not schedule.due(4, 100.0)
    assert schedule.due(5, 100.0)


def test_without_settings_none_is_ever_due() -> None:
    schedule = CheckpointSchedule(0, 0, now=0.0)
    assert not schedule.due(1 << 40, 1e9)


def test_one_that_was_asked_for_counts() -> None:
    schedule = CheckpointSchedule(10, 0, now=0.0)
    schedule.begin(5, 1.0)
    schedule.end(2.0)
    assert [clock for clock in range(6, 17) if schedule.due(clock, 3.0)] == [15, 16]


@pytest.mark.parametrize(("clocks", "seconds"), [(10, 0), (0, 10.0)])
def test_one_that_failed_is_due_again_soon_and_not_at_once(clocks: int, seconds: float) -> None:
    schedule = CheckpointSchedule(clocks, seconds, now=0.0)
    schedule.begin(9, 10.0)
    schedule.end(12.0, failed=True)
    assert not schedule.busy
    assert schedule.rests(12.9)
    assert not schedule.due(19, 12.9)
    assert schedule.due(9, 13.0)
    schedule.begin(9, 13.0)
    schedule.end(14.0)
    assert not schedule.due(18, 15.0), "it is there: the next one has time"
    assert schedule.due(19, 25.0)


def test_the_first_one_is_due_again_if_it_has_failed() -> None:
    schedule = CheckpointSchedule(10, 0, now=0.0)
    schedule.begin(-1, 0.0)
    schedule.end(0.0, failed=True)
    assert schedule.due(-1, 1.0)


@pytest.mark.parametrize(("seconds", "longest"), [(0, 60.0), (30.0, 60.0), (600.0, 600.0)])
def test_the_longer_checkpoints_fail_the_less_often_they_are_tried(seconds: float, longest: float) -> None:
    schedule, now, tries = CheckpointSchedule(10, seconds, now=0.0), 0.0, []
    for look in range(200_000):
        now = look / 10
        if schedule.due(9, now):
            tries.append(now)
            schedule.begin(9, now)
            schedule.end(now, failed=True)
    pauses = [after - before for before, after in itertools.pairwise(tries)]
    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert max(pauses) == pauses[-1] == longest
    schedule.begin(9, now)
    schedule.end(now)
    schedule.begin(19, now)
    schedule.end(now, failed=True)
    assert schedule.due(19, now + 1.0), "one that has not failed makes an end of it"


@pytest.mark.parametrize("wrong", [(-1, 0), (1.5, 0), (0, -1.0), (0, float("nan")), (0, float("inf"))])
def test_impossible_settings_are_refused(wrong: tuple[int, float]) -> None:
    with pytest.raises(ConfigError, match=r"`checkpoint_(every|seconds)` must be"):
        CheckpointSchedule(*wrong, now=0.0)


@pytest.mark.parametrize("seed", range(20))
def test_distances_are_never_longer_than_promised(seed: int) -> None:
    """Between the begins of two checkpoints lie at most k clocks, or as many as the first one took."""
    chance = random.Random(seed)
    every, schedule = chance.randint(1, 9), None
    schedule = CheckpointSchedule(every, 0, now=0.0)
    last, ends = -1, -1
    for clock in range(200):
        if schedule.busy and clock >= ends:
            schedule.end(float(clock))
        if schedule.due(clock, float(clock)):
            assert clock - last == max(every, ends - last)
            schedule.begin(clock, float(clock))
            last, ends = clock, clock + chance.randint(0, 15)
        assert schedule.busy or clock - last < every
