"""Failover, moves and scaling among simulated nodes: whatever dies whenever, replication and balance come back, and nothing is lost."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from sparkps.driver_bridge.coordinator import placing, plan
from sparkps.driver_bridge.coordinator.states import TierState
from sparkps.wire import placement
from sparkps.wire.messages import control as c
from tests.unit.driver_bridge.coordinator.members import STEP, Members


@pytest.fixture
def few_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """12 buckets, so that every step of a schedule can be tried."""
    for module in (placing, plan, placement):
        monkeypatch.setattr(module, "NUM_BUCKETS", 12)


# ---- nodes that die ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replication", [2, 3])
def test_a_node_that_dies_is_replaced_by_its_replicas_at_once(replication: int) -> None:
    world = Members(4, replication)
    world.kill(world.members[1])
    assert world.tier.state is TierState.READY
    assert world.tier.nodes.epoch == 2
    assert all(row[0] != 1 and 1 not in row for row in world.tier.nodes.placement)
    told = {type(member.inbox[-1]) for member in world.members if member.is_alive}
    assert told == {c.SetPlacement}, "all are told before anybody has answered"
    world.settle()
    world.check_end()


def test_without_replicas_the_buckets_of_a_dead_node_are_lost() -> None:
    world = Members(2, 1)
    world.kill(world.members[1])
    assert world.tier.state is TierState.DEGRADED
    assert len(world.tier.nodes.lost_buckets()) == 128
    world.join()
    world.settle()
    assert world.tier.nodes.up() == [0, 2]
    assert len(world.tier.nodes.lost_buckets()) == 128, "a new node does not bring them back"
    assert world.tier.nodes.buckets()[0] == 128
    world.check_end()


def test_commands_under_way_go_on_without_a_dead_node() -> None:
    world = Members(3, 2)
    group = c.AdmitGroup(0, "g", 1, 1, 0, 1, "tag")
    assert world.ask(b"driver", group) is None
    world.kill(world.members[2])
    world.settle()
    assert isinstance(world.replies[b"driver", world._seq - 1], c.Admitted)
    assert world.tier.groups.running[1].state == "running"


def test_a_second_death_in_the_middle_of_the_repair_loses_only_what_had_no_copy_yet() -> None:
    world = Members(4, 2)
    world.kill(world.members[0])
    world.kill(world.members[1])
    both = [b for b, row in enumerate(plan.initial({n: f"host{(n + 1) % 3}" for n in range(4)}, 2)) if set(row) == {0, 1}]
    assert world.tier.nodes.lost_buckets() == both
    assert (world.tier.state is TierState.DEGRADED) == bool(both)


def test_a_copy_that_is_ready_counts_before_a_placement_names_it() -> None:
    world = Members(3, 2)
    world.kill(world.members[0])
    while not world.tier.moves.ready:
        assert world.step()
    bucket, target = world.tier.moves.ready[0]
    primary = world.tier.nodes.placement[bucket][0]
    world.kill(world.members[primary])
    assert world.tier.nodes.placement[bucket][0] == target


# ---- moves -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replication", [1, 2, 3])
def test_a_fourth_node_gets_its_share_in_few_epochs(replication: int) -> None:
    world = Members(3, replication)
    world.grow()
    world.settle()
    world.check_end()
    assert world.tier.nodes.buckets()[3] == 64
    assert world.tier.nodes.epoch <= 12


def test_primaries_and_targets_copy_few_buckets_at_a_time() -> None:
    world = Members(3, 1)
    world.grow()
    while not world.tier.moves.is_done or world.choices():
        copying = list(world.tier.moves.copying)
        assert all(len(copy.buckets) <= 8 for copy in copying)
        assert len({copy.source for copy in copying}) == len(copying) <= 2
        if not world.step():
            world.tick()


def test_a_copy_that_fails_is_made_after_a_pause_and_status_says_why() -> None:
    world = Members(2, 2)
    joined = world.grow()
    world.members[0].cut = {2}
    while world.step():
        pass
    status = world.tier.report()["moving"]
    assert "cannot be reached" in status["failure"]
    assert status["reason"] == "node 2 has joined"
    assert joined.leads == {} or set(joined.leads) <= set(range(128, 256))
    world.members[0].cut = set()
    world.settle()
    world.check_end()
    assert world.tier.report()["moving"] is None


def test_pauses_grow_to_a_bound() -> None:
    world = Members(2, 2)
    world.grow()
    world.failures = 1.0
    asked: list[float] = []
    copying = False
    while world.now < 60.0:
        world.tick()
        while world.step():
            asked += [world.now] if world.tier.moves.copying and not copying else []
            copying = bool(world.tier.moves.copying)
    pauses = [after - before for before, after in itertools.pairwise(asked)]
    assert max(pauses) <= 10.5
    assert pauses[-1] >= 9.0
    assert len(asked) < 20


def test_a_replica_that_its_primary_cannot_reach_is_dropped_and_made_again() -> None:
    world = Members(3, 2)
    primary = world.members[0]
    primary.cut = {1}
    world.tick()
    assert all(1 not in row for row in world.tier.nodes.placement if row[0] == 0)
    assert world.tier.nodes.under_replicated() > 0
    while world.step():
        pass
    assert all(primary.write(bucket) for bucket in primary.leads), "its writes are acknowledged again"
    primary.cut = set()
    world.settle()
    world.check_end()


def test_the_last_copy_is_never_dropped() -> None:
    world = Members(2, 2)
    world.members[0].cut, world.members[1].cut = {1}, {0}
    for _ in range(20):
        world.tick()
        while world.step():
            pass
        assert not world.tier.nodes.lost_buckets()
    world.members[0].cut = world.members[1].cut = set()
    world.settle()
    world.check_end()


def test_leads_that_cannot_be_given_up_stay_where_they_are() -> None:
    world = Members(2, 1)
    world.grow()
    while not any(world.tier.nodes.placement[b][0] == 2 for b in range(256)):
        assert world.step()
    world.members[0].cut = {2}
    for _ in range(8):
        while world.step():
            pass
        world.tick()
    assert all(m.write(b) for m in world.members for b in m.leads if 2 not in m.cut or 2 not in m.leads[b])
    world.members[0].cut = set()
    world.settle()
    world.check_end()


# ---- a death at every step ---------------------------------------------------------------------------------------------


def grow(world: Members) -> None:
    world.grow()


def shrink(world: Members) -> None:
    world.ask(b"driver", c.ScaleTier(0, 2, 60.0))


def lose_one(world: Members) -> None:
    world.kill(world.members[0])


@pytest.mark.usefixtures("few_buckets")
@pytest.mark.parametrize("begin", [grow, shrink, lose_one])
@pytest.mark.parametrize("seen", [True, False])
def test_a_death_at_every_step(begin: Callable[[Members], None], seen: bool) -> None:
    """Each node dies after each delivery of a plan: nothing that was acknowledged is lost unless all its copies were."""
    steps = 0
    while True:
        ended = True
        for victim in range(4 if begin is grow else 3):
            world = Members(3, 2)
            begin(world)
            for _ in range(steps):
                world.write()
                if not world.step():
                    break
            else:
                ended = False
            world.kill(world.members[victim], seen)
            world.write()
            world.restarts = begin is not lose_one
            world.settle()
            world.check_end()
            if begin is not lose_one:
                assert world.tier.state is TierState.READY, "one death loses nothing"
        if ended:
            break
        steps += 1
    assert steps > 10


@pytest.mark.usefixtures("few_buckets")
@pytest.mark.parametrize("begin", [grow, shrink, lose_one])
def test_a_coordinator_killed_at_every_step_twice(begin: Callable[[Members], None]) -> None:
    """The next process knows what the last one knew, and comes to the same end."""
    for steps in range(60):
        world = Members(3, 2, steps)
        world.compacts = steps % 2 == 0
        begin(world)
        for _ in range(steps):
            world.write()
            world.step()
        world.restart()
        for _ in range(5):
            world.step()
        world.restart()
        world.settle()
        world.check_end()
        assert len(world.tier.nodes.up()) == {grow: 4, shrink: 2, lose_one: 2}[begin]


# ---- anything at any time ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_random_schedules(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes join, die, are cut off and declared dead while they live; copies fail; messages of all nodes in any order."""
    for module in (placing, plan, placement):
        monkeypatch.setattr(module, "NUM_BUCKETS", 32)
    world = Members(3, 2 + seed % 2, seed)
    rng = world.rng
    world.failures = rng.choice([0.0, 0.1])
    world.compacts = seed % 4 < 2
    deaths = 0
    for _ in range(400):
        world.now += STEP
        world.write()
        alive = [member for member in world.members if member.is_alive and member.node in world.tier.nodes.up()]
        match rng.randrange(60):
            case 0 if len(alive) < 6:
                world.grow()
            case 1 if deaths < 4 and len(alive) > 3 and world.tier.moves.is_done:
                world.kill(rng.choice(alive), rng.random() < 0.7)
                deaths += 1
            case 2 if deaths < 4 and len(alive) > 3 and world.tier.moves.is_done:
                world.declare_dead(rng.choice(alive))
                deaths += 1
            case 3:
                victim = rng.choice(alive)
                victim.cut ^= {rng.choice(alive).node} - {victim.node}
            case 4 | 5:
                world.tick()
            case 6 if rng.random() < 0.3:
                world.restart()
            case 7 if rng.random() < 0.3 and len(alive) > 3:
                world.ask(b"driver", c.DrainNode(0, rng.choice(alive).node, 600.0))
            case _:
                world.step(anyhow=True)
    for member in world.members:
        member.cut = set()
    world.restarts = True
    world.settle(120.0)
    world.check_end()


