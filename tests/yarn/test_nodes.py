"""A tier in containers of YARN, with dynamic allocation and speculation: containers come, go and are killed, and no bit changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.cluster_programs import OBEY, TRAININGS, Obedient, session
from tests.harness.hadoop import HOSTS, HadoopCluster
from tests.harness.processes import DriverProgram
from tests.harness.waiting import wait_until

#: What users of YARN have, with shorter times.
DYNAMIC = {
    "spark.dynamicAllocation.enabled": "true",
    "spark.dynamicAllocation.maxExecutors": "4",
    "spark.dynamicAllocation.executorIdleTimeout": "5s",
    "spark.executor.instances": "0",
    "spark.speculation": "true",
    "spark.sparkps.nodeMemory": "256m",
}

#: Bytes of a node's container, in MiB: heap, rows, and the processes beside them.
CONTAINER = 512 + 256 + 512

CLOCKS = 100


@pytest.fixture(scope="module")
def driver(hadoop: HadoopCluster) -> Iterator[Obedient]:
    program = session({**hadoop.spark_conf(), **DYNAMIC}) + TRAININGS + OBEY
    with DriverProgram(program, **hadoop.environment()) as process:
        yield Obedient(process)


@pytest.fixture(scope="module")
def undisturbed(driver: Obedient) -> int:
    return int(driver.ask("train", clocks=CLOCKS)["crc"])


def of_nodes(hadoop: HadoopCluster) -> list[str]:
    """Hosts of the containers that nodes are in."""
    return [each.host for each in hadoop.containers() if each.memory_mb == CONTAINER]


def test_nodes_have_containers_of_their_own_size_on_different_hosts(hadoop: HadoopCluster, driver: Obedient) -> None:
    assert sorted(host for _, host in driver.started["nodes"]) == sorted(HOSTS)
    assert sorted(of_nodes(hadoop)) == sorted(HOSTS)


@pytest.mark.parametrize("strike", ["node", "node task", "node executor", "worker", "worker executor"])
def test_a_process_killed_in_the_middle_changes_no_bit(driver: Obedient, undisturbed: int, strike: str) -> None:
    told = driver.ask("train", clocks=CLOCKS, strike=strike)
    assert len(told["struck"]) == 1
    assert told["crc"] == undisturbed
    assert len(driver.ask("whole")["nodes"]) == 2


def test_scaling_out_gets_a_container_and_scaling_in_gives_it_back(hadoop: HadoopCluster, driver: Obedient) -> None:
    assert wait_until(lambda: len(of_nodes(hadoop)) == 2, 30)
    assert len(driver.ask("scale", number=3)["nodes"]) == 3
    assert len(of_nodes(hadoop)) == 3
    assert len(driver.ask("scale", number=2)["nodes"]) == 2
    assert wait_until(lambda: len(of_nodes(hadoop)) == 2, 30)


def test_a_program_that_ends_leaves_nothing_behind(hadoop: HadoopCluster, driver: Obedient) -> None:
    assert driver.end() == 0, driver.program.errors[-3000:]
    assert wait_until(lambda: not hadoop.containers(), 30)
    assert hadoop.applications()[-1].final == "SUCCEEDED"
