"""Connections of one host: how many at a time, how many new ones; in the rule alone, and at a socket."""

from __future__ import annotations

import contextlib
import socket as net
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest
import zmq

from sparkps import peer_limits, sockets
from sparkps.admission import Admission
from sparkps.descriptors import MOST_HANDSHAKE_BYTES, ConnectionCap
from sparkps.peer_limits import BURST_SECONDS, MOST_QUIET, PeerLimits
from sparkps.secret import TierSecret
from tests.harness.connections import are_hung_up_on, ended
from tests.harness.strangers import floods
from tests.harness.waiting import wait_until


@pytest.fixture
def finishes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_limits, "MOST_UNFINISHED", 10**9)


@pytest.mark.usefixtures("finishes_at_once")
def test_a_burst_then_the_rate() -> None:
    assert BURST_SECONDS == 10.0, "as is documented with the setting"
    limits = PeerLimits(most=10**6, rate=10.0)
    burst = int(BURST_SECONDS * 10)
    assert sum(limits.accepted(i, "a", 5.0) for i in range(2 * burst)) == burst
    assert sum(limits.accepted(-1 - i, "a", 6.0) for i in range(100)) == 10
    assert limits.accepted(-500, "b", 6.0), "another host has its own"
    assert limits.refused == 2 * burst - burst + 90
    assert sum(limits.accepted(10**6 + i, "a", 1e6) for i in range(2 * burst)) == burst, "no more is saved up"


def test_handshakes_that_nobody_has_seen_end_are_over_when_they_are_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the system does not count bytes of connections."""
    monkeypatch.setattr(peer_limits, "MOST_UNFINISHED", 2)
    limits = PeerLimits(most=100, rate=1000.0)
    assert [limits.accepted(number, "h", float(number)) for number in (1, 2, 3)] == [True, True, False]
    limits.finish_old(2.0)
    assert list(limits.unfinished) == [2]
    assert limits.accepted(4, "h", 4.0)
    limits.gone(2)
    limits.finish_old(100.0)
    assert (limits.unfinished, limits._since) == ({}, {})


def test_counts_stay_right_whatever_comes_in_which_order() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        limits = PeerLimits(most=3, rate=1e9)
        there: dict[int, str] = {}
        for step in range(200):
            connection, host = int(rng.integers(0, 12)), "abc"[int(rng.integers(0, 3))]
            if rng.random() < 0.6:  # its number may be that of one whose end was not told of
                there.pop(connection, None)
                stays = limits.accepted(connection, host, float(step))
                assert stays == (sum(each == host for each in there.values()) < 3)
                there[connection] = host
            else:
                limits.gone(connection)
                there.pop(connection, None)
            assert limits._hosts == there
            assert dict(limits._held) == {h: n for h in "abc" if (n := sum(each == h for each in there.values()))}


def test_hosts_that_never_come_back_cost_nothing_for_ever() -> None:
    limits = PeerLimits(most=1, rate=1.0)
    for i in range(MOST_QUIET + 500):
        limits.accepted(1, f"10.{i}", float(i))
    assert len(limits._left) <= MOST_QUIET + 1
    assert len(limits._held) == len(limits._hosts) == 1


def test_a_socket_hangs_up_on_what_is_too_much_and_goes_on_with_the_rest() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        limits = PeerLimits(most=5, rate=1000.0)
        cap = ConnectionCap(socket, f"tcp://127.0.0.1:{port}", limits=limits)
        held = [net.create_connection(("127.0.0.1", port), 5) for _ in range(9)]
        try:
            assert wait_until(lambda: limits.refused == 4, 10)
            assert wait_until(lambda: sum(ended(each) for each in held) == 4, 10)
            for each in held:
                each.close()
            assert wait_until(lambda: not limits._hosts, 10), "their ends were told"
            with context.socket(zmq.DEALER) as peer:
                peer.connect(f"tcp://127.0.0.1:{port}")
                peer.send(b"hello")
                assert socket.poll(5000)
        finally:
            cap.close()


def test_who_is_hung_up_on_is_said_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        limits = PeerLimits(most=1, rate=1000.0)
        cap = ConnectionCap(socket, f"tcp://127.0.0.1:{port}", limits=limits)
        try:
            assert are_hung_up_on(f"tcp://127.0.0.1:{port}", 9, of=10)
            assert wait_until(lambda: limits.refused == 9, 10)
        finally:
            cap.close()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert said[0].startswith(f"127.0.0.1 connects to tcp://127.0.0.1:{port} more often than a host may: 1 connections at a time")


def test_a_connection_elsewhere_that_has_the_number_by_now_is_left_alone() -> None:
    """What libzmq tells of is a number, which may be that of another connection of this process when it is looked at."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket, net.create_server(("127.0.0.1", 0)) as other:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        cap = ConnectionCap(socket, f"tcp://127.0.0.1:{port}", limits=PeerLimits(most=0, rate=1000.0))
        try:
            with net.create_connection(other.getsockname(), 5) as near, other.accept()[0] as far:
                for each in (near, far):
                    cap._take([(zmq.EVENT_ACCEPTED, each.fileno())])
                near.sendall(b"x")
                assert far.recv(1) == b"x"
                assert not ended(near)
        finally:
            cap.close()


