"""A process that answers many connections takes no more than it has descriptors for, and those that it has go on."""

from __future__ import annotations

import contextlib
import pathlib
import resource
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import msgspec
import pytest
import zmq

from sparkps import descriptors, lifeline
from sparkps.config import NetworkSettings, Settings
from sparkps.descriptors import ConnectionCap, open_descriptors
from sparkps.peer_limits import PeerLimits
from sparkps.testing.tcp_tier import free_port
from tests.harness.connections import are_hung_up_on
from tests.harness.waiting import wait_until

#: Answers what it is sent; says where, and in the end how it ended. Few descriptors: 400.
ECHO = """
import resource, sys, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))
import zmq
from sparkps.descriptors import ConnectionCap
from sparkps.lifeline import watch_stdin
ended = threading.Event()
watch_stdin(ended.set)
context = zmq.Context()
router = context.socket(zmq.ROUTER)
router.bind(sys.argv[1])
endpoint = router.getsockopt_string(zmq.LAST_ENDPOINT)
cap = ConnectionCap(router, endpoint)
print(endpoint, flush=True)
while not ended.is_set():
    if router.poll(50):
        router.send_multipart(router.recv_multipart())
cap.close()
router.close()
context.term()
"""


@contextlib.contextmanager
def echo(endpoint: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen(
        [sys.executable, "-c", ECHO, endpoint],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        if process.poll() is None:
            process.kill()


@contextlib.contextmanager
def client(endpoint: str) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(endpoint)
        yield dealer


def answers(dealer: zmq.Socket[bytes], milliseconds: int) -> bool:
    dealer.send(b"hello")
    return bool(dealer.poll(milliseconds) and dealer.recv())


def connect(endpoint: str) -> socket.socket | None:
    """A connection that says nothing, once it was taken; None if it was not."""
    if endpoint.startswith("ipc://"):
        made, at = socket.socket(socket.AF_UNIX), endpoint[6:]
    else:
        host, _, port = endpoint[6:].rpartition(":")
        made, at = socket.socket(), (host, int(port))  # type: ignore[assignment]
    made.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        made.connect(at)
    if select.select([made], [], [], 0.5)[0] and _greeted(made):
        return made
    made.close()
    return None


def _greeted(made: socket.socket) -> bool:
    """Whether the other side has sent its greeting, as libzmq does first of all."""
    try:
        return bool(made.recv(64))
    except OSError:
        return False


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_process_with_too_few_descriptors_keeps_its_connections_and_takes_new_ones_later(transport: str) -> None:
    with tempfile.TemporaryDirectory(prefix="t") as directory:
        bind = f"ipc://{directory}/e" if transport == "ipc" else "tcp://127.0.0.1:*"
        with echo(bind) as (process, endpoint), client(endpoint) as old:
            assert answers(old, 10_000)
            taken = []
            while (made := connect(endpoint)) is not None:
                taken.append(made)
                assert len(taken) < 400
                assert answers(old, 10_000), "the connections that are there go on"
            assert len(taken) > 50
            if transport == "ipc":
                assert lifeline.answers(pathlib.Path(endpoint[6:])), "busy is not gone"
            with client(endpoint) as new:
                assert not answers(new, 600)
                for made in taken:
                    made.close()
                assert new.poll(10_000), "it was sent, and arrives as soon as there is room"
            assert answers(old, 10_000)
            assert process.poll() is None
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(10) == 0


def test_burst_of_connections_is_survived() -> None:
    with tempfile.TemporaryDirectory(prefix="t") as directory, echo(f"ipc://{directory}/e") as (process, endpoint):
        with client(endpoint) as old:
            assert answers(old, 10_000)
            with contextlib.ExitStack() as made:
                for _ in range(3000):  # as fast as can be
                    connection = made.enter_context(socket.socket(socket.AF_UNIX))
                    connection.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        connection.connect(endpoint[6:])
                assert answers(old, 10_000)
        assert process.poll() is None


def test_limit_is_raised_to_the_hard_one() -> None:
    program = """
import resource
from sparkps.descriptors import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))
print(raise_limit(), resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert ended.stdout.strip() == "300 (300, 300)"


@pytest.mark.parametrize("which", ["coordinator", "node"])
def test_processes_of_a_tier_raise_their_limit_and_hold_hosts_to_theirs(which: str) -> None:
    """Nobody need be there: a node that waits for its coordinator is reached by others, too."""
    port = free_port()
    bind = f"tcp://127.0.0.1:{port}"
    if which == "coordinator":
        settings = msgspec.json.encode(Settings(network=NetworkSettings(max_peer_connections=3))).decode()
        words = ["-m", "sparkps.driver_bridge.coordinator.server", "--tier", "t", "--settings", settings]
    else:
        words = ["-m", "sparkps.ps_nodes", "--coordinator", f"tcp://127.0.0.1:{free_port()}", "--threads", "1", "--peer-connections", "3"]
    few = ["sh", "-c", 'ulimit -Sn 200; exec "$@"', "sh"]
    command = [*few, sys.executable, *words, "--bind", bind, "--watch-stdin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            assert wait_until(lambda: answers_at(port), 30)
            limits = pathlib.Path(f"/proc/{process.pid}/limits").read_text().splitlines()
            of_files = next(line for line in limits if line.startswith("Max open files"))
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            assert of_files.split()[3:5] == [str(hard), str(hard)]
            assert wait_until(lambda: are_hung_up_on(bind, 3, of=6), 20)
        finally:
            process.kill()


def answers_at(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_only_connections_that_come_count_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        cap = ConnectionCap(router, f"tcp://127.0.0.1:{port}", reserve=10)
        try:
            cap._free = 100
            cap._take([(zmq.EVENT_ACCEPTED, -1)] * 5 + [(zmq.EVENT_DISCONNECTED, -1)] * 50)
            assert cap._free == 95
            monkeypatch.setattr(descriptors, "open_descriptors", lambda: cap.limit - 60)
            cap._take([(zmq.EVENT_ACCEPTED, -1)] * 86)
            assert cap._free == 60, "they are counted anew before the door is shut"
            assert not cap.is_shut
            cap._take([(zmq.EVENT_ACCEPT_FAILED, -1)])
            assert cap._free == 60
        finally:
            cap.close()


def test_open_descriptors_are_counted() -> None:
    before = open_descriptors()
    with tempfile.TemporaryFile(), tempfile.TemporaryFile():
        assert open_descriptors() == before + 2
    assert open_descriptors() == before


def test_a_number_that_is_another_files_by_now_costs_no_descriptor() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router, tempfile.TemporaryFile() as file:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        limits = PeerLimits(most=5, rate=100.0)
        cap = ConnectionCap(router, f"tcp://127.0.0.1:{port}", limits=limits, is_secured=True)
        try:
            before = open_descriptors()
            for _ in range(50):
                cap._take([(zmq.EVENT_ACCEPTED, file.fileno())])
                limits.unfinished[file.fileno()] = "10.0.0.1"
                cap._look_at_handshakes(limits)
            assert open_descriptors() == before
            assert cap.cut == 0
        finally:
            cap.close()


def test_closing_leaves_the_endpoint_as_it_was() -> None:
    with tempfile.TemporaryDirectory(prefix="t") as directory, zmq.Context() as context:
        with context.socket(zmq.ROUTER) as router:
            router.bind(f"ipc://{directory}/e")
            everything, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            cap = ConnectionCap(router, f"ipc://{directory}/e", reserve=everything)
            before = connect(f"ipc://{directory}/e")
            assert wait_until(lambda: cap.is_shut, 10)
            assert connect(f"ipc://{directory}/e") is None
            cap.close()
            cap.close()
            after = connect(f"ipc://{directory}/e")
            assert after is not None
            after.close()
            if before is not None:
                before.close()
        assert [path.name for path in pathlib.Path(directory).iterdir()] in ([], ["e"]), "nothing was put aside"
