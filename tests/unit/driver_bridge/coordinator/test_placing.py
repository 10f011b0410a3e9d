"""How a placement reaches the nodes: in an order in which no bucket has two leaders."""

from __future__ import annotations

import pytest

from sparkps.driver_bridge.coordinator import placing as module
from sparkps.driver_bridge.coordinator.placing import Placing

UP = (0, 1, 2)


@pytest.fixture
def placing(monkeypatch: pytest.MonkeyPatch) -> Placing:
    """Node 0 leads bucket 0, node 1 bucket 1; all have confirmed that."""
    monkeypatch.setattr(module, "NUM_BUCKETS", 2)
    made = Placing()
    made.change(1, [[0, 1], [1, 2]])
    tell(made)
    for node in UP:
        made.confirm(node, 1)
    assert made.is_settled(UP)
    return made


def tell(placing: Placing) -> list[int]:
    """Tell whoever may be told; who was."""
    told = placing.next(UP)
    for node in told:
        placing.sent(node)
    placing.validate(UP)
    return told


def test_all_are_told_at_once_where_no_lead_moves(placing: Placing) -> None:
    placing.change(2, [[0, 2], [1, 0]])
    assert tell(placing) == [0, 1, 2]
    assert placing.awaited(UP) == [0, 1, 2]


def test_who_takes_a_lead_is_told_when_the_giver_has_confirmed(placing: Placing) -> None:
    placing.change(2, [[1, 0], [1, 2]])
    assert tell(placing) == [0, 2]
    placing.confirm(2, 2)
    assert tell(placing) == []
    placing.confirm(0, 2)
    assert tell(placing) == [1]
    assert not placing.is_settled(UP)
    placing.confirm(1, 2)
    assert placing.is_settled(UP)


def test_who_takes_a_lead_of_a_dead_node_is_told_at_once(placing: Placing) -> None:
    placing.change(2, [[1, 0], [1, 2]])
    tell(placing)
    placing.gone(0)
    assert placing.next((1, 2)) == [1]


def test_a_confirmation_of_an_older_placement_gives_up_nothing(placing: Placing) -> None:
    placing.change(2, [[1, 0], [1, 2]])
    tell(placing)
    placing.change(3, [[0, 1], [1, 2]])  # the lead stays where it is, after all
    assert tell(placing) == [0, 1, 2]
    placing.change(4, [[1, 0], [1, 2]])
    assert tell(placing) == [0, 2]
    placing.confirm(0, 2)
    assert tell(placing) == [], "what node 0 gave up then it has got back since"
    placing.confirm(0, 4)
    assert tell(placing) == [1]


def test_leads_that_nobody_has_given_up_can_be_left_where_they_are(placing: Placing) -> None:
    placing.change(2, [[1, 0], [1, 2]])
    tell(placing)
    assert placing.given_back() == [[0, 1], [1, 2]]
    assert placing.given_back(takers=[2]) == [[1, 0], [1, 2]]
    placing.confirm(0, 2)
    assert placing.given_back() == [[1, 0], [1, 2]]
