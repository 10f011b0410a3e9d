"""Leads that move: who may have a copy meanwhile, who is waited for, and what is planned again."""

from __future__ import annotations

import pytest

from sparkps.driver_bridge.coordinator import placing as placings
from sparkps.driver_bridge.coordinator.moves import Moves, NewPlacement, View
from sparkps.driver_bridge.coordinator.placing import Placing
from sparkps.driver_bridge.coordinator.plan import RowChange
from sparkps.wire.messages import control as c
from tests.unit.driver_bridge.coordinator.members import Members


@pytest.fixture
def placing(monkeypatch: pytest.MonkeyPatch) -> Placing:
    """Of two buckets."""
    monkeypatch.setattr(placings, "NUM_BUCKETS", 2)
    return Placing()


def told(placing: Placing, up: tuple[int, ...]) -> bool:
    """Tell nodes whatever they may be told, and have them confirm; whether all have the newest placement."""
    for _ in range(10):
        for node in (nodes := placing.next(up)):
            placing.sent(node)
        placing.validate(up)
        for node in nodes:
            placing.confirm(node, placing.epoch)
    return placing.is_settled(up)


def test_two_nodes_that_exchange_leads_do_not_wait_for_each_other(placing: Placing) -> None:
    up, placement = (0, 1), [[0, 1], [1, 0]]
    placing.change(1, placement)
    assert told(placing, up)
    moves = Moves()
    moves.changes = {0: RowChange(0, (), (1, 0), ()), 1: RowChange(1, (), (0, 1), ())}
    for _ in range(10):
        for effect in moves.go_on(View(placement, {0: "a", 1: "b"}, up, 2, placing.is_settled(up)), 0.0):
            assert isinstance(effect, NewPlacement)
            placement = effect.placement
            placing.change(placing.epoch + 1, placement)
            assert told(placing, up), "a wait without end"
    assert placement == [[1, 0], [0, 1]]


def test_who_takes_a_lead_has_the_former_primary_as_its_only_copy() -> None:
    """It ships to that one alone: another copy would not be known to be current."""
    world = Members(2, 2)
    world.grow()
    world.settle()
    seen = {each.epoch: each.placement for member in world.members for each in member.heard if isinstance(each, c.SetPlacement)}
    moved = 0
    for epoch in seen.keys() & {each + 1 for each in seen}:
        for had, row in zip(seen[epoch - 1], seen[epoch], strict=True):
            if had[0] != row[0]:
                moved += 1
                assert row == [row[0], had[0]], (epoch, had, row)
    assert moved


def test_a_node_that_refuses_leads_nothing_that_it_was_to_take(placing: Placing) -> None:
    placing.change(1, [[0, 1], [0, 1]])
    assert told(placing, (0, 1))
    placing.gone(0)
    placing.change(2, [[1], [1]])
    placing.sent(1)
    assert placing.refused(1, [0]) == [0]
    assert placing.leaders == [None, None]


def test_copies_that_were_interrupted_are_planned_again() -> None:
    moves = Moves()
    moves.changes = {0: RowChange(0, (2,), (0, 2), ())}
    moves.queued = [(0, 2)]
    moves.interrupt()
    assert not moves.is_done
