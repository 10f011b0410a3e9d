"""Looking for messages without sleeping, and when to leave it."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket as net
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import zmq

from sparkps import sockets
from sparkps.errors import ConfigError
from sparkps.secret import TierSecret
from sparkps.sockets import HANDSHAKE_MS, LONG_AWAY, LONGEST_REST, SHORTEST_REST, Crowd, spin

#: Seconds that a look and the giving away of the processor take on a machine with nothing else to do.
STEP = 1e-5


@pytest.fixture
def pair() -> Iterator[SimpleNamespace]:
    """Two connected sockets."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as near, context.socket(zmq.PAIR) as far:
        near.bind("inproc://spin")
        far.connect("inproc://spin")
        yield SimpleNamespace(near=near, far=far)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that goes on when the processor is given away, and how long it is away each time."""
    found = SimpleNamespace(now=100.0, away=lambda: STEP, given=0, crowd=Crowd())

    def give_away() -> None:
        found.given += 1
        found.now += found.away()

    monkeypatch.setattr(sockets, "crowd", found.crowd)
    monkeypatch.setattr(os, "sched_yield", give_away)
    monkeypatch.setattr(time, "perf_counter", lambda: found.now)
    return found


def test_a_message_that_comes_while_it_looks_is_found(pair: SimpleNamespace, world: SimpleNamespace) -> None:
    world.away = lambda: (pair.far.send(b"x") if world.given == 5 else None) or STEP
    assert spin([pair.near], 1.0)
    assert world.given <= 6


def test_it_ends_in_time_where_no_message_comes(pair: SimpleNamespace, world: SimpleNamespace) -> None:
    assert not spin([pair.near], 5e-4)
    assert world.now == pytest.approx(100.0 + 5e-4, abs=2 * STEP)


def test_it_ends_when_something_was_posted(pair: SimpleNamespace, world: SimpleNamespace) -> None:
    posted: list[int] = []
    world.away = lambda: (posted.append(1) if world.given == 3 else None) or STEP
    assert not spin([pair.near], 1.0, unless=posted)
    assert world.given == 3


def test_any_of_several_sockets_is_looked_at(pair: SimpleNamespace, world: SimpleNamespace) -> None:
    pair.near.send(b"x")
    assert spin([pair.near, pair.far], 1e-3)


def test_beside_busy_processes_it_leaves_off_at_the_first_loss_of_the_processor(pair: SimpleNamespace, world: SimpleNamespace) -> None:
    """The way back takes a time slice, many times as long as a request."""
    world.away = lambda: 3e-3
    assert not spin([pair.near], 0.5)
    assert world.given == 1
    for _ in range(100):
        assert not spin([pair.near], 0.5)
    assert world.given == 1, "nobody spins while it rests"


def test_what_came_while_the_processor_was_away_is_found(pair: SimpleNamespace, world: SimpleNamespace) -> None:
    world.away = lambda: pair.far.send(b"x") or 3e-3
    assert spin([pair.near], 0.5)


def test_it_tries_again_after_ever_longer_rests(pair: SimpleNamespace, world: SimpleNamespace) -> None:
    world.away = lambda: 3e-3
    tried = []
    while world.now < 100.0 + 20.0:
        before = world.given
        spin([pair.near], 5e-4)
        if world.given > before:
            tried.append(world.now)
        world.now += 1e-3
    rests = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert rests[0] == pytest.approx(SHORTEST_REST, abs=0.01)
    assert rests == sorted(rests)
    assert rests[-1] == pytest.approx(LONGEST_REST, abs=0.01)
    assert len(tried) < 20, "a twentieth of a percent of the time is lost"


def test_where_the_others_have_gone_it_spins_as_before(pair: SimpleNamespace, world: SimpleNamespace) -> None:
    world.away = lambda: 3e-3
    for _ in range(6):
        spin([pair.near], 5e-4)
        world.now = world.crowd.until
    world.away = lambda: (pair.far.send(b"x") if world.given % 3 == 0 else None) or STEP
    assert spin([pair.near], 1.0)
    pair.near.recv()
    world.away = lambda: 2 * LONG_AWAY
    spin([pair.near], 1.0)
    assert world.crowd.until - world.now == pytest.approx(SHORTEST_REST), "the rests begin anew"


# ---- listening ---------------------------------------------------------------------------------------------------------


def test_of_a_range_each_takes_the_first_port_that_is_free() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as first, context.socket(zmq.ROUTER) as second:
        port = first.bind_to_random_port("tcp://127.0.0.1", 20000, 30000)
        endpoint = sockets.bind(second, f"tcp://127.0.0.1:{port}-{port + 50}", None, 1 << 20)
        assert port < int(endpoint.rpartition(":")[2]) <= port + 50
        with context.socket(zmq.ROUTER) as third, pytest.raises(ConfigError, match="must be free on each host"):
            sockets.bind(third, f"tcp://127.0.0.1:{port}-{port}", None, 1 << 20)
        with context.socket(zmq.ROUTER) as fourth, pytest.raises(ConfigError, match=f"^Port {port} must be free on each host.*nodePorts"):
            sockets.bind(fourth, f"tcp://127.0.0.1:{port}", None, 1 << 20)


def test_who_begins_to_send_a_frame_that_is_far_too_large_is_hung_up_on() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as server, context.socket(zmq.DEALER) as peer:
        endpoint = sockets.bind(server, "tcp://127.0.0.1:0", None, 1000)
        peer.setsockopt(zmq.LINGER, 0)
        peer.connect(endpoint)
        peer.send(b"x" * 2000)
        assert server.poll(5000), "of twice the size it arrives, and its sender is told why it is refused"
        assert len(server.recv_multipart()[1]) == 2000
        peer.send(b"x" * 2001)
        assert not server.poll(300)
        peer.send(b"after it")
        assert server.poll(5000)
        assert server.recv_multipart()[1] == b"after it"


def test_handshakes_have_their_time_at_tcp_with_a_secret_and_nowhere_else(tmp_path: Path) -> None:
    secret = TierSecret.new()
    with zmq.Context() as context, contextlib.ExitStack() as held:

        def made(kind: int) -> sockets.Socket:
            socket = held.enter_context(context.socket(kind))
            socket.setsockopt(zmq.LINGER, 0)
            return socket

        server, local, plain = made(zmq.ROUTER), made(zmq.ROUTER), made(zmq.ROUTER)
        usual = plain.getsockopt(zmq.HANDSHAKE_IVL)
        assert usual > HANDSHAKE_MS
        endpoint = sockets.bind(server, "tcp://127.0.0.1:0", secret, 1 << 20)
        sockets.bind(local, f"ipc://{tmp_path}/s", secret, 1 << 20)
        sockets.bind(plain, "tcp://127.0.0.1:0", None, 1 << 20)
        assert [each.getsockopt(zmq.HANDSHAKE_IVL) for each in (server, local, plain)] == [HANDSHAKE_MS, usual, usual]
        assert [each.getsockopt(zmq.MECHANISM) for each in (server, local, plain)] == [zmq.CURVE, zmq.NULL, zmq.NULL]
        peer, near = made(zmq.DEALER), made(zmq.DEALER)
        sockets.connect(peer, endpoint, secret)
        sockets.connect(near, f"ipc://{tmp_path}/s", secret)
        assert [each.getsockopt(zmq.HANDSHAKE_IVL) for each in (peer, near)] == [HANDSHAKE_MS, usual]


def test_who_says_nothing_is_hung_up_on_and_whoever_waits_for_that_tries_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "HANDSHAKE_MS", 200)
    secret = TierSecret.new()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as server, context.socket(zmq.DEALER) as peer:
        endpoint = sockets.bind(server, "tcp://127.0.0.1:0", secret, 1 << 20)
        with net.create_connection(("127.0.0.1", int(endpoint.rpartition(":")[2])), 5) as silent:
            while silent.recv(4096):  # its greeting; a time-out here is an error
                pass
        with net.create_server(("127.0.0.1", 0)) as mute:
            mute.settimeout(5)
            peer.setsockopt(zmq.LINGER, 0)
            sockets.connect(peer, f"tcp://127.0.0.1:{mute.getsockname()[1]}", secret)
            with mute.accept()[0], mute.accept()[0]:  # the first is open when the second comes
                pass
