"""``sparkps tier``: a tier from its start to its end by the command alone, in the foreground, in the background, and on hosts."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO, Any

import psutil
import pytest

import sparkps
from sparkps.cli import main
from sparkps.client.attaching import attach
from sparkps.config import Settings
from sparkps.driver_bridge.launchers.attach import AttachedTier
from sparkps.secret_files import read_secret_file
from tests.harness.shared_tiers import sparse
from tests.harness.waiting import wait_until


class Started:
    """A tier that a command keeps in the foreground."""

    def __init__(self, directory: pathlib.Path, *words: str) -> None:
        self.secret_file = directory / "secret"
        command = [sys.executable, "-m", "sparkps", "tier", "start", "--secret-file", str(self.secret_file), *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self._said: list[str] = []
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        self.url = self.process.stdout.readline().strip()

    def _read(self, stream: IO[str]) -> None:
        self._said.extend(stream)

    @property
    def said(self) -> str:
        """What it has said on standard error."""
        return "".join(self._said)

    def tier(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Another command about this tier."""
        return tier(*words, "--url", self.url, "--secret-file", str(self.secret_file))

    def connect(self, owner: str = "ann") -> sparkps.Connection:
        return sparkps.connect(self.url, self.secret_file, owner=owner)

    def ended(self) -> int:
        """Its exit status."""
        status = self.process.wait(60)
        self._reader.join(10)
        return status

    def close(self) -> None:
        """End it, if it runs."""
        if self.process.poll() is None:
            self.process.terminate()
        self.ended()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()


