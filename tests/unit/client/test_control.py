"""Requests to a coordinator that answers, is gone, or is merely stopped."""

from __future__ import annotations

import pathlib
import pickle
import socket
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest
import zmq

from sparkps.client.control import RETURN_PATIENCE, ControlClient
from sparkps.client.presence import Peer, Presence
from sparkps.errors import DeadlineExceeded, NodeUnreachable, ProtocolError, TierError
from sparkps.wire.codec import MAGIC, decode, encode
from sparkps.wire.messages import control as c
from sparkps.wire.messages.base import WIRE_VERSION
from tests.harness.waiting import wait_until


class Coordinator:
    """Answers on a thread of its own, until it is told to end."""

    def __init__(self, endpoint: str, answer: c.ControlMessage | None) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(endpoint)
        self.endpoint = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.answer = answer
        self.seen = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while not self.over.is_set():
            if self.socket.poll(10):
                sender, *frames = self.socket.recv_multipart()
                self.seen += 1
                if self.answer is not None:
                    reply = msgspec.structs.replace(self.answer, seq=decode(frames)[0].seq)
                    self.socket.send_multipart([sender, *encode(reply)])
        self.socket.close()
        self.context.term()

    def end(self) -> None:
        """As if its process were gone."""
        self.over.set()
        self.thread.join()


