"""`spark.sparkps.logLevel`: what nodes and workers log reaches the driver's log."""

from __future__ import annotations

import logging
import socket
import sys

import pytest

from sparkps import PSContext
from sparkps.errors import WorkerFailed
from tests.harness.waiting import wait_until

HERE = socket.gethostname()


def talking(worker, batches):
    logging.getLogger("mine").info("rank %d has begun", worker.rank)
    logging.getLogger("mine").debug("not at this level")
    sys.stderr.write("standard error is no record\n")
    worker.tick()
    if worker.rank == 1:
        logging.getLogger("mine").error("about to fail")
        raise ValueError("it does not converge")
    return logging.getLogger().level


def told(caplog, logger):
    return [record.getMessage() for record in caplog.records if record.name == logger]


@pytest.fixture
def talkative(spark):
    """A session that asks for INFO."""
    spark.conf.set("spark.sparkps.logLevel", "INFO")
    yield spark
    spark.conf.unset("spark.sparkps.logLevel")


def test_records_of_nodes_and_workers_reach_the_driver(talkative, caplog):
    with PSContext(talkative, num_nodes=2) as ps:
        ps.run(talkative.range(10), lambda worker, batches: logging.getLogger("mine").info("rank %d", worker.rank), num_workers=2)
        with pytest.raises(WorkerFailed, match="it does not converge"):
            ps.run(talkative.range(10), talking, num_workers=2)
        ranks = [f"rank {rank} on {HERE}: rank {rank}" for rank in (0, 1)]
        assert wait_until(lambda: set(ranks) <= set(told(caplog, "sparkps.workers")), 10)
    workers, nodes = told(caplog, "sparkps.workers"), told(caplog, "sparkps.nodes")
    assert f"rank 1 on {HERE}: rank 1 has begun" in workers
    assert f"rank 1 on {HERE}: about to fail" in workers
    assert not any("not at this level" in line or "no record" in line for line in workers)
    assert {line.split(":")[0] for line in nodes} == {f"node {node} on {HERE}" for node in (0, 1)}
    assert any("the tier is ready" in line for line in told(caplog, "sparkps.coordinator"))


def test_nothing_is_forwarded_unless_it_is_asked_for(spark, caplog):
    def train(worker, batches):
        import threading

        logging.getLogger("mine").warning("in the executor's own log")
        return [thread.name for thread in threading.enumerate()], len(logging.getLogger().handlers)

    with PSContext(spark, num_nodes=1) as ps:
        names, handlers = ps.run(spark.range(10), train, num_workers=1)[0]
    assert "sparkps-log" not in names
    assert handlers == 0
    assert told(caplog, "sparkps.workers") == told(caplog, "sparkps.nodes") == []
