"""The Spark task that runs a node, without Spark: of several attempts one has a node, and no attempt ends the node of another."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sparkps.client.control import ControlClient
from sparkps.config import NodeSettings, Settings
from sparkps.driver_bridge.launchers.launched import LaunchedTier
from sparkps.driver_bridge.launchers.node_task import NodeProcess, NodeTask
from sparkps.driver_bridge.profiles import Held
from sparkps.errors import SparkPSError, TierError
from sparkps.wire.messages.control import StopTier, TierStatus
from tests.harness.waiting import wait_until


class OnlyCoordinator(LaunchedTier):
    """Whoever tests it starts the nodes."""

    held_by_nodes = Held()

    def _advertised(self) -> str:
        return f"ipc://{self.directory}/coordinator"

    def _start_node(self, number: int) -> None:
        raise AssertionError

    def _number_staying(self, going: set[int], report: dict[str, Any]) -> int:
        raise AssertionError

    def _check_nodes(self) -> None: ...

    def _why_late(self) -> str:
        return ""

    def _lost_data(self) -> SparkPSError | None:
        return None

    def _coordinator_lost(self) -> None: ...

    def _end_nodes(self, grace: float) -> None:
        self._end_children([], grace)

    def up(self) -> list[dict[str, Any]]:
        report = self.control.request(TierStatus(0, fresh=False)).report
        return [node for node in report["nodes"] if node["state"] == "up"]


class Tried:
    """An attempt at a node's task, in a thread."""

    def __init__(self, tier: OnlyCoordinator, job: int, attempt: int) -> None:
        self.attempt = attempt
        self.error: BaseException | None = None
        task = NodeTask(tier.address, tier._settings, job)
        self._task: NodeTask = pickle.loads(pickle.dumps(task))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        control = ControlClient(self._task.address.coordinator, 30.0)
        try:
            while not self._task._has_ended(control, self.attempt):
                continue
        except BaseException as error:
            self.error = error
        finally:
            control.close()

    def runs(self) -> bool:
        return self._thread.is_alive()

    def ended(self) -> BaseException | None:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.error


@pytest.fixture
def tier(monkeypatch: pytest.MonkeyPatch) -> Iterator[OnlyCoordinator]:
    # A node of this test binds TCP, and its coordinator does not.
    monkeypatch.setattr("sparkps.driver_bridge.launchers.executor_host.towards", lambda endpoint: "127.0.0.1")
    started: list[NodeProcess] = []

    def start(*arguments: Any) -> NodeProcess:
        started.append(NodeProcess(*arguments))
        return started[-1]

    monkeypatch.setattr("sparkps.driver_bridge.launchers.node_task.NodeProcess", start)
    node = NodeSettings(heartbeat_interval=0.2, heartbeat_deadline=10.0)
    made = OnlyCoordinator(Settings(num_nodes=1, node_cores=2, node=node))
    made._start_coordinator()
    assert wait_until((made.directory / "coordinator").exists, 120.0)
    yield made
    made.stop()
    for each in started:  # as when Spark ends their tasks: one may have come too late to be told that the tier has ended
        each.end()


def test_a_copy_waits_and_takes_over_when_the_node_is_gone(tier: OnlyCoordinator) -> None:
    first = Tried(tier, 3, 10)
    assert wait_until(lambda: len(tier.up()) == 1, 120.0)
    copy = Tried(tier, 3, 11)
    assert wait_until(lambda: "memory_bytes" in tier.up()[0], 120.0), "its first heartbeat follows what it logs of itself"
    (node,) = tier.up()
    assert (node["job"], node["attempt"]) == (3, 10)
    os.kill(node["pid"], signal.SIGKILL)
    error = first.ended()
    assert isinstance(error, TierError)
    assert f"process {node['pid']} was killed by signal 9. The end of its log:" in str(error)
    assert f"node {node['id']} of tier" in str(error)
    assert wait_until(lambda: [each["attempt"] for each in tier.up()] == [11], 120.0), "at most a look later"
    assert copy.runs()


def test_all_attempts_end_with_the_tier(tier: OnlyCoordinator) -> None:
    attempts = [Tried(tier, 0, 1)]
    assert wait_until(lambda: len(tier.up()) == 1, 120.0)
    attempts += [Tried(tier, 0, 2), Tried(tier, 0, 3)]
    tier.control.request(StopTier(0))
    assert attempts[0].ended() is None
    for each in attempts[1:]:
        error = each.ended()
        assert error is None or "must reach the coordinator" in str(error), "the coordinator may be gone already"


def test_attempts_that_begin_together_have_one_node(tier: OnlyCoordinator) -> None:
    attempts = [Tried(tier, 0, number) for number in range(3)]
    assert wait_until(lambda: len(tier.up()) == 1, 120.0)
    (node,) = tier.up()
    assert all(each.runs() for each in attempts)
    os.kill(node["pid"], signal.SIGTERM)  # nobody of the tier has told it to end
    assert wait_until(lambda: [each["id"] for each in tier.up()] not in ([], [node["id"]]), 120.0)
    assert len(tier.up()) == 1
    assert sum(each.runs() for each in attempts) >= 2, "one has failed with its node, unless another one had its place by then"


def test_an_executor_that_does_not_reach_the_driver_says_so(tier: OnlyCoordinator) -> None:
    task = NodeTask(tier.address, tier._settings, 0)
    control = ControlClient("ipc:///nowhere/at/all", 0.2)
    with pytest.raises(TierError, match=r"must reach the coordinator at the driver.*Set `spark.driver.host`"):
        task._has_ended(control, 0)
    control.close()
