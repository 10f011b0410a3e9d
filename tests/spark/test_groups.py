"""Worker groups side by side, with a solver at the driver, interrupted, and taken over."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sparkps import ASP, BSP
from sparkps.errors import DeadlineExceeded, WorkerFailed
from sparkps.optim import SGD
from tests.conftest import wait_until


@pytest.fixture(scope="module")
def counts(ps):
    handle = ps.sparse_table("counts", dim=1, dtype="float64", optimizer=SGD(1.0))
    yield handle
    handle.drop()


def add_ones(counts, key, steps):
    def train(worker, batches):
        for _ in range(steps):
            counts.pull([key])
            counts.add([key], [[1.0]])
            worker.tick()
        return worker.clock

    return train


def value(handle, key):
    return handle.pull([key]).item()


# ---- side by side ------------------------------------------------------------------------------------------------------


def test_two_groups_that_need_all_slots_both_finish(spark, ps, counts):
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(ps.run, spark.range(100), add_ones(counts, key, 5), num_workers=2) for key in (1, 2)]
        assert [list(run.result(timeout=50)) for run in runs] == [[5, 5], [5, 5]]
    assert (value(counts, 1), value(counts, 2)) == (10, 10)


def meet(counts, mine, other):
    def train(worker, batches):
        pause = threading.Event()
        counts.add([mine], [[1.0]])
        while counts.pull([other]).item() == 0:
            pause.wait(0.02)
        return True

    return train


def test_groups_that_fit_run_at_the_same_time(spark, ps, counts):
    with ThreadPoolExecutor(2) as pool:
        pairs = [(11, 12), (12, 11)]
        runs = [
            pool.submit(ps.run, spark.range(10), meet(counts, *pair), num_workers=1, consistency=ASP(), timeout=40)
            for pair in pairs
        ]
        assert [list(run.result(timeout=50)) for run in runs] == [[True], [True]]


# ---- solver ------------------------------------------------------------------------------------------------------------


def gradient_of_ones(steps):
    def train(worker, batches):
        weights, gradient = worker.table("weights"), worker.table("gradient")
        for _ in range(steps):
            rows = weights.pull([0, 1])
            gradient.add([0, 1], np.ones_like(rows))
            worker.tick()  # the solver works between this tick ...
            worker.tick()  # ... and that one
        return rows.ravel().tolist()

    return train


@pytest.fixture
def vectors(ps):
    made = [ps.sparse_table(name, dim=1, dtype="float64", group="vectors") for name in ("weights", "gradient")]
    yield made
    for handle in made:
        handle.drop()


def test_a_solver_at_the_driver_is_a_member_of_the_clock(spark, ps, vectors):
    weights, gradient = vectors
    with ps.start_group(spark.range(10), gradient_of_ones(3), 2, consistency=BSP(), solver=True) as group:
        assert group.spec.num_ranks == 3
        for step in range(3):
            group.solver.tick()
            sums = gradient.pull([0, 1])
            np.testing.assert_array_equal(sums, [[2.0], [2.0]])
            weights.add([0, 1], sums)
            gradient.assign([0, 1], [[0.0], [0.0]])
            group.solver.report(epoch=step + 1, epochs=3)
            group.solver.tick()
        results = group.wait()
    assert results == [[4.0, 4.0], [4.0, 4.0]]
    np.testing.assert_array_equal(weights.pull([0, 1]), [[6.0], [6.0]])
    assert len(results.report.ranks) == 2


def rank_0_raises(worker, batches):
    if worker.rank == 0:
        raise ValueError("no such day")
    worker.tick()
    worker.table("weights").pull([0])


def test_a_solver_that_waits_for_a_failed_rank_gets_the_first_cause(spark, ps, vectors):
    weights, _ = vectors
    began = time.monotonic()

    def solve():
        with ps.start_group(spark.range(10), rank_0_raises, 2, consistency=BSP(), solver=True) as group:
            group.solver.tick()
            weights.pull([0])
            group.wait()

    with pytest.raises(WorkerFailed, match="no such day") as caught:
        solve()
    assert caught.value.rank == 0
    assert time.monotonic() - began < 20
    assert weights.pull([0]).item() == 0


def waits_for_the_solver(worker, batches):
    worker.tick()
    worker.table("weights").pull([0])


def test_an_error_of_the_solver_ends_the_group(spark, ps, vectors):
    with pytest.raises(ZeroDivisionError):
        with ps.start_group(spark.range(10), waits_for_the_solver, 2, consistency=BSP(), solver=True):
            raise ZeroDivisionError
    assert ps.status()["groups"] == []


# ---- ended early -------------------------------------------------------------------------------------------------------


def for_ever(worker, batches):
    worker.tick()
    threading.Event().wait(300)


def all_ranks_run(ps):
    groups = ps.status()["groups"]
    return bool(groups) and all(rank["clock"] >= 0 for rank in groups[0]["ranks"])


def test_interrupt_ends_the_call_and_not_the_tier(spark, ps, counts):
    pid, main = os.getpid(), threading.main_thread()
    assert threading.current_thread() is main

    def interrupt():
        assert wait_until(lambda: all_ranks_run(ps), 30)
        os.kill(pid, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ps.run(spark.range(10), for_ever, num_workers=2, consistency=ASP())
    thread.join()
    assert time.monotonic() - began < 40
    assert ps.status()["groups"] == []
    assert [node["state"] for node in ps.status()["nodes"]] == ["up", "up"]
    assert ps.run(spark.range(10), add_ones(counts, 32, 1), num_workers=2) == [1, 1]


def test_timeout_ends_the_group(spark, ps, counts):
    with pytest.raises(DeadlineExceeded, match="timeout"):
        ps.run(spark.range(10), for_ever, num_workers=1, consistency=ASP(), timeout=2)
    assert ps.status()["groups"] == []
    assert ps.run(spark.range(10), add_ones(counts, 33, 1), num_workers=2) == [1, 1]
