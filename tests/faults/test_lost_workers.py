"""With `on_worker_loss="continue"` a group goes on without a worker that is lost for good; what that one had ticked counts."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pyspark.sql import SparkSession

from sparkps import BSP, PSContext, WorkerLost
from sparkps.errors import InvalidInput, WorkerFailed
from tests.harness.waiting import wait_until

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(300)]

#: Clocks of a worker that is not lost, and the clock in which the other one is.
CLOCKS, LOST_AT = 6, 2


@pytest.fixture(scope="module")
def ps(spark: SparkSession) -> Iterator[PSContext]:
    """A tier whose leases last 3 s: a worker of a busy machine may be late by one."""
    spark.conf.set("spark.sparkps.leaseTtl", "3s")
    with PSContext(spark, num_nodes=2) as context:
        yield context
    spark.conf.unset("spark.sparkps.leaseTtl")


@pytest.fixture
def sums(ps: PSContext) -> Iterator[Any]:
    """An element for each rank, to which it adds one a clock."""
    table = ps.dense_table("sums", shape=2)
    yield table
    table.drop()


def add_ones(*lost: int, stop: bool = False) -> Any:
    """Ranks that add one a clock; those that are `lost` kill themselves after a push, every time, or stop."""

    def train(worker: Any, batches: Any) -> int:
        table = worker.table("sums")
        ones = [float(rank == worker.rank) for rank in range(2)]
        while worker.clock < CLOCKS:
            table.pull()
            table.add(ones)
            if worker.rank in lost and worker.clock == LOST_AT:
                if stop:
                    worker.report(pid=os.getpid())
                    threading.Event().wait(1.5)  # until that was told
                os.kill(os.getpid(), signal.SIGSTOP if stop else signal.SIGKILL)
            worker.tick()
        return int(worker.clock)

    return train


@pytest.mark.parametrize("given", ["stop", "Continue", "", None, True, 1, b"wait", ["wait"]])
def test_any_other_word_is_refused(spark: SparkSession, ps: PSContext, given: Any) -> None:
    with pytest.raises(InvalidInput, match=r"`on_worker_loss` must be \"wait\".*Got .* instead"):
        ps.run(spark.range(10), add_ones(), num_workers=2, on_worker_loss=given)
    assert ps.status()["groups"] == []


def test_a_group_goes_on_without_a_worker_that_is_lost_every_time(
    spark: SparkSession, ps: PSContext, sums: Any, caplog: pytest.LogCaptureFixture
) -> None:
    results = ps.run(spark.range(10), add_ones(1), num_workers=2, consistency=BSP, on_worker_loss="continue")
    assert results == [CLOCKS, WorkerLost(1, LOST_AT)]
    assert results.report.lost == (1,)
    assert "goes on without rank 1: its worker was lost after 2 clocks" in caplog.text
    assert sums.pull().tolist() == [CLOCKS, LOST_AT], "what was pushed above the last tick is dropped"


def test_a_worker_that_is_lost_every_time_fails_a_group_that_waits_for_it(
    spark: SparkSession, ps: PSContext, sums: Any
) -> None:
    with pytest.raises(WorkerFailed, match=r"^Rank 1 of .* was lost .* \(executor driver\): its Python process was killed") as failed:
        ps.run(spark.range(10), add_ones(1), num_workers=2, consistency=BSP)
    assert (failed.value.attributes["rank"], failed.value.attributes["executor"]) == (1, "driver")
    assert sums.pull().tolist()[1] == LOST_AT


def test_the_last_worker_is_not_given_up(spark: SparkSession, ps: PSContext, sums: Any) -> None:
    with pytest.raises(WorkerFailed, match=r"^Rank [01] of .* was lost with its process on"):
        ps.run(spark.range(10), add_ones(0, 1), num_workers=2, consistency=BSP, on_worker_loss="continue")
    assert ps.status()["groups"] == []


def test_a_worker_that_hangs_is_given_up_and_fenced(spark: SparkSession, ps: PSContext, sums: Any) -> None:
    def stopped() -> dict[str, Any]:
        groups = ps.status()["groups"]
        return groups[0]["ranks"][1] if groups else {}

    with ThreadPoolExecutor(1) as pool:
        train = add_ones(1, stop=True)
        run = pool.submit(ps.run, spark.range(10), train, num_workers=2, consistency=BSP, on_worker_loss="continue")
        assert wait_until(lambda: "pid" in stopped().get("counters", {}), 120.0, 0.1)
        pid = int(stopped()["counters"]["pid"])
        assert wait_until(lambda: stopped().get("state") == "lost", 120.0, 0.1), "the status shows it"
        os.kill(pid, signal.SIGCONT)
        results = run.result(timeout=60)
    assert results == [CLOCKS, WorkerLost(1, LOST_AT)]
    assert sums.pull().tolist() == [CLOCKS, LOST_AT]


def test_a_worker_that_hangs_for_ever_does_not_keep_its_group(spark: SparkSession, ps: PSContext, sums: Any) -> None:
    train = add_ones(1, stop=True)
    results = ps.run(spark.range(10), train, num_workers=2, consistency=BSP, on_worker_loss="continue", timeout=60)
    assert results == [CLOCKS, WorkerLost(1, LOST_AT)]
    assert sums.pull().tolist() == [CLOCKS, LOST_AT]
