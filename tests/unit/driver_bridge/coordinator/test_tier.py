"""The coordinator without its socket: whole conversations, and schedules with lost and repeated messages."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from sparkps.driver_bridge.coordinator.clock import LONGEST_STEP
from sparkps.driver_bridge.coordinator.states import TierState
from sparkps.errors import FunctionFailed, SparkPSError, TierError
from sparkps.specs import NUM_BUCKETS, TableSpec
from sparkps.wire.messages import control as c
from tests.unit.driver_bridge.coordinator.world import DRIVER, WORKER, W, World, admit, kinds

# ---- start and stop ----------------------------------------------------------------------------------------------------


def test_attach_is_answered_when_the_last_node_has_its_placement() -> None:
    world = World()
    assert world.ask(DRIVER, c.Attach(0)) is None
    assert isinstance(world.join(0), c.Welcome)
    world.deaf = {b"n1"}
    assert world.join(1).node == 1
    assert world.reply(DRIVER) is None, "node 1 does not know its buckets yet"
    world.obey(b"n1", world.commands[b"n1"][-1])
    attached = world.reply(DRIVER)
    assert (attached.tier_id, attached.epoch, len(attached.placement)) == ("t1", 1, NUM_BUCKETS)
    assert [(info.node, info.endpoint, info.state) for info in attached.nodes] == [
        (0, "ipc://n0", "up"),
        (1, "ipc://n1", "up"),
    ]


def test_a_handle_of_another_tier_is_refused(world: World) -> None:
    with pytest.raises(SparkPSError, match="belongs to 'old', which has stopped"):
        world.ask(DRIVER, c.Attach(0, "old"))


def test_nothing_is_created_before_the_tier_is_complete() -> None:
    world = World()
    world.join(0)
    with pytest.raises(SparkPSError, match="1 have: the tier is starting"):
        world.ask(DRIVER, c.CreateTable(0, W))


def test_stop_is_answered_when_every_node_has_said_yes(world: World) -> None:
    world.deaf = {b"n1"}
    assert world.ask(DRIVER, c.StopTier(0)) is None
    with pytest.raises(SparkPSError, match="being stopped"):
        world.ask(WORKER, c.FindTable(0, "w"))
    world.obey(b"n1", world.commands[b"n1"][-1])
    assert isinstance(world.reply(DRIVER), c.Accepted)
    assert world.tier.over


def test_a_node_that_does_not_answer_cannot_keep_the_tier_from_stopping(world: World) -> None:
    world.deaf = {b"n1"}
    world.ask(DRIVER, c.StopTier(0))
    world.later(3.0)
    assert isinstance(world.reply(DRIVER), c.Accepted)
    assert world.tier.over


# ---- requests ----------------------------------------------------------------------------------------------------------


def test_a_repeated_request_is_carried_out_once(world: World) -> None:
    first = world.ask(DRIVER, c.CreateTable(0, W))
    before = len(world.commands[b"n0"])
    world.replies.clear()
    world.deliver(DRIVER, c.CreateTable(1, W))
    assert world.reply(DRIVER) == first
    assert len(world.commands[b"n0"]) == before


def test_what_is_no_request_is_counted_and_refused(world: World) -> None:
    world.deliver(DRIVER, c.Leased(5, 1, True))
    assert world.tier.garbage == 1
    assert world.replies[DRIVER, 5].error == "ProtocolError"


def test_a_fault_of_our_own_is_an_answer_and_no_crash(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.tier.catalog, "find", lambda name: 1 / 0)
    with pytest.raises(SparkPSError, match="ZeroDivisionError"):
        world.ask(DRIVER, c.FindTable(0, "w"))


# ---- tables ------------------------------------------------------------------------------------------------------------


def test_callers_that_race_get_one_table(world: World) -> None:
    world.deaf = {b"n1"}
    assert world.ask(DRIVER, c.CreateTable(0, W)) is None
    assert world.ask(WORKER, c.CreateTable(0, W)) is None
    for command in list(world.commands[b"n1"][1:]):
        world.obey(b"n1", command)
    assert world.reply(DRIVER).spec == world.reply(WORKER).spec == world.ask(DRIVER, c.FindTable(0, "w")).spec


def test_a_table_that_a_node_cannot_make_is_made_nowhere(world: World) -> None:
    world.refuse[c.CreateTable] = c.Cause("TierError", "no memory")
    with pytest.raises(SparkPSError, match="no memory"):
        world.ask(DRIVER, c.CreateTable(0, W))
    assert kinds(world.commands[b"n0"])[-1] is c.DropTable
    with pytest.raises(SparkPSError, match="must exist"):
        world.ask(DRIVER, c.FindTable(0, "w"))


def test_dropping_twice_is_no_error_and_an_old_id_drops_nothing_new(world: World) -> None:
    old = world.ask(DRIVER, c.CreateTable(0, W)).spec
    for _ in range(2):
        assert isinstance(world.ask(DRIVER, c.DropTable(0, "w", old.table)), c.Accepted)
    new = world.ask(DRIVER, c.CreateTable(0, W)).spec
    world.ask(WORKER, c.DropTable(0, "w", old.table))
    assert world.ask(DRIVER, c.FindTable(0, "w")).spec == new
    assert kinds(world.commands[b"n0"]).count(c.DropTable) == 1


def test_a_function_that_nodes_refuse_is_not_registered(world: World) -> None:
    assert isinstance(world.ask(DRIVER, c.RegisterFunction(0, "f", b"good")), c.Accepted)
    world.refuse[c.RegisterFunction] = c.Cause.of(FunctionFailed("cannot be unpickled"))
    with pytest.raises(FunctionFailed, match="unpickled"):
        world.ask(DRIVER, c.RegisterFunction(0, "f", b"bad"))
    assert world.tier.catalog.functions == {"f": b"good"}


def test_a_command_without_an_answer_ends_at_its_deadline(world: World) -> None:
    world.deaf = {b"n1"}
    world.ask(DRIVER, c.CreateTable(0, W))
    for _ in range(120):
        world.now += LONGEST_STEP
        for number in range(2):
            world.deliver(b"n%d" % number, c.Heartbeat(10_000, number))
        world.route(world.tier.tick(world.now))
    with pytest.raises(TimeoutError, match=r"Creating table 'w' must be done .* Nodes \[1\] have not answered"):
        world.reply(DRIVER)


# ---- jobs of a launcher ------------------------------------------------------------------------------------------------


def test_a_job_of_the_launcher_has_one_node_at_a_time(world: World) -> None:
    world.ask(DRIVER, c.ScaleTier(0, 4, 60.0))
    first = world.ask(b"n7", c.NodeHello(0, "tcp://a:1", "a", 1, 4, 70))
    assert first.nodes[-1].job == 4
    with pytest.raises(TierError, match=r"one node at a time. Attempt 71 must wait: node 2 \(tcp://a:1, process 1 on a\) is up") as error:
        world.ask(b"n8", c.NodeHello(0, "tcp://b:1", "b", 2, 4, 71))
    assert error.value.attributes == {"node": 2, "job": 4}, "by which it knows that it may try again"
    world.ask(b"n8", c.NodeHello(0, "tcp://b:1", "b", 2, 5, 72))
    world.ask(DRIVER, c.NodeGone(0, "", "its executor is gone", 999))
    assert [info.state for info in world.tier.nodes.infos()] == ["up"] * 4, "no such attempt"
    world.ask(DRIVER, c.NodeGone(0, "", "its executor is gone", 70))
    assert [(info.state, info.reason) for info in world.tier.nodes.infos()][2] == ("dead", "its executor is gone")
    assert world.ask(b"n9", c.NodeHello(0, "tcp://c:1", "c", 3, 4, 71)).node == 4, "now it is its turn"


def test_nodes_without_a_job_do_not_stand_in_each_others_way(world: World) -> None:
    world.ask(DRIVER, c.NodeGone(0, "", "nobody"))
    assert [info.state for info in world.tier.nodes.infos()] == ["up", "up"]


# ---- dead nodes --------------------------------------------------------------------------------------------------------


def test_a_dead_node_fails_what_waits_for_it_with_its_name(world: World) -> None:
    group = admit(world, "a").spec.group
    world.deaf = {b"n1"}
    assert world.ask(WORKER, c.CreateTable(0, W)) is None
    world.ask(DRIVER, c.NodeGone(0, "ipc://n1", "node1 was killed by signal 9"))
    with pytest.raises(SparkPSError, match=r"node 1 \(ipc://n1, process 101 on host\) are lost.*signal 9"):
        world.reply(WORKER)
    assert world.ask(DRIVER, c.GroupState(0, group)).cause.error == "ShardLost"
    with pytest.raises(SparkPSError, match="lost"):
        world.ask(WORKER, c.CreateTable(0, W))
    attached = world.ask(WORKER, c.Attach(0))
    assert [info.state for info in attached.nodes] == ["up", "dead"]


def test_a_tier_without_one_of_its_nodes_says_so(world: World) -> None:
    healthy = world.ask(DRIVER, c.TierStatus(0)).report
    assert (healthy["state"], healthy["lost_nodes"], healthy["lost_buckets"]) == ("ready", [], 0)
    world.ask(DRIVER, c.NodeGone(0, "ipc://n1", "killed"))
    report = world.ask(DRIVER, c.TierStatus(0)).report
    assert (report["state"], report["lost_nodes"], report["lost_buckets"]) == ("degraded", [1], NUM_BUCKETS // 2)
    assert report["nodes"][1]["reason"] == "killed"


def test_a_node_that_dies_while_the_last_one_learns_its_buckets_makes_a_degraded_tier() -> None:
    world = World()
    assert world.ask(DRIVER, c.Attach(0)) is None
    world.join(0)
    world.deaf = {b"n1"}
    world.join(1)
    world.ask(b"launcher", c.NodeGone(0, "ipc://n0", "killed"))
    assert world.tier.state is TierState.STARTING
    world.obey(b"n1", world.commands[b"n1"][-1])
    assert world.tier.state is TierState.DEGRADED
    assert [info.state for info in world.reply(DRIVER).nodes] == ["dead", "up"]


def test_a_silent_node_is_dead_and_told_so(world: World) -> None:
    world.deaf = {b"n1"}
    for _ in range(6):
        world.later(1.0)
    world.deliver(b"n1", c.Heartbeat(77, 1))
    assert world.replies[b"n1", 77] == c.Alive(77, known=False)
    nodes = world.ask(DRIVER, c.TierStatus(0)).report["nodes"]
    assert [node["state"] for node in nodes] == ["up", "dead"]


# ---- a coordinator that did not run ------------------------------------------------------------------------------------


PAUSE = 45.0


def test_nodes_are_not_dead_because_the_coordinator_did_not_run(world: World) -> None:
    world.later(1.0)
    world.now += PAUSE
    world.route(world.tier.tick(world.now))
    assert world.tier.nodes.up() == [0, 1]
    world.deaf = {b"n1"}
    world.later(4.5)
    assert world.tier.nodes.up() == [0, 1], "the silence before the pause counts, and no more"
    world.later(2.0)
    assert world.tier.nodes.up() == [0]


def test_what_lies_in_the_socket_after_a_pause_finds_the_leases_as_they_were() -> None:
    world = World(lease_ttl=5.0)
    world.join(0)
    world.join(1)
    group = admit(world, "a").spec.group
    world.ask(WORKER, c.Lease(0, group, 0, 7))
    assert isinstance(admit(world, "b"), c.Queued)
    world.later(1.0)
    world.now += PAUSE
    assert isinstance(world.ask(b"other", c.Lease(0, group, 0, 8)), c.Wait), "the holder's renewal comes later"
    assert isinstance(admit(world, "c"), c.Queued)
    assert world.tier.groups.position("b") == 0, "b has had no chance to ask again"
    assert world.ask(WORKER, c.Renew(0, group, 0, 7)).all_started
    world.later(6.0)
    assert world.ask(b"other", c.Lease(0, group, 0, 8)) == c.Leased(2, 2, True)


def test_commands_and_connections_outlast_a_pause(world: World) -> None:
    world.deaf = {b"n1"}
    assert world.ask(DRIVER, c.CreateTable(0, W)) is None
    world.later(1.0)
    world.now += 2000.0
    world.route(world.tier.tick(world.now))
    assert world.reply(DRIVER) is None
    world.deaf = set()
    world.obey(b"n1", world.commands[b"n1"][-1])
    assert world.reply(DRIVER).spec.name == "w"
    assert DRIVER in world.tier.connections


# ---- status ------------------------------------------------------------------------------------------------------------


def test_status_adds_up_what_nodes_report(world: World) -> None:
    world.ask(DRIVER, c.CreateTable(0, W))
    group = admit(world, "a", workers=1).spec.group
    for number, clock in ((0, 3), (1, 4)):
        rank = {"0": {"clock": clock, "staleness": number, "waited_seconds": 0.5}}
        world.deliver(b"n%d" % number, c.Heartbeat(1, number, {"rows": 9, "groups": {str(group): rank}}))
    stale = world.ask(DRIVER, c.TierStatus(0, fresh=False)).report
    assert stale["groups"][0]["ranks"][0]["clock"] == stale["groups"][0]["clock"] == 4
    assert stale["groups"][0]["ranks"][0]["staleness"] == 1
    fresh = world.ask(DRIVER, c.TierStatus(0)).report
    assert [(n["id"], n["rows"], n["buckets"], n["state"]) for n in fresh["nodes"]] == [
        (0, 5, 128, "up"),
        (1, 5, 128, "up"),
    ]
    assert [(t["name"], t["rows"], t["bytes"]) for t in fresh["tables"]] == [("w", 10, 100)]
    assert (fresh["state"], fresh["epoch"]) == ("ready", 1)


def test_status_does_not_wait_long_for_a_node(world: World) -> None:
    world.deaf = {b"n1"}
    assert world.ask(DRIVER, c.TierStatus(0)) is None
    world.later(1.1)
    assert world.reply(DRIVER).report["state"] == "ready"


def test_connections_that_are_gone_are_forgotten(world: World) -> None:
    world.ask(WORKER, c.Attach(0))
    for _ in range(310):
        world.later(3.0)
    assert WORKER not in world.tier.connections


@pytest.mark.parametrize("seed", range(25))
def test_random_schedules(seed: int) -> None:
    """Requests of many clients, repeated at will; nodes that answer late or die: every request is answered in the end."""
    rng = random.Random(seed)
    world = World(num_nodes=rng.randint(1, 3), lease_ttl=5.0)
    nodes = [b"n%d" % number for number in range(world.tier.settings.num_nodes)]
    for number in range(len(nodes)):
        world.join(number)
    open_requests: set[tuple[bytes, int]] = set()
    sent: list[tuple[bytes, Any]] = []
    ids: dict[bytes, int] = {}
    for _ in range(250):
        sender = b"c%d" % rng.randrange(5)
        match rng.randrange(8):
            case 0 | 1 | 2 | 3:
                message = rng.choice(
                    [
                        c.CreateTable(0, TableSpec(rng.choice("ab"), "sparse", rng.randint(1, 2))),
                        c.DropTable(0, rng.choice("ab"), rng.randrange(1, 5)),
                        c.AdmitGroup(0, "g", 1, 1, 0, 2, f"tag{rng.randrange(8)}"),
                        c.Lease(0, rng.randrange(1, 4), 0, rng.randrange(4)),
                        c.Renew(0, rng.randrange(1, 4), 0, rng.randrange(4)),
                        c.FailRank(0, rng.randrange(1, 4), 0, 1, c.Cause("WorkerFailed", "x")),
                        c.EndGroup(0, rng.randrange(1, 4)),
                        c.TierStatus(0),
                    ]
                )
                seq = ids[sender] = ids.get(sender, 0) + 1
                message = msgspec.structs.replace(message, seq=seq)
                open_requests = {key for key in open_requests if key[0] != sender} | {(sender, seq)}
                sent.append((sender, message))
                world.deliver(sender, message)
            case 4 if sent:
                world.deliver(*rng.choice(sent))
            case 5:
                node = rng.choice(nodes)
                world.deaf ^= {node}
                if node not in world.deaf:
                    for command in world.commands.get(node, []):
                        world.obey(node, command)
            case 6:
                world.later(rng.random())
            case 7 if rng.random() < 0.03:
                world.deliver(b"launcher", c.NodeGone(ids.setdefault(b"launcher", 0) + 1, "ipc://n0", "killed"))
                ids[b"launcher"] += 1
    for _ in range(40):
        world.later(1.0)
    assert all(key in world.replies for key in open_requests)
    assert not world.tier.commands.under_way


def test_a_repeated_request_is_carried_out_once_whatever_it_is(world):
    world.ask(DRIVER, c.RegisterFunction(0, "f", b"blob"))
    before = len(world.commands[b"n0"])
    world.deliver(DRIVER, c.RegisterFunction(1, "f", b"blob"))
    assert len(world.commands[b"n0"]) == before


def test_an_answer_that_comes_late_is_not_kept_as_that_of_the_next_request(world):
    world.deaf = {b"n0"}
    assert world.ask(DRIVER, c.CreateTable(0, W)) is None
    create = world.commands[b"n0"][-1]
    assert world.ask(DRIVER, c.RegisterFunction(0, "f", b"blob")) is None  # the client waits for the first one no more
    world.obey(b"n0", create)
    world.replies.clear()
    world.deliver(DRIVER, c.RegisterFunction(2, "f", b"blob"))
    assert world.replies == {}, "it is still under way"


def test_a_tier_that_is_told_to_stop_while_buckets_are_placed_stays_stopped():
    world = World()
    world.deaf = {b"n0", b"n1"}
    world.join(0)
    world.join(1)
    world.ask(WORKER, c.Attach(0))
    world.ask(DRIVER, c.StopTier(0))
    placing = {node: [each for each in given if isinstance(each, c.SetPlacement)] for node, given in world.commands.items()}
    for node, (command,) in placing.items():
        world.obey(node, command)
    assert world.tier.state in (TierState.STOPPING, TierState.STOPPED)
    with pytest.raises(SparkPSError, match="being stopped"):
        world.reply(WORKER)