@pytest.fixture(params=["ipc", "tcp"])
def endpoint(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> str:
    return f"ipc://{tmp_path}/coordinator" if request.param == "ipc" else "tcp://127.0.0.1:*"


def test_a_coordinator_that_ends_while_it_is_waited_for_is_noticed_at_once(endpoint: str) -> None:
    coordinator = Coordinator(endpoint, None)
    client = ControlClient(coordinator.endpoint)

    def end_when_asked() -> None:
        assert wait_until(lambda: coordinator.seen > 0, 10.0)
        coordinator.end()

    ending = threading.Thread(target=end_when_asked)
    ending.start()
    began = time.monotonic()
    with pytest.raises(NodeUnreachable, match="nobody listens"):
        client.request(c.TierStatus(0))
    assert time.monotonic() - began < 10.0, "long before the 30 s that it may take to answer"
    ending.join()


def test_a_coordinator_that_has_ended_since_is_noticed_when_the_next_request_starts(endpoint: str) -> None:
    coordinator = Coordinator(endpoint, c.Accepted(0))
    client = ControlClient(coordinator.endpoint)
    assert client.request(c.EndGroup(0, 1)) == c.Accepted(1)
    coordinator.end()
    began = time.monotonic()
    with pytest.raises(NodeUnreachable, match="nobody listens"):
        client.request(c.TierStatus(0))
    # On another host one might take its place: nobody here sees whether there is a journal.
    assert time.monotonic() - began < 2.0 + (RETURN_PATIENCE if endpoint.startswith("tcp") else 0.0)
    client.close()


@pytest.mark.parametrize("answered_before", [True, False])
def test_a_coordinator_that_is_started_again_gets_what_is_under_way(tmp_path: pathlib.Path, answered_before: bool) -> None:
    endpoint = f"ipc://{tmp_path}/coordinator"
    (tmp_path / "coordinator.journal").touch()
    first = Coordinator(endpoint, c.Accepted(0) if answered_before else None)
    client = ControlClient(endpoint)
    if answered_before:
        client.request(c.EndGroup(0, 1))
        first.end()
    started: list[Coordinator] = []

    def start_again() -> None:
        assert wait_until(lambda: answered_before or first.seen > 0, 10.0)
        first.end()
        threading.Event().wait(0.7)  # as long as a process takes to start
        started.append(Coordinator(endpoint, c.Accepted(0)))

    starting = threading.Thread(target=start_again)
    starting.start()
    assert isinstance(client.request(c.StopTier(0), timeout=10.0), c.Accepted)
    starting.join()
    client.close()
    started[0].end()


def test_a_coordinator_that_is_not_started_again_is_given_up(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparkps.client.control.RETURN_PATIENCE", 0.3)
    (tmp_path / "coordinator.journal").touch()
    with pytest.raises(NodeUnreachable, match="nobody listens"):
        ControlClient(f"ipc://{tmp_path}/coordinator").request(c.TierStatus(0))


@pytest.fixture
def stopped(tmp_path: pathlib.Path) -> Iterator[str]:
    """A process that accepts connections and does nothing: as one that was sent SIGSTOP."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/coordinator")
        listener.listen()
        yield f"ipc://{tmp_path}/coordinator"


def test_a_coordinator_that_is_stopped_is_waited_for_until_the_deadline(stopped: str) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"must answer TierStatus within 0\.8 s.*its process is there") as caught:
        ControlClient(stopped).request(c.TierStatus(0), timeout=0.8)
    assert time.monotonic() - began >= 0.8
    assert not isinstance(caught.value, NodeUnreachable)


def test_the_deadline_that_was_set_holds_in_every_process(stopped: str) -> None:
    elsewhere = pickle.loads(pickle.dumps(c.TierAddress("tier", stopped, control_timeout=0.7)))
    with pytest.raises(DeadlineExceeded, match=r"within 0\.7 s.*`spark\.sparkps\.controlTimeout`"):
        ControlClient.of(elsewhere).request(c.TierStatus(0))


def test_an_inquiry_never_blocks(stopped: str) -> None:
    began = time.monotonic()
    inquiry = ControlClient(stopped).ask(c.TierStatus(0))
    for _ in range(100):
        assert inquiry.answer() is None
    inquiry.close()
    assert time.monotonic() - began < 5.0


def test_an_inquiry_brings_its_answer_and_gives_the_connection_back(endpoint: str) -> None:
    coordinator = Coordinator(endpoint, c.Accepted(0))
    client = ControlClient(coordinator.endpoint)
    answers: list[object] = []
    inquiry = client.ask(c.EndGroup(0, 1))
    assert wait_until(lambda: answers.append(inquiry.answer()) or answers[-1] is not None, 10.0)
    assert answers[-1] == c.Accepted(1)
    inquiry.close()
    assert client.request(c.EndGroup(0, 1)) == c.Accepted(2), "by the same connection"
    client.close()
    coordinator.end()


def test_an_inquiry_that_is_refused_or_lost_raises(tmp_path: pathlib.Path) -> None:
    coordinator = Coordinator(f"ipc://{tmp_path}/coordinator", c.Refused(0, "TierError", "no such tier"))
    client = ControlClient(coordinator.endpoint)
    inquiry = client.ask(c.Attach(0))
    with pytest.raises(TierError, match="no such tier"):
        wait_until(lambda: inquiry.answer() is not None, 10.0)
    inquiry.close()
    coordinator.end()
    client.close()
    lost = client.ask(c.Attach(0))
    with pytest.raises(NodeUnreachable):
        lost.answer()
    lost.close()


def test_presence_of_what_cannot_be_told() -> None:
    for endpoint in ("ipc://@abstract", "inproc://x", "tcp://no.such.host.invalid:1", "tcp://127.0.0.1:nonsense"):
        assert Presence(endpoint).look(0.0) is Peer.UNKNOWN


def test_presence_is_looked_at_now_and_then(tmp_path: pathlib.Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/x")
        listener.listen()
        presence = Presence(f"ipc://{tmp_path}/x")
        assert presence.look(10.0) is Peer.THERE
    assert presence.look(10.4) is Peer.THERE
    assert presence.look(10.5) is Peer.GONE


def test_a_coordinator_of_another_version_is_named_at_once(endpoint: str) -> None:
    class Newer(Coordinator):
        def _serve(self) -> None:
            while not self.over.is_set():
                if self.socket.poll(10):
                    sender, *_ = self.socket.recv_multipart()
                    header = bytes(encode(c.Accepted(1))[0])
                    self.socket.send_multipart([sender, MAGIC + bytes([WIRE_VERSION + 1]) + header[len(MAGIC) + 1 :]])
            self.socket.close()
            self.context.term()

    coordinator = Newer(endpoint, None)
    client = ControlClient(coordinator.endpoint)
    began = time.monotonic()
    with pytest.raises(ProtocolError, match="install one version of sparkps"):
        client.request(c.TierStatus(0))
    assert time.monotonic() - began < 5.0
    coordinator.end()
    client.close()
