"""Checkpoints at the coordinator: one cut for all nodes, one placement, given up cleanly where that changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sparkps.driver_bridge.coordinator.handlers import checkpoints
from sparkps.errors import CheckpointError, SparkPSError
from sparkps.wire.messages import control as c
from tests.unit.driver_bridge.coordinator.checkpoint_requests import DRIVER, OTHER, answer, heard, restore, take
from tests.unit.driver_bridge.coordinator.members import Members


def test_all_nodes_write_at_the_highest_clock_of_any() -> None:
    world = Members(3, 1)
    number = take(world)
    world.settle()
    assert sorted(answer(world, number).parts) == [b"0", b"1", b"2"]
    assert [message.clocks for message in heard(world, c.WriteCheckpoint)] == [{"1": 2}] * 3


def test_only_one_at_a_time() -> None:
    world = Members(2, 1)
    first, second = take(world), take(world, OTHER)
    with pytest.raises(CheckpointError, match="one checkpoint") as refused:
        answer(world, second, OTHER)
    assert refused.value.attributes["again"]
    world.settle()
    assert answer(world, first).parts
    third = take(world, OTHER)
    world.settle()
    assert answer(world, third, OTHER).parts


@pytest.mark.parametrize("steps", range(1, 8))
def test_a_node_that_dies_ends_it_and_another_one_can_be_taken(steps: int) -> None:
    world = Members(3, 2)
    number = take(world)
    for _ in range(steps):
        world.step()
    world.kill(world.members[1])
    world.settle()
    found = world.replies[DRIVER, number]
    assert isinstance(found, c.CheckpointWritten) or found.attributes["again"]
    again = take(world)
    world.settle()
    assert sorted(answer(world, again).parts) == [b"0", b"2"]


def test_a_node_that_cannot_write_ends_it_for_all() -> None:
    world = Members(3, 1)
    world.members[2].refuses = c.Cause("CheckpointError", "no space left")
    number = take(world)
    world.settle()
    with pytest.raises(CheckpointError, match="no space"):
        answer(world, number)
    assert len(heard(world, c.ReleaseClocks)) == 3
    assert world.tier.checkpointing is None


def test_buckets_are_not_moved_meanwhile() -> None:
    world = Members(2, 1)
    number, epoch = take(world), world.tier.nodes.epoch
    world.grow()
    while world.replies.get((DRIVER, number)) is None:
        assert world.step()
        assert world.tier.nodes.epoch == epoch
    world.settle()
    assert answer(world, number).parts
    assert world.tier.nodes.epoch > epoch, "they are moved later"


def test_the_last_one_is_in_the_status_and_outlives_the_coordinator() -> None:
    world = Members(2, 1)
    assert world.tier.report()["checkpoint"] is None
    world.ask(DRIVER, c.CheckpointTaken(0, "/x", "00000001-00000000", {"g": 7}, 12, 0.5))
    world.restart()
    world.settle()
    said = {"url": "/x", "id": "00000001-00000000", "clocks": {"g": 7}, "bytes": 12, "seconds": 0.5}
    assert world.tier.report()["checkpoint"] == said


@pytest.mark.parametrize("steps", range(8))
def test_a_coordinator_that_is_started_again_has_it_taken_again(steps: int) -> None:
    """Whatever nodes had said of their clocks, and written, before: no cut is put together of what two processes were told."""
    world = Members(2, 1)
    number = take(world)
    for _ in range(steps):
        world.step()
    was_written = isinstance(world.replies.get((DRIVER, number)), c.CheckpointWritten)
    world.restart()
    world.tick()  # nodes are heard, and what they were told may be lost
    world.settle()
    assert isinstance(world.replies[DRIVER, number], c.CheckpointWritten) == was_written
    if not was_written:
        with pytest.raises(CheckpointError, match="started again") as refused:
            answer(world, number)
        assert refused.value.attributes["again"]
    assert world.tier.checkpointing is None
    told = [[m for m in member.heard if isinstance(m, c.WriteCheckpoint)] for member in world.members]
    assert all(len(each) <= 1 for each in told), "nobody writes the same one twice"
    number = take(world)
    world.settle()
    assert sorted(answer(world, number).parts) == [b"0", b"1"]


def test_an_answer_that_was_lost_with_the_coordinator_is_not_given_without_its_parts() -> None:
    world = Members(2, 1)
    number = take(world)
    world.settle()
    assert answer(world, number).parts
    world.restart()
    world.route(world.tier.receive(DRIVER, c.TakeCheckpoint(number, "/x", "00000001-00000000"), world.now))
    with pytest.raises(CheckpointError, match="try again") as refused:
        answer(world, number)
    assert refused.value.attributes["again"]


def test_what_nodes_have_written_is_not_journaled() -> None:
    """A large tier has a checkpoint each few seconds, and parts of many kilobytes."""
    world = Members(3, 1)
    for member in world.members:
        member.part = bytes(100_000)
    before = sum(map(len, world.journal))
    for _ in range(10):
        number = take(world)
        world.settle()
        assert sum(map(len, answer(world, number).parts)) == 300_000
    assert sum(map(len, world.journal)) - before < 10_000




# ---- files that are slow -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [take, restore])
def test_copies_that_a_dead_node_had_are_made_anew_whatever_files_are_waited_for(begin: Callable[[Members], int]) -> None:
    world = Members(3, 2)
    for member in world.members:
        member.is_slow = True
    number = begin(world)
    world.settle()
    assert (DRIVER, number) not in world.replies
    world.kill(world.members[1])
    with pytest.raises(CheckpointError) as refused:
        answer(world, number)
    assert refused.value.attributes["again"], "its driver is told at once"
    assert world.tier.checkpointing is None
    world.settle()
    world.check_end()
    assert world.tier.nodes.under_replicated() == 0
    journaled = len(world.journal)
    for member in world.members:
        member.is_slow = False
        if member.is_alive:
            member.outbox.extend(member.files)
            member.files.clear()
    world.settle()
    assert len(world.journal) == journaled, "late answers count for nothing"
    number = begin(world)
    world.settle()
    assert not isinstance(world.replies[DRIVER, number], c.Refused)


def test_a_node_that_still_writes_is_waited_for_by_those_who_ask_again() -> None:
    world = Members(3, 2)
    world.members[0].refuses = c.Cause("CheckpointError", "still writing", {"again": True})
    number = take(world)
    world.settle()
    with pytest.raises(CheckpointError) as refused:
        answer(world, number)
    assert refused.value.attributes["again"]
    world.members[0].refuses = None
    number = take(world)
    world.settle()
    assert len(answer(world, number).parts) == 3


def test_what_cannot_be_made_of_the_answers_of_nodes_ends_it_and_another_one_can_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Members(2, 1)
    number = take(world)

    def fail(report: object) -> None:
        raise AttributeError("of no type that it can have")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "clocks_of", fail)
        world.settle()
    with pytest.raises(SparkPSError, match="of no type"):
        answer(world, number)
    assert world.tier.checkpointing is None
    again = take(world)
    world.settle()
    assert answer(world, again).parts


@pytest.mark.parametrize("clocks", [{1: 3}, {b"1": 3}, {"9" * 5000: 3}])
def test_clocks_under_keys_that_are_none_do_not_count(clocks: dict[object, int]) -> None:
    world = Members(2, 1)
    number = take(world)
    hold = next(message for message in world.members[0].inbox if isinstance(message, c.HoldClocks))
    world.tier.receive(b"m0", c.CommandDone(hold.seq, 0, None, {"clocks": clocks}), world.now)
    world.settle()
    assert answer(world, number).parts