@pytest.mark.parametrize("begin", [lambda world: world.grow(), lambda world: world.ask(b"driver", c.DrainNode(0, 1, 60.0))])
def test_a_node_that_has_no_copy_of_what_it_is_to_lead_does_not_lead_it(begin: Callable[[Members], None]) -> None:
    """Its primary went on without it at the moment when it was to lead: another copy does, and work goes on."""
    world = Members(3, 2)
    begin(world)
    taker = None
    while taker is None:
        assert world.step() or world.tick() is None
        for member in world.members:
            told = [m for m in member.inbox if isinstance(m, c.SetPlacement)]
            gained = {b for m in told for b, row in enumerate(m.placement) if row[0] == member.node} - member.leads.keys()
            if member.node >= 0 and member.epoch and gained and gained <= member.versions.keys():
                taker, member.loses_copies = member, gained
    world.settle(200.0)
    assert taker.loses_copies == set(), "it has refused one"
    for bucket, row in enumerate(world.tier.nodes.placement):
        assert len(row) == 2
        assert [member.node for member in world.members if member.is_alive and bucket in member.leads] == row[:1]


# ---- a node that is the only one to lead, and has no copy --------------------------------------------------------------


@pytest.mark.parametrize("replication", [2, 3])
def test_buckets_whose_only_copy_is_refused_are_lost_within_seconds(replication: int) -> None:
    """A replica could not carry out what its primary had shipped, and the primary dies before anybody hears of it."""
    world = Members(3, replication)
    world.ask(b"driver", c.AdmitGroup(0, "g", 1, 1, 0, 1, "tag"))
    world.settle()
    dead, broken = world.members[0], world.members[1]
    broken.loses_copies = set(broken.versions) & set(dead.leads)
    world.kill(dead)
    promoted = {b for b in dead.leads if world.tier.nodes.placement[b][0] == 1}
    assert promoted
    began = world.now
    while world.tier.state is not TierState.DEGRADED:
        assert world.step() or world.tick() is None
        assert world.now - began < 5.0, "it is told so"
    assert set(world.tier.nodes.lost_buckets()) == promoted
    assert world.tier.report()["lost_buckets"] == len(promoted)
    cause = world.tier.groups.running[1].cause
    assert cause is not None
    assert cause.error == "ShardLost"
    assert "node 0" in cause.message
    world.restart()
    world.tick()
    world.settle()
    world.check_end()
    assert set(world.tier.nodes.lost_buckets()) == promoted, "what others have copies of is led, and copied, as ever"


