"""Nodes: joining, heartbeats, death, and the placement that all of it leads to."""

from __future__ import annotations

import random

import pytest

from sparkps.driver_bridge.coordinator.membership import Membership, described
from sparkps.errors import TierError


def joined(count: int, deadline: float = 5.0) -> Membership:
    members = Membership(count, deadline)
    for number in range(count):
        members.join(f"ipc://n{number}", "host", 100 + number, now=0.0)
    return members


def test_the_placement_comes_with_the_last_node() -> None:
    members = Membership(2, 5.0)
    assert members.join("a", "host", 1, 0.0).node == 0
    assert members.epoch == 0
    assert members.join("b", "host", 2, 0.0).node == 1
    assert members.epoch == 1
    assert members.buckets() == {0: 128, 1: 128}
    members.validate()


def test_a_node_too_many_is_refused() -> None:
    with pytest.raises(TierError, match="has all 2"):
        joined(2).join("c", "host", 3, 0.0)


def test_an_endpoint_belongs_to_one_node() -> None:
    members = Membership(2, 5.0)
    members.join("a", "host", 1, 0.0)
    with pytest.raises(TierError, match="endpoint"):
        members.join("a", "host", 2, 0.0)


def test_a_node_that_dies_before_the_tier_is_complete_is_replaced() -> None:
    members = Membership(2, 5.0)
    members.join("a", "host", 1, 0.0)
    assert members.gone("a", "exit 1") is not None
    members.join("a", "host", 2, 0.0)
    members.join("b", "host", 3, 0.0)
    assert members.epoch == 1
    assert members.up() == [1, 2]
    assert members.lost() == []
    members.validate()


def test_silence_is_death_and_death_is_final() -> None:
    members = joined(2)
    assert members.heartbeat(0, {"rows": 3}, now=4.0)
    assert members.expire(5.0) == []
    (dead,) = members.expire(5.5)
    assert (dead.node, dead.state) == (1, "dead")
    assert "silent for 5.5 s" in dead.reason
    assert members.expire(5.6) == [], "told once"
    assert not members.heartbeat(1, {}, now=6.0)
    assert not members.heartbeat(7, {}, now=6.0)
    assert [info.node for info in members.lost()] == [1]
    assert "node 1 (ipc://n1, process 101 on host)" in described(dead)


def test_an_exit_is_news_once() -> None:
    members = joined(2)
    assert members.gone("ipc://n1", "killed").node == 1
    assert members.gone("ipc://n1", "killed") is None
    assert members.gone("ipc://other", "killed") is None


def test_a_node_that_was_told_to_stop_is_not_dead() -> None:
    members = joined(2)
    members.leave(0)
    assert [info.state for info in members.infos()] == ["left", "up"]
    assert members.gone("ipc://n0", "exit 0") is None


@pytest.mark.parametrize("seed", range(20))
def test_random_schedules(seed: int) -> None:
    rng = random.Random(seed)
    members = Membership(rng.randint(1, 6), 3.0)
    now, dead = 0.0, set()
    for step in range(300):
        now += rng.random()
        match rng.randrange(4):
            case 0 if members.epoch == 0:
                members.join(f"e{step}", "host", step, now)
            case 1:
                for node in members.up():
                    if rng.random() < 0.8:
                        assert members.heartbeat(node, {}, now)
            case 2:
                dead |= {info.node for info in members.expire(now)}
            case 3 if members.nodes and rng.random() < 0.1:
                info = members.gone(rng.choice(members.infos()).endpoint, "killed")
                dead |= {info.node} if info else set()
        members.validate()
        assert dead == {info.node for info in members.infos() if info.state == "dead"}
