"""The local launcher with a real coordinator and nodes that only obey: restarts, and more and fewer nodes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sparkps.config import NodeSettings, Settings
from sparkps.driver_bridge.launchers.local import LocalTier
from sparkps.driver_bridge.launchers.processes import ProcessTier
from sparkps.driver_bridge.launchers.restarts import Restarts
from sparkps.errors import DeadlineExceeded, InvalidInput, NodeUnreachable, TierError
from sparkps.secret import TierSecret
from sparkps.specs import TableSpec
from sparkps.wire.messages.control import CreateTable, DrainNode, FindTable, RestoreCheckpoint, TierStatus
from tests.harness.processes import gone_within
from tests.harness.waiting import wait_until

#: A node that obeys every command, and ends when it is told to; its arguments: coordinator, endpoint.
OBEDIENT = """
import os, secrets, sys
import zmq
from sparkps.lifeline import watch_stdin
from sparkps.wire.codec import decode, encode
from sparkps.wire.messages import control as c
watch_stdin(lambda: os._exit(1))
socket = zmq.Context().socket(zmq.DEALER)
socket.setsockopt(zmq.ROUTING_ID, b"\\x01" + secrets.token_bytes(11))
socket.connect(sys.argv[1])
socket.send_multipart(encode(c.NodeHello(1, sys.argv[2], "host", os.getpid())))
node, seq = -1, 1
while True:
    if not socket.poll(50):
        if node >= 0:
            seq += 1
            socket.send_multipart(encode(c.Heartbeat(seq, node)))
        continue
    message, _ = decode(socket.recv_multipart())
    if isinstance(message, c.Welcome):
        node = message.node
    elif not isinstance(message, c.Alive):
        socket.send_multipart(encode(c.CommandDone(message.seq, node)))
    if isinstance(message, c.StopNode):
        socket.close(500)
        break
