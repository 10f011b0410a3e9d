"""Groups at the coordinator, without its socket: from admission to their end, and groups that nobody is left of."""

from __future__ import annotations

import pytest

from sparkps.errors import SparkPSError
from sparkps.wire.messages import control as c
from tests.unit.driver_bridge.coordinator.world import DRIVER, WORKER, World, admit, kinds


def test_a_group_from_admission_to_its_end(world: World) -> None:
    group = admit(world, "a").spec.group
    assert kinds(world.commands[b"n1"])[-1] is c.OpenGroup
    queued = admit(world, "b")
    assert (queued.position, queued.running) == (0, ["run-a"])
    assert world.ask(WORKER, c.Lease(0, group, 0, 7)) == c.Leased(1, 1, True)
    assert isinstance(world.ask(b"other", c.Lease(0, group, 0, 8)), c.Wait)
    assert world.ask(WORKER, c.Renew(0, group, 0, 7, {"epoch": 2})).all_started
    world.ask(WORKER, c.FinishRank(0, group, 0, 7, b"out"))
    report = world.ask(DRIVER, c.GroupState(0, group))
    assert (report.state, report.ranks[0].state, report.ranks[0].counters) == ("finished", "finished", {"epoch": 2})
    assert world.ask(b"other", c.Lease(0, group, 0, 8)).result == b"out"
    assert isinstance(world.ask(DRIVER, c.EndGroup(0, group)), c.Accepted)
    assert kinds(world.commands[b"n0"])[-1] is c.CloseGroup
    assert admit(world, "b").spec.group == group + 1


def test_a_failed_group_is_told_to_every_node_once(world: World) -> None:
    group = admit(world, "a").spec.group
    boom = c.Cause("WorkerFailed", "boom", {"rank": 0})
    world.ask(WORKER, c.FailRank(0, group, 0, 7, boom))
    world.ask(DRIVER, c.FailRank(0, group, -1, -1, c.Cause("GroupError", "later")))
    for node in (b"n0", b"n1"):
        assert kinds(world.commands[node]).count(c.FailGroup) == 1
        assert world.commands[node][-1].cause == boom
    assert world.ask(DRIVER, c.GroupState(0, group)).cause == boom


def test_who_waits_hears_of_the_groups_of_its_own_application_alone(world: World) -> None:
    def asks(application: str, name: str) -> object:
        driver = f"driver of {name}".encode()
        return world.ask(driver, c.AdmitGroup(0, name, 1, 1, 0, 1, f"tag of {name}", application=application))

    assert isinstance(asks("a", "ann/secret-plan"), c.Admitted)
    assert isinstance(asks("b", "bob/fit"), c.Admitted), "each application has slots of its own"
    queued = asks("b", "bob/another")
    assert isinstance(queued, c.Queued)
    assert queued.running == ["bob/fit"]


# ---- groups that nobody is left of -------------------------------------------------------------------------------------


def test_a_group_whose_driver_and_ranks_are_gone_gives_its_slots_back(world: World) -> None:
    group = admit(world, "a").spec.group
    world.ask(WORKER, c.Lease(0, group, 0, 7))
    world.later(59.0)
    assert isinstance(admit(world, "b"), c.Queued)
    world.later(2.0)
    assert kinds(world.commands[b"n0"])[-2:] == [c.FailGroup, c.CloseGroup]
    assert "Neither its driver nor a rank was for 60 s" in world.commands[b"n0"][-2].cause.message
    assert admit(world, "b").spec.group == group + 1
    with pytest.raises(SparkPSError, match="has: this attempt must stop"):
        world.ask(WORKER, c.Renew(0, group, 0, 7))


def test_a_group_that_its_driver_asks_about_lives_on(world: World) -> None:
    group = admit(world, "a").spec.group
    for _ in range(5):
        world.later(30.0)
        assert world.ask(DRIVER, c.GroupState(0, group)).cause is None
    assert not {c.FailGroup, c.CloseGroup} & set(kinds(world.commands[b"n0"]))
    assert isinstance(world.ask(WORKER, c.Lease(0, group, 0, 7)), c.Leased), "its ranks may still come"


@pytest.mark.parametrize("seen", [True, False])
def test_a_driver_that_never_heard_of_its_admission_ends_its_group_by_its_tag(world: World, seen: bool) -> None:
    if seen:
        admit(world, "a")
    assert isinstance(world.ask(DRIVER, c.EndGroup(0, 0, "a")), c.Accepted)
    assert world.tier.groups.running == {}
    assert kinds(world.commands[b"n0"])[-1] is (c.CloseGroup if seen else c.SetPlacement)
    with pytest.raises(SparkPSError, match="must not have ended"):
        world.ask(b"late", c.AdmitGroup(0, "run-a", 1, 1, 0, 1, "a"))
    assert isinstance(world.ask(DRIVER, c.EndGroup(0, 0, "a")), c.Accepted)


def test_a_group_that_a_node_refused_is_closed_on_all_nodes(world):
    world.refuse = {c.OpenGroup: c.Cause("GroupError", "no room")}
    with pytest.raises(SparkPSError, match="no room"):
        world.ask(DRIVER, c.AdmitGroup(0, "g", 1, 1, 0, 2, "tag"))
    for node in (b"n0", b"n1"):
        assert c.CloseGroup in [type(command) for command in world.commands[node]]
    assert world.ask(DRIVER, c.TierStatus(0, fresh=False)).report["groups"] == []
    world.refuse = {}
    assert isinstance(world.ask(DRIVER, c.AdmitGroup(0, "next", 1, 1, 0, 1, "tag 2")), c.Admitted), "its slots are free"


@pytest.mark.parametrize("how", ["refuses", "is silent"])
def test_a_group_ends_well_whatever_a_node_says(world, how):
    admitted = world.ask(DRIVER, c.AdmitGroup(0, "g", 1, 1, 0, 2, "tag"))
    if how == "refuses":
        world.refuse = {c.CloseGroup: c.Cause("GroupError", "what group?")}
    else:
        world.deaf = {b"n1"}
    world.ask(DRIVER, c.EndGroup(0, admitted.spec.group))
    world.later(30.0)
    assert isinstance(world.reply(DRIVER), c.Accepted)
