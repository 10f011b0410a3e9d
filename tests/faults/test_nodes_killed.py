"""Any one node killed at any moment: with two copies of every bucket the tables are, bit by bit, those of a run without a fault."""

from __future__ import annotations

import pathlib
import random
from typing import Any

import pytest

from sparkps import PSContext
from sparkps.testing.processes import kill_node, nodes_up
from tests.harness.cases import cases
from tests.harness.node_faults import NODES, Tables, trained, wait_whole

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """Nodes that have taken the place of others stay until the tier of this module ends."""


@pytest.mark.parametrize("seed", cases(range(2), long=range(2, 6)))
def test_node_killed_at_a_random_moment_changes_no_bit(ps: PSContext, tmp_path: pathlib.Path, undisturbed: Tables, seed: int) -> None:
    drawn = random.Random(seed)
    wait_whole(ps, NODES)

    def kill() -> None:
        kill_node(ps, drawn.choice(nodes_up(ps)))

    trained(ps, tmp_path / "run", kill, at=drawn.uniform(0.0, 0.9)).assert_same(undisturbed)
    assert len(nodes_up(ps)) < NODES or wait_whole(ps, NODES)


def test_two_nodes_killed_with_time_to_copy_between_change_no_bit(ps: PSContext, tmp_path: pathlib.Path, undisturbed: Tables) -> None:
    wait_whole(ps, NODES)
    killed: list[Any] = []

    def kill_both() -> None:
        for node in nodes_up(ps)[:2]:
            killed.append(kill_node(ps, node))
            wait_whole(ps, NODES)

    made = trained(ps, tmp_path / "run", kill_both, at=0.1)
    assert len(killed) == 2
    made.assert_same(undisturbed)
