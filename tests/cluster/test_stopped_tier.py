"""Handles that outlive their tier, as those of a model do that stays there: whoever uses one is told at once, and why."""

from __future__ import annotations

import contextlib
import json
import pathlib
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sparkps.client.session import disconnect
from sparkps.client.tables import SparseTable
from sparkps.config import Settings
from sparkps.driver_bridge.launchers.local import LocalTier, launch
from sparkps.driver_bridge.launchers.restarts import Restarts
from sparkps.specs import TableSpec
from sparkps.wire.messages.control import CreateTable

#: Seconds: far less than `requestTimeout`, and enough for a machine that has other things to do.
AT_ONCE = 15.0

#: Unpickles a handle and uses it whenever it is told to; says what came of that, and after how many seconds.
USER = """
import json, pickle, sys, time
handle = pickle.load(open(sys.argv[1], "rb"))
for _ in sys.stdin:
    began = time.monotonic()
    try:
        said = handle.pull([1, 2, 3]).tolist()
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    print(json.dumps([said, time.monotonic() - began]), flush=True)
"""


@pytest.fixture
def tier() -> Iterator[LocalTier]:
    started = launch(Settings(num_nodes=2))
    yield started
    started.stop()


@pytest.fixture
def handle(tier: LocalTier, tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    table = SparseTable(tier.address, tier.control.request(CreateTable(0, TableSpec("w", "sparse", 1))).spec)
    table.add([1, 2, 3], [[1.0], [2.0], [3.0]])
    path = tmp_path / "handle.pickle"
    path.write_bytes(pickle.dumps(table))
    yield path
    disconnect(tier.address)


class User:
    """A process that has the handle."""

    def __init__(self, handle: pathlib.Path) -> None:
        command = [sys.executable, "-c", USER, str(handle)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def pull(self) -> tuple[object, float]:
        """What the process got, and the seconds that it took."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        said, seconds = json.loads(self.process.stdout.readline())
        return said, seconds


@contextlib.contextmanager
def user(handle: pathlib.Path) -> Iterator[User]:
    made = User(handle)
    try:
        yield made
    finally:
        made.process.communicate(timeout=60)


def test_a_session_whose_tier_was_stopped_says_so_at_once(tier: LocalTier, handle: pathlib.Path) -> None:
    with user(handle) as other:
        assert other.pull()[0] == [[1.0], [2.0], [3.0]]
        tier.stop()
        said, seconds = other.pull()
        assert seconds < AT_ONCE
        assert "ShardLost" in str(said)
        assert "The PSContext was stopped, and its tables went with it, the coefficients of large models too" in str(said)
        said, seconds = other.pull()
        assert ("ShardLost" in str(said), seconds < AT_ONCE) == (True, True), "it is known by now"


def test_a_process_that_meets_a_stopped_tier_is_told_so_at_once(tier: LocalTier, handle: pathlib.Path) -> None:
    tier.stop()
    with user(handle) as other:
        said, seconds = other.pull()
    assert seconds < AT_ONCE
    assert "NodeUnreachable" in str(said)
    assert "The PSContext was stopped, and its tables went with it, the coefficients of large models too" in str(said)


def test_a_tier_that_was_killed_leaves_nobody_waiting_for_it(tier: LocalTier, handle: pathlib.Path) -> None:
    with user(handle) as other:
        assert other.pull()[0] == [[1.0], [2.0], [3.0]]
        tier.coordinator_restarts = tier.node_restarts = Restarts(0)  # nobody is left to start them
        for child in (tier._coordinator, *tier._nodes.values()):
            assert child is not None
            child.process.send_signal(signal.SIGKILL)
            assert child.exited.wait(60)
        said, seconds = other.pull()
    assert seconds < AT_ONCE
    assert "ShardLost" in str(said)
    assert "nobody listens there" in str(said)
