"""The moment of a checkpoint at a node: clocks are closed up to the cut, later ones wait, and nobody waits for ever."""

from __future__ import annotations

import pytest

from sparkps.errors import CheckpointError, SparkPSError
from sparkps.ps_nodes.checkpointing import cuts
from sparkps.specs import RankStart
from tests.unit.ps_nodes.lone_node import GROUP, Client, LoneNode


class Scene:
    """Two ranks of a BSP group, at clock 0."""

    def __init__(self) -> None:
        self.node = LoneNode()
        self.node.table()
        self.node.group(2, 0)
        self.ranks = [Client.of_rank(self.node, rank) for rank in range(2)]
        self.told: list[SparkPSError | None] = []

    def clock(self, rank: int, writes: bool = True) -> None:
        """A rank adds 1, if it writes, and ticks."""
        if writes:
            self.ranks[rank].ask(*self.ranks[rank].add([7]))
        self.ranks[rank].ask(self.ranks[rank].tick())

    def value(self) -> float:
        return self.node.values([7])[0]

    def cut_at(self, clock: int) -> None:
        self.node.service.state.groups[GROUP].cut_at(clock, self.told.append)
        self.node.pool.run()


@pytest.mark.parametrize("writes", [True, False])
def test_a_cut_is_reached_when_every_rank_has_ticked_and_later_clocks_wait(writes: bool) -> None:
    scene = Scene()
    cut = cuts.hold(scene.node.service.state)
    assert cut.clocks == {GROUP: -1}
    scene.clock(0, writes)
    scene.cut_at(0)
    assert scene.told == []
    scene.clock(1, writes)
    assert scene.told == [None]
    assert scene.value() == (2.0 if writes else 0.0)
    for rank in (0, 1):
        scene.clock(rank)
    assert scene.value() == (2.0 if writes else 0.0), "clock 1 waits"
    starts = scene.node.service.state.groups[GROUP].starts_after(0)
    assert starts == [RankStart(0), RankStart(0)]
    cut.release()
    scene.node.pool.run()
    assert scene.value() == (4.0 if writes else 2.0)
    for rank in (0, 1):
        scene.clock(rank)
    assert scene.value() == (6.0 if writes else 4.0), "all goes on as before"


def test_a_clock_that_is_due_is_closed_before_the_cut_is_known() -> None:
    scene = Scene()
    scene.clock(0)
    cuts.hold(scene.node.service.state)
    scene.clock(1)
    assert scene.value() == 0.0, "it was not due when clocks were held"
    scene.cut_at(0)
    assert scene.value() == 2.0
    assert scene.told == [None]


def test_nobody_waits_for_a_coordinator_that_says_nothing() -> None:
    scene = Scene()
    cut = cuts.hold(scene.node.service.state)
    for rank in (0, 1):
        scene.clock(rank)
    assert scene.value() == 0.0
    scene.node.time += cuts.HOLD_LIMIT + 0.1
    scene.node.service.look_around()
    scene.node.pool.run()
    assert scene.value() == 2.0
    with pytest.raises(CheckpointError) as refused:
        cut.groups[GROUP].cut_at(0, scene.told.append)
    assert refused.value.attributes["again"]


def test_who_waits_for_a_cut_is_told_when_it_is_given_up_or_the_group_fails() -> None:
    scene = Scene()
    cut = cuts.hold(scene.node.service.state)
    scene.cut_at(0)
    cut.release()
    assert isinstance(scene.told[0], CheckpointError)
    cuts.hold(scene.node.service.state)
    scene.cut_at(0)
    scene.node.service.state.groups[GROUP].end(SparkPSError("over"))
    assert str(scene.told[1]) == "over"


def test_a_node_that_leads_nothing_is_not_waited_for() -> None:
    """Ticks go to nodes that lead buckets: none would ever reach it, and ranks may wait for the checkpoint."""
    node = LoneNode()
    node.service.state.bucket_bits = 0
    node.group(2, 0)
    told: list[BaseException | None] = []
    cut = cuts.hold(node.service.state)
    cut.reach({GROUP: 5}, told.append)
    assert told == [None]
    assert cut.holds
