"""A node that stands still, or is cut off, for longer than the deadline of heartbeats: others lead what it led, and it is fenced."""

from __future__ import annotations

import pathlib
import random
import threading
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from sparkps import PSContext
from sparkps.testing import relayed
from sparkps.testing.processes import ProcessName, node_process, nodes_up, wait_until
from tests.harness.cases import cases
from tests.harness.node_faults import Tables, never_tired, trained, wait_whole

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(300)]

NODES, DEADLINE = 3, 1.0


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """Nodes that have taken the place of others stay until the tier of this module ends."""


@pytest.fixture(scope="module")
def ps(spark: SparkSession) -> Iterator[PSContext]:
    """Three nodes, two copies, each connection through a relay."""
    relayed.enable()
    spark.conf.set("spark.sparkps.heartbeatDeadline", f"{DEADLINE:g}s")
    with PSContext(spark, num_nodes=NODES, replication=2, launch="relayed") as context:
        never_tired(context)
        yield context
    spark.conf.unset("spark.sparkps.heartbeatDeadline")


@pytest.fixture(scope="module")
def undisturbed(ps: PSContext, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """What a run without a fault leaves."""
    return trained(ps, tmp_path_factory.mktemp("undisturbed") / "run")


def is_dead(ps: PSContext, node: int) -> bool:
    return [each["state"] for each in ps.status()["nodes"] if each["id"] == node] == ["dead"]


def assert_fenced(ps: PSContext, node: int, process: ProcessName) -> None:
    """The node that nobody waits for any more has heard so, and has gone."""
    assert is_dead(ps, node)
    wait_until(lambda: not process.runs, 10.0, what=f"the end of node {node}, which is fenced")


@pytest.mark.parametrize("seed", cases([0], long=[1, 2]))
def test_node_that_stands_still_changes_no_bit_and_is_fenced(ps: PSContext, tmp_path: pathlib.Path, undisturbed: Tables, seed: int) -> None:
    drawn = random.Random(seed)
    wait_whole(ps, NODES)
    node = drawn.choice(nodes_up(ps))
    process = node_process(ps, node)

    def stop() -> None:
        with process.stopped():
            wait_until(lambda: is_dead(ps, node), 10.0, what=f"the death of node {node}, which stands still")
            wait_until(lambda: not ps.status()["under_replicated"], 120.0, what="the copies of its buckets")

    made = trained(ps, tmp_path / "run", stop, at=drawn.uniform(0.0, 0.9))
    assert_fenced(ps, node, process)
    made.assert_same(undisturbed)


def test_node_that_stands_still_for_20_s_wakes_up_to_find_itself_fenced(ps: PSContext, tmp_path: pathlib.Path, undisturbed: Tables) -> None:
    wait_whole(ps, NODES)
    node = nodes_up(ps)[0]
    process = node_process(ps, node)

    def stop() -> None:
        with process.stopped():
            threading.Event().wait(20.0)

    made = trained(ps, tmp_path / "run", stop, at=0.3)
    assert_fenced(ps, node, process)
    made.assert_same(undisturbed)


@pytest.mark.parametrize("seed", cases([0], long=[1, 2]))
def test_node_that_is_cut_off_changes_no_bit_and_is_fenced(ps: PSContext, tmp_path: pathlib.Path, undisturbed: Tables, seed: int) -> None:
    drawn = random.Random(10 + seed)
    wait_whole(ps, NODES)
    node = drawn.choice(nodes_up(ps))
    process = node_process(ps, node)

    def cut_off() -> None:
        with relayed.tier_of(ps).isolated(node):
            wait_until(lambda: is_dead(ps, node), 10.0, what=f"the death of node {node}, of which nobody hears")
            wait_until(lambda: not ps.status()["under_replicated"], 120.0, what="the copies of its buckets")

    made = trained(ps, tmp_path / "run", cut_off, at=drawn.uniform(0.0, 0.9))
    assert_fenced(ps, node, process)
    made.assert_same(undisturbed)
