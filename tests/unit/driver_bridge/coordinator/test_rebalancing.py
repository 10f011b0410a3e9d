"""Nodes that report what they hold: a skew leads to moves, and to no others; the journal knows of it."""

from __future__ import annotations

from collections import Counter

import pytest

from sparkps.driver_bridge.coordinator import events as e
from sparkps.driver_bridge.coordinator.rebalance import LOOK_EVERY, LOOKS, MENDED
from sparkps.driver_bridge.coordinator.tier import Tier
from sparkps.wire.messages import control as c
from tests.unit.driver_bridge.coordinator.members import Members

MB = 1 << 20


def wait(world: Members, seconds: float) -> None:
    """Time passes, and everything that is sent arrives."""
    until = world.now + seconds
    while world.now < until:
        world.tick()
        while world.step():
            pass


def held(world: Members) -> Counter[int]:
    """Bytes of the buckets that each node leads."""
    found = Counter(dict.fromkeys(world.tier.nodes.up(), 0))
    for bucket, row in enumerate(world.tier.nodes.placement):
        found[row[0]] += world.bytes.get(bucket, 0)
    return found


def ratio(world: Members) -> float:
    return max(held(world).values()) * len(held(world)) / sum(held(world).values())


def skewed(num_nodes: int, replication: int = 1, **settings: object) -> Members:
    """All rows are in eight buckets of node 0."""
    world = Members(num_nodes, replication, **settings)
    world.bytes = dict.fromkeys(range(8), 10 * MB)
    return world


def weighed(world: Members) -> list[e.Weighed]:
    return [event for event in map(e.from_bytes, world.journal) if isinstance(event, e.Weighed)]


@pytest.mark.parametrize("replication", [1, 2])
@pytest.mark.parametrize("num_nodes", [2, 3])
def test_a_skew_that_lasts_leads_to_few_moves(num_nodes: int, replication: int) -> None:
    world = skewed(num_nodes, replication)
    before = [list(row) for row in world.tier.nodes.placement]
    epoch = world.tier.nodes.epoch
    wait(world, LOOK_EVERY * (LOOKS + 3))
    world.settle()
    assert ratio(world) < MENDED
    after = world.tier.nodes.placement
    assert sum(row[0] != to[0] for row, to in zip(before, after, strict=True)) <= 8 - 8 // num_nodes
    assert world.tier.nodes.epoch - epoch <= 6
    world.check_end()
    report = world.tier.report()["rebalance"]
    assert (report["setting"], report["decisions"], report["stuck"]) == ("auto", 1, "")
    epoch = world.tier.nodes.epoch
    wait(world, 40.0)
    assert world.tier.nodes.epoch == epoch, "it is done"
    assert len(weighed(world)) == 1


@pytest.mark.parametrize("nbytes", [dict.fromkeys(range(256), MB), dict.fromkeys(range(8), 100)])
def test_an_even_or_a_small_load_moves_nothing(nbytes: dict[int, int]) -> None:
    world = Members(2, 1)
    world.bytes = nbytes
    wait(world, 30.0)
    assert world.tier.nodes.epoch == 1
    assert not weighed(world)


def test_a_load_that_swings_moves_nothing() -> None:
    world = Members(2, 1)
    for turn in range(20):
        world.bytes = dict.fromkeys(range(8) if turn % 2 else range(128, 136), 10 * MB)
        wait(world, LOOK_EVERY)
    assert world.tier.nodes.epoch == 1


def test_off_is_off() -> None:
    world = skewed(2, rebalance="off")
    wait(world, 30.0)
    assert world.tier.nodes.epoch == 1
    assert world.tier.report()["rebalance"]["setting"] == "off"


def test_one_hot_bucket_moves_nothing_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    world = Members(3, 1)
    world.bytes = {0: 100 * MB}
    wait(world, 30.0)
    assert world.tier.nodes.epoch == 1
    assert "node 0 has 3.0 times the mean of bytes" in world.tier.report()["rebalance"]["stuck"]
    assert [record.message for record in caplog.records if "skewed" in record.message] == [
        f"the load is skewed, and nothing is moved: {world.tier.report()['rebalance']['stuck']}"
    ]


@pytest.mark.parametrize("replication", [1, 2])
def test_nodes_that_come_and_go_do_not_undo_it(replication: int) -> None:
    world = skewed(3, replication)
    wait(world, LOOK_EVERY * (LOOKS + 3))
    world.settle()
    world.grow()
    world.settle()
    assert max(held(world).values()) == 20 * MB, "two of eight for each of four"
    world.ask(b"driver", c.ScaleTier(0, 2, 60.0))
    world.settle()
    assert ratio(world) < MENDED
    world.check_end()
    assert len(weighed(world)) == 1


def test_a_node_that_dies_meanwhile() -> None:
    world = skewed(3, 2)
    while not weighed(world):
        world.tick()
    for _ in range(6):
        world.step()
    world.kill(world.members[0])
    world.settle()
    world.check_end()
    assert ratio(world) < MENDED


@pytest.mark.parametrize("steps", range(0, 40, 8))
def test_a_coordinator_that_is_killed_meanwhile_goes_on(steps: int) -> None:
    world = skewed(3, 2, seed=steps)
    while not weighed(world):
        world.tick()
    weights = world.tier.weights
    for _ in range(steps):
        world.write()
        world.step()
    world.restart()
    assert world.tier.weights == weights
    assert world.tier.rebalance.resume_at > world.now, "the pause is known, too"
    world.settle()
    world.check_end()
    wait(world, 15.0)
    assert len(weighed(world)) == 1


def test_looks_are_not_journaled() -> None:
    world = skewed(2)
    wait(world, LOOK_EVERY * (LOOKS - 1))
    again = Tier("t1", world.tier.settings)
    again.replay(world.journal)
    assert again.rebalance.skews == {}
    assert again.weights == []
