"""A rank that is given up and a node that is killed, in one run: what the rank had ticked counts, and no bit is another."""

from __future__ import annotations

import os
import pathlib
import random
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from sparkps import BSP, PSContext, WorkerLost
from sparkps.optim import Adagrad
from sparkps.testing.processes import kill_node, nodes_up, wait_until
from tests.harness.cases import cases
from tests.harness.node_faults import NODES, clock_of, never_tired, wait_whole

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(300)]

#: Clocks of rank 0, and the clock in which rank 1 is lost each time that it comes there.
CLOCKS, LOST_AT = 16, 5

KEYS = np.arange(300)


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """Nodes that have taken the place of others stay until the tier of this module ends."""


@pytest.fixture(scope="module")
def ps(spark: SparkSession) -> Iterator[PSContext]:
    """Three nodes, two copies, leases of a second."""
    spark.conf.set("spark.sparkps.leaseTtl", "1s")
    with PSContext(spark, num_nodes=NODES, replication=2) as context:
        never_tired(context)
        yield context
    spark.conf.unset("spark.sparkps.leaseTtl")


@dataclass(frozen=True)
class MortalTraining:
    """Pushes whose sums depend on their order; rank 1 kills itself after those of clock `LOST_AT`. Picklable."""

    directory: str

    def __call__(self, worker: Any, batches: Any) -> int:
        """The number of clocks."""
        rows, counts = worker.table("rows"), worker.table("counts")
        while worker.clock < CLOCKS:
            rng = np.random.default_rng((worker.rank, worker.clock))
            read = rows.pull(KEYS)
            rows.push_async(KEYS, np.tanh(read) + rng.normal(size=read.shape))
            counts.add(np.eye(2 * CLOCKS)[worker.rank * CLOCKS + worker.clock])
            if (worker.rank, worker.clock) == (1, LOST_AT):
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Event().wait(0.05)
            worker.tick()
            (pathlib.Path(self.directory) / str(worker.rank)).write_text(str(worker.clock))
        return int(worker.clock)


def left_by(ps: PSContext, directory: pathlib.Path, fault: Callable[[], None] = lambda: None, at: int = 0) -> tuple[bytes, list[float]]:
    """The bits of the rows, and the counts of each rank's clocks; the fault comes when rank 0 has done so many."""
    directory.mkdir()
    tables = ps.sparse_table("rows", dim=4, optimizer=Adagrad(0.1)), ps.dense_table("counts", shape=2 * CLOCKS)
    try:
        with ThreadPoolExecutor(1) as pool:
            train = MortalTraining(str(directory))
            options = {"num_workers": 2, "consistency": BSP, "on_worker_loss": "continue", "timeout": 90.0}
            run = pool.submit(ps.run, ps.spark.range(10), train, **options)
            wait_until(lambda: clock_of(directory) >= at or run.done(), 120.0, 0.002, "the moment of the fault")
            fault()
            assert list(run.result(100.0)) == [CLOCKS, WorkerLost(1, LOST_AT)]
        return tables[0].pull(KEYS).tobytes(), tables[1].pull().tolist()
    finally:
        for table in tables:
            table.drop()


@pytest.fixture(scope="module")
def undisturbed(ps: PSContext, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[float]]:
    """What a run leaves that loses its rank 1, and no node."""
    return left_by(ps, tmp_path_factory.mktemp("undisturbed") / "run")


def test_what_the_lost_rank_had_ticked_counts(undisturbed: tuple[bytes, list[float]]) -> None:
    assert undisturbed[1] == [1.0] * CLOCKS + [1.0] * LOST_AT + [0.0] * (CLOCKS - LOST_AT)


@pytest.mark.parametrize(("at", "later"), cases([(2, 0.0), (LOST_AT + 2, 0.0)], long=[(LOST_AT, 1.0)]))
def test_a_node_killed_beside_a_rank_that_is_given_up_changes_no_bit(
    ps: PSContext, tmp_path: pathlib.Path, undisturbed: tuple[bytes, list[float]], at: int, later: float
) -> None:
    """Before, while its successors come and go, and after it was given up."""
    wait_whole(ps, NODES)

    def kill() -> None:
        threading.Event().wait(later)
        kill_node(ps, random.Random(later).choice(nodes_up(ps)))

    assert left_by(ps, tmp_path / "run", kill, at) == undisturbed
