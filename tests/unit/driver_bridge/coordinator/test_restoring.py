"""Restores at the coordinator: nobody reads half of one, and what was lost stays lost unless it is brought back."""

from __future__ import annotations

import pytest

from sparkps.driver_bridge.coordinator.states import TierState
from sparkps.errors import CheckpointError, OutOfNodeMemory, TierError, UnknownTable
from sparkps.specs import TableSpec
from sparkps.wire.buckets import buckets_in, unpacked
from sparkps.wire.messages import control as c
from tests.unit.driver_bridge.coordinator.checkpoint_requests import DRIVER, OTHER, answer, heard, restore, take
from tests.unit.driver_bridge.coordinator.members import Members


def is_restored(world: Members) -> None:
    number = restore(world)
    world.settle()
    assert answer(world, number) == c.Accepted(number)
    assert world.tier.state is TierState.READY


def test_lost_buckets_begin_anew_and_are_loaded_when_all_nodes_know() -> None:
    world = Members(3, 1)
    world.kill(world.members[1])
    world.settle()
    assert world.tier.state is TierState.DEGRADED
    lost = world.tier.nodes.lost_buckets()
    is_restored(world)
    assert not world.tier.hollow
    assert {bucket for message in heard(world, c.SetPlacement) for bucket in message.anew} == set(lost)
    assert len(heard(world, c.LoadCheckpoint)) == 2


def test_a_restore_that_fails_leaves_the_tier_degraded_and_can_be_repeated() -> None:
    world = Members(3, 1)
    world.kill(world.members[1])
    world.settle()
    world.members[0].refuses = c.Cause("CheckpointDamaged", "torn")
    number = restore(world)
    world.settle()
    with pytest.raises(CheckpointError, match="torn"):
        answer(world, number)
    assert world.tier.state is TierState.DEGRADED
    world.members[0].refuses = None
    is_restored(world)


def test_nothing_is_restored_under_a_running_group() -> None:
    world = Members(2, 1)
    world.ask(DRIVER, c.AdmitGroup(0, "g", 1, 1, 0, 1, "tag"))
    world.settle()
    number = restore(world)
    with pytest.raises(TierError, match="'g'"):
        answer(world, number)


# ---- what is in between ------------------------------------------------------------------------------------------------


def degraded(nodes: int = 3) -> Members:
    world = Members(nodes, 1)
    world.kill(world.members[1])
    world.settle()
    return world


def test_a_restore_that_is_refused_leaves_lost_buckets_lost() -> None:
    world = degraded()
    lost, placement, epoch = world.tier.nodes.lost_buckets(), world.tier.nodes.placement, world.tier.nodes.epoch
    world.members[2].refuses = c.Cause("CheckpointDamaged", "torn")
    number = restore(world)
    world.settle()
    with pytest.raises(CheckpointError, match="torn"):
        answer(world, number)
    assert (world.tier.nodes.lost_buckets(), world.tier.nodes.placement, world.tier.nodes.epoch) == (lost, placement, epoch)
    assert world.tier.report()["lost_buckets"] == len(lost)
    assert not heard(world, c.LoadCheckpoint), "nothing is changed unless all of it is sound"


@pytest.mark.parametrize("is_degraded", [True, False])
def test_nobody_is_served_before_all_is_loaded(is_degraded: bool) -> None:
    world = degraded() if is_degraded else Members(3, 1)
    number = restore(world)
    while not any(isinstance(command.message, c.LoadCheckpoint) for command in world.tier.commands.under_way.values()):
        assert world.step()
    living = [member for member in world.members if member.is_alive]
    assert not any(member.is_open for member in living)
    assert (DRIVER, number) not in world.replies
    world.settle()
    assert answer(world, number) == c.Accepted(number)
    assert all(member.is_open for member in living)


@pytest.mark.parametrize("is_degraded", [True, False])
def test_a_load_that_fails_leaves_the_tier_torn_until_another_one_succeeds(is_degraded: bool) -> None:
    world = degraded() if is_degraded else Members(3, 1)
    world.members[0].refuses_to_load = c.Cause("CheckpointError", "unplugged")
    number = restore(world)
    world.settle()
    with pytest.raises(CheckpointError, match="unplugged"):
        answer(world, number)
    assert world.tier.state is TierState.DEGRADED
    assert world.tier.report()["lost_buckets"] == 256
    living = [member for member in world.members if member.is_alive]
    assert all("unplugged" in member.torn for member in living)
    for asking in (c.AdmitGroup(0, "g", 1, 1, 0, 1, "tag"), c.CreateTable(0, TableSpec("t", "sparse", 1))):
        assert world.ask(OTHER, asking).error == "ShardLost"
    joined = world.join() if is_degraded else world.grow()
    world.settle()
    assert "unplugged" in joined.torn, "also of nodes that join later"
    world.members[0].refuses_to_load = None
    world.restart()
    world.tick()
    is_restored(world)
    assert all(member.is_open for member in [*living, joined])
    assert world.tier.report()["lost_buckets"] == 0


