"""A tier on YARN without dynamic allocation: nodes take slots of the containers that the application has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.cluster_programs import OBEY, TRAININGS, Obedient, session
from tests.harness.hadoop import HOSTS, HadoopCluster
from tests.harness.processes import DriverProgram
from tests.harness.waiting import wait_until

#: Two containers of two slots: a node and a worker on each. Rows of a node are beside the heap, in the overhead.
STATIC = {
    "spark.dynamicAllocation.enabled": "false",
    "spark.executor.instances": "2",
    "spark.executor.cores": "2",
    "spark.executor.memoryOverhead": "1g",
    "spark.sparkps.nodeMemory": "256m",
}

#: Bytes of each container, in MiB.
CONTAINER = 512 + 1024

CLOCKS = 100

#: What is refused, and with which words.
REFUSED = """
def refused():
    from sparkps.errors import SparkPSError
    told = {}
    for name, ask in (("nodes", lambda: ps.scale(4)), ("workers", lambda: train(1, workers=3))):
        try:
            told[name] = f"none: {ask()}"
        except SparkPSError as error:
            told[name] = f"{type(error).__name__}: {error}"
    return told
"""


@pytest.fixture(scope="module")
def driver(hadoop: HadoopCluster) -> Iterator[Obedient]:
    program = session({**hadoop.spark_conf(), **STATIC}) + TRAININGS + REFUSED + OBEY.replace("DEEDS = {", "DEEDS = {'refused': refused, ")
    with DriverProgram(program, **hadoop.environment()) as process:
        yield Obedient(process)


def test_nodes_are_on_different_hosts_and_no_container_is_theirs_alone(hadoop: HadoopCluster, driver: Obedient) -> None:
    assert sorted(host for _, host in driver.started["nodes"]) == sorted(HOSTS)
    assert sorted(each.memory_mb for each in hadoop.containers() if not each.is_master) == [CONTAINER, CONTAINER]


def test_what_has_no_slots_is_refused_with_how_many_it_takes(driver: Obedient) -> None:
    told = driver.ask("refused")
    assert told["nodes"].startswith("ConfigError: ")
    assert "There are 2 of 2 cores, which hold 4 tasks" in told["nodes"]
    assert "4 were asked for, and 1 core at least on one executor for a worker beside them: 5 in all" in told["nodes"]
    assert told["workers"].startswith("NotEnoughSlots: ")
    assert "has 4 task slots, of which nodes hold 2. 3 workers were asked for, for which it must have 5 in all" in told["workers"]


def test_a_node_killed_in_the_middle_changes_no_bit(hadoop: HadoopCluster, driver: Obedient) -> None:
    undisturbed = int(driver.ask("train", clocks=CLOCKS)["crc"])
    told = driver.ask("train", clocks=CLOCKS, strike="node")
    assert len(told["struck"]) == 1
    assert told["crc"] == undisturbed
    assert len(driver.ask("whole")["nodes"]) == 2
    assert driver.end() == 0, driver.program.errors[-3000:]
    assert wait_until(lambda: not hadoop.containers(), 30)
