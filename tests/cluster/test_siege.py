"""Hostile frames, of peers that were let in and of strangers: real processes go on, bounded, and change nothing that nobody may change."""

from __future__ import annotations

import time

import pytest

from tests.harness import strangers
from tests.harness.cases import cases
from tests.harness.siege import besiege

#: Of the day: a failure names it, and `python -m tests.harness.siege --seed` does it again.
TODAY = int(time.time() // 86_400)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("frames", "seed"), cases([(6_000, 1)], long=[(100_000, 3), (100_000, TODAY)]))
def test_hostile_frames_cost_no_process_and_change_no_table(frames: int, seed: int) -> None:
    outcome = besiege(frames, seed)
    assert outcome.frames >= frames
    assert outcome.dropped > frames / 20, "much of it is no message"
    assert min(outcome.made.values()) > frames / 200, "all kinds were made"
    assert outcome.slowest < 30.0


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("frames", "seed"), cases([(2_000, 2)], long=[(100_000, TODAY)]))
def test_the_same_over_tcp_with_keys(frames: int, seed: int) -> None:
    assert besiege(frames, seed, tcp=True).slowest < 30.0


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("frames", "seed"), cases([(5_000, 1)], long=[(200_000, TODAY)]))
def test_strangers_reach_nothing(frames: int, seed: int) -> None:
    outcome = strangers.besiege(frames, seed)
    assert outcome.frames >= frames
    assert outcome.slowest < 30.0
