"""The coordinator killed while ranks train: once, twice, and together with a node. Training goes on, and no bit differs."""

from __future__ import annotations

import pathlib
import threading

import pytest

from sparkps import PSContext
from sparkps.testing.processes import coordinator_process, node_process, nodes_up, wait_until
from tests.harness.node_faults import NODES, Tables, trained, wait_whole

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """Processes that have taken the place of others stay until the tier of this module ends."""


def kill_and_wait(ps: PSContext) -> None:
    """Kill the coordinator, and wait until another one answers."""
    process = coordinator_process(ps)
    process.kill()
    wait_until(lambda: ps.status()["coordinator"]["pid"] != process.pid, 120.0, what="another coordinator")


def test_coordinator_killed_twice_changes_no_bit(ps: PSContext, tmp_path: pathlib.Path, undisturbed: Tables) -> None:
    wait_whole(ps, NODES)
    restarts = ps.status()["coordinator"]["restarts"]

    def kill_twice() -> None:
        kill_and_wait(ps)
        threading.Event().wait(0.3)
        kill_and_wait(ps)

    trained(ps, tmp_path / "run", kill_twice, at=0.2).assert_same(undisturbed)
    assert ps.status()["coordinator"]["restarts"] == restarts + 2


@pytest.mark.parametrize("first", ["coordinator", "node"])
def test_coordinator_killed_together_with_a_node_changes_no_bit(
    ps: PSContext, tmp_path: pathlib.Path, undisturbed: Tables, first: str
) -> None:
    wait_whole(ps, NODES)
    both = [coordinator_process(ps), node_process(ps, nodes_up(ps)[1])]

    def kill() -> None:
        for process in both if first == "coordinator" else reversed(both):
            process.kill()

    trained(ps, tmp_path / "run", kill, at=0.35).assert_same(undisturbed)
    wait_whole(ps, NODES)


def test_coordinator_killed_while_buckets_move_changes_no_bit(ps: PSContext, tmp_path: pathlib.Path, undisturbed: Tables) -> None:
    wait_whole(ps, NODES)

    def kill() -> None:
        process = coordinator_process(ps)
        node_process(ps, nodes_up(ps)[0]).kill()
        wait_until(lambda: ps.status()["moving"] is not None, 10.0, 0.005, "moves")
        process.kill()

    trained(ps, tmp_path / "run", kill, at=0.3).assert_same(undisturbed)
    wait_whole(ps, NODES)
