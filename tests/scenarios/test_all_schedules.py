"""Every schedule of small groups: all orders of deliveries, a worker lost between any two of its messages.

The searches assert, at every step: the staleness bound at each pull that is answered (by what the shards hold, not by what the
clock says), each push on each shard at most once, closes in order, lost incarnations fenced, the clock's invariants, no
deadlock; and at each end: each push on each shard, and in BSP the bits of a run without faults.
"""

from __future__ import annotations

import pytest

from sparkps.specs import UNBOUNDED
from tests.harness.search import search
from tests.harness.simulation import Scenario

BSP, SSP, ASP = 0, 1, UNBOUNDED
ONE_NODE = ((0, 1),)
TWO_NODES = ((0, 1), (2,))
BARE_NODES = ((0,), (1,))


def scenario(staleness: int, clocks: tuple[int, ...], nodes: tuple[tuple[int, ...], ...]) -> Scenario:
    """Even ranks tick their last clock, odd ones finish with it."""
    return Scenario(staleness, clocks, nodes, tuple(rank % 2 == 0 for rank in range(len(clocks))))


@pytest.mark.parametrize("staleness", [BSP, SSP, ASP])
@pytest.mark.parametrize(
    ("clocks", "nodes"),
    [((2, 2), TWO_NODES), ((3, 3), ONE_NODE), ((3, 1), ONE_NODE), ((2, 2, 1), ONE_NODE)],
    ids=["two nodes", "three clocks", "uneven", "three ranks"],
)
def test_without_faults_no_schedule_breaks_a_bound_or_stalls(
    staleness: int, clocks: tuple[int, ...], nodes: tuple[tuple[int, ...], ...]
) -> None:
    tally = search(scenario(staleness, clocks, nodes), crashes=0)
    assert tally.ends > 0


@pytest.mark.parametrize(
    ("clocks", "nodes", "crashes"),
    [((2, 2), BARE_NODES, 2), ((3, 2), TWO_NODES, 1), ((2, 1, 2), ONE_NODE, 1)],
    ids=["two crashes", "cut pushes", "three ranks"],
)
def test_bsp_with_lost_workers_is_bit_equal_to_a_run_without(
    clocks: tuple[int, ...], nodes: tuple[tuple[int, ...], ...], crashes: int
) -> None:
    tally = search(scenario(BSP, clocks, nodes), crashes)
    assert tally.ends > 0
    assert tally.fenced > 0


def test_bsp_of_three_ranks_on_two_nodes_survives_the_loss_of_one() -> None:
    tally = search(scenario(BSP, (2, 1, 1), BARE_NODES), crashes=1, mortal={1}, started=True)
    assert tally.ends > 0
    assert tally.fenced > 0


@pytest.mark.parametrize("staleness", [SSP, ASP])
@pytest.mark.parametrize(
    ("clocks", "nodes", "mortal"),
    [((2, 1), BARE_NODES, {0, 1}), ((2, 2), ONE_NODE, {0, 1}), ((1, 1, 1), ONE_NODE, {2})],
    ids=["two nodes", "cut pushes", "three ranks"],
)
def test_lost_workers_in_ssp_and_asp_count_exactly_once(
    staleness: int, clocks: tuple[int, ...], nodes: tuple[tuple[int, ...], ...], mortal: set[int]
) -> None:
    tally = search(scenario(staleness, clocks, nodes), crashes=1, mortal=mortal, started=True)
    assert tally.ends > 0
    assert tally.fenced > 0


def test_a_successor_lost_as_well_is_succeeded() -> None:
    tally = search(scenario(SSP, (2, 1), ONE_NODE), crashes=2, mortal={0})
    assert tally.ends > 0