@pytest.mark.parametrize("steps", range(14))
@pytest.mark.parametrize("replication", [1, 2])
def test_a_node_that_dies_during_a_restore_lets_nobody_read_what_is_not_loaded(steps: int, replication: int) -> None:
    world = Members(4, replication)
    if replication == 1:
        world.kill(world.members[1])
        world.settle()
    number = restore(world)
    for _ in range(steps):
        world.step()
    world.kill(world.members[2])
    world.settle()
    found = world.replies[DRIVER, number]
    assert isinstance(found, c.Accepted) or found.attributes["again"]
    is_restored(world)
    assert all(member.is_open and not member.hollow for member in world.members if member.is_alive)


@pytest.mark.parametrize("steps", range(14))
def test_a_coordinator_that_is_started_again_brings_a_restore_to_its_end(steps: int) -> None:
    world = degraded()
    number = restore(world)
    for _ in range(steps):
        world.step()
    world.restart()
    world.tick()
    world.settle()
    assert answer(world, number) == c.Accepted(number)
    assert world.tier.state is TierState.READY


def test_a_restore_without_any_node_left_is_told_so() -> None:
    world = Members(2, 1)
    number = restore(world)
    while world.tier.checkpointing.stage != "closing":
        assert world.step()
    for member in world.members:
        world.kill(member)
    with pytest.raises(CheckpointError, match="try again"):
        answer(world, number)
    assert world.tier.state is TierState.DEGRADED
    with pytest.raises(CheckpointError, match="No node is up"):
        answer(world, restore(world))


def test_tables_that_are_not_there_are_created_though_buckets_are_lost() -> None:
    world = degraded()
    spec = TableSpec("t", "sparse", 1, table=7, index=9)
    world.ask(DRIVER, c.RestoreCheckpoint(0, "/x", "00000001-00000000", [spec]))
    number = world._seq
    world.settle()
    assert answer(world, number) == c.Accepted(number)
    found = world.ask(OTHER, c.FindTable(0, "t")).spec
    assert {message.tables[0] for message in heard(world, c.LoadCheckpoint)} == {c.TableInto(7, 9, found.table, found.index)}


def test_a_table_that_cannot_be_made_ends_a_restore_before_anything_else_is_changed() -> None:
    world = Members(2, 1)
    specs = [TableSpec("t", "sparse", 1, table=7, index=9), TableSpec("u", "sparse", 1, table=8, index=10)]
    world.ask(DRIVER, c.CreateTable(0, TableSpec("u", "sparse", 1)))
    world.settle()
    world.members[1].refuses_tables = c.Cause("OutOfNodeMemory", "full")
    epoch = world.tier.nodes.epoch
    world.ask(DRIVER, c.RestoreCheckpoint(0, "/x", "00000001-00000000", specs))
    number = world._seq
    world.settle()
    with pytest.raises(OutOfNodeMemory, match="full"):
        answer(world, number)
    assert list(world.tier.catalog.tables) == ["u"]
    assert [message.name for message in heard(world, c.DropTable)] == ["t", "t"]
    assert (world.tier.nodes.epoch, world.tier.state, world.tier.checkpointing) == (epoch, TierState.READY, None)


def test_tables_that_differ_are_told_before_anything_is_done() -> None:
    world = Members(2, 1)
    world.ask(DRIVER, c.CreateTable(0, TableSpec("t", "sparse", 1)))
    world.settle()
    refused = world.ask(DRIVER, c.RestoreCheckpoint(0, "/x", "00000001-00000000", [TableSpec("t", "sparse", 2, table=7, index=9)]))
    assert refused.error == "TableMismatch"
    assert world.tier.checkpointing is None


def test_groups_wait_until_a_restore_is_over() -> None:
    world = Members(2, 1)
    number = restore(world)
    asking = c.AdmitGroup(0, "g", 1, 1, 0, 1, "tag")
    assert isinstance(world.ask(OTHER, asking), c.Queued)
    world.settle()
    assert answer(world, number)
    world.ask(OTHER, asking)
    world.settle()
    assert isinstance(answer(world, world._seq, OTHER), c.Admitted)


