"""Workers killed at moments that a seed has chosen: a local master fails the job each time, and the ranks go on where they stopped."""

from __future__ import annotations

import os
import pathlib
import pickle
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from pyspark.sql import SparkSession

from sparkps import ASP, BSP, SSP, PSContext
from sparkps.consistency import Consistency
from tests.harness.cases import cases
from tests.harness.faulty_training import drawn, trained

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(300)]

CLOCKS = 12


@pytest.fixture(scope="module")
def ps(spark: SparkSession) -> Iterator[PSContext]:
    """A tier with leases that nobody could wait for."""
    spark.conf.set("spark.sparkps.leaseTtl", "60s")
    with PSContext(spark, num_nodes=2) as context:
        yield context
    spark.conf.unset("spark.sparkps.leaseTtl")


@pytest.fixture(scope="module")
def undisturbed(ps: PSContext, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a run in BSP without kills leaves."""
    directory = tmp_path_factory.mktemp("undisturbed") / "marks"
    return trained(ps, spark.range(100), str(directory), (), clocks=CLOCKS, consistency=BSP())


@pytest.mark.parametrize("seed", cases([0], long=[1, 2]))
def test_workers_killed_at_random_leave_the_same_bits_state_and_results(
    ps: PSContext, spark: SparkSession, tmp_path: pathlib.Path, undisturbed: Any, seed: int
) -> None:
    kills = drawn(seed, ["python", "python"], 2, CLOCKS)
    made = trained(ps, spark.range(100), str(tmp_path / "marks"), kills, clocks=CLOCKS, consistency=BSP())
    assert made.fired == 2, "both kills have come"
    assert made.sums == undisturbed.sums
    assert made.counts == [1.0] * 2 * CLOCKS
    assert made.results == undisturbed.results, "and so is the state of their generators"


@pytest.mark.parametrize("consistency", [SSP(2), ASP()], ids=["ssp", "asp"])
def test_pushes_of_workers_killed_at_random_count_once(
    ps: PSContext, spark: SparkSession, tmp_path: pathlib.Path, undisturbed: Any, consistency: Consistency
) -> None:
    kills = drawn(7, ["python", "python"], 2, CLOCKS)
    made = trained(ps, spark.range(100), str(tmp_path / "marks"), kills, clocks=CLOCKS, consistency=consistency)
    assert made.fired == 2
    assert made.counts == [1.0] * 2 * CLOCKS
    assert made.results == undisturbed.results


@pytest.mark.parametrize("when", ["before the finish", "before it is recorded", "after it is recorded"])
def test_worker_killed_around_its_finish_has_finished_once(
    ps: PSContext, spark: SparkSession, tmp_path: pathlib.Path, when: str
) -> None:
    mark = tmp_path / "killed"
    total = ps.dense_table("total", shape=1)

    def train(worker: Any, batches: Any) -> tuple[int, int]:
        def die() -> None:
            mark.touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)

        table = worker.table("total")
        if worker.clock == 0:
            table.add([1.0])
            worker.tick(pickle.dumps(os.getpid()))
        if worker.rank == 0 and not mark.exists():
            session, lease = worker.session, worker._lease
            record = lease.finish
            if when == "before the finish":
                session.finish = lambda state: die()
            elif when == "before it is recorded":
                lease.finish = lambda result: die()
            else:
                lease.finish = lambda result: (record(result), die())
        return worker.rank, pickle.loads(worker.state)

    try:
        results = ps.run(spark.range(10), train, num_workers=2, consistency=BSP, timeout=60)
        assert mark.exists()
        assert [rank for rank, _ in results] == [0, 1]
        assert len({process for _, process in results}) == 2, "the processes that have ticked, not their successors"
        assert total.pull().tolist() == [2.0]
    finally:
        total.drop()
