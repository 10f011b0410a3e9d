"""Worker groups side by side, with a solver at the driver, interrupted, and taken over."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sparkps import ASP, BSP, PSContext
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
    with ps.start_group(spark.range(10), gradient_of_ones(3), 2, BSP(), solver=True) as group:
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
        with ps.start_group(spark.range(10), rank_0_raises, 2, BSP(), solver=True) as group:
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
        with ps.start_group(spark.range(10), waits_for_the_solver, 2, BSP(), solver=True):
            raise ZeroDivisionError
    assert ps.status()["groups"] == []


# ---- ended early -------------------------------------------------------------------------------------------------------


def for_ever(counts):
    def train(worker, batches):
        counts.add([31], [[1.0]])
        threading.Event().wait(300)

    return train


def running(ps, prefix):
    return any(group["name"].startswith(prefix) for group in ps.status()["groups"])


def test_interrupt_ends_the_call_and_not_the_tier(spark, ps, counts):
    pid, main = os.getpid(), threading.main_thread()
    assert threading.current_thread() is main

    def interrupt():
        assert wait_until(lambda: value(counts, 31) >= 2, 30)
        os.kill(pid, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ps.run(spark.range(10), for_ever(counts), num_workers=2, consistency=ASP())
    thread.join()
    assert time.monotonic() - began < 40
    assert ps.status()["groups"] == []
    assert [node["state"] for node in ps.status()["nodes"]] == ["up", "up"]
    assert ps.run(spark.range(10), add_ones(counts, 32, 1), num_workers=2) == [1, 1]


def test_timeout_ends_the_group(spark, ps, counts):
    with pytest.raises(DeadlineExceeded, match="timeout"):
        ps.run(spark.range(10), for_ever(counts), num_workers=1, consistency=ASP(), timeout=2)
    assert ps.status()["groups"] == []
    assert ps.run(spark.range(10), add_ones(counts, 33, 1), num_workers=2) == [1, 1]


def hold_a_slot(rows):
    threading.Event().wait(60)
    return rows


# ---- other settings ----------------------------------------------------------------------------------------------------


@pytest.fixture
def context(spark):
    """Makes a tier of one node with settings of the test's own."""
    made, keys = [], []

    def create(**settings):
        for name, setting in settings.items():
            keys.append(f"spark.sparkps.{name}")
            spark.conf.set(keys[-1], setting)
        made.append(PSContext(spark, num_nodes=1))
        return made[-1]

    yield create
    for one in made:
        one.stop()
    for key in keys:
        spark.conf.unset(key)


def test_ranks_that_cannot_start_are_named_at_the_deadline(spark, context):
    ps = context(groupStartTimeout="3s")
    context_ = spark.sparkContext
    holder = threading.Thread(
        target=lambda: _until_cancelled(lambda: spark.range(0, 1, 1, 1).rdd.mapPartitions(hold_a_slot).count())
    )
    holder.start()
    try:
        assert wait_until(lambda: context_.statusTracker().getActiveStageIds() != [], 20)
        with pytest.raises(
            DeadlineExceeded, match=r"Ranks \[1\] .*2 task slots, 2 workers .*groupStartTimeout"
        ) as caught:
            ps.run(spark.range(10), lambda worker, batches: None, num_workers=2)
        assert (caught.value.missing, caught.value.slots) == ([1], 2)
    finally:
        context_.cancelAllJobs()
        holder.join()


def _until_cancelled(work):
    with pytest.raises(Exception, match="cancelled"):
        work()


def dies_once(counts):
    def train(worker, batches):
        first = worker.clock
        for clock in range(first, 6):
            counts.add([clock], [[1.0]])
            if worker.rank == 0 and first == 0 and clock == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            worker.tick(state=b"%d" % clock)
        return first, worker.state

    return train


def test_a_killed_worker_is_taken_over_where_it_stopped(spark, context):
    ps = context(leaseTtl="1s")
    counts = ps.sparse_table("counts", dim=1, dtype="float64", optimizer=SGD(1.0))
    results = ps.run(spark.range(10), dies_once(counts), num_workers=2, consistency=BSP())
    assert results[0] == (3, b"5")
    assert results[1][1] == b"5"
    np.testing.assert_array_equal(counts.pull(np.arange(6)), np.full((6, 1), 2.0))


def test_spilled_rows_train_all_the_same(spark, context):
    ps = context(workerMemoryBudget="64k")
    frame = spark.range(0, 40_000, 1, 2).selectExpr("id", "id * 0.5 x")

    def sums(worker, batches):
        return [sum(int(batch.column("id").to_numpy().sum()) for batch in batches) for _ in range(3)]

    once, again = ps.run(frame, sums, num_workers=2)
    assert len(set(once)) == len(set(again)) == 1
    assert once[0] + again[0] == 40_000 * 39_999 // 2