"""


class ObedientTier(LocalTier):
    """Its nodes hold nothing, and start fast."""

    def _start_node(self, number: int) -> None:
        endpoint = f"ipc://{self.directory}/node{number}"
        command = [sys.executable, "-c", OBEDIENT, self.address.coordinator, endpoint]
        self._nodes[endpoint] = self._child(f"node{number}", command)

    def _warm_kernels(self) -> None:
        """They have none."""

    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = self.control.request(TierStatus(0, fresh=False)).report
        return report

    def up(self) -> list[int]:
        return [node["id"] for node in self.report()["nodes"] if node["state"] == "up"]

    def kill(self, number: int) -> None:
        os.kill(self._nodes[f"ipc://{self.directory}/node{number}"].pid, signal.SIGKILL)


@pytest.fixture(params=[1, 2])
def tier(request: pytest.FixtureRequest) -> Iterator[ObedientTier]:
    node = NodeSettings(heartbeat_interval=0.1, heartbeat_deadline=10.0)
    made = ObedientTier(Settings(num_nodes=2, replication=request.param, node=node))
    made.start()
    yield made
    made.stop()


def test_a_node_that_is_killed_is_replaced_by_a_new_member(tier: ObedientTier) -> None:
    tier.kill(1)
    assert wait_until(lambda: len(tier.up()) == 2 and max(tier.up()) == 2, 20.0)
    assert tier.report()["state"] == ("degraded" if tier._settings.replication == 1 else "ready")
    assert (tier.lost() is not None) == (tier._settings.replication == 1)
    if tier._settings.replication == 2:
        assert wait_until(lambda: tier.report()["under_replicated"] == 0 and tier.report()["moving"] is None, 20.0)
        leads = [node["buckets"] for node in tier.report()["nodes"] if node["state"] == "up"]
        assert leads == [128, 128]


@pytest.mark.parametrize("tier", [1], indirect=True)
def test_a_tier_that_a_restore_has_made_whole_is_not_lost(tier: ObedientTier) -> None:
    tier.kill(1)
    assert wait_until(lambda: len(tier.up()) == 2 and max(tier.up()) == 2, 20.0)
    for _ in range(2):  # asked once and again
        assert "was killed by signal 9" in str(tier.lost())
    tier.control.request(RestoreCheckpoint(0, "file:///nowhere", "00000001-aaaaaaaa", []), 20.0)
    assert tier.report()["state"] == "ready"
    assert tier.lost() is None
    tier.kill(0)
    assert wait_until(lambda: tier.lost() is not None, 20.0), "another node"
    assert wait_until(lambda: len(tier.up()) == 2 and max(tier.up()) == 3, 20.0)
    assert tier.lost() is not None


@pytest.mark.parametrize("tier", [1], indirect=True)
def test_a_node_that_the_coordinator_does_not_know_to_be_gone_is_lost(tier: ObedientTier, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tier._nodes[f"ipc://{tier.directory}/node1"]
    monkeypatch.setattr(child, "_on_exit", None)
    tier.kill(1)
    assert child.exited.wait(10)
    assert tier.report()["state"] == "ready", "it has not heard"
    assert tier.lost() is not None


@pytest.mark.parametrize("tier", [2], indirect=True)
def test_nodes_that_die_again_and_again_are_not_started_for_ever(tier: ObedientTier, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(1, 5):
        tier.kill(number)
        assert wait_until(lambda: max(tier.up()) == number + 1 if number < 4 else len(tier.up()) == 1, 20.0)  # noqa: B023
        assert wait_until(lambda: tier.report()["moving"] is None, 20.0)
    assert wait_until(lambda: "is not started again: 3 were within 60 s" in caplog.text, 5.0)
    assert tier.report()["state"] == "ready", "the copies of the last one are there"
    tier.scale(2, 30.0)
    assert len(tier.up()) == 2


def test_a_tier_grows_and_shrinks(tier: ObedientTier) -> None:
    tier.scale(4, 30.0)
    assert len(tier.up()) == 4
    assert [node["buckets"] for node in tier.report()["nodes"]] == [64] * 4
    children = dict(tier._nodes)
    tier.scale(2, 30.0)
    assert tier.up() == [0, 1]
    assert gone_within([child.pid for endpoint, child in children.items() if endpoint[-1] in "23"], 10.0)
    assert [node["state"] for node in tier.report()["nodes"]] == ["up", "up", "left", "left"]
    assert wait_until(lambda: len(tier._nodes) == 2, 5.0), "nobody starts them again"
    assert tier.lost() is None


def test_a_tier_grows_while_the_processes_of_nodes_that_have_left_still_run(tier: ObedientTier) -> None:
    left = {"id": 1, "endpoint": f"ipc://{tier.directory}/node1", "state": "left"}
    stays = {"id": 0, "endpoint": f"ipc://{tier.directory}/node0", "state": "up"}
    tier._start_missing({"nodes": [stays, left], "draining": [], "num_nodes": 2}, is_restart=False)
    assert sorted(endpoint[-5:] for endpoint in tier._nodes) == ["node0", "node1", "node2"]


def test_a_drained_node_that_has_ended_is_missed_once(tier: ObedientTier) -> None:
    nodes = [{"id": each, "endpoint": f"ipc://{tier.directory}/node{each}", "state": "up"} for each in (0, 1)]
    pid = tier._nodes[nodes[1]["endpoint"]].pid
    tier._stopping.set()  # nobody looks after it
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: tier._nodes[nodes[1]["endpoint"]].exited.is_set(), 10.0)
    tier._start_missing({"nodes": nodes, "draining": [1], "num_nodes": 1}, is_restart=False)
    assert len(tier._nodes) == 2
    tier._stopping.clear()


def test_a_node_that_is_drained_ends_and_is_not_replaced(tier: ObedientTier) -> None:
    tier.scale(3, 30.0)
    tier.control.request(DrainNode(0, 1, 30.0))
    assert len(tier.up()) == 2
    assert 1 not in tier.up()
    report = tier.report()
    assert (report["num_nodes"], report["draining"], report["under_replicated"]) == (2, [], 0)
    assert wait_until(lambda: len(tier._nodes) == 2, 10.0)


def test_numbers_that_cannot_be_are_refused(tier: ObedientTier) -> None:
    least = tier._settings.replication
    for wrong in (0, -1, least - 1, 257):
        with pytest.raises(InvalidInput, match=rf"`num_nodes` must be between `replication`, {least}, and 256. Got {wrong} instead"):
            tier.scale(wrong, 5.0)
    for wrong in (-1, 2, 77):
        with pytest.raises(InvalidInput, match=rf"must be up. Got node {wrong}; those that are: \[0, 1\]"):
            tier.control.request(DrainNode(0, wrong, 5.0))
    if least == 2:
        with pytest.raises(InvalidInput, match=r"2\) nodes must remain when one is drained. There are 2"):
            tier.control.request(DrainNode(0, 1, 5.0))
    assert len(tier._nodes) == 2
    tier.scale(2, 5.0)


def test_one_change_at_a_time_and_a_deadline(tier: ObedientTier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tier, "_start_next_node", lambda: None)  # nobody comes
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(tier.scale, 3, 3.0)
        assert wait_until(lambda: tier.report()["scaling"] == "Scaling to 3 nodes", 5.0)
        with pytest.raises(TierError, match=r"Only one change.*Another one is"):
            tier.scale(4, 5.0)
        if tier._settings.replication == 1:
            with pytest.raises(TierError, match=r"Only one change.*Scaling to 3 nodes is: wait"):
                tier.control.request(DrainNode(0, 1, 5.0))
        with pytest.raises(DeadlineExceeded, match=r"Scaling to 3 nodes must be done within 3 s. 2 nodes are up, 3 shall be"):
            first.result(20)


# ---- the coordinator ---------------------------------------------------------------------------------------------------


def coordinator_of(tier: LocalTier) -> int:
    assert tier._coordinator is not None
    return tier._coordinator.pid


def kill_coordinator(tier: LocalTier) -> int:
    """Kill it; the process that it was."""
    pid = coordinator_of(tier)
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: coordinator_of(tier) != pid, 10.0)
    return pid


@pytest.mark.parametrize("tier", [2], indirect=True)
def test_a_coordinator_that_is_killed_is_started_again_and_knows_all(tier: ObedientTier) -> None:
    spec = tier.control.request(CreateTable(0, TableSpec("w", "sparse", 1))).spec
    for restarts in (1, 2):
        killed = kill_coordinator(tier)
        report = tier.report()
        assert {name: report["coordinator"][name] for name in ("pid", "restarts")} == {"pid": coordinator_of(tier), "restarts": restarts}
        assert report["coordinator"]["pid"] != killed
        assert (report["state"], tier.up()) == ("ready", [0, 1])
        assert tier.control.request(FindTable(0, "w")).spec == spec
    assert tier.control.request(CreateTable(0, TableSpec("x", "sparse", 1))).spec.table == 2


@pytest.mark.parametrize("tier", [2], indirect=True)
def test_a_coordinator_killed_together_with_a_node(tier: ObedientTier) -> None:
    os.kill(coordinator_of(tier), signal.SIGKILL)
    tier.kill(0)
    assert wait_until(lambda: len(tier.up()) == 2 and max(tier.up()) == 2, 20.0)
    assert wait_until(lambda: tier.report()["under_replicated"] == 0, 20.0)


@pytest.mark.parametrize("tier", [2], indirect=True)
def test_a_request_under_way_survives_the_coordinator(tier: ObedientTier) -> None:
    stopped = [child.pid for child in tier._nodes.values()]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(tier.control.request, CreateTable(0, TableSpec("w", "sparse", 1)))
        assert wait_until(lambda: tier.report()["tables"], 5.0)
        kill_coordinator(tier)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        assert asked.result(20).spec.name == "w"


@pytest.mark.parametrize("tier", [1], indirect=True)
def test_restarts_that_are_used_up_end_it_at_once(tier: ObedientTier) -> None:
    tier.coordinator_restarts = Restarts(1)
    kill_coordinator(tier)
    assert tier.up() == [0, 1]
    pid = coordinator_of(tier)
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: tier.ended() is not None, 5.0)
    assert f"process {pid} was killed by signal 9" in str(tier.ended())
    began = time.monotonic()
    with pytest.raises(NodeUnreachable):
        tier.control.request(TierStatus(0))
    assert time.monotonic() - began < 1.0, "nobody waits for one that does not come"


class DyingTier(ProcessTier):
    """Its nodes end at once, and the coordinator knows that before anybody looks."""

    def _start_node(self, number: int) -> None:
        self._host_of[str(number)] = ""
        self._nodes[str(number)] = self._child(f"node{number}", [sys.executable, "-c", "print('no route'); raise SystemExit(3)"])

    def _warm_kernels(self) -> None:
        (node,) = self._nodes.values()
        assert node.exited.wait(20)
        wait_until(lambda: not self._nodes, 5.0)


def test_why_a_node_has_ended_at_once_is_told_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(TierError, match="no route"):
        DyingTier(Settings(num_nodes=1, start_timeout=60.0), TierSecret.new()).start()
    assert time.monotonic() - began < 30.0
