"""Nodes in executors of a standalone cluster of two hosts, without dynamic allocation: they take slots of the executors that there are."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.conftest import tier_processes
from tests.harness.cluster_programs import OBEY, TRAININGS, Obedient, session
from tests.harness.leaks import in_files, in_processes
from tests.harness.processes import DriverProgram
from tests.harness.standalone import HOSTS, StandaloneCluster
from tests.harness.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.renews_nodes]

CLOCKS = 100

SETTINGS = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "512m",
    "spark.executor.memory": "512m",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.task.maxFailures": "4",
    "spark.sparkps.leaseTtl": "1s",
    "spark.sparkps.nodeMemory": "256m",
    "spark.sparkps.allowPlaintextKeys": "true",
}

#: With these one-task jobs are copied, too, as soon as they run for a second: those of nodes at once.
COPIES = {
    "spark.speculation": "true",
    "spark.speculation.interval": "100ms",
    "spark.speculation.task.duration.threshold": "1s",
    "spark.speculation.minTaskRuntime": "100ms",
}

#: What a program may do besides.
MORE = """
def interrupted():
    "Ctrl-C while a worker group trains."
    threading.Timer(2.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        train(100_000)
    except KeyboardInterrupt:
        return {"interrupted": True, "nodes": whole()}

def cancelled():
    "The user cancels all of Spark's jobs."
    spark.sparkContext.cancelAllJobs()
    return {"nodes": whole()}

def secrets():
    "How the secret of the tier could be written."
    from sparkps.secret import secret_of
    from tests.harness.leaks import spellings
    return {name: spelt.hex() for name, spelt in spellings(secret_of(ps.address)).items()}

def copies():
    "Copies of nodes' tasks that Spark has started."
    context = spark.sparkContext._jsc.sc()
    stages = context.statusStore().activeStages()
    return {"running": sum(stages.apply(i).numActiveTasks() for i in range(stages.size()))}
"""


#: The program that the tests talk to.
PROGRAM = TRAININGS + MORE + OBEY.replace(
    "DEEDS = {", "DEEDS = {'interrupted': interrupted, 'cancelled': cancelled, 'copies': copies, 'secrets': secrets, "
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Those of a session on the cluster."""
    directory = tmp_path_factory.mktemp("standalone")
    with StandaloneCluster(directory, cores=3) as cluster:
        told = directory / "told"
        told.mkdir()
        events = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": str(told), "spark.eventLog.compress": "false"}
        yield {**SETTINGS, **events, "spark.master": cluster.endpoint, "spark.local.dir": str(directory / "local")}
    assert wait_until(lambda: not tier_processes(), 30), "no node, and no coordinator, outlives its application"


@pytest.fixture(scope="module")
def driver(settings: dict[str, str]) -> Iterator[Obedient]:
    with DriverProgram(session(settings) + PROGRAM) as process:
        yield Obedient(process)


@pytest.fixture(scope="module")
def undisturbed(driver: Obedient) -> int:
    return int(driver.ask("train", clocks=CLOCKS)["crc"])


def test_nodes_are_on_different_hosts(driver: Obedient) -> None:
    assert sorted(host for _, host in driver.started["nodes"]) == sorted(HOSTS)


def test_interrupts_end_the_call_and_no_node(driver: Obedient) -> None:
    assert driver.ask("interrupted") == {"interrupted": True, "nodes": driver.started["nodes"]}
    assert driver.ask("cancelled") == {"nodes": driver.started["nodes"]}


@pytest.mark.parametrize("strike", ["node", "node task", "node executor"])
def test_a_process_killed_in_the_middle_changes_no_bit(driver: Obedient, undisturbed: int, strike: str) -> None:
    told = driver.ask("train", clocks=CLOCKS, strike=strike)
    assert len(told["struck"]) == 1
    assert told["crc"] == undisturbed
    assert len(driver.ask("whole")["nodes"]) == 2, "where Spark tries the task again"


def test_the_secret_of_the_tier_is_nowhere_to_be_read(driver: Obedient, settings: dict[str, str]) -> None:
    """Not in what executors log, nor in the event log, which has what the UI shows of the environment, nor in lists of processes."""
    driver.ask("train", clocks=2)
    spelt = {name: bytes.fromhex(each) for name, each in driver.ask("secrets").items()}
    told = pathlib.Path(settings["spark.eventLog.dir"])
    assert any(b"SparkListenerEnvironmentUpdate" in path.read_bytes() for path in told.rglob("*") if path.is_file())
    assert in_files([told, *(told.parent / host for host in HOSTS)], spelt) == []
    assert in_processes(spelt) == []
    assert not [name for name, each in spelt.items() if each.decode(errors="replace") in driver.program.errors]


def test_a_program_that_ends_leaves_nothing_behind(driver: Obedient) -> None:
    assert driver.end() == 0, driver.program.errors[-3000:]


def test_copies_of_nodes_wait_and_no_node_is_lost_to_its_own(settings: dict[str, str], undisturbed: int) -> None:
    with DriverProgram(session({**settings, **COPIES}) + PROGRAM) as process:
        driver = Obedient(process)
        assert wait_until(lambda: driver.ask("copies")["running"] == 4, 20, 0.2), "two nodes, and a copy of each that waits"
        assert driver.ask("train", clocks=CLOCKS)["crc"] == undisturbed
        assert driver.ask("whole")["nodes"] == driver.started["nodes"], "the same as at the start"
        assert driver.ask("train", clocks=CLOCKS, strike="node")["crc"] == undisturbed, "a copy takes over"
        assert len(driver.ask("whole")["nodes"]) == 2
        assert driver.end() == 0, driver.program.errors[-3000:]
