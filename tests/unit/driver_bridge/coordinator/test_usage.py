"""When tables were used last, and that those which nobody uses go in time, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from sparkps.config import Settings
from sparkps.driver_bridge.coordinator.handlers.tables import look
from sparkps.driver_bridge.coordinator.tier import Tier
from sparkps.driver_bridge.coordinator.usage import Usage
from sparkps.specs import TableSpec
from sparkps.wire.messages import control as c
from tests.unit.driver_bridge.coordinator.world import DRIVER, World

ANN, BOB = TableSpec("ann/w", "sparse", 1, table=1), TableSpec("bob/w", "sparse", 1, table=2)


def test_a_count_that_has_changed_is_a_use() -> None:
    usage = Usage()
    usage.used(1, 0.0)
    usage.heard(0, {"1": {"uses": 5}}, 10.0)
    usage.heard(1, {"1": {"uses": 5}}, 11.0)
    assert usage.idle(1, 12.0) == 1.0, "each node has a count of its own"
    usage.heard(0, {"1": {"uses": 5}}, 20.0)
    usage.heard(1, {"1": {}}, 21.0)
    assert usage.idle(1, 21.0) == 0.0, "a node that has begun anew"
    usage.heard(0, {"1": {"uses": 5}}, 30.0)
    assert usage.idle(1, 31.0) == 10.0


@pytest.mark.parametrize("report", [{"x": {"uses": 1}}, {"1": {"uses": "many"}}, {"1": {"uses": 1.5}}, {"-1": {"uses": 1}}, {"": {}}])
def test_what_is_no_count_is_no_use(report: dict[str, Any]) -> None:
    usage = Usage()
    usage.used(1, 0.0)
    usage.heard(0, report, 5.0)
    assert usage.idle(1, 10.0) == 10.0


def test_a_table_that_is_gone_is_not_heard_of_again() -> None:
    usage = Usage()
    usage.used(1, 0.0)
    usage.heard(0, {"1": {"uses": 1}}, 1.0)
    usage.forget(1)
    usage.heard(0, {"1": {"uses": 2}}, 2.0)
    assert usage._at == {}
    assert usage._counts == {}


def test_time_without_a_coordinator_counts_for_nobody() -> None:
    usage = Usage()
    usage.used(1, 0.0)
    usage.shift(100.0)
    assert usage.idle(1, 101.0) == 1.0


def test_owners_whose_groups_run_lose_nothing() -> None:
    usage = Usage()
    usage.used(1, 0.0)
    usage.used(2, 50.0)
    assert usage.unused([ANN, BOB], 60.0, 100.0, busy=set()) == [1]
    assert usage.unused([ANN, BOB], 60.0, 200.0, busy=set()) == [1, 2]
    assert usage.unused([ANN, BOB], 60.0, 200.0, busy={"ann"}) == [2]


def test_uses_are_known_until_the_most_silent_node_has_reported() -> None:
    usage = Usage()
    assert usage.seen([0, 1], 5.0) < 0.0, "nothing is known of them"
    usage.heard(0, {"1": {"uses": 1}}, 10.0)
    usage.heard(1, {}, 12.0)
    assert (usage.seen([0, 1], 20.0), usage.seen([1], 20.0), usage.seen([], 20.0)) == (10.0, 12.0, 20.0)
    usage.shift(5.0)
    assert usage.seen([0, 1], 30.0) == 15.0


# ---- at the coordinator ------------------------------------------------------------------------------------------------


class World60(World):
    """Tables that nobody uses for 60 s go."""

    def __init__(self, ttl: float = 60.0) -> None:
        super().__init__()
        self.tier = Tier("t1", Settings(num_nodes=2, table_ttl=ttl))
        for number in (0, 1):
            self.join(number)

    def make(self, spec: TableSpec) -> int:
        return int(self.ask(DRIVER, c.CreateTable(0, spec)).spec.table)

    def passes(self, seconds: int, used: dict[int, int] | None = None) -> None:
        """So much time goes by, in which nodes beat; `used` are counts by table."""
        for _ in range(seconds):
            for node in (0, 1):
                report = {"tables": {str(table): {"uses": count} for table, count in (used or {}).items()}}
                self.deliver(f"n{node}".encode(), c.Heartbeat(0, node, report))
            self.later(1.0)

    def names(self) -> list[str]:
        return sorted(self.tier.catalog.tables)


@pytest.fixture
def world() -> World60:
    return World60()


def test_a_table_that_nobody_uses_goes_and_one_that_is_used_stays(world: World60) -> None:
    world.make(TableSpec("ann/old", "sparse", 1))
    new = world.make(TableSpec("bob/new", "sparse", 1))
    for count in range(13):
        world.passes(5, {new: count})
        assert ("ann/old" in world.names()) == (world.now <= 60.0)
    assert world.names() == ["bob/new"]
    assert [m.name for m in world.commands[b"n0"] if isinstance(m, c.DropTable)] == ["ann/old"]
    assert world.tier.report()["tables"][0]["idle_seconds"] <= 5.0


def test_whoever_looks_a_table_up_uses_it(world: World60) -> None:
    world.make(TableSpec("w", "sparse", 1))
    for _ in range(4):
        world.passes(40)
        world.ask(DRIVER, c.FindTable(0, "w"))
    assert world.names() == ["w"]


def test_tables_of_an_owner_whose_group_runs_stay(world: World60) -> None:
    for name in ("ann/w", "bob/w"):
        world.make(TableSpec(name, "sparse", 1))
    admitted = world.ask(DRIVER, c.AdmitGroup(0, "ann/fit-1", 1, 1, 0, 1, "tag", application="a"))
    for _ in range(4):
        world.passes(25)
        world.ask(DRIVER, c.GroupState(0, admitted.spec.group))
    assert world.names() == ["ann/w"]
    world.ask(DRIVER, c.EndGroup(0, admitted.spec.group))
    world.passes(2)
    assert world.names() == [], "they were due long ago"


def test_a_table_is_used_when_it_is_made_and_when_it_is_asked_for_again(world: World60) -> None:
    world.passes(100)
    spec = TableSpec("w", "sparse", 1)
    for _ in range(3):
        world.make(spec)
        world.passes(59)
        assert world.names() == ["w"]
    world.passes(3)
    assert world.names() == []


def test_while_a_node_says_nothing_nobody_knows_what_is_unused(world: World60) -> None:
    world.tier.nodes.deadline = 1000.0
    world.make(TableSpec("w", "sparse", 1))
    world.deaf.add(b"n1")
    for _ in range(90):
        world.deliver(b"n0", c.Heartbeat(0, 0, {"tables": {}}))
        world.later(1.0)
    assert world.names() == ["w"], "somebody may use it at node 1"
    world.deaf.clear()
    world.passes(2)
    assert world.names() == []


def test_while_a_checkpoint_is_taken_nothing_goes(world: World60) -> None:
    world.make(TableSpec("w", "sparse", 1))
    world.deaf |= {b"n0", b"n1"}
    world.deliver(DRIVER, c.TakeCheckpoint(100, "file:///checkpoints", "00000001-aaaaaaaa"))
    assert world.tier.checkpointing is not None
    world.tier.checkpointing.message = object()  # so that it is never given up
    for _ in range(70):
        for node in (0, 1):
            world.deliver(b"n%d" % node, c.Heartbeat(0, node, {"tables": {}}))
        world.tier.clock.now = world.now = world.now + 1.0
        assert look(world.tier) == []
    world.tier.checkpointing = None
    world.tier.clock.now += 1.0
    assert look(world.tier) == [1]


def test_time_in_which_the_coordinator_did_not_run_is_no_silence_of_users(world: World60) -> None:
    world.make(TableSpec("w", "sparse", 1))
    world.now += 300.0
    world.route(world.tier.tick(world.now))
    world.passes(3)
    assert world.names() == ["w"]


def test_while_rows_are_lost_nothing_goes(world: World60) -> None:
    """Whoever uses a table cannot be heard where its node is gone; it may be restored."""
    world.make(TableSpec("w", "sparse", 1))
    world.deaf.add(b"n1")
    for _ in range(200):
        world.deliver(b"n0", c.Heartbeat(0, 0, {"tables": {}}))
        world.later(1.0)
    assert world.tier.report()["state"] == "degraded"
    assert world.names() == ["w"]


def test_nothing_is_remembered_of_tables_that_were_dropped(world: World60) -> None:
    for number in range(20):
        name = f"w{number}"
        table = world.make(TableSpec(name, "sparse", 1))
        world.passes(1, {table: 7})
        world.ask(DRIVER, c.DropTable(0, name, table))
        world.passes(1, {table: 8})  # a node's word that was on its way
    usage = world.tier.usage
    assert not usage._at
    assert not usage._counts


def test_without_a_limit_nothing_goes() -> None:
    world = World60(ttl=0.0)
    world.make(TableSpec("w", "sparse", 1))
    world.passes(300)
    assert world.names() == ["w"]


def test_another_coordinator_knows_what_has_gone_and_gives_the_rest_its_time_again(world: World60) -> None:
    events: list[bytes] = world.tier.take_events()
    world.make(TableSpec("old", "sparse", 1))
    world.passes(58)
    world.make(TableSpec("new", "sparse", 1))
    world.passes(4)
    assert world.names() == ["new"]
    events += world.tier.take_events()
    other = Tier("t1", world.tier.settings)
    other.replay(events)
    other.recover(world.now + 1000.0)
    assert sorted(other.catalog.tables) == ["new"]
    assert other.report()["tables"][0]["idle_seconds"] == 0.0


def test_rows_of_a_node_that_has_left_are_not_counted_again(world: World60) -> None:
    table = world.make(TableSpec("w", "sparse", 1))
    for node, rows in ((0, 3), (1, 4)):
        world.deliver(f"n{node}".encode(), c.Heartbeat(0, node, {"tables": {str(table): {"rows": rows, "bytes": 8 * rows}}}))
    assert world.tier.report()["tables"][0]["rows"] == 7
    world.tier.nodes.leave(1)
    assert world.tier.report()["tables"][0]["rows"] == 3


def test_somebody_asks_for_the_end_and_the_tier_goes_on(world: World60) -> None:
    assert not world.tier.report()["asked_to_stop"]
    assert isinstance(world.ask(DRIVER, c.AskToStop(0)), c.Accepted)
    report = world.tier.report()
    assert report["asked_to_stop"]
    assert report["state"] == "ready"