def test_a_lead_that_is_refused_while_its_giver_dies_is_lost_with_it() -> None:
    """Replication 1: a bucket was copied to another node, which has no copy when it is to lead; the only one dies with the giver."""
    world = Members(2, 1)
    joined = world.grow()
    while not any(row[0] == 2 for row in world.tier.nodes.placement):
        assert world.step() or world.tick() is None
    moved = {b for b, row in enumerate(world.tier.nodes.placement) if row[0] == 2}
    while not any(isinstance(m, c.SetPlacement) and any(m.placement[b][0] == 2 for b in moved) for m in joined.inbox):
        assert world.step() or world.tick() is None
    joined.loses_copies = set(moved)
    given = {b for b in moved if b in joined.versions and all(b not in member.leads for member in world.members)}
    assert given, "their primaries have given them up"
    for member in world.members[:2]:
        world.kill(member)
    world.restarts = True
    world.settle()
    assert world.tier.state is TierState.DEGRADED
    assert given <= set(world.tier.nodes.lost_buckets())
    number = world._seq + 1
    world.ask(b"driver", c.RestoreCheckpoint(0, "/x", "00000001-00000000", []))
    world.settle()
    assert world.replies[b"driver", number] == c.Accepted(number)
    assert world.tier.state is TierState.READY


def test_who_takes_leads_of_a_node_that_it_cannot_reach_takes_nothing_from_it_unless_that_has_confirmed() -> None:
    """Its copies must not be dropped: it has given up the leads perhaps, and nobody else has all that it took."""
    world = Members(3, 2)
    world.ask(b"driver", c.DrainNode(0, 0, 600.0))

    def taken() -> set[int]:
        rows = zip(world.tier.nodes.placement, world.tier.placing.leaders, strict=True)
        return {row[0] for row, leader in rows if leader == 0 != row[0]}

    while not taken():
        assert world.step()
    (taker, *_) = taken()
    heartbeat = c.Heartbeat(1, taker, {"silent_replicas": [0]})
    world.route(world.tier.receive(world.members[taker].connection, heartbeat, world.now))
    had = [row for row, leader in zip(world.tier.nodes.placement, world.tier.placing.leaders, strict=True) if leader == 0]
    assert had
    assert all(0 in row for row in had)
    world.settle()
    assert not any(0 in row for row in world.tier.nodes.placement)
