"""Daemons of tests end with the test, however that ends."""

from __future__ import annotations

import os
import pathlib

import psutil
import pytest

from tests.harness.daemons import Guard
from tests.harness.processes import DriverProgram, gone_within, running
from tests.harness.waiting import wait_until

#: A daemon with a child in a session of its own, which loses its parent at once.
FAMILY = ["/bin/sh", "-c", "setsid sh -c 'sleep 1000 & echo ready $!' & wait; sleep 1000"]

PROGRAM = """
import os, pathlib
from tests.harness.daemons import Guard
guard = Guard(pathlib.Path(os.environ["FOLDER"]))
daemon = guard.start("family", ["/bin/sh", "-c", "setsid sh -c 'sleep 1000 & echo ready $!' & wait; sleep 1000"], dict(os.environ))
orphan = int(daemon.wait_for("ready ([0-9]+)", 20)[1])
say(pids=[guard._guard.pid, daemon.process.pid, orphan])
wait_for_the_test()
"""


def test_killed_test_run_leaves_no_daemon_and_no_file(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "made"
    with DriverProgram(PROGRAM, FOLDER=str(folder)) as program:
        pids = program.hear()["pids"]
        assert running(pids) == pids
        program.process.kill()
        assert gone_within(pids, 20)
    assert wait_until(lambda: not folder.exists(), 120.0)


def test_ended_guard_leaves_no_daemon_that_stands_still_and_no_file(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "made"
    with Guard(folder) as guard:
        daemon = guard.start("family", FAMILY, dict(os.environ))
        orphan = int(daemon.wait_for("ready ([0-9]+)", 20)[1])
        daemon.stop()
        assert running([orphan]) == [orphan]
    assert not psutil.pid_exists(daemon.process.pid), "it was waited for, too"
    assert running([orphan]) == []
    assert not folder.exists()


def test_daemon_that_fails_shows_the_end_of_its_log(tmp_path: pathlib.Path) -> None:
    with Guard(tmp_path / "made") as guard:
        daemon = guard.start("broken", ["/bin/sh", "-c", "echo no such port; exit 3"], dict(os.environ))
        with pytest.raises(AssertionError, match=r"(?s)broken has ended.*no such port"):
            daemon.wait_for("ready", 20)