def tier(*words: str) -> subprocess.CompletedProcess[str]:
    """Carry ``sparkps tier`` out with these words, in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as errors:
        status = main(["tier", *words])
    return subprocess.CompletedProcess(words, status, out.getvalue(), errors.getvalue())


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """The command says what is logged in its process."""
    yield
    for name in ("sparkps", "sparkps.cli"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Iterator[Any]:
    """Starts tiers, which end with the test."""
    made: list[Started] = []

    def start(*words: str) -> Started:
        made.append(Started(tmp_path, *words))
        assert made[-1].url, made[-1].process.wait(60) and made[-1].said
        return made[-1]

    yield start
    for each in made:
        each.close()


def children_of(pid: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(pid).children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]


def test_from_its_start_to_its_end(start: Any) -> None:
    made = start("--nodes", "1", "--ttl", "1h")
    assert re.fullmatch(r"sparkps://127\.0\.0\.1:\d+", made.url)
    assert made.secret_file.stat().st_mode & 0o777 == 0o600
    with made.connect() as connection:
        sparse(connection, "w", 4).add([1, 2, 3], [[1.0] * 4] * 3)
        sparse(connection, "gone")
    listed = made.tier("tables")
    assert listed.returncode == 0
    assert re.search(r"^TABLE +OWNER +KIND +SHAPE +TYPE +ROWS +SIZE +LAST USED$", listed.stdout, re.MULTILINE)
    assert re.search(r"^ann/w +ann +sparse +dim 4 +float32 +3 +[\d.]+ KiB +(now|\d+ s ago)$", listed.stdout, re.MULTILINE)
    assert {table["name"] for table in json.loads(made.tier("tables", "--json").stdout)} == {"ann/w", "ann/gone"}

    dropped = made.tier("tables", "--drop", "ann/nothing", "--drop", "ann/gone")
    assert dropped.returncode == 1
    assert dropped.stdout == "ann/gone is dropped.\n"
    assert dropped.stderr.startswith("sparkps: Table 'ann/nothing' must exist on the tier.")

    assert made.tier("scale", "2").stdout == "The tier has 2 nodes.\n"
    assert "Node 0 has left the tier, which has 1 node." in made.tier("drain", "0").stdout
    shown = made.tier("status").stdout
    assert f"at {made.url} is ready: 1 of 1 nodes are up." in shown
    assert "1 table of 3 rows" in shown
    assert json.loads(made.tier("status", "--json").stdout)["settings"]["table_ttl"] == 3600.0

    processes = children_of(made.process.pid)
    stopped = made.tier("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "The tier has ended.\n")
    assert made.ended() == 0
    assert wait_until(lambda: not any(process.is_running() for process in processes), 20)
    assert made.tier("status").returncode == 1


def test_ctrl_c_ends_it_in_order(start: Any) -> None:
    """As SIGTERM does, in `test_a_tier_that_is_started_again_is_as_it_was`."""
    made = start("--nodes", "1")
    processes = children_of(made.process.pid)
    assert len(processes) == 2
    made.process.send_signal(signal.SIGINT)
    assert made.ended() == 0
    assert wait_until(lambda: not any(process.is_running() for process in processes), 20)
    assert "Traceback" not in made.said


def test_no_secret_is_on_a_command_line_or_in_an_environment_or_said(start: Any) -> None:
    made = start("--nodes", "1")
    secret = made.secret_file.read_text().strip()
    for process in [psutil.Process(made.process.pid), *children_of(made.process.pid)]:
        assert not any(secret in word for word in process.cmdline())
        assert not any(secret in value for value in process.environ().values())
        logs = [pathlib.Path(file.path) for file in process.open_files() if file.path.endswith(".log")]
        assert not any(secret in log.read_text() for log in logs)
    assert secret not in made.said + made.tier("status", "--json").stdout


def test_a_tier_that_is_started_again_is_as_it_was(start: Any, tmp_path: pathlib.Path) -> None:
    """Same directory of checkpoints, same secret file, same port: applications find it at the same URL."""
    kept = ["--checkpoint-dir", str(tmp_path / "checkpoints"), "--nodes", "1"]
    first = start(*kept)
    port = first.url.rpartition(":")[2]
    before = first.connect()
    w = sparse(before, "w", 2)
    w.add([1, 2], [[1.0, 2.0], [3.0, 4.0]])
    application = AttachedTier(Settings(), attach(first.url, read_secret_file(first.secret_file), "ann"))
    assert application.lost() is None
    first.process.terminate()
    assert first.ended() == 0
    assert "checkpoint 00000001" in first.said

    second = start(*kept, "--port", port)
    assert second.url == first.url
    assert "as they were in checkpoint 00000001" in second.said or wait_until(lambda: "as they were" in second.said, 10)
    with second.connect() as connection:
        assert connection.tier_id != before.tier_id, "a handle of before does not take what is there now for its own"
        assert connection.table("w").pull([1, 2]).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert "It was started again" in str(application.lost())
    application.stop()
    before.close()
    in_use = tier("start", "--port", port, "--secret-file", str(second.secret_file))
    assert in_use.returncode == 1
    assert f"Got 127.0.0.1:{port}: Address already in use" in in_use.stderr


def test_checkpoints_are_taken_while_it_runs_and_one_that_is_killed_comes_back(start: Any, tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "checkpoints"
    kept = ["--checkpoint-dir", str(directory), "--checkpoint-every", "500ms", "--nodes", "1"]
    first = start(*kept)
    with first.connect() as connection:
        sparse(connection, "w").add([1], [[1.0]])
        assert wait_until(lambda: connection.status()["checkpoint"] is not None, 30)
        taken = connection.status()["checkpoint"]["id"]
        assert wait_until(lambda: connection.status()["checkpoint"]["id"] != taken, 30), "that one may have begun before"
    processes = children_of(first.process.pid)
    first.process.kill()
    first.ended()
    assert wait_until(lambda: not any(process.is_running() for process in processes), 30), "nothing outlives who keeps the tier"
    with start(*kept).connect() as connection:
        assert connection.table("w").pull([1]).tolist() == [[1.0]]


def test_tables_that_nobody_uses_go(start: Any) -> None:
    made = start("--nodes", "1", "--ttl", "1s")
    with made.connect() as connection:
        used, _ = sparse(connection, "used"), sparse(connection, "unused")

        def names() -> set[str]:
            used.pull([1])
            return {table["name"] for table in connection.tables()}

        assert wait_until(lambda: names() == {"ann/used"}, 30)


def test_in_the_background(tmp_path: pathlib.Path) -> None:
    secret_file, log = tmp_path / "secret", tmp_path / "tier.log"
    started = tier("start", "--nodes", "1", "--detach", "--log", str(log), "--secret-file", str(secret_file))
    assert started.returncode == 0, started.stderr
    url = started.stdout.strip()
    try:
        assert f"its log is {log}" in started.stderr
        about = "--url", url, "--secret-file", str(secret_file)
        assert tier("status", *about).returncode == 0
    finally:
        assert tier("stop", *about).returncode == 0
    pid = int(re.search(r"process (\d+);", started.stderr)[1])  # type: ignore[index]
    assert wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, 20)
    assert "the tier has ended" in log.read_text()


def test_one_in_the_background_that_does_not_start_says_why(tmp_path: pathlib.Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        failed = tier("start", "--detach", "--port", port, "--secret-file", str(tmp_path / "secret"))
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert "at a port that is free" in failed.stderr
    assert "the tier has not started (exit status 1)" in failed.stderr


# ---- hosts -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: pathlib.Path) -> pathlib.Path:
    """Stands in for ssh: runs the command in a shell here, and notes for which host."""
    script = tmp_path / "fake_ssh"
    script.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/hosts\nshift\nexec sh -c "$*"\n')
    script.chmod(0o755)
    return script


def test_nodes_run_on_the_hosts_of_a_list(start: Any, shell: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Two names of this machine; the secret goes through the command's standard input. A node that dies is started again where it was."""
    hosts = ["127.0.0.1", "localhost"]
    made = start("--hosts", ",".join(hosts), "--replication", "2", "--start-command", f"{shell} {{host}} {{command}}")
    with made.connect() as connection:
        w = sparse(connection, "w")
        w.add(range(100), [[1.0]] * 100)
        nodes = connection.status()["nodes"]
        assert sorted(node["host"] for node in nodes) == sorted(hosts)
        assert {node["endpoint"].split(":")[1] for node in nodes} == {f"//{host}" for host in hosts}
        assert sorted((tmp_path / "hosts").read_text().split()) == sorted(hosts)
        os.kill(nodes[0]["pid"], signal.SIGKILL)

        def up() -> list[str]:
            return sorted(node["host"] for node in connection.status()["nodes"] if node["state"] == "up")

        assert wait_until(lambda: connection.status()["nodes"][0]["state"] == "dead" and up() == hosts, 60)
        assert w.call("sum") == 100.0
        pids = [node["pid"] for node in connection.status()["nodes"] if node["state"] == "up"]
    made.process.kill()
    assert wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids), 30), "they end with their standard input"