def test_new_ones_a_second_at_a_socket() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        limits = PeerLimits(most=1000, rate=2.0)
        cap = ConnectionCap(socket, f"tcp://127.0.0.1:{port}", limits=limits)
        began = time.monotonic()
        held = [net.create_connection(("127.0.0.1", port), 5) for _ in range(100)]
        try:
            assert wait_until(lambda: limits.refused >= 100 - BURST_SECONDS * 2.0 - 2.0 * (time.monotonic() - began) - 1, 10)
        finally:
            for each in held:
                each.close()
            cap.close()


# ---- handshakes --------------------------------------------------------------------------------------------------------


def test_a_host_has_so_many_handshakes_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_limits, "MOST_UNFINISHED", 3)
    limits = PeerLimits(most=100, rate=100.0)
    assert [limits.accepted(i, "a", 0.0) for i in range(5)] == [True, True, True, False, False]
    assert limits.accepted(10, "b", 0.0), "another host has its own"
    limits.gone(4)
    assert not limits.accepted(4, "a", 0.0), "one that was hung up on had none"
    limits.finished(0)
    limits.finished(0)
    limits.gone(1)
    assert [limits.accepted(i, "a", 0.0) for i in (20, 21, 22)] == [True, True, False]
    assert limits.unfinished == {2: "a", 10: "b", 20: "a", 21: "a"}
    for connection in range(30):
        limits.gone(connection)
    assert not limits.unfinished
    assert not limits._begun
    assert not limits._held


#: Listens as a process of a tier does, and says where; what is sent to it, it says the size of.
_LISTENER = """
import sys, zmq
from sparkps import sockets
from sparkps.admission import Admission
from sparkps.descriptors import ConnectionCap
from sparkps.peer_limits import PeerLimits
from sparkps.secret import TierSecret
secret = TierSecret(bytes(32))
context = zmq.Context()
admission = Admission(context, secret)
router = context.socket(zmq.ROUTER)
endpoint = sockets.bind(router, "tcp://127.0.0.1:0", secret, 256 << 20)
cap = ConnectionCap(router, endpoint, limits=PeerLimits(4096, 1000.0), is_secured=True)
print(endpoint, flush=True)
while True:
    name, body = router.recv_multipart()
    router.send_multipart([name, b"%d %d" % (len(body), cap.cut)])
"""


@pytest.fixture
def listener() -> Iterator[tuple[psutil.Process, str]]:
    with subprocess.Popen([sys.executable, "-c", _LISTENER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield psutil.Process(process.pid), process.stdout.readline().strip()
        finally:
            process.kill()


@contextlib.contextmanager
def one_of_us(endpoint: str) -> Iterator[zmq.Socket[Any]]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.setsockopt(zmq.LINGER, 0)
        peer.setsockopt(zmq.RCVTIMEO, 10_000)
        sockets.connect(peer, endpoint, TierSecret(bytes(32)))
        yield peer


@pytest.mark.parametrize(("connections", "sent"), [(5, 100 << 20), (60, 10 << 20)])
def test_strangers_that_declare_a_large_command_and_send_it_cost_next_to_nothing(
    listener: tuple[psutil.Process, str], connections: int, sent: int
) -> None:
    process, endpoint = listener
    with one_of_us(endpoint) as peer:
        peer.send(b"x")
        assert peer.recv() == b"1 0"
        before = most = process.memory_info().rss
        sending = threading.Thread(target=floods, args=(endpoint, connections, 400 << 20, sent))
        sending.start()
        while sending.is_alive():
            most = max(most, process.memory_info().rss)
            time.sleep(0.005)
        peer.send(bytes(1 << 20))
        length, cut = map(int, peer.recv().split())
        assert length == 1 << 20
        assert connections / 2 <= cut <= connections, "they were hung up on, but for some that had sent it all before, and nobody else"
    assert most - before < 100 << 20, f"it has grown by {(most - before) >> 20} MiB of {(connections * sent) >> 20}"


def test_one_of_us_may_send_much_at_once_after_its_handshake(listener: tuple[psutil.Process, str]) -> None:
    _, endpoint = listener
    body = bytes(100 * MOST_HANDSHAKE_BYTES)
    with one_of_us(endpoint) as old:
        for _ in range(20):
            with one_of_us(endpoint) as peer:
                peer.send(body)
                assert peer.recv() == b"%d 0" % len(body)
        time.sleep(0.1)  # longer than between two looks
        old.send(body)
        assert old.recv() == b"%d 0" % len(body)


def test_handshakes_that_have_ended_count_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_limits, "MOST_UNFINISHED", 2)
    secret = TierSecret.new()
    with zmq.Context() as context:
        admission = Admission(context, secret)
        with context.socket(zmq.ROUTER) as router, contextlib.ExitStack() as held:
            endpoint = sockets.bind(router, "tcp://127.0.0.1:0", secret, 1 << 20)
            limits = PeerLimits(most=100, rate=1000.0)
            cap = ConnectionCap(router, endpoint, limits=limits, is_secured=True)
            held.callback(cap.close)
            for number in range(10):
                peer = held.enter_context(context.socket(zmq.DEALER))
                peer.setsockopt(zmq.LINGER, 0)
                sockets.connect(peer, endpoint, secret)
                peer.send(b"hello")
                assert router.poll(5000)
                router.recv_multipart()
                assert wait_until(lambda: not limits.unfinished, 5), number
            assert (limits.refused, len(limits._hosts), cap.cut) == (0, 10, 0)
        admission.close()
