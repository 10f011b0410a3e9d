"""A node dies, or leads move, at every message of what a session does: nothing is lost, nothing counts twice, nobody waits long."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sparkps.client.calls import call_functions
from sparkps.client.frames import read_buckets
from sparkps.client.session import Session
from sparkps.client.tables import pull_together, write_together
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.hashing import buckets_of
from sparkps.wire.messages import data as m
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
        assert tier.network.time - 100.0 < (0.4 if told else 1.0), f"message {at}"


def test_a_program_without_faults_asks_the_coordinator_once() -> None:
    for program in PROGRAMS:
        assert [message for message, _ in play(program).control.asked if not hasattr(message, "name")] == [
            play(program).control.asked[0][0]
        ]