def test_a_host_that_runs_nothing_is_named(tmp_path: pathlib.Path) -> None:
    fails = "sh -c 'echo no route; exit 255' {command}"
    failed = tier("start", "--hosts", "127.0.0.1", "--start-command", fails, "--secret-file", str(tmp_path / "secret"))
    assert failed.returncode == 1
    assert "Nodes must start on 127.0.0.1 by" in failed.stderr
    assert "no route" in failed.stderr
    assert "Traceback" not in failed.stderr


# ---- the end -----------------------------------------------------------------------------------------------------------


def test_what_was_acknowledged_before_the_end_is_there_when_it_is_started_again(start: Any, tmp_path: pathlib.Path) -> None:
    """A client goes on pushing until it cannot: the last checkpoint has all that it was told to be written."""
    where = ("--nodes", "2", "--checkpoint-dir", str(tmp_path / "checkpoints"))
    made = start(*where)
    told, ended = 0, threading.Event()

    def push() -> None:
        nonlocal told
        with contextlib.suppress(sparkps.errors.SparkPSError):
            while True:
                w.add(list(range(64)), [[1.0]] * 64)
                told += 1
        ended.set()

    with made.connect() as connection:
        w = sparse(connection, "w")
        sparse(connection, "large", 16).add(list(range(50_000)), [[1.0] * 16] * 50_000)
        thread = threading.Thread(target=push, daemon=True)
        thread.start()
        assert wait_until(lambda: told > 20, 20)
        assert made.tier("stop").returncode == 0
        assert made.ended() == 0
        assert ended.wait(60)
        thread.join(10)
    again = start(*where)
    with again.connect() as connection:
        found = connection.table("w").pull(list(range(64)))
    assert set(found.ravel().tolist()) <= {told, told + 1}, "the one that was never answered may be there, in part; all others are"


def test_where_the_last_checkpoint_cannot_be_written_the_tier_goes_on(start: Any, tmp_path: pathlib.Path) -> None:
    where = tmp_path / "checkpoints"
    made = start("--nodes", "1", "--checkpoint-dir", str(where))
    with made.connect() as connection:
        w = sparse(connection, "w")
        w.add([1], [[5.0]])
        where.rename(tmp_path / "elsewhere")
        where.write_text("in the way")
        refused = made.tier("stop")
        assert refused.returncode == 1
        assert "must be written before it ends. It was not" in refused.stderr
        assert "`sparkps tier stop --discard`" in refused.stderr
        w.add([1], [[1.0]])
        assert w.pull([1]).tolist() == [[6.0]]
    assert made.tier("stop", "--discard").returncode == 0
    assert made.ended() == 0


def test_a_signal_to_all_its_processes_at_once_loses_nothing(start: Any, tmp_path: pathlib.Path) -> None:
    """As whoever ends a service, or a container, sends it."""
    where = ("--nodes", "2", "--checkpoint-dir", str(tmp_path / "checkpoints"))
    made = start(*where)
    with made.connect() as connection:
        sparse(connection, "w").add([1, 2], [[5.0], [6.0]])
    for process in [*children_of(made.process.pid), psutil.Process(made.process.pid)]:
        process.send_signal(signal.SIGTERM)
    assert made.ended() == 0
    again = start(*where)
    with again.connect() as connection:
        assert connection.table("w").pull([1, 2]).tolist() == [[5.0], [6.0]]


def test_two_tiers_have_not_the_same_directory_of_checkpoints(start: Any, tmp_path: pathlib.Path) -> None:
    where = ("--nodes", "1", "--checkpoint-dir", str(tmp_path / "checkpoints"))
    start(*where)
    second = tier("start", *where, "--secret-file", str(tmp_path / "second"))
    assert second.returncode == 1
    assert "must be one tier's alone" in second.stderr
