"""The coordinator's shell and its client, in one process: sockets, garbage, deadlines, repetitions."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
import zmq

from sparkps import outgoing
from sparkps.client.control import RETURN_PATIENCE, ControlClient
from sparkps.config import NetworkSettings, NodeSettings, Settings
from sparkps.driver_bridge.coordinator.server import Coordinator
from sparkps.errors import DeadlineExceeded, NodeUnreachable, SparkPSError, TableMismatch, UnknownTable
from sparkps.specs import TableSpec
from sparkps.wire.codec import MAGIC, decode, encode
from sparkps.wire.messages import control as c
from sparkps.wire.messages.base import WIRE_VERSION
from tests.harness.connections import are_hung_up_on
from tests.harness.processes import FakeNode
from tests.harness.waiting import wait_until

W = TableSpec("w", "sparse", 2)


@pytest.fixture
def coordinator(tmp_path: pathlib.Path) -> Iterator[Coordinator]:
    settings = Settings(num_nodes=2, node=NodeSettings(heartbeat_interval=0.05, heartbeat_deadline=0.6))
    made = Coordinator(f"ipc://{tmp_path}/c", "t1", settings)
    thread = threading.Thread(target=made.serve, name="coordinator")
    thread.start()
    yield made
    made.stop()
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def client(coordinator: Coordinator) -> Iterator[ControlClient]:
    made = ControlClient(coordinator.endpoint, timeout=5.0)
    yield made
    made.close()


@pytest.fixture
def nodes(coordinator: Coordinator) -> Iterator[list[FakeNode]]:
    made = [FakeNode(coordinator.endpoint, f"ipc://n{number}") for number in range(2)]
    yield made
    for node in made:
        node.close()


def test_a_peer_of_another_version_is_told_so_at_once(client: ControlClient, coordinator: Coordinator) -> None:
    def of_another_version(frames: list[bytes]) -> list[bytes]:
        return [MAGIC + bytes([WIRE_VERSION + 1]) + bytes(frames[0])[len(MAGIC) + 1 :], *frames[1:]]

    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 5000)
        socket.connect(coordinator.endpoint)
        socket.send_multipart(of_another_version(encode(c.TierStatus(1))))
        refused, _ = decode(socket.recv_multipart())
    assert isinstance(refused, c.Refused)
    assert "install one version of sparkps on the driver, the executors and the nodes" in refused.message


def test_a_table_by_real_sockets(client: ControlClient, nodes: list[FakeNode]) -> None:
    attached = client.request(c.Attach(0, "t1"))
    assert sorted(info.endpoint for info in attached.nodes) == ["ipc://n0", "ipc://n1"]
    spec = client.request(c.CreateTable(0, W)).spec
    assert client.request(c.FindTable(0, "w")).spec == spec
    for node in nodes:
        assert node.commands[-1].spec == spec
    with pytest.raises(TableMismatch, match="dim=2"):
        client.request(c.CreateTable(0, TableSpec("w", "sparse", 3)))
    with pytest.raises(UnknownTable):
        client.request(c.FindTable(0, "x"))


def test_commands_reach_nodes_however_much_others_have_not_read(
    client: ControlClient, nodes: list[FakeNode], coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.request(c.Attach(0, "t1"))
    monkeypatch.setattr(outgoing, "MOST_BYTES", -1)
    monkeypatch.setattr(outgoing, "PROBE_BYTES", 0)
    with pytest.raises(DeadlineExceeded):
        client.request(c.CreateTable(0, W), 0.5)
    assert coordinator._unsent.dropped >= 1, "a client asks again"
    assert all(node.commands and node.commands[-1].spec.name == "w" for node in nodes), "nodes do not"
    monkeypatch.undo()
    assert client.request(c.FindTable(0, "w")).spec.name == "w"


def test_callers_of_many_threads_get_one_table(client: ControlClient, nodes: list[FakeNode]) -> None:
    client.request(c.Attach(0))
    with ThreadPoolExecutor(16) as pool:
        specs = list(pool.map(lambda _: client.request(c.CreateTable(0, W)).spec, range(64)))
    assert len({spec.table for spec in specs}) == 1


def test_garbage_is_counted_and_harmless(
    coordinator: Coordinator, client: ControlClient, nodes: list[FakeNode]
) -> None:
    client.request(c.Attach(0))
    good = encode(c.FindTable(1, "w"))[0]
    garbage = [[b""], [b"garbage"], [good[:-3]], [good, b"frame too many"], [good[:3] + b"\xff" + good[4:]], [b"", b""]]
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 1000)
        socket.connect(coordinator.endpoint)
        for frames in garbage:
            socket.send_multipart(frames)
        assert wait_until(lambda: coordinator.tier.garbage == len(garbage), 5.0)
    assert client.request(c.TierStatus(0)).report["garbage_frames"] == len(garbage)


def test_a_silent_node_is_declared_dead(client: ControlClient, nodes: list[FakeNode]) -> None:
    client.request(c.Attach(0))
    nodes[1].close()

    def states() -> list[str]:
        report = client.request(c.TierStatus(0, fresh=False)).report
        return sorted(node["state"] for node in report["nodes"])

    assert wait_until(lambda: states() == ["dead", "up"], 5.0)


def test_nobody_listens(tmp_path: pathlib.Path) -> None:
    began = time.monotonic()
    with pytest.raises(NodeUnreachable, match=r"must be reachable at ipc://.*The PSContext was stopped"):
        ControlClient(f"ipc://{tmp_path}/nobody").request(c.TierStatus(0))
    with pytest.raises(NodeUnreachable, match=r"must be reachable at tcp://.*nobody listens"):
        ControlClient("tcp://127.0.0.1:1").request(c.TierStatus(0))
    assert time.monotonic() - began < 3.0 + RETURN_PATIENCE, "at a port one might be started again"


def test_a_coordinator_that_does_not_answer(tmp_path: pathlib.Path) -> None:
    endpoint = f"ipc://{tmp_path}/mute"
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(endpoint)
        with pytest.raises(DeadlineExceeded, match=r"must answer TierStatus within 0\.3 s"):
            ControlClient(endpoint).request(c.TierStatus(0), timeout=0.3)


def test_an_unanswered_request_is_repeated_under_its_number(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparkps.client.control.RETRY_FIRST", 0.05)
    endpoint, seen = f"ipc://{tmp_path}/forgetful", []
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(endpoint)

        def answer_the_third() -> None:
            while len(seen) < 3:
                sender, frame = socket.recv_multipart()
                seen.append(frame)
            socket.send_multipart([sender, *encode(c.Accepted(99))])  # an answer to something else
            socket.send_multipart([sender, *encode(c.Accepted(1))])

        thread = threading.Thread(target=answer_the_third)
        thread.start()
        client = ControlClient(endpoint)
        assert client.request(c.EndGroup(0, 1)) == c.Accepted(1)
        client.close()
        thread.join(10)
    assert len(set(seen)) == 1


def test_what_comes_and_what_waits_to_be_read_is_bounded() -> None:
    made = Coordinator("tcp://127.0.0.1:0", "t1", Settings(network=NetworkSettings(max_peer_connections=3)))
    try:
        assert 0 < made._socket.getsockopt(zmq.MAXMSGSIZE) <= 512 << 20, "of a frame, before there is memory for it"
        assert made._unsent.most <= 512 << 20
        assert are_hung_up_on(made.endpoint, 3, of=6)
    finally:
        made.stop()
        made.serve()


def test_one_client_a_process_and_tier(coordinator: Coordinator) -> None:
    address = c.TierAddress("t1", coordinator.endpoint)
    assert ControlClient.of(address) is ControlClient.of(address)


def test_a_request_that_cannot_be_understood_is_refused_at_once(coordinator: Coordinator) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.RCVTIMEO, 5_000)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(coordinator.endpoint)
        header = msgspec.msgpack.encode([[c.FindTable.__struct_config__.tag, 7, ["no name"]], []])
        socket.send(MAGIC + bytes([WIRE_VERSION]) + header)
        answer, _ = decode(socket.recv_multipart())
    assert isinstance(answer, c.Refused)
    assert (answer.seq, answer.error) == (7, "ProtocolError")


def test_a_reply_that_no_message_can_hold_is_told_as_such(
    coordinator: Coordinator, client: ControlClient, nodes: list[FakeNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.request(c.Attach(0, "t1"))
    monkeypatch.setattr(coordinator.tier, "report", lambda: {"strange": "\udcff"})
    with pytest.raises(SparkPSError):
        client.request(c.TierStatus(0, fresh=False))
    monkeypatch.undo()
    assert client.request(c.TierStatus(0, fresh=False)).report["state"] == "ready"
