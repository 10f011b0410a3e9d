"""With one copy of every bucket a node that is lost ends what needs it, soon, with an error that says so."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from sparkps import PSContext
from sparkps.errors import ShardLost
from sparkps.testing.processes import kill_node, wait_until

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(300)]

#: Seconds from the end of the node to the error: five, and as many again on a machine that has other things to do.
SOON = 10.0


def test_lost_node_ends_a_call_within_five_seconds(spark: SparkSession) -> None:
    with PSContext(spark, num_nodes=2) as ps:
        table, keys = ps.sparse_table("w", dim=1), np.arange(1000)
        ended, stop = threading.Event(), threading.Event()
        errors: list[BaseException] = []

        def push() -> None:
            try:
                while not stop.is_set():
                    table.add(keys, np.ones((1000, 1)))
            except BaseException as error:
                errors.append(error)
            ended.set()

        thread = threading.Thread(target=push)
        thread.start()
        threading.Event().wait(0.3)
        kill_node(ps, 1)
        began = time.monotonic()
        ended.wait(20.0)
        took = time.monotonic() - began
        stop.set()
        thread.join(60.0)
        assert [type(error) for error in errors] == [ShardLost]
        assert took < SOON


def test_lost_node_ends_a_run_within_five_seconds(spark: SparkSession) -> None:
    with PSContext(spark, num_nodes=2) as ps, ThreadPoolExecutor(1) as pool:
        ps.sparse_table("w", dim=1)

        def train(worker: Any, batches: Any) -> None:
            rows = worker.table("w")
            while True:
                rows.add(np.arange(1000), np.ones((1000, 1)))
                worker.tick()

        run = pool.submit(ps.run, spark.range(10), train, num_workers=2)

        def is_under_way() -> bool:
            clocks = [rank["clock"] for group in ps.status()["groups"] for rank in group["ranks"]]
            return bool(clocks) and min(clocks) > 2

        wait_until(is_under_way, 120.0, what="ranks that push")
        kill_node(ps, 0)
        began = time.monotonic()
        with pytest.raises(ShardLost):
            run.result(timeout=90)
        assert time.monotonic() - began < SOON
