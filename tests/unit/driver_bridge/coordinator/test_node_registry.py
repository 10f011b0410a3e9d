"""Nodes: joining, heartbeats, death, and the placement that all of it leads to."""

from __future__ import annotations

import random

import pytest

from sparkps.driver_bridge.coordinator.node_registry import NodeRegistry, described
from sparkps.errors import TierError


def joined(count: int, deadline: float = 5.0) -> NodeRegistry:
    nodes = NodeRegistry(count, deadline)
    for number in range(count):
        nodes.join(f"ipc://n{number}", "host", 100 + number, now=0.0)
    return nodes


def test_the_placement_comes_with_the_last_node() -> None:
    nodes = NodeRegistry(2, 5.0)
    assert nodes.join("a", "host", 1, 0.0).node == 0
    assert nodes.epoch == 0
    assert nodes.join("b", "host", 2, 0.0).node == 1
    assert nodes.epoch == 1
    assert nodes.buckets() == {0: 128, 1: 128}
    nodes.validate()


def test_a_node_that_joins_later_is_a_member_without_buckets() -> None:
    nodes = joined(2)
    assert nodes.join("c", "host", 3, 0.0).node == 2
    assert (nodes.epoch, nodes.buckets()[2]) == (1, 0)
    assert nodes.up() == [0, 1, 2]
    nodes.validate()


def test_a_node_that_has_just_joined_may_be_silent_for_longer_than_the_deadline_until_its_first_heartbeat() -> None:
    nodes = joined(2, deadline=0.5)
    late = nodes.join("c", "host", 3, 0.0).node
    for node in (0, 1):
        nodes.heartbeat(node, {}, 0.9)
    assert nodes.silent(1.0) == {}
    assert set(nodes.silent(10.5)) >= {late}
    for node in (0, 1, late):
        nodes.heartbeat(node, {}, 10.5)
    assert set(nodes.silent(11.1)) == {0, 1, late}


def test_an_endpoint_belongs_to_one_node() -> None:
    nodes = NodeRegistry(2, 5.0)
    nodes.join("a", "host", 1, 0.0)
    with pytest.raises(TierError, match="endpoint"):
        nodes.join("a", "host", 2, 0.0)


def test_a_node_that_dies_before_the_tier_is_complete_is_replaced() -> None:
    nodes = NodeRegistry(2, 5.0)
    nodes.join("a", "host", 1, 0.0)
    nodes.die(nodes.at("a").node, "exit 1")
    nodes.join("a", "host", 2, 0.0)
    nodes.join("b", "host", 3, 0.0)
    assert nodes.epoch == 1
    assert nodes.up() == [1, 2]
    assert nodes.lost() == []
    nodes.validate()


def test_silence_is_death_and_death_is_final() -> None:
    nodes = joined(2)
    assert nodes.heartbeat(0, {"rows": 3}, now=4.0)
    assert nodes.silent(5.0) == {}
    assert nodes.silent(5.5) == {1: "it was silent for 5.5 s"}
    dead = nodes.die(1, "it was silent for 5.5 s")
    assert (dead.node, dead.state) == (1, "dead")
    assert nodes.silent(5.6) == {}, "told once"
    assert not nodes.heartbeat(1, {}, now=6.0)
    assert not nodes.heartbeat(7, {}, now=6.0)
    assert [info.node for info in nodes.lost()] == [1]
    assert "node 1 (ipc://n1, process 101 on host)" in described(dead)


def test_an_endpoint_names_a_node_as_long_as_that_is_up() -> None:
    nodes = joined(2)
    assert nodes.at("ipc://n1").node == 1
    nodes.die(1, "killed")
    assert nodes.at("ipc://n1") is None
    assert nodes.at("ipc://other") is None


def test_what_is_lost_is_what_only_dead_nodes_have() -> None:
    nodes = joined(2)
    nodes.replication = 2
    nodes.place([[0, 1] if bucket < 100 else [1] for bucket in range(256)])
    assert (nodes.epoch, nodes.under_replicated()) == (2, 156)
    nodes.die(1, "killed")
    assert (len(nodes.lost_buckets()), nodes.under_replicated()) == (156, 256)
    assert [info.node for info in nodes.lost()] == [1]
    assert (nodes.buckets(), nodes.copies()) == ({0: 100, 1: 156}, {0: 100, 1: 256})


def test_a_node_that_was_told_to_stop_is_not_dead() -> None:
    nodes = joined(2)
    nodes.leave(0)
    assert [info.state for info in nodes.infos()] == ["left", "up"]
    assert nodes.at("ipc://n0") is None


@pytest.mark.parametrize("seed", range(20))
def test_random_schedules(seed: int) -> None:
    rng = random.Random(seed)
    nodes = NodeRegistry(rng.randint(1, 6), 3.0)
    now, dead = 0.0, set()
    for step in range(300):
        now += rng.random()
        match rng.randrange(4):
            case 0 if nodes.epoch == 0:
                nodes.join(f"e{step}", "host", step, now)
            case 1:
                for node in nodes.up():
                    if rng.random() < 0.8:
                        assert nodes.heartbeat(node, {}, now)
            case 2:
                dead |= {nodes.die(node, why).node for node, why in nodes.silent(now).items()}
            case 3 if nodes.nodes and rng.random() < 0.1:
                info = nodes.at(rng.choice(nodes.infos()).endpoint)
                dead |= {nodes.die(info.node, "killed").node} if info else set()
        nodes.validate()
        assert dead == {info.node for info in nodes.infos() if info.state == "dead"}
