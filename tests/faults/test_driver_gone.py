"""However the driver ends, its tier ends with it; and Ctrl-C ends neither."""

from __future__ import annotations

import os
import pathlib
import signal
import tempfile
from collections.abc import Iterator

import pytest

from tests.harness.processes import TIER, DriverProgram, gone_within, running
from tests.harness.waiting import wait_until

#: The promise: nodes notice within so many seconds.
NOTICE = 10.0

WITH_HOOKS = """
from sparkps.driver_bridge.signals import EndOfDriver
EndOfDriver(tier.stop).arm()
"""


@pytest.fixture
def temporary() -> Iterator[pathlib.Path]:
    """A temporary directory for one driver and its tier, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="t") as name:
        yield pathlib.Path(name)


def removed(directory: str) -> bool:
    return wait_until(lambda: not pathlib.Path(directory).exists(), NOTICE)


def emptied(directory: pathlib.Path) -> bool:
    return wait_until(lambda: not list(directory.iterdir()), NOTICE)


def test_killed_driver_leaves_no_process_and_no_file(temporary: pathlib.Path) -> None:
    with DriverProgram(TIER + "wait_for_the_test()", TMPDIR=str(temporary)) as driver:
        said = driver.hear()
        assert pathlib.Path(said["directory"]).parent == temporary
        driver.process.kill()
        assert gone_within(said["pids"], NOTICE)
        assert emptied(temporary)


@pytest.mark.parametrize("driver_first", [True, False])
def test_killed_driver_and_coordinator_leave_no_process_and_no_file(
    temporary: pathlib.Path, driver_first: bool
) -> None:
    with DriverProgram(TIER + "wait_for_the_test()", TMPDIR=str(temporary)) as driver:
        coordinator, *nodes = driver.hear()["pids"]
        for pid in (driver.process.pid, coordinator) if driver_first else (coordinator, driver.process.pid):
            os.kill(pid, signal.SIGKILL)
        assert gone_within(nodes, NOTICE)
        assert emptied(temporary)


def test_killed_driver_coordinator_and_node_leave_no_process_and_no_file(temporary: pathlib.Path) -> None:
    with DriverProgram(TIER + "wait_for_the_test()", TMPDIR=str(temporary)) as driver:
        coordinator, first, second = driver.hear()["pids"]
        for pid in (driver.process.pid, coordinator, first):
            os.kill(pid, signal.SIGKILL)
        assert gone_within([second], NOTICE)
        assert emptied(temporary)


def test_driver_killed_while_the_tier_starts_leaves_no_process() -> None:
    program = """
import threading
from sparkps.config import Settings
from sparkps.driver_bridge.launchers.local import LocalTier
tier = LocalTier(Settings(num_nodes=2))
tier._wait_ready = lambda: (
    say(pids=[tier._coordinator.pid, *(node.pid for node in tier._nodes.values())], directory=str(tier.directory)),
    wait_for_the_test())
tier._warm_kernels = lambda: None
tier.start()
"""
    with DriverProgram(program) as driver:
        said = driver.hear()
        driver.process.kill()
        assert gone_within(said["pids"], NOTICE)
        assert removed(said["directory"])


def test_terminated_driver_stops_the_tier_first() -> None:
    with DriverProgram(TIER + WITH_HOOKS + "say(armed=True); wait_for_the_test()") as driver:
        said = driver.hear()
        driver.hear()
        driver.process.terminate()
        assert driver.wait() == -signal.SIGTERM, "ends as it would without us"
        assert not running(said["pids"]), "the tier ended before its driver did"
        assert not pathlib.Path(said["directory"]).exists()


def test_previous_handler_of_sigterm_is_called_after_the_tier_stopped() -> None:
    handler = "signal.signal(signal.SIGTERM, lambda *_: (say(stopped=not tier.directory.exists()), sys.exit(7)))\n"
    with DriverProgram(handler + TIER + WITH_HOOKS + "say(armed=True); wait_for_the_test()") as driver:
        driver.hear()
        driver.hear()
        driver.process.terminate()
        assert driver.hear() == {"stopped": True}
        assert driver.wait() == 7


def test_exit_without_stop_leaves_no_process() -> None:
    with DriverProgram(TIER + WITH_HOOKS) as driver:
        said = driver.hear()
        assert driver.wait() == 0
        assert not running(said["pids"])
        assert not pathlib.Path(said["directory"]).exists()


def test_exit_of_a_forked_child_keeps_the_tier() -> None:
    program = """
child = os.fork()
if child == 0:
    sys.exit(0)
os.waitpid(child, 0)
from sparkps.wire.messages.control import TierStatus
say(state=tier.control.request(TierStatus(0)).report["state"])
"""
    with DriverProgram(TIER + WITH_HOOKS + program) as driver:
        driver.hear()
        assert driver.hear() == {"state": "ready"}
        assert driver.wait() == 0


def test_interrupt_ends_the_call_and_keeps_the_tier() -> None:
    program = """
from sparkps.client.session import Session
from sparkps.client.tables import SparseTable
from sparkps.specs import TableSpec
from sparkps.wire.messages.control import AdmitGroup, CreateTable, TierStatus
w = SparseTable(tier.address, tier.control.request(CreateTable(0, TableSpec("w", "sparse", 1))).spec)
w.add([1], [[1.5]])
group = tier.control.request(AdmitGroup(0, "g", 2, 2, 0, 0, "g")).spec.group
session = Session(tier.address, tier.control)
session.takeover(group, 0, 1)
session.tick()
try:
    say(waiting=True)                           # inside, for the interrupt may come before the pull
    w.bind(session).pull([1])                   # waits for rank 1, which never ticks
except KeyboardInterrupt:
    say(interrupted=True)
nodes = tier.control.request(TierStatus(0)).report["nodes"]
say(row=w.pull([1]).tolist(), states=[node["state"] for node in nodes])
tier.stop()
"""
    with DriverProgram(TIER + program) as driver:
        said = driver.hear()
        driver.hear()
        driver.interrupt()
        assert driver.hear() == {"interrupted": True}
        assert driver.hear() == {"row": [[1.5]], "states": ["up", "up"]}
        assert driver.wait() == 0, driver.errors
        assert not running(said["pids"])


@pytest.mark.spark
def test_killed_spark_driver_leaves_no_process() -> None:
    program = """
from pyspark.sql import SparkSession
from sparkps import PSContext
spark = (SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
         .config("spark.driver.host", "127.0.0.1").getOrCreate())
ps = PSContext(spark, num_nodes=2)
w = ps.sparse_table("w", dim=1)
w.add([1], [[1.0]])
say(pids=[node["pid"] for node in ps.status()["nodes"]] + [ps._tier._coordinator.pid])
wait_for_the_test()
"""
    with DriverProgram(program) as driver:
        said = driver.hear()
        driver.process.kill()
        assert gone_within(said["pids"], NOTICE)
