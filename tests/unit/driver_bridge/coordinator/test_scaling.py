"""How many nodes there are comes to how many there shall be, whatever joins or dies before, while and after it is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from sparkps.driver_bridge.coordinator import placing, plan
from sparkps.driver_bridge.coordinator.states import TierState
from sparkps.wire import placement
from sparkps.wire.messages import control as c
from tests.unit.driver_bridge.coordinator.members import Members

DRIVER = b"driver"


@pytest.fixture(autouse=True)
def few_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """12 buckets, so that many schedules can be tried."""
    for module in (placing, plan, placement):
        monkeypatch.setattr(module, "NUM_BUCKETS", 12)


def begun(world: Members, message: c.ScaleTier | c.DrainNode) -> int:
    """Ask for a change of the number of nodes; the number of the request."""
    world.ask(DRIVER, message)
    return world._seq


def answer(world: Members, request: int) -> c.ControlMessage | None:
    return world.replies.get((DRIVER, request))


def deliver_all(world: Members) -> None:
    """What is on its way arrives; no time passes."""
    while world.step():
        pass


def settle(world: Members) -> None:
    """Until there are as many nodes as there shall be, and nothing is under way."""
    for _ in range(40):
        world.settle()
        if len(world.tier.nodes.up()) == world.tier.wanted_nodes and not world.tier.going():
            world.check_end()
            return
        world.tick()
    raise AssertionError(f"{world.tier.wanted_nodes} nodes shall be: {world.tier.report()}")


def test_a_replacement_that_joins_after_the_tier_was_made_smaller_is_told_to_stop() -> None:
    world = Members(3, 2)
    world.kill(world.members[0])
    world.settle()
    request = begun(world, c.ScaleTier(0, 2, 60.0))
    assert answer(world, request) == c.Accepted(request), "two are up, and two shall be"
    late = world.join()
    deliver_all(world)
    assert world.tier.nodes.up() == [1, 2]
    assert any(isinstance(message, c.StopNode) for message in late.heard)
    assert not late.versions
    world.check_end()


@pytest.mark.parametrize("steps", range(0, 60, 3))
def test_a_replacement_that_joins_while_the_tier_is_made_smaller_keeps_nobody_waiting(steps: int) -> None:
    world = Members(3, 2)
    world.kill(world.members[0])
    request = begun(world, c.ScaleTier(0, 2, 60.0))
    for _ in range(steps):
        world.step()
    world.join()
    deliver_all(world)
    assert answer(world, request) == c.Accepted(request)
    assert world.tier.nodes.up() == [1, 2]
    world.check_end()


def test_a_node_that_was_to_go_stays_when_another_one_dies() -> None:
    world = Members(4, 2)
    request = begun(world, c.ScaleTier(0, 3, 60.0))
    assert world.tier.going() == [3]
    world.kill(world.members[1])
    assert world.tier.going() == []
    deliver_all(world)
    assert answer(world, request) == c.Accepted(request)
    assert world.tier.nodes.up() == [0, 2, 3]
    world.check_end()


def test_a_drained_node_keeps_its_copies_until_there_are_enough_others() -> None:
    world = Members(3, 2)
    request = begun(world, c.DrainNode(0, 0, 60.0))
    world.kill(world.members[1])
    deliver_all(world)
    assert answer(world, request) is None
    assert world.tier.nodes.up() == [0, 2]
    assert world.tier.report()["draining"] == [0], "whoever starts nodes counts without it"
    assert world.tier.nodes.under_replicated() == 0
    world.join()
    world.settle()
    assert answer(world, request) == c.Accepted(request)
    assert world.tier.nodes.up() == [2, 3]
    world.check_end()


def test_a_drained_node_that_dies_has_gone() -> None:
    world = Members(3, 2)
    request = begun(world, c.DrainNode(0, 0, 60.0))
    world.kill(world.members[0])
    deliver_all(world)
    assert answer(world, request) == c.Accepted(request)
    assert world.tier.nodes.up() == [1, 2]
    world.check_end()


def test_a_tier_that_shall_be_larger_again_keeps_what_was_to_go() -> None:
    world = Members(4, 2)
    begun(world, c.ScaleTier(0, 2, 1.0))
    for _ in range(5):
        world.step()
    for _ in range(5):
        world.tick()  # the request is over, what was begun is not
    assert world.tier.scaling is None
    assert world.tier.going() == [2, 3]
    request = begun(world, c.ScaleTier(0, 4, 60.0))
    assert world.tier.going() == []
    deliver_all(world)
    assert answer(world, request) == c.Accepted(request)
    assert world.tier.nodes.up() == [0, 1, 2, 3]
    world.check_end()


# ---- in any order ------------------------------------------------------------------------------------------------------

EVENTS: dict[str, Callable[[Members], object]] = {
    "smaller": lambda world: begun(world, c.ScaleTier(0, 2, 600.0)),
    "larger": lambda world: begun(world, c.ScaleTier(0, 4, 600.0)),
    "drain": lambda world: begun(world, c.DrainNode(0, world.tier.nodes.up()[-1], 600.0)),
    "death": lambda world: world.kill(next(m for m in world.members if m.is_alive and m.node in world.tier.nodes.up())),
    "join": lambda world: world.join(),
    "coordinator": lambda world: world.restart(),
}


@pytest.mark.parametrize("order", list(itertools.permutations(EVENTS, 3)), ids="-".join)
@pytest.mark.parametrize("pause", [0, 3, 40])
def test_events_in_any_order_come_to_the_wanted_number(order: tuple[str, ...], pause: int) -> None:
    """Every request is answered, the number of nodes is as asked last, and one death loses nothing."""
    world = Members(3, 2, pause)
    world.restarts = True
    for event in order:
        EVENTS[event](world)
        for _ in range(pause):
            world.write()
            world.step(anyhow=True)
    settle(world)
    assert world.tier.state is TierState.READY
    assert world.tier.scaling is None


@pytest.mark.parametrize("seed", range(40))
def test_random_orders(seed: int) -> None:
    """Many requests, deaths and joins, with messages of all nodes in any order."""
    world = Members(3, 2, seed)
    world.restarts = True
    for _ in range(300):
        world.write()
        event = world.rng.choice([*EVENTS, *["step"] * 60, "tick", "tick"])
        if event == "death" and (world.tier.nodes.under_replicated() or not world.tier.moves.is_done):
            continue
        if event == "join" and len(world.members) > 30:
            continue
        match event:
            case "step":
                world.step(anyhow=True)
            case "tick":
                world.tick()
            case _:
                EVENTS[event](world)
    settle(world)
    assert world.tier.state is TierState.READY
