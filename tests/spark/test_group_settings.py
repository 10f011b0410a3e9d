"""Worker groups under settings of their own: deadlines, leases, memory budgets."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest

from sparkps import BSP, PSContext
from sparkps.errors import DeadlineExceeded
from sparkps.optim import SGD
from tests.conftest import wait_until


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
    ps = context(groupStartTimeout="8s")
    context_ = spark.sparkContext
    holder = threading.Thread(
        target=lambda: _until_cancelled(lambda: spark.range(0, 1, 1, 1).rdd.mapPartitions(hold_a_slot).count())
    )
    holder.start()
    try:
        assert wait_until(lambda: context_.statusTracker().getActiveStageIds() != [], 20)
        with pytest.raises(
            DeadlineExceeded, match=r"Ranks \[[01]\] .*2 task slots, 2 workers .*groupStartTimeout"
        ) as caught:
            ps.run(spark.range(10), lambda worker, batches: None, num_workers=2)
        assert (caught.value.missing, caught.value.slots) == ([caught.value.missing[0]], 2)
    finally:
        context_.cancelAllJobs()
        holder.join()


def hold_a_slot(rows):
    threading.Event().wait(60)
    return rows


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
