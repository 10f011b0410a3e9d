"""Ten thousand schedules by seed: the real client and the real nodes over a network that does its worst.

A seed draws everything: groups and their programs, outside readers and writers, tables that come and go, how messages are lost,
repeated, delayed and reordered, which connections break, which workers die or linger beside their successors, who computes for
so long that nodes forget the session. What tables must hold is in `tests.harness.ledger`, what must be left of all that in the
nodes in `tests.harness.audit`. A failure says how to replay its seed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest

from tests.harness import schedules

#: Seeds of one test; ten tests. `make schedules` has as many as one likes.
SEEDS = 300

#: The same with replicas, of which one takes ten times as long; four tests.
REPLICATED = 80

#: Seeds that a process takes at a time: few, or one process would wait for the other at the end of each test.
AT_A_TIME = 5


@pytest.mark.timeout(300)  # of a machine that has other things to do
@pytest.mark.parametrize("batch", range(10))
def test_seeded_schedules_keep_every_promise(pool: ProcessPoolExecutor, batch: int) -> None:
    seeds = range(batch * SEEDS + 1, (batch + 1) * SEEDS + 1)
    for found in pool.map(schedules.first_failure, schedules.batches_of(seeds, AT_A_TIME)):
        if found is not None:
            pytest.fail(schedules.told(*found))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("batch", range(4))
def test_nodes_that_are_lost_and_buckets_that_move_break_no_promise(pool: ProcessPoolExecutor, batch: int) -> None:
    seeds = range(batch * REPLICATED + 1, (batch + 1) * REPLICATED + 1)
    for found in pool.map(partial(schedules.first_failure, replicas=True), schedules.batches_of(seeds, AT_A_TIME)):
        if found is not None:
            pytest.fail(schedules.told(*found, replicas=True))


def test_one_seed_is_one_schedule_in_every_process() -> None:
    here = schedules.fingerprint(range(1, 31))
    for hash_seed in ("0", "4711"):
        there = subprocess.run(
            [sys.executable, "-m", "tests.harness.schedules", "--fingerprint", "--seed", "1", "--count", "30"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(there.stdout) == here