def with_stage(world: Members, stage: str) -> None:
    while world.tier.checkpointing.stage != stage:
        assert world.step()


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_table_that_is_dropped_while_a_restore_closes_leaves_the_tier_as_it_was(lost: int, restarts: bool) -> None:
    world = Members(3, 1)
    table = TableSpec("of-a-fit", "sparse", 1)
    world.ask(OTHER, c.CreateTable(0, table))
    world.settle()
    if lost:
        world.kill(world.members[1])
        world.settle()
    state, placement = world.tier.state, world.tier.nodes.placement
    number = restore(world, [TableSpec("of-a-fit", "sparse", 1, table=7, index=9)])
    with_stage(world, "closing")
    world.ask(OTHER, c.DropTable(0, "of-a-fit", 1))
    if restarts:
        world.restart()
        world.tick()
    world.settle()
    with pytest.raises(UnknownTable, match="of-a-fit"):
        answer(world, number)
    assert not heard(world, c.LoadCheckpoint)
    assert (world.tier.state, world.tier.nodes.placement) == (state, placement)
    assert world.tier.report()["lost_buckets"] == len(world.tier.nodes.lost_buckets())
    living = [member for member in world.members if member.is_alive]
    assert all(member.is_open and not member.torn and not member.hollow for member in living)
    is_restored(world)


def test_a_tier_that_was_torn_is_torn_again() -> None:
    world = Members(3, 1)
    world.ask(OTHER, c.CreateTable(0, TableSpec("of-a-fit", "sparse", 1)))
    world.settle()
    world.members[0].refuses_to_load = c.Cause("CheckpointError", "unplugged")
    restore(world)
    world.settle()
    number = restore(world, [TableSpec("of-a-fit", "sparse", 1, table=7, index=9)])
    with_stage(world, "closing")
    world.ask(OTHER, c.DropTable(0, "of-a-fit", 1))
    world.settle()
    with pytest.raises(UnknownTable, match="of-a-fit"):
        answer(world, number)
    assert all("unplugged" in member.torn for member in world.members)
    assert world.tier.report()["lost_buckets"] == 256


@pytest.mark.parametrize("stage", ["verifying", "creating tables", "loading"])
def test_a_table_that_is_dropped_at_another_stage_tears_nothing(stage: str) -> None:
    world = Members(3, 1)
    world.ask(OTHER, c.CreateTable(0, TableSpec("of-a-fit", "sparse", 1)))
    world.settle()
    specs = [TableSpec("of-a-fit", "sparse", 1, table=7, index=9), TableSpec("new", "sparse", 1, table=8, index=10)]
    number = restore(world, specs)
    with_stage(world, stage)
    world.ask(OTHER, c.DropTable(0, "of-a-fit", 1))
    world.settle()
    assert isinstance(world.replies[DRIVER, number], c.Accepted | c.Refused)
    assert world.tier.state is TierState.READY
    assert all(member.is_open for member in world.members)


# ---- tables that are dropped ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["as it is", "restarted", "another death"])
@pytest.mark.parametrize("torn", [False, True])
def test_without_its_last_table_a_tier_has_lost_nothing(how: str, torn: bool) -> None:
    world = Members(4, 1)
    for name in ("one", "other"):
        world.ask(OTHER, c.CreateTable(0, TableSpec(name, "sparse", 1)))
        world.settle()
    if torn:
        world.members[0].refuses_to_load = c.Cause("CheckpointError", "unplugged")
        restore(world)
    else:
        world.kill(world.members[1])
    world.settle()
    for name, number in (("one", 1), ("other", 2)):
        assert world.tier.state is TierState.DEGRADED
        world.ask(OTHER, c.DropTable(0, name, number))
    if how == "restarted":
        world.restart()
        world.tick()
    elif how == "another death":
        world.step()
        world.kill(world.members[2])
        world.settle()
        assert world.tier.state is TierState.DEGRADED, "what it led is lost"
        world.ask(OTHER, c.CreateTable(0, TableSpec("third", "sparse", 1)))
        return
    world.settle()
    assert world.tier.state is TierState.READY
    assert world.tier.report()["lost_buckets"] == 0
    assert not world.tier.anew
    assert not world.tier.hollow
    assert not world.tier.torn
    assert all(member.is_open for member in world.members if member.is_alive)
    made = world.ask(OTHER, c.CreateTable(0, TableSpec("third", "sparse", 1)))
    world.settle()
    assert not isinstance(made, c.Refused)


# ---- tables that the checkpoint lacks ----------------------------------------------------------------------------------

