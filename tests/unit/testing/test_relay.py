"""The relay: what it cuts, holds, delays, throttles and drops, on loopback."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from sparkps.errors import InvalidInput
from sparkps.testing.gate import Backlog, Gate
from sparkps.testing.relay import Relay, in_front_of, put_back
from tests.harness.waiting import wait_until

#: Longest wait for what must come (seconds), and for what must not.
LONG, SHORT = 10.0, 0.15


class Echo:
    """Listens, and keeps the connections that it took."""

    def __init__(self, path: pathlib.Path | None) -> None:
        self.listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self.listener.bind(str(path) if path else ("127.0.0.1", 0))
        self.listener.listen(8)
        self.listener.settimeout(LONG)
        self.opened: list[socket.socket] = []
        self.endpoint = f"ipc://{path}" if path else f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"

    def pair(self, relay: Relay) -> tuple[socket.socket, socket.socket]:
        """A client's end of a connection through the relay, and the listener's."""
        client = self.client(relay.address)
        behind, _ = self.listener.accept()
        self.opened.append(behind)
        behind.settimeout(LONG)
        return client, behind

    def client(self, address: Any) -> socket.socket:
        """A connection."""
        client = socket.socket(self.listener.family)
        self.opened.append(client)
        client.settimeout(LONG)
        client.connect(address)
        return client

    def close(self) -> None:
        """Let go of everything."""
        for one in (self.listener, *self.opened):
            one.close()


@pytest.fixture(params=["tcp", "ipc"])
def echo(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Echo]:
    made = Echo(tmp_path / "target" if request.param == "ipc" else None)
    yield made
    made.close()


def silent(end: socket.socket) -> bool:
    """Whether nothing comes for a while."""
    end.settimeout(SHORT)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(LONG)
    return False


def received(end: socket.socket, count: int) -> bytes:
    """So many bytes."""
    got = b""
    while len(got) < count:
        got += end.recv(count - len(got)) or pytest.fail("the connection has ended")
    return got


def test_bytes_go_both_ways_unchanged(echo):
    data = os.urandom(3_000_000)
    with Relay(echo.endpoint) as relay:
        client, behind = echo.pair(relay)
        for source, sink in ((client, behind), (behind, client)):
            sender = threading.Thread(target=source.sendall, args=(data,))
            sender.start()
            assert received(sink, len(data)) == data
            sender.join()
        assert (relay.passed("up"), relay.passed("down")) == (len(data), len(data))


def test_what_is_cut_waits_and_arrives_when_it_is_healed(echo):
    with Relay(echo.endpoint) as relay:
        client, behind = echo.pair(relay)
        relay.cut()
        client.sendall(b"up")
        behind.sendall(b"down")
        assert silent(behind)
        assert silent(client)
        relay.heal()
        assert received(behind, 2) == b"up"
        assert received(client, 4) == b"down"


def test_one_direction_is_cut_alone(echo):
    with Relay(echo.endpoint) as relay:
        client, behind = echo.pair(relay)
        relay.cut("down")
        client.sendall(b"up")
        assert received(behind, 2) == b"up"
        behind.sendall(b"down")
        assert silent(client)
        relay.heal("down")
        assert received(client, 4) == b"down"


def test_a_connection_made_during_a_cut_is_there_after_it(echo):
    with Relay(echo.endpoint) as relay:
        relay.cut()
        client = echo.client(relay.address)
        client.sendall(b"hello")
        assert not relay.connections
        relay.heal()
        behind, _ = echo.listener.accept()
        echo.opened.append(behind)
        assert received(behind, 5) == b"hello"


def test_delayed_bytes_come_later_and_in_order(echo):
    with Relay(echo.endpoint) as relay:
        client, behind = echo.pair(relay)
        relay.delay(1.0, "up")
        began = time.monotonic()
        for part in (b"one", b"two"):
            client.sendall(part)
        assert received(behind, 6) == b"onetwo"
        assert time.monotonic() - began >= 1.0
        began = time.monotonic()
        behind.sendall(b"at once")
        received(client, 7)
        assert time.monotonic() - began < 1.0


def test_throttled_bytes_take_their_time(echo):
    with Relay(echo.endpoint) as relay:
        client, behind = echo.pair(relay)
        relay.throttle(100_000, "up")
        began = time.monotonic()
        client.sendall(bytes(40_000))
        received(behind, 40_000)
        assert time.monotonic() - began >= 0.3
        relay.throttle(None)
        client.sendall(bytes(1_000_000))
        received(behind, 1_000_000)


def test_dropped_connections_end_at_both_ends_and_new_ones_are_taken(echo):
    with Relay(echo.endpoint) as relay:
        client, behind = echo.pair(relay)
        assert relay.drop() == 1
        for end in (client, behind):
            with contextlib.suppress(ConnectionResetError):
                assert end.recv(1) == b""
        client, behind = echo.pair(relay)
        client.sendall(b"new")
        assert received(behind, 3) == b"new"


def test_refused_connections_end_at_once_and_others_go_on(echo):
    with Relay(echo.endpoint) as relay:
        client, behind = echo.pair(relay)
        relay.refuse()
        with contextlib.suppress(ConnectionError):
            assert echo.client(relay.address).recv(1) == b""
        client.sendall(b"old")
        assert received(behind, 3) == b"old"
        relay.refuse(False)
        echo.pair(relay)


def test_an_end_that_is_closed_closes_the_other_after_its_last_bytes(echo):
    with Relay(echo.endpoint) as relay:
        client, behind = echo.pair(relay)
        relay.delay(0.1)
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert received(behind, 10) == b"last words"
        assert behind.recv(1) == b""
        behind.sendall(b"answer")
        assert received(client, 6) == b"answer"
        behind.close()
        assert client.recv(1) == b""
        assert wait_until(lambda: not relay.connections, LONG)


def test_a_target_that_is_gone_ends_the_connection(echo):
    endpoint = echo.endpoint
    echo.close()
    with Relay(endpoint) as relay:
        with contextlib.suppress(ConnectionResetError):  # maybe before `connect` has returned
            assert echo.client(relay.address).recv(1) == b""


def test_connections_of_one_process_are_cut_by_its_pid(tmp_path):
    echo = Echo(tmp_path / "target")
    with Relay(echo.endpoint) as relay:
        client, behind = echo.pair(relay)
        relay.cut(pid=os.getpid() + 1)
        client.sendall(b"another")
        assert received(behind, 7) == b"another"
        relay.cut(pid=os.getpid())
        client.sendall(b"mine")
        assert silent(behind)
        relay.heal(pid=os.getpid())
        assert received(behind, 4) == b"mine"
    echo.close()


def test_processes_are_not_known_over_tcp():
    echo = Echo(None)
    with Relay(echo.endpoint) as relay, pytest.raises(InvalidInput, match="unix sockets"):
        relay.cut(pid=1)
    echo.close()


def test_a_relay_takes_the_place_of_a_listener_and_gives_it_back(tmp_path):
    echo = Echo(tmp_path / "node0")
    relay = in_front_of(echo.endpoint)
    assert relay.endpoint == echo.endpoint
    client, behind = echo.pair(relay)
    client.sendall(b"x")
    assert received(behind, 1) == b"x"
    put_back([relay])
    client = echo.client(str(tmp_path / "node0"))
    behind, _ = echo.listener.accept()
    echo.opened.append(behind)
    client.sendall(b"y")
    behind.settimeout(LONG)
    assert received(behind, 1) == b"y"
    assert [path.name for path in tmp_path.iterdir()] == ["node0"]
    echo.close()


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_zmq_goes_through_a_cut_without_losing_a_message(kind, tmp_path):
    context: zmq.Context[Any] = zmq.Context()
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    router.bind("tcp://127.0.0.1:*" if kind == "tcp" else f"ipc://{tmp_path}/router")
    with Relay(router.getsockopt_string(zmq.LAST_ENDPOINT)) as relay:
        dealer.connect(relay.endpoint)
        for number in range(100):
            if number % 20 == 5:
                relay.cut()
            if number % 20 == 15:
                relay.heal()
            dealer.send(b"%d" % number)
        got = []
        while len(got) < 100 and router.poll(int(LONG * 1000)):
            got.append(int(router.recv_multipart()[1]))
        assert got == list(range(100))
    for one in (router, dealer):
        one.close(linger=0)
    context.term()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda relay: relay.delay(-1.0), "at least 0"),
        (lambda relay: relay.throttle(0), "more than 0"),
        (lambda relay: relay.cut("left"), "'up', 'down' or 'both'"),
        (lambda relay: Relay("udp://x:1"), "ipc://path"),
    ],
)
def test_what_a_relay_cannot_do_is_refused_and_it_goes_on(call, said):
    echo = Echo(None)
    with Relay(echo.endpoint) as relay:
        with pytest.raises(InvalidInput, match=said):
            call(relay)
        client, behind = echo.pair(relay)
        client.sendall(b"on")
        assert received(behind, 2) == b"on"
    echo.close()


# ---- the rules alone ---------------------------------------------------------------------------------------------------


def test_a_rate_is_kept_over_any_time_and_bursts_are_short():
    gate, now, total = Gate(), 0.0, 0
    gate.throttle(1000.0, now)
    for step in (0.001, 0.2, 0.01, 3.0) * 50:
        now += step
        allowed = gate.allowance(now)
        assert allowed <= 50
        gate.passed(allowed)
        total += allowed
    assert total <= 1000.0 * now
    gate.passed(gate.allowance(now))
    assert gate.allowance(now) == 0
    assert gate.allowance(gate.next_time(now)) == 1


def test_a_backlog_gives_back_what_came_in_order_when_it_is_due():
    backlog = Backlog()
    backlog.put(1.0, b"abc")
    backlog.put(0.5, b"def")
    assert backlog.due(0.9, 10) == b""
    assert backlog.due(1.0, 2) == b"ab"
    backlog.gone(2)
    assert backlog.due(1.0, 10) == b"c"
    backlog.gone(1)
    assert backlog.due(1.0, 10) == b"def"
    backlog.gone(3)
    assert (backlog.kept, backlog.has_room) == (0, True)
