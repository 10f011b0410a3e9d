"""Who is admitted to a tier, and how soon whoever is not learns of it."""

from __future__ import annotations

import socket as net
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import zmq

from sparkps import sockets
from sparkps.admission import Admission
from sparkps.client.handshake import check_admitted
from sparkps.descriptors import ConnectionCap
from sparkps.errors import NodeUnreachable, NotAdmitted
from sparkps.peer_limits import PeerLimits
from sparkps.secret import TierSecret
from tests.harness.waiting import wait_until


class Guarded:
    """A socket that listens, with its guard."""

    def __init__(self) -> None:
        self.secret = TierSecret.new()
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.admission = Admission(self.context, self.secret)
        self.socket = self.context.socket(zmq.ROUTER)
        self.endpoint = sockets.bind(self.socket, "tcp://127.0.0.1:0", self.secret, 1 << 20)

    def close(self) -> None:
        self.socket.close(0)
        self.admission.close()
        self.context.term()


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    made = Guarded()
    yield made
    made.close()


def test_who_has_the_secret_is_admitted(guarded: Guarded) -> None:
    check_admitted(guarded.endpoint, guarded.secret)
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        sockets.connect(peer, guarded.endpoint, TierSecret(guarded.secret.raw))
        peer.send(b"hello")
        assert guarded.socket.poll(5000)
        assert guarded.socket.recv_multipart()[1] == b"hello"


def halves() -> dict[str, TierSecret | None]:
    """What others may come with."""
    return {"none": None, "another": TierSecret.new()}


@pytest.mark.parametrize("what", ["none", "another"])
def test_others_learn_within_a_second_that_they_are_not(guarded: Guarded, what: str) -> None:
    began = time.monotonic()
    with pytest.raises(NotAdmitted, match="must have its secret"):
        check_admitted(guarded.endpoint, halves()[what])
    assert time.monotonic() - began < 1.0


def test_nothing_that_others_send_arrives(guarded: Guarded) -> None:
    with zmq.Context() as context:
        peers = []
        for secret in (*halves().values(), with_client_of_another(guarded.secret)):
            peer = context.socket(zmq.DEALER)
            peer.setsockopt(zmq.LINGER, 0)
            peer.setsockopt(zmq.RECONNECT_IVL, 20)
            sockets.connect(peer, guarded.endpoint, secret)
            peer.send(b"let me in")
            peers.append(peer)
        assert not guarded.socket.poll(700)
        for peer in peers:
            assert not peer.poll(0)
            peer.close(0)
    assert guarded.admission.refused, "the one that knew the server's key was asked for its own"


def with_client_of_another(secret: TierSecret) -> TierSecret:
    """One who has found out the server's public key, and nothing else."""
    made = TierSecret(secret.raw)
    vars(made)["client"] = TierSecret.new().client
    return made


def test_one_whose_key_is_refused_is_told_so_at_once(guarded: Guarded) -> None:
    with pytest.raises(NotAdmitted):
        check_admitted(guarded.endpoint, with_client_of_another(guarded.secret))


def test_nobody_listens() -> None:
    with net.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(NodeUnreachable, match="nobody listens"):
        check_admitted(endpoint, TierSecret.new(), 0.3)
    with pytest.raises(NodeUnreachable):
        check_admitted("tcp://not an address", TierSecret.new(), 0.3)


@pytest.mark.parametrize(
    "request_",
    [
        [b"1.0", b"1", b"sparkps", b"127.0.0.1", b"", b"NULL"],
        [b"1.0", b"1", b"sparkps", b"127.0.0.1", b"", b"PLAIN", b"user", b"password"],
        [b"1.0", b"1", b"sparkps", b"127.0.0.1", b"", b"CURVE", b"\0" * 32],
        [b"1.0", b"1", b"sparkps", b"127.0.0.1", b"", b"CURVE", b""],
    ],
)
def test_only_the_key_of_the_tier_is_admitted(guarded: Guarded, request_: list[bytes]) -> None:
    answer = guarded.admission.answer(request_)
    assert answer[:3] == [b"1.0", b"1", b"400"]
    assert guarded.admission.refused == 1


def test_one_that_cannot_be_answered_is_refused_and_the_next_one_is_admitted(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    answer = guarded.admission.answer

    def answers(request: list[bytes]) -> list[bytes]:
        asked.append(request)
        if len(asked) == 1:
            raise RuntimeError("of no form that it can have")
        return answer(request)

    monkeypatch.setattr(guarded.admission, "answer", answers)
    with pytest.raises(NotAdmitted):
        check_admitted(guarded.endpoint, guarded.secret)
    assert guarded.admission.refused == 1
    check_admitted(guarded.endpoint, guarded.secret)
    assert len(asked) >= 2


# ---- limits of the host ------------------------------------------------------------------------------------------------


@pytest.fixture
def full(guarded: Guarded) -> Iterator[Callable[[int], net.socket]]:
    """Lets the guarded socket take so many connections of a host, with one that is there."""
    made: list[Any] = []

    def take(most: int) -> net.socket:
        limits = PeerLimits(most=most, rate=1000.0)
        made.append(ConnectionCap(guarded.socket, guarded.endpoint, limits=limits))
        made.append(net.create_connection(("127.0.0.1", int(guarded.endpoint.rpartition(":")[2])), 5))
        assert wait_until(lambda: bool(limits._hosts), 10)
        return cast("net.socket", made[1])

    yield take
    for each in made:
        each.close()


def test_who_is_hung_up_on_at_the_limit_of_the_host_is_not_told_of_the_secret(guarded: Guarded, full: Callable[[int], net.socket]) -> None:
    full(1)
    said = ""
    for _ in range(5):
        try:
            check_admitted(guarded.endpoint, guarded.secret, 1.0)
        except NodeUnreachable as error:
            said = error.message
            break  # else it was admitted before it was hung up on, as where others need the processor
    assert "as many connections of this host as it takes" in said
    assert "maxPeerConnections" in said


def test_who_is_hung_up_on_at_the_limit_is_admitted_as_soon_as_there_is_room(guarded: Guarded, full: Callable[[int], net.socket]) -> None:
    first = full(1)
    later = threading.Timer(0.7, first.close)
    later.start()
    check_admitted(guarded.endpoint, guarded.secret, 10.0)
    later.join()


def test_the_last_place_of_a_host_is_not_taken_by_the_question_who_has_it(guarded: Guarded, full: Callable[[int], net.socket]) -> None:
    full(2)
    check_admitted(guarded.endpoint, guarded.secret)
    began = time.monotonic()
    with pytest.raises(NotAdmitted):
        check_admitted(guarded.endpoint, TierSecret.new())
    assert time.monotonic() - began < 1.0
