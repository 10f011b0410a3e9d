"""Nodes and coordinators that die under a living driver: clear errors, at once, and nothing left behind."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from sparkps.client.session import Session, disconnect
from sparkps.client.tables import SparseTable
from sparkps.config import Settings
from sparkps.driver_bridge.launchers.local import LocalTier, launch
from sparkps.driver_bridge.launchers.restarts import Restarts
from sparkps.errors import DeadlineExceeded, NodeUnreachable, ShardLost, TierError
from sparkps.specs import TableSpec
from sparkps.wire.messages.control import AdmitGroup, CreateTable, GroupState, TierStatus
from tests.harness.processes import gone_within, running
from tests.harness.waiting import wait_until


@pytest.fixture
def tier() -> Iterator[LocalTier]:
    started = launch(Settings(num_nodes=2))
    yield started
    disconnect(started.address)
    started.stop()


def table(tier: LocalTier) -> SparseTable:
    return SparseTable(tier.address, tier.control.request(CreateTable(0, TableSpec("w", "sparse", 1))).spec)


def kill_node(tier: LocalTier, number: int) -> int:
    """Kill a node; its id."""
    child = tier._nodes[f"ipc://{tier.directory}/node{number}"]
    nodes = tier.control.request(TierStatus(0)).report["nodes"]
    os.kill(child.pid, signal.SIGKILL)
    return next(node["id"] for node in nodes if node["pid"] == child.pid)


def states(tier: LocalTier) -> list[str]:
    return sorted(node["state"] for node in tier.control.request(TierStatus(0, fresh=False)).report["nodes"])


def test_killed_node_is_known_at_once(tier: LocalTier) -> None:
    began = time.monotonic()
    kill_node(tier, 1)
    assert wait_until(lambda: states(tier) [:2] == ["dead", "up"], 120.0)
    assert time.monotonic() - began < 10.0, "long before the heartbeat's deadline"


def test_killed_node_leaves_a_tier_that_says_it_is_degraded(tier: LocalTier) -> None:
    assert tier.control.request(TierStatus(0)).report["state"] == "ready"
    dead = kill_node(tier, 1)
    assert wait_until(lambda: states(tier) [:2] == ["dead", "up"], 120.0)
    report = tier.control.request(TierStatus(0)).report
    assert (report["state"], report["lost_nodes"], report["lost_buckets"]) == ("degraded", [dead], 128)
    assert "signal 9" in report["nodes"][dead]["reason"]


def test_killed_node_is_named_by_the_calls_that_need_it(tier: LocalTier) -> None:
    w = table(tier)
    keys = np.arange(1000)
    w.add(keys, np.ones((1000, 1)))
    dead = kill_node(tier, 0)
    assert wait_until(lambda: states(tier) [:2] == ["dead", "up"], 120.0)
    began = time.monotonic()
    with pytest.raises(ShardLost, match=rf"[Nn]ode {dead}\b"):
        w.pull(keys)
    with pytest.raises(ShardLost, match="was killed by signal 9"):
        tier.control.request(CreateTable(0, TableSpec("x", "sparse", 1)))
    assert time.monotonic() - began < 15.0


def test_killed_node_fails_the_groups_that_run(tier: LocalTier) -> None:
    w = table(tier)
    w.add([1], [[1.0]])
    group = tier.control.request(AdmitGroup(0, "g", 2, 2, 0, 0, "g")).spec.group
    caught: list[BaseException] = []

    def wait_for_the_other_rank() -> None:
        session = Session(tier.address, tier.control)
        try:
            session.takeover(group, 0, 1)
            session.tick()
            w.bind(session).pull(np.arange(1000))
        except BaseException as error:
            caught.append(error)
        finally:
            session.close()

    thread = threading.Thread(target=wait_for_the_other_rank)
    thread.start()

    def ticked() -> bool:
        groups = tier.control.request(TierStatus(0)).report["groups"]
        return bool(groups) and groups[0]["ranks"][0]["clock"] == 0

    assert wait_until(ticked, 120.0)
    dead = kill_node(tier, 0)
    thread.join(60)
    assert not thread.is_alive()
    assert isinstance(caught[0], ShardLost)
    assert f"node {dead}" in str(caught[0]).lower()
    report = tier.control.request(GroupState(0, group))
    assert (report.state, report.cause.error) == ("failed", "ShardLost")


def test_killed_coordinator_keeps_pulls_going_and_is_named(tier: LocalTier) -> None:
    w = table(tier)
    w.add([1, 2], [[1.0], [2.0]])
    assert tier._coordinator is not None
    tier.coordinator_restarts = Restarts(0)
    os.kill(tier._coordinator.pid, signal.SIGKILL)
    assert gone_within([tier._coordinator.pid], 30.0)
    assert w.pull([1, 2]).tolist() == [[1.0], [2.0]], "the coordinator is on no path of a pull"
    with pytest.raises((NodeUnreachable, DeadlineExceeded), match="The coordinator"):
        tier.control.request(TierStatus(0), timeout=0.5)


def test_stopped_tier_leaves_no_process_even_of_hung_ones() -> None:
    tier = launch(Settings(num_nodes=2, stop_timeout=0.5))
    assert tier._coordinator is not None
    pids = [tier._coordinator.pid, *(child.pid for child in tier._nodes.values())]
    os.kill(pids[1], signal.SIGSTOP)
    tier.stop()
    tier.stop()
    assert not running(pids)
    assert not tier.directory.exists()


class _NodesThatFail(LocalTier):
    def _start_node(self, number: int) -> None:
        command = [sys.executable, "-c", "import sys; sys.exit('no room on this host')"]
        self._nodes[f"ipc://{self.directory}/node{number}"] = self._child(f"node{number}", command)


class _NodesThatHang(LocalTier):
    def _start_node(self, number: int) -> None:
        command = [sys.executable, "-c", "import sys; print('still thinking', flush=True); sys.stdin.read()"]
        self._nodes[f"ipc://{self.directory}/node{number}"] = self._child(f"node{number}", command)


def test_node_that_cannot_start_is_shown_with_its_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "sparkps")
    tier = _NodesThatFail(Settings(num_nodes=1))
    with pytest.raises(TierError, match=r"(?s)process \d+ exited with status 1\. .*no room on this host"):
        tier.start()
    assert not tier.directory.exists()


def test_node_that_does_not_start_in_time_is_shown_with_its_log() -> None:
    tier = _NodesThatHang(Settings(num_nodes=1, start_timeout=1.5))
    with pytest.raises(DeadlineExceeded, match=r"(?s)startTimeout.*0 of 1 nodes have joined.*still thinking"):
        tier.start()
    assert not tier.directory.exists()
