"""Where worker groups were, by what all nodes say."""

from __future__ import annotations

import pytest

from sparkps.checkpoints.manifest import RankCut, Segment
from sparkps.checkpoints.parts import GroupPart, NodePart, cuts, starts
from sparkps.checkpoints.plan import NodeFiles
from sparkps.errors import CheckpointError
from sparkps.specs import UNBOUNDED, GroupSpec, RankStart


def part(node: int, *groups: GroupPart, leads: bool = True) -> NodePart:
    """What a node tells that leads a bucket, or none."""
    segments = (Segment("logical", node),) if leads else ()
    return NodePart(NodeFiles(node, (), segments, 0), list(groups))


def spec(staleness: int, ranks: int = 1) -> GroupSpec:
    return GroupSpec(1, "g", ranks, ranks, staleness)


def test_a_rank_goes_on_where_it_is_on_all_nodes() -> None:
    told = [part(0, GroupPart(1, -1, [RankStart(7, state=b"7")])), part(1, GroupPart(1, -1, [RankStart(5, state=b"5")]))]
    (cut,) = cuts([spec(UNBOUNDED)], told)
    assert cut.ranks == (RankCut(5, state=b"5"),)
    assert cut.clock == 5
    assert starts(cut) == (RankStart(5, state=b"5"),)


def test_a_rank_that_has_finished_on_some_nodes_has_not() -> None:
    told = [part(0, GroupPart(1, -1, [RankStart(3, finished=True)])), part(1, GroupPart(1, -1, [RankStart(3)]))]
    (cut,) = cuts([spec(2)], told)
    assert cut.ranks == (RankCut(3, finished=False),)


@pytest.mark.parametrize("staleness", [0, 2])
def test_a_group_that_some_node_does_not_tell_of_is_left_out(staleness: int) -> None:
    mine = GroupPart(1, 3, [RankStart(3)])
    assert cuts([spec(staleness)], [part(0, mine), part(1)]) == []
    assert [cut.clock for cut in cuts([spec(staleness)], [part(0, mine), part(1, leads=False)])] == [3]
    assert cuts([spec(staleness)], [part(0), part(1)]) == []


def test_who_knows_nothing_of_a_rank_is_asked_again() -> None:
    unknown, known = GroupPart(1, 3, [None]), GroupPart(1, 3, [RankStart(3)])
    assert [cut.ranks for cut in cuts([spec(0)], [part(0, unknown), part(1, known)])] == [(RankCut(3),)]
    for staleness, told in ((0, [unknown, unknown]), (2, [unknown, known])):
        with pytest.raises(CheckpointError) as refused:
            cuts([spec(staleness)], [part(node, each) for node, each in enumerate(told)])
        assert refused.value.attributes["again"]