OLD, NEW = TableSpec("old", "sparse", 1), TableSpec("new", "sparse", 1)


def with_tables(replication: int = 1) -> Members:
    """A tier with two tables, of which a checkpoint has the first."""
    world = Members(3, replication)
    for spec in (OLD, NEW):
        world.ask(OTHER, c.CreateTable(0, spec))
        world.settle()
    return world


def restore_old(world: Members) -> int:
    return restore(world, [TableSpec("old", "sparse", 1, table=7, index=9)])


def told_missing(world: Members) -> list[dict[int, set[int]]]:
    """What the living nodes were told last of rows that are lost."""
    last = [[m for m in member.heard if isinstance(m, c.SetPlacement)][-1] for member in world.members if member.is_alive]
    return [{table: set(buckets_in(unpacked(buckets))) for table, buckets in m.missing.items()} for m in last]


def test_tables_that_the_checkpoint_lacks_are_not_empty_where_buckets_were_lost() -> None:
    world = with_tables()
    world.kill(world.members[1])
    world.settle()
    lost = set(world.tier.nodes.lost_buckets())
    number = restore_old(world)
    world.settle()
    assert answer(world, number) == c.Accepted(number)
    assert world.tier.state is TierState.READY
    assert told_missing(world) == [{2: lost}] * 2
    assert {table["name"]: table["lost_buckets"] for table in world.tier.report()["tables"]} == {"old": 0, "new": len(lost)}
    world.restart()
    joined = world.join()
    world.settle()
    assert joined.leads
    assert told_missing(world) == [{2: lost}] * 3, "also nodes that join later"


def test_a_checkpoint_is_without_tables_of_which_rows_are_lost_and_a_dropped_one_is_forgotten() -> None:
    world = with_tables()
    world.kill(world.members[1])
    world.settle()
    restore_old(world)
    world.settle()
    number = take(world)
    world.settle()
    assert [spec.name for spec in answer(world, number).tables] == ["old"]
    world.ask(OTHER, c.DropTable(0, "new", 2))
    world.ask(OTHER, c.CreateTable(0, NEW))
    world.settle()
    assert world.tier.catalog.missing == {}
    number = take(world)
    world.settle()
    assert [spec.name for spec in answer(world, number).tables] == ["old", "new"]


def test_a_checkpoint_that_has_the_table_brings_it_back() -> None:
    world = with_tables()
    world.kill(world.members[1])
    world.settle()
    restore_old(world)
    world.settle()
    restore(world, [TableSpec("new", "sparse", 1, table=7, index=9)])
    world.settle()
    assert told_missing(world) == [{}] * 2


def test_a_table_that_was_half_loaded_is_lost_whole_where_the_next_checkpoint_lacks_it() -> None:
    world = with_tables()
    world.members[0].refuses_to_load = c.Cause("CheckpointError", "unplugged")
    restore(world, [TableSpec("new", "sparse", 1, table=7, index=9)])
    world.settle()
    world.members[0].refuses_to_load = None
    number = restore_old(world)
    world.settle()
    assert answer(world, number) == c.Accepted(number)
    assert told_missing(world) == [{2: set(range(256))}] * 3


def test_a_restore_that_is_taken_back_leaves_to_tables_what_they_have() -> None:
    world = with_tables()
    world.kill(world.members[1])
    world.settle()
    number = restore_old(world)
    with_stage(world, "closing")
    world.ask(OTHER, c.DropTable(0, "old", 1))
    world.settle()
    with pytest.raises(UnknownTable):
        answer(world, number)
    assert told_missing(world) == [{}] * 2
    assert world.tier.catalog.missing == {}


def test_nothing_is_missing_of_a_whole_tier() -> None:
    world = with_tables(2)
    restore_old(world)
    world.settle()
    assert told_missing(world) == [{}] * 3




def test_a_copy_that_is_promoted_while_buckets_are_loaded_has_not_loaded_them() -> None:
    """A restore that counts all the same would serve its old rows beside restored ones."""
    world = Members(4, 2)
    number = restore(world)
    with_stage(world, "loading")
    dying = world.members[2]
    others = [member for member in world.members if member is not dying]
    while busy := [member for member in others if member.inbox or member.outbox]:
        for member in busy:
            world.deliver((member, bool(member.inbox)))
    assert any(isinstance(each, c.LoadCheckpoint) for each in dying.inbox)
    world.kill(dying)
    world.settle()
    found = world.replies[DRIVER, number]
    assert isinstance(found, c.Refused)
    assert found.attributes["again"]
    assert not any(member.is_open for member in world.members if member.is_alive)
