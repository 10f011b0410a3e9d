"""Processes of the tier notice the end of their driver, and remove what is theirs and nothing else."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import pytest

from sparkps import lifeline
from sparkps.lifeline import answers, is_gone, remove_leftovers, this_process, tidy_up, watch_stdin
from tests.harness.waiting import wait_until


@pytest.fixture
def directory() -> Iterator[pathlib.Path]:
    """A directory with a path short enough for sockets, which the test may remove."""
    with tempfile.TemporaryDirectory(prefix="sparkps-", ignore_cleanup_errors=True) as name:
        yield pathlib.Path(name)
        pathlib.Path(name).mkdir(exist_ok=True)


def dead(path: pathlib.Path) -> None:
    """A socket as a killed process leaves it, with a log."""
    living(path).close()


def living(path: pathlib.Path) -> socket.socket:
    """A socket at which somebody listens, with a log."""
    path.with_suffix(".log").write_text("ready\n")
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen(1)
    return made


def names(directory: pathlib.Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_the_end_of_standard_input_is_noticed_and_nothing_before() -> None:
    reader, writer = os.pipe()
    gone = threading.Event()
    watch_stdin(gone.set, reader)
    os.write(writer, b"still here")
    assert not gone.wait(0.1)
    os.close(writer)
    assert gone.wait(10)
    os.close(reader)


def test_standard_input_that_cannot_be_read_has_ended() -> None:
    reader, writer = os.pipe()
    gone = threading.Event()
    watch_stdin(gone.set, writer)
    assert gone.wait(10)
    os.close(reader)
    os.close(writer)


def test_what_a_tier_needs_does_not_grow_old(directory: pathlib.Path) -> None:
    ours, others = directory / "coordinator.journal", directory / "notes"
    for path in (ours, others):
        path.write_text("")
        os.utime(path, (0, 0))
    lifeline.keep_fresh(directory, 0.01)
    assert wait_until(lambda: ours.stat().st_mtime > time.time() - 60, 10)
    os.utime(ours, (0, 0))
    assert wait_until(lambda: ours.stat().st_mtime > time.time() - 60, 10), "again and again"
    assert others.stat().st_mtime == 0


def test_leftovers_of_dead_processes_go_with_their_directory(directory: pathlib.Path) -> None:
    dead(directory / "coordinator")
    dead(directory / "node0")
    (directory / "node11.log").touch()
    (directory / "kernels.log").touch()
    tidy_up(directory)
    assert not directory.exists()
    tidy_up(directory)  # another process was faster


def test_sockets_that_were_put_aside_go_too(directory: pathlib.Path) -> None:
    dead(directory / "node0")
    for name in ("node0.listening", "node0.full"):
        (directory / "node0").rename(directory / name)
        dead(directory / "node0")
    tidy_up(directory)
    assert not directory.exists()


def test_what_belongs_to_a_living_process_stays(directory: pathlib.Path) -> None:
    dead(directory / "coordinator")
    dead(directory / "node0")
    with living(directory / "node1") as listener:
        for _ in range(3):  # more than the backlog takes
            assert answers(directory / "node1")
        tidy_up(directory, patience=0.1)
        assert names(directory) == ["node1", "node1.log"]
        listener.close()
    tidy_up(directory)
    assert not directory.exists()


def test_a_living_coordinator_is_left_to_do_it(directory: pathlib.Path) -> None:
    dead(directory / "node0")
    with living(directory / "coordinator"):
        tidy_up(directory, patience=0.1)
        assert names(directory) == ["coordinator", "coordinator.log", "node0", "node0.log"]


@pytest.mark.parametrize("name", ["coordinator", "node1"])
def test_a_process_that_is_about_to_end_is_waited_for(directory: pathlib.Path, name: str) -> None:
    listener = living(directory / name)
    ending = threading.Timer(0.2, listener.close)
    ending.start()
    tidy_up(directory, patience=10)
    ending.join()
    assert not directory.exists()


def test_files_of_others_stay(directory: pathlib.Path) -> None:
    (directory / "notes.log").touch()
    (directory / "node0").write_text("no socket")
    (directory / "node1.log").mkdir()
    (directory / "node2.log").symlink_to(directory / "notes.log")
    dead(directory / "node3")
    remove_leftovers(directory)
    assert names(directory) == ["node0", "node1.log", "node2.log", "notes.log"]


# ---- names of processes ------------------------------------------------------------------------------------------------

NAMED = """
import sys
from sparkps.lifeline import this_process
print(this_process(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process, and its name."""
    with subprocess.Popen(
        [sys.executable, "-c", NAMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.kill()


def test_a_process_that_runs_is_not_gone(other: tuple[subprocess.Popen[str], str]) -> None:
    _, name = other
    assert name != this_process() == this_process()
    assert not is_gone(this_process())
    assert not is_gone(name)


def test_a_killed_process_is_gone_before_and_after_its_parent_asks(other: tuple[subprocess.Popen[str], str]) -> None:
    process, name = other
    process.kill()
    assert wait_until(lambda: is_gone(name), 10), "a zombie runs no more"
    assert pathlib.Path(f"/proc/{process.pid}").exists()
    process.wait(10)
    assert is_gone(name)


def test_a_process_id_that_is_used_again_names_another_process() -> None:
    *where, start = this_process().split(" ")
    assert is_gone(" ".join([*where, str(int(start) - 1)]))


@pytest.mark.parametrize("part", [0, 1])
def test_of_other_hosts_and_containers_nothing_is_known(part: int, other: tuple[subprocess.Popen[str], str]) -> None:
    process, name = other
    process.kill()
    process.wait(10)
    words = name.split(" ")
    words[part] = "another"
    assert not is_gone(" ".join(words))


@pytest.mark.parametrize("name", ["", " ", "a b", "no name of ours", "a b c d"])
def test_of_what_is_no_name_nothing_is_known(name: str) -> None:
    assert not is_gone(name)


def test_a_process_that_may_not_be_looked_at_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    name = this_process()
    monkeypatch.setattr(lifeline, "_look_up", lambda pid: None)
    assert not is_gone(name)
    assert this_process() == ""


def test_a_forked_child_has_a_name_of_its_own() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, this_process().encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    name = os.read(reader, 1000).decode()
    os.close(reader)
    assert name != this_process()
    assert is_gone(name)


#: Stops itself, as a debugger might stop it; says so when it goes on.
_STOPS = '''
import os, pathlib, signal, sys
from sparkps.lifeline import wake_with_parent
wake_with_parent()
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
os.kill(os.getpid(), signal.SIGSTOP)
pathlib.Path(sys.argv[1] + ".on").touch()
'''

#: Starts that one.
_STARTS = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', sys.argv[1], sys.argv[2]]); time.sleep(60)"


def test_a_stopped_process_goes_on_when_the_one_that_started_it_is_gone(tmp_path: pathlib.Path) -> None:
    said, goes_on = tmp_path / "pid", tmp_path / "pid.on"
    parent = subprocess.Popen([sys.executable, "-c", _STARTS, _STOPS, str(said)])

    def is_stopped() -> bool:
        pid = said.read_text() if said.exists() else ""
        return bool(pid) and pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    try:
        assert wait_until(is_stopped, 20.0)
        assert not goes_on.exists()
    finally:
        parent.kill()
        parent.wait()
    assert wait_until(goes_on.exists, 10.0)
