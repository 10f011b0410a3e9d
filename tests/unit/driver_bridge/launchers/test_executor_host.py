"""Where a task runs, as other executors know it."""

from __future__ import annotations

import os
import pathlib
import socket

import pytest

from sparkps.driver_bridge.launchers import executor_host
from sparkps.driver_bridge.launchers.executor_host import addresses, machine, spark_name


def process(proc: pathlib.Path, pid: int, parent: int, *words: str) -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "cmdline").write_bytes("\0".join(words).encode() + b"\0")
    (proc / str(pid) / "stat").write_text(f"{pid} (a ) name) S {parent} 0 0")


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(os, "getppid", lambda: 20)
    return 20


def test_the_name_is_that_of_the_executor_above_the_daemon(tmp_path: pathlib.Path, daemon: int) -> None:
    process(tmp_path, daemon, 10, "python", "-m", "pyspark.daemon")
    process(tmp_path, 10, 1, "java", "CoarseGrainedExecutorBackend", "--hostname", "host-a.example", "--cores", "2")
    assert spark_name(tmp_path) == "host-a.example"


@pytest.mark.parametrize("words", [("java",), ("java", "--hostname")])
def test_no_name_where_nobody_says_one(tmp_path: pathlib.Path, daemon: int, words: tuple[str, ...]) -> None:
    process(tmp_path, daemon, 10, "python")
    assert spark_name(tmp_path) == "", "the parent cannot be looked at"
    process(tmp_path, 10, 1, *words)
    assert spark_name(tmp_path) == ""


@pytest.mark.parametrize(
    ("known_as", "resolved", "way", "expected"),
    [
        ("host-a", "10.0.0.7", "10.0.0.7", "10.0.0.7"),
        ("host-a", "10.1.0.7", "10.0.0.7", "10.1.0.7"),  # the interface that executors use among themselves
        ("host-a", "127.0.1.1", "10.0.0.7", "10.0.0.7"),  # as Debian names a host to itself
        ("127.0.0.2", "127.0.0.2", "127.0.0.1", "127.0.0.2"),
        ("unknown", None, "10.0.0.7", "10.0.0.7"),
        ("", None, "10.0.0.7", "10.0.0.7"),
    ],
)
def test_nodes_are_where_executors_reach_them(
    monkeypatch: pytest.MonkeyPatch, known_as: str, resolved: str | None, way: str, expected: str
) -> None:
    def look_up(name: str) -> str:
        if resolved is None:
            raise socket.gaierror("no such host")
        return resolved

    monkeypatch.setattr(socket, "gethostbyname", look_up)
    monkeypatch.setattr(executor_host, "towards", lambda endpoint: way)
    assert addresses("tcp://driver:1", known_as) == (expected, expected)


def test_the_machine_of_a_container_is_what_its_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARKPS_HOST", raising=False)
    monkeypatch.delenv("NM_HOST", raising=False)
    assert (machine("pod-ip"), machine("")) == ("pod-ip", socket.gethostname())
    monkeypatch.setenv("NM_HOST", "yarn-host")
    assert machine("pod-ip") == "yarn-host"
    monkeypatch.setenv("SPARKPS_HOST", "k8s-host")
    assert machine("pod-ip") == "k8s-host"
