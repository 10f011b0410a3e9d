"""Processes of a tier are found and hit by name, never by an id alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sparkps.errors import DeadlineExceeded, InvalidInput, TierError
from sparkps.testing.processes import (
    ProcessName,
    children_of,
    coordinator_process,
    descendants_of,
    kill_node,
    kill_worker,
    node_process,
    wait_until,
)
from sparkps.testing.relay_process import RelayProcess


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing."""
    started = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield started
    started.kill()
    started.wait()
    assert started.stdin is not None
    started.stdin.close()


def state_of(pid: int) -> str:
    """The state that /proc has: R, S, T ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_killed_process_is_gone_when_the_call_returns(child):
    process = ProcessName.of(child.pid, "a child")
    assert process.runs
    process.kill()
    assert not process.runs
    assert child.wait() == -signal.SIGKILL


def test_an_id_that_another_process_has_by_now_is_not_hit(child):
    boot, pid, start = ProcessName.of(child.pid, "a child").name.rsplit(" ", 2)
    earlier = ProcessName(child.pid, f"{boot} {pid} {int(start) - 1}", "an earlier process")
    with pytest.raises(InvalidInput, match="an earlier process must run"):
        earlier.kill()
    assert child.poll() is None


def test_a_stopped_process_goes_on_at_the_end_also_after_an_error(child):
    process = ProcessName.of(child.pid, "a child")
    with pytest.raises(ZeroDivisionError), process.stopped():
        wait_until(lambda: state_of(child.pid) == "T")
        raise ZeroDivisionError
    wait_until(lambda: state_of(child.pid) != "T")


def test_a_stopped_process_may_be_killed_meanwhile(child):
    with ProcessName.of(child.pid, "a child").stopped() as process:
        process.kill()
        assert child.wait() == -signal.SIGKILL, "also while it stands still"
    assert not process.runs


def test_a_process_that_does_not_run_has_no_name(child):
    child.kill()
    child.wait()
    with pytest.raises(InvalidInput, match="must run"):
        ProcessName.of(child.pid, "a child")


def test_only_nodes_of_the_tier_that_are_up_and_are_nodes_are_killed(child):
    nodes = [{"id": 0, "pid": child.pid, "state": "up"}, {"id": 1, "pid": child.pid, "state": "dead"}]
    ps = SimpleNamespace(status=lambda: {"nodes": nodes})
    with pytest.raises(InvalidInput, match=r"one of the tier: \[0, 1\]. Got 2 instead"):
        node_process(ps, 2)
    with pytest.raises(InvalidInput, match="Node 1 must be up. It is dead"):
        kill_node(ps, 1)
    with pytest.raises(InvalidInput, match=r"must be node 0, which runs sparkps.ps_nodes"):
        kill_node(ps, 0)
    assert child.poll() is None


def test_a_coordinator_must_be_there_and_be_one(child):
    with pytest.raises(InvalidInput, match="One coordinator"):
        coordinator_process(SimpleNamespace(status=lambda: {"nodes": []}))
    with pytest.raises(InvalidInput, match="must be the coordinator"):
        coordinator_process(SimpleNamespace(status=lambda: {"coordinator": {"pid": child.pid}}))


def test_a_process_that_is_no_python_worker_is_not_killed_as_one(child):
    with pytest.raises(InvalidInput, match="must be a Python worker"):
        kill_worker(child.pid)
    assert child.poll() is None


def test_children_are_found(child):
    assert child.pid in children_of(os.getpid())
    assert child.pid in descendants_of(os.getppid())
    assert os.getpid() not in descendants_of(os.getpid())


def test_waiting_ends_at_its_deadline_and_names_what_did_not_come():
    with pytest.raises(DeadlineExceeded, match=r"Within 0.05 s must come the end of the world"):
        wait_until(lambda: False, 0.05, what="the end of the world")


def test_a_relay_in_a_process_of_its_own_does_the_same_and_goes_with_its_owner():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        with RelayProcess(f"tcp://127.0.0.1:{server.getsockname()[1]}") as relay:
            host, port = relay.endpoint.removeprefix("tcp://").split(":")
            with socket.create_connection((host, int(port)), 10) as client:
                behind, _ = server.accept()
                with behind:
                    behind.settimeout(10)
                    relay.cut("up")
                    relay.delay(0.05, "down")
                    client.sendall(b"held")
                    behind.sendall(b"free")
                    assert client.recv(4) == b"free"
                    assert (relay.passed("up"), relay.passed("down"), relay.connections) == (0, 4, 1)
                    relay.heal()
                    assert behind.recv(4) == b"held"
                    assert relay.drop() == 1
            with pytest.raises(InvalidInput, match="'up', 'down' or 'both'"):
                relay.cut("left")  # type: ignore[arg-type]
            process = ProcessName.of(relay.pid, "the relay")
            relay.throttle(1000)
            relay.refuse()
            process.kill()
            with pytest.raises(TierError, match="has ended"):
                relay.cut()
        assert not process.runs
