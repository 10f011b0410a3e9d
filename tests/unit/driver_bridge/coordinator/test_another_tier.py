"""Who means a tier that was at this endpoint before gets nothing of the one that is there now."""

from __future__ import annotations

import pytest

from sparkps.errors import TierError
from sparkps.wire.messages import control as c
from tests.unit.driver_bridge.coordinator.world import W, admit, ready


def test_a_client_of_an_earlier_tier_changes_nothing() -> None:
    world = ready()
    group = admit(world, "g").spec.group
    before = c.routing_id("the tier before")
    for message in (c.CreateTable(0, W), c.FindTable(0, "w"), c.Attach(0), c.Lease(0, group, 0, 7), c.EndGroup(0, group), c.StopTier(0)):
        with pytest.raises(TierError, match="must be of the tier that runs, t1"):
            world.ask(before, message)
    assert not world.tier.catalog.tables
    assert world.tier.groups.running[group].ranks[0].report(0, world.now).state == "vacant"
    assert world.ask(before, c.TierStatus(0, fresh=False)).report["tier_id"] == "t1", "so it learns that it means another one"


def test_clients_of_the_tier_and_those_of_any_tier_are_served() -> None:
    world = ready()
    world.ask(c.routing_id("t1"), c.CreateTable(0, W))
    assert world.ask(c.routing_id(), c.FindTable(0, "w")).spec.name == "w"
    assert not any(c.is_for_another(c.routing_id(tier), "t1") for tier in ("", "t1"))
    assert all(len(c.routing_id(tier)) == c.ROUTING_ID_BYTES for tier in ("", "t1"))
