"""A node dies, or leads move, at every message of what a session does: nothing is lost, nothing counts twice, nobody waits long."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sparkps.client import links
from sparkps.client.calls import call_functions
from sparkps.client.frames import read_buckets
from sparkps.client.presence import Peer
from sparkps.client.session import Session
from sparkps.client.tables import pull_together, write_together
from sparkps.errors import DeadlineExceeded, NodeUnreachable, ShardLost
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.hashing import buckets_of
from sparkps.wire.messages import data as m
from sparkps.wire.messages.control import Attach
from sparkps.wire.messages.control.values import NodeInfo
from tests.unit.client.fake_tier import DENSE
from tests.unit.client.replicated_tier import ReplicatedTier, play

KEYS = np.arange(60)
BUCKETS = buckets_of(KEYS)
ONES = np.ones((60, 1))
ELEMENTS = np.ones(DENSE.size)

Program = Callable[[ReplicatedTier, Session], None]


def pushes(tier: ReplicatedTier, session: Session) -> None:
    """Writes of which several are under way."""
    w, d = tier.sparse(session), tier.dense(session)
    for _ in range(2):
        w.add_async(KEYS, ONES)
        d.add_async(ELEMENTS)
        w.add_async(KEYS[:7], ONES[:7])
    session.flush()
    assert [tier.shards.rows[key] for key in KEYS] == [4.0] * 7 + [2.0] * 53
    assert (tier.shards.elements == 2.0).all()


def steps(tier: ReplicatedTier, session: Session) -> None:
    """Steps of several tables, by key set."""
    w, d = tier.sparse(session), tier.dense(session)
    keys = w.register(KEYS)
    for clock in range(2):
        rows, elements = pull_together(session, [keys, d])
        assert (rows == clock).all()
        assert (elements == clock).all()
        write_together(session, m.OpCode.ADD, [(keys, ONES), (d, ELEMENTS)]).result()
    assert (keys.pull() == 2.0).all()


def pulls(tier: ReplicatedTier, session: Session) -> None:
    """Reads, of which several are under way, and exports."""
    for key in KEYS:
        tier.shards.rows[int(key)] = 5
    w, d = tier.sparse(session), tier.dense(session)
    many = [w.pull_async(KEYS), d.pull_async(), w.pull_async(KEYS[:3])]
    assert all((future.result() == (0.0 if future is many[1] else 5.0)).all() for future in many)
    some = [20, 100, 110, 200]
    rows = [int(key) for keys, _ in read_buckets(w, some) for key in keys]
    assert rows == sorted((key for key in KEYS.tolist() if BUCKETS[key] in some), key=lambda key: (BUCKETS[key], key))
    assert set(session.node_reports()) <= {0, 1, 2}


def clocks(tier: ReplicatedTier, session: Session) -> None:
    """A rank's life, and its successor's."""
    w = tier.sparse(session)
    assert session.takeover(5, 1, 1) == (0, None)
    for clock in range(2):
        w.add_async(KEYS, ONES)
        session.tick()
        assert (w.pull(KEYS) == clock + 1).all()
    session.flush()
    assert tier.shards.ticks == [1] * NUM_BUCKETS
    session.leave()
    assert session.takeover(5, 1, 2) == (2, b"state")
    assert tier.shards.settled == [1] * NUM_BUCKETS
    w.add(KEYS, ONES)
    session.finish()
    assert tier.shards.ticks == [2] * NUM_BUCKETS
    assert (w.pull(KEYS) == 3).all()


def calls(tier: ReplicatedTier, session: Session) -> None:
    """Server functions that read, write, and do both."""
    d = tier.dense(session)
    for scaled in (1, 2):
        d.add_async(ELEMENTS)
        assert d.call("sum") == NUM_BUCKETS
        assert call_functions(session, [(d, "scale", {"alpha": 2.0}), (d, "sum", {})]) == [None, NUM_BUCKETS]
        assert tier.shards.scaled == dict.fromkeys(range(NUM_BUCKETS), scaled)
    session.flush()


PROGRAMS = [pushes, steps, pulls, clocks, calls]


@pytest.mark.parametrize("told", [True, False], ids=["told by nodes", "told by the coordinator"])
@pytest.mark.parametrize("after", [True, False], ids=["carried out", "not taken"])
@pytest.mark.parametrize("event", ["dies", "moves"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_whatever_happens_between_any_two_messages_each_counts_once(program: Program, event: str, after: bool, told: bool) -> None:
    messages = play(program).messages
    for at in range(messages):
        tier = play(program, at=at, event=event, after=after, told=told)
        # Without a word of the nodes it takes a quarter of a second of silence to ask.
        assert tier.network.time - 100.0 < (0.2 if told else 0.7), f"message {at}"
        if told:
            assert asked(tier) == 1, "when the session opened"


def asked(tier: ReplicatedTier) -> int:
    """How often the coordinator was asked for nodes and placement."""
    return sum(isinstance(message, Attach) for message, _ in tier.control.asked)


@pytest.mark.parametrize("program", PROGRAMS)
def test_without_faults_the_coordinator_is_asked_when_the_session_opens(program: Program) -> None:
    assert asked(play(program)) == 1


# ---- who is lost, and who is waited for --------------------------------------------------------------------------------

ATTEMPTS: list[Callable[[ReplicatedTier, Session], object]] = [
    lambda tier, session: tier.sparse(session).push(KEYS, ONES),
    lambda tier, session: tier.sparse(session).pull(KEYS),
    lambda tier, session: tier.sparse(session).register(KEYS),
    lambda tier, session: tier.dense(session).call("sum"),
    lambda tier, session: tier.dense(session).call("scale", alpha=2.0),
    lambda tier, session: session.takeover(5, 1, 1),
    lambda tier, session: list(read_buckets(tier.sparse(session), [100])),
    lambda tier, session: session.node_reports(),
]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_killed_node_without_copies_is_lost_within_seconds(attempt: Callable[..., object], known: bool) -> None:
    tier = ReplicatedTier()
    tier.placement = [row[:1] for row in tier.placement]
    for node in tier.nodes:
        node.placement = tier.placement  # type: ignore[attr-defined]
    session = tier.session()
    tier.nodes[1].dead = True  # type: ignore[attr-defined]
    tier.dead = {1: "killed by signal 9"}
    if known:
        session.refresh()
    with pytest.raises(ShardLost, match=r"Node 1 is gone \(killed by signal 9\) and held the only replica"):
        attempt(tier, session)
    assert tier.network.time - 100.0 < (0.01 if known else 0.5)


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_dead_node_with_copies_is_waited_for_and_the_coordinator_asked_again(attempt: Callable[..., object]) -> None:
    tier = ReplicatedTier(told=False)
    session = tier.session()
    tier.nodes[1].dead = True  # type: ignore[attr-defined]
    tier.dead = {1: "killed by signal 9"}
    session.refresh()
    before = asked(tier)
    tier.network.at(1.0, tier.promote)
    attempt(tier, session)
    assert 101.0 <= tier.network.time < 101.2
    assert 9 <= asked(tier) - before <= 21, "every 50 to 100 ms"


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_dead_node_whose_copies_never_lead_is_named_at_the_deadline(attempt: Callable[..., object]) -> None:
    tier = ReplicatedTier(told=False, request_timeout=3.0)
    session = tier.session()
    tier.nodes[1].dead = True  # type: ignore[attr-defined]
    tier.dead = {1: "killed by signal 9"}
    session.refresh()
    with pytest.raises(DeadlineExceeded, match=r"node 1|node\(s\) 1|placement"):
        attempt(tier, session)
    assert tier.network.time == pytest.approx(103.0, abs=0.2)


def test_buckets_whose_copies_are_all_gone_are_lost_and_others_are_not() -> None:
    tier = ReplicatedTier(told=False)
    session = tier.session()
    w = tier.sparse(session)
    for node in (1, 2):
        tier.nodes[node].dead = True  # type: ignore[attr-defined]
    tier.dead = {1: "killed", 2: "killed"}
    tier.epoch = 2
    tier.placement = [[0] if 0 in row else row for row in tier.placement]
    tier.hear(0)
    lost = [key for key in KEYS.tolist() if tier.placement[BUCKETS[key]] != [0]]
    alive = [key for key in KEYS.tolist() if key not in lost]
    assert lost
    w.push(alive, np.ones((len(alive), 1)))
    assert (w.pull(alive) == 1.0).all()
    for read in (lost, KEYS):
        with pytest.raises(ShardLost):
            w.pull(read)
    with pytest.raises(ShardLost):
        session.takeover(5, 1, 1)
    assert tier.network.time < 101.0


def test_without_a_coordinator_a_node_with_copies_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Look:
        def __init__(self, endpoint: str) -> None:
            self.endpoint = endpoint

        def look(self, now: float) -> Peer:
            return Peer.GONE if self.endpoint == "fake://1" else Peer.THERE

        def close(self) -> None:
            pass

    monkeypatch.setattr(links, "Presence", Look)
    tier = ReplicatedTier(told=False)
    session = tier.session()
    w = tier.sparse(session)

    def gone(message: object) -> object:
        raise NodeUnreachable("The coordinator is gone.")

    answer = tier.control.answer
    tier.control.answer = gone  # type: ignore[method-assign]
    tier.nodes[1].dead = True  # type: ignore[attr-defined]

    def comes_back() -> None:
        tier.control.answer = answer  # type: ignore[method-assign]
        tier.promote()

    tier.network.at(8.0, comes_back)
    w.push(KEYS, ONES)
    assert 108.0 <= tier.network.time < 112.0
    assert [tier.shards.rows[key] for key in KEYS.tolist()] == [1.0] * len(KEYS)


# ---- what nodes say unasked --------------------------------------------------------------------------------------------


def test_nodes_that_are_new_are_reached_without_asking_the_coordinator() -> None:
    tier = ReplicatedTier()
    session = tier.session()
    tier.control.answers = False
    new = tier.add_node()
    tier.epoch, tier.placement = 2, [[3] if row[0] == 0 else row for row in tier.placement]
    for number in (0, 1, 2, 3):
        tier.hear(number)
    assert not new.of(m.Hello)
    w = tier.sparse(session)
    w.push(KEYS, ONES)
    assert new.of(m.Hello)
    assert (w.pull(KEYS) == 1.0).all()
    assert new.of(m.Step)
    assert tier.network.time < 100.1


def test_a_refusal_that_names_unknown_nodes_waits_for_nobody_but_asks() -> None:
    tier = ReplicatedTier(told=False)
    session = tier.session()
    tier.add_node()
    tier.epoch, tier.placement = 2, [[3] if row[0] == 0 else row for row in tier.placement]
    for number in (0, 1, 2, 3):
        tier.hear(number)
    tier.control.answers = False
    tier.network.at(1.0, lambda: setattr(tier.control, "answers", True))
    w = tier.sparse(session)
    w.push(KEYS, ONES)
    assert (w.pull(KEYS) == 1.0).all()
    assert [waited for message, waited in tier.control.asked if isinstance(message, Attach)] == [True, False]


def test_a_placement_older_than_the_known_one_says_nothing() -> None:
    tier = ReplicatedTier()
    tier.epoch = 5
    for node in tier.nodes:
        node.epoch = 5  # type: ignore[attr-defined]
    session = tier.session()
    infos = [NodeInfo(number, f"fake://{number}", "host", 1, "dead", "long ago") for number in range(3)]
    tier.network.tell(0, m.Placed(4, [[2]] * NUM_BUCKETS, infos))
    assert (tier.sparse(session).pull(KEYS) == 0.0).all()
    assert session.routing.epoch == 5
    assert asked(tier) == 1


def test_connections_to_nodes_that_are_gone_are_closed_and_others_kept() -> None:
    tier = ReplicatedTier()
    session = tier.session()
    tier.happen()
    tier.network.time += 1.0
    tier.network.wait([], 0.0)
    tier.sparse(session).push(KEYS, ONES)
    assert [channel.closed for channel in tier.network.channels] == [False, True, False]
    session.close()
    assert not tier.nodes[1].of(m.Bye)


def test_key_sets_are_registered_once_for_the_newest_placement() -> None:
    tier = ReplicatedTier()
    session = tier.session()
    w = tier.sparse(session)
    keys = w.register(KEYS)
    tier.event = "moves"
    for _ in range(2):  # two placements, of which the session hears together
        tier.happen()
        tier.network.wait([], 0.1)
    keys.push(ONES)
    before = [len(node.of(m.Register)) for node in tier.nodes]
    for _ in range(3):
        keys.push(ONES)
        assert (keys.pull() > 1.0).all()
    assert [len(node.of(m.Register)) for node in tier.nodes] in ([2, 2, 2], before)
    epochs = [message.epoch for node in tier.nodes for message in node.of(m.Register)]
    assert sorted(epochs) == [1, 1, 1, 3, 3, 3]


def test_writes_behind_one_that_waits_for_a_placement_wait_too_and_all_are_made_in_order() -> None:
    tier = ReplicatedTier(told=False)
    session = tier.session()
    w, d = tier.sparse(session), tier.dense(session)
    tier.nodes[1].dead = True  # type: ignore[attr-defined]
    futures = [w.add_async(KEYS, ONES), d.add_async(ELEMENTS), w.add_async(KEYS, ONES)]
    tier.dead = {1: "killed by signal 9"}
    tier.network.at(1.0, tier.promote)
    session.refresh()
    futures.append(w.add_async(KEYS[:5], ONES[:5]))
    for future in futures:
        future.result()
    assert [tier.shards.rows[key] for key in KEYS.tolist()] == [3.0] * 5 + [2.0] * 55
    assert (tier.shards.elements == 1.0).all()
    assert tier.network.time < 101.3


@pytest.mark.parametrize("heard", [True, False])
def test_a_node_that_dies_after_it_has_refused_a_write_holds_nothing_up(heard: bool) -> None:
    tier = ReplicatedTier()
    session = tier.session()
    tier.told = False
    w = tier.sparse(session)
    tier.epoch += 1
    tier.hear(1)
    for node in (0, 2):
        tier.nodes[node].takes = 0.02  # type: ignore[attr-defined]
    answers = [w.add_async(KEYS, ONES), w.add_async(KEYS, ONES)]
    if heard:  # what it has refused waits for the answers of the others
        tier.network.time += 0.002
        session.poll()
        assert session._refusals.writes == 2
    tier.told, tier.event = True, "dies"
    tier.happen()
    for future in answers:
        future.result()
    assert [tier.shards.rows[key] for key in KEYS.tolist()] == [2.0] * 60
    assert tier.network.time < 100.2


def test_a_node_that_says_that_it_has_caught_up_is_asked_again_at_once() -> None:
    tier = ReplicatedTier()
    session = tier.session()
    tier.epoch += 1
    tier.hear(0)
    session.refresh()
    w = tier.sparse(session)
    future = w.add_async(KEYS, ONES)
    for node in (1, 2):
        tier.network.at(0.01, lambda node=node: tier.hear(node))
    future.result()
    assert tier.network.time < 100.02, "not after the 50 ms for which it would wait for one that says nothing"
