"""Calls under a membership: numbers, ticks that follow acknowledgements, takeovers, and the end of a session."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from sparkps.client import session as session_module
from sparkps.client.futures import Future
from sparkps.client.items import Item
from sparkps.client.membership import Faults
from sparkps.config import Settings
from sparkps.errors import DeadlineExceeded, Fenced, InvalidInput, NonFiniteValues, TierError
from sparkps.wire.messages import data as m
from tests.harness.requests import is_a
from tests.unit.client.fake_tier import (
    ADDRESS,
    FakeTier,
    always,
    failed,
    forgotten,
    once,
    ranked,
    silence,
    wrong_epoch,
)

# ---- numbers -----------------------------------------------------------------------------------------------------------


def test_calls_are_numbered_from_one_through_steps_and_functions_alike() -> None:
    tier = FakeTier(nodes=2)
    session = tier.session()
    w, d = tier.sparse(session), tier.dense(session)
    w.push([1], [[1.0]])
    d.call("scale", alpha=2.0)
    w.pull(np.arange(50))
    d.add(np.ones(512))
    calls = [message.call for message in tier.nodes[0].got if is_a(message, (m.Step, m.Call))]
    assert calls[-3:] == [2, 3, 4]
    both = [m_.call for node in tier.nodes for m_ in node.of(m.Step)]
    assert both.count(1) == 1
    assert both.count(3) == both.count(4) == 2, "the pieces of a call share its number"


def test_a_piece_that_is_sent_again_keeps_the_number_of_its_call() -> None:
    tier = FakeTier()
    session = tier.session()
    tier.sparse(session).pull([5])
    tier.nodes[0].script = [once(wrong_epoch(2, tier.placement))]
    tier.sparse(session).push([1], [[1.0]])
    assert [(s.seq, s.call) for s in tier.nodes[0].of(m.Step)] == [(1, 1), (2, 2), (3, 2)]


def test_a_call_that_cannot_be_encoded_takes_no_number_of_a_node() -> None:
    tier = FakeTier()
    session = tier.session()
    with pytest.raises(InvalidInput):
        session.broadcast("nonsense", m.Unregister(object()))  # type: ignore[arg-type]
    tier.sparse(session).push([1], [[1.0]])
    assert tier.nodes[0].of(m.Step)[0].seq == 1


def test_no_other_thread_gets_between_the_pieces_of_a_call() -> None:
    tier = FakeTier()
    session = tier.session()
    w = tier.sparse(session)
    other = threading.Thread(target=lambda: w.add([1], [[1.0]]), daemon=True)

    def items() -> Iterator[Item]:
        yield from w.writes(m.OpCode.PUSH, [1], [[1.0]])
        other.start()
        other.join(0.3)
        yield from w.writes(m.OpCode.PUSH, [2], [[1.0]])

    session.steps(Future(session, "push", lambda: None), items())
    other.join(20)
    assert [step.call for step in tier.nodes[0].of(m.Step)] == [1, 1, 2], "numbers reach every shard in their order"


# ---- ticks follow acknowledgements -------------------------------------------------------------------------------------


def test_faults_keep_the_first_and_raise_its_kind() -> None:
    faults = Faults()
    faults.check(1)
    faults.note("push of table 'w'", Fenced("too old", rank=1))
    faults.note("push of table 'v'", TierError("later"))
    with pytest.raises(Fenced, match=r"rank 1 .*push of table 'w' was not: too old") as caught:
        faults.check(1)
    assert caught.value.rank == 1
    interrupted = Faults()
    interrupted.note("push", KeyboardInterrupt())
    with pytest.raises(TierError, match="KeyboardInterrupt"):
        interrupted.check(1)


@pytest.mark.parametrize("caught", [True, False])
def test_no_tick_follows_a_push_that_failed_even_if_the_caller_has_caught_it(caught: bool) -> None:
    tier = FakeTier()
    session = ranked(tier)
    w = tier.sparse(session)
    tier.nodes[0].script.append(once(failed("TierError", "no memory")))
    future = w.push_async([1], [[1.0]])
    if caught:
        with pytest.raises(TierError):
            future.result()
    for _ in range(3):
        with pytest.raises(TierError, match="no memory"):
            session.tick()
    with pytest.raises(TierError, match="no memory"):
        session.finish()
    with pytest.raises(TierError, match="no memory"):
        w.push([1], [[1.0]])
    with pytest.raises(TierError, match="no memory"):
        w.call("scale", alpha=2.0)
    assert w.pull([1]).shape == (1, 1), "reading does no harm"
    assert not tier.nodes[0].of(m.Tick)


def test_a_flush_that_ran_out_of_time_does_not_let_the_next_tick_through() -> None:
    tier = FakeTier(wait_timeout=10.0)
    session = ranked(tier)
    tier.nodes[0].script.append(always(silence))
    tier.sparse(session).push_async([1], [[1.0]])
    tier.network.time += 60.0  # the push has the more time than those who wait for it
    for _ in range(4):
        with pytest.raises(DeadlineExceeded):
            session.tick()
    assert not tier.nodes[0].of(m.Tick)


@pytest.mark.parametrize("write", ["push", "function"])
def test_a_wait_that_was_interrupted_is_made_up_for_by_the_next_tick(write: str) -> None:
    tier = FakeTier()
    session = ranked(tier)
    answer = m.Step if write == "push" else m.Call
    buckets = [] if write == "push" else [np.zeros(0, np.int32)]
    tier.nodes[0].script.append(once(lambda s: [(1.5, m.Done(s.seq), buckets)], kind=answer))

    def interrupt() -> None:
        raise KeyboardInterrupt

    tier.network.at(0.5, interrupt)
    with pytest.raises(KeyboardInterrupt):
        if write == "push":
            tier.sparse(session).push_async([1], [[1.0]])
            session.tick()
        else:
            tier.dense(session).call("scale", alpha=2.0)
    assert tier.network.time == pytest.approx(100.5)
    session.tick()
    assert tier.network.time == pytest.approx(101.5), "the push is acknowledged first"


def test_no_tick_follows_a_push_that_was_half_made() -> None:
    tier = FakeTier(nodes=2)
    session = ranked(tier)
    w = tier.sparse(session)

    def items() -> Iterator[Item]:
        yield next(iter(w.writes(m.OpCode.PUSH, [1, 2, 3], np.ones((3, 1)))))
        raise InvalidInput("the second half cannot be made")

    with pytest.raises(InvalidInput):
        session.steps(Future(session, "push of table 'w'", lambda: None), items())
    with pytest.raises(InvalidInput, match="push of table 'w' was not: the second half"):
        session.tick()
    assert not tier.nodes[0].of(m.Tick)


def test_sums_of_one_key_must_be_finite_too() -> None:
    tier = FakeTier()
    w = tier.sparse(tier.session())
    most = np.finfo(np.float64).max
    for keys in ([7, 3, 7], w.register([7, 3, 7])):
        for write in (w.push, w.add):
            with pytest.raises(NonFiniteValues, match="Those of key 7, which was given more than once, come to infinity") as caught:
                write(keys, [[most], [1.0], [most]])
            assert caught.value.key == 7
        w.assign(keys, [[most], [1.0], [most]])
    assert len(tier.nodes[0].of(m.Step)) == 2


def test_what_the_client_refuses_before_it_sends_anything_does_not_count() -> None:
    tier = FakeTier()
    session = ranked(tier)
    w = tier.sparse(session)
    with pytest.raises(NonFiniteValues):
        w.push([1], [[np.nan]])
    with pytest.raises(InvalidInput):
        w.push([1], [[1.0, 2.0]])
    (item,) = w.writes(m.OpCode.PUSH, [1], [[1.0]])
    item.values = np.ones((1, 1), complex)
    with pytest.raises(InvalidInput, match="complex|c16"):
        session.steps(Future(session, "push of what no message carries", lambda: None), [item])
    assert not tier.nodes[0].of(m.Step)
    w.push([1], [[1.0]])
    session.tick()
    session.finish()
    assert [tick.finish for tick in tier.nodes[0].of(m.Tick)] == [False, True]


def test_a_tick_that_failed_is_followed_by_none() -> None:
    tier = FakeTier()
    session = ranked(tier)
    tier.nodes[0].script.append(once(failed("Fenced", "another attempt has the rank"), kind=m.Tick))
    session.tick()
    for _ in range(2):
        with pytest.raises(Fenced, match="another attempt"):
            session.tick()
    assert len(tier.nodes[0].of(m.Tick)) == 1


def test_the_next_membership_of_a_session_starts_afresh() -> None:
    tier = FakeTier()
    session = ranked(tier)
    tier.nodes[0].script.append(once(failed("TierError", "no memory")))
    with pytest.raises(TierError):
        tier.sparse(session).push([1], [[1.0]])
    session.leave()
    session.takeover(6, 0, 1)
    session.tick()
    session.finish()


# ---- BSP ---------------------------------------------------------------------------------------------------------------


def test_in_bsp_a_tick_waits_for_every_pull_of_its_clock() -> None:
    tier = FakeTier()
    session = ranked(tier, staleness=0)
    tier.nodes[0].script.append(once(lambda s: [(1.5, m.Done(s.seq), [np.zeros((1, 1))])]))
    pull = tier.sparse(session).pull_async([1])
    session.tick()
    assert pull.settled()
    assert tier.network.time == pytest.approx(101.5)


@pytest.mark.parametrize("staleness", [2, -1])
def test_in_ssp_and_asp_pulls_stay_in_flight_over_a_tick(staleness: int) -> None:
    tier = FakeTier()
    session = ranked(tier, staleness=staleness)
    tier.nodes[0].script.append(once(lambda s: [(1.5, m.Done(s.seq), [np.zeros((1, 1))])]))
    pull = tier.sparse(session).pull_async([1])
    session.tick()
    assert not pull.settled()
    assert tier.network.time == 100.0
    pull.result()


# ---- takeover ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("knows", [0, 1])
def test_the_rank_has_finished_if_any_node_says_so(knows: int) -> None:
    tier = FakeTier(nodes=2)
    session = tier.session()
    for node in tier.nodes:
        finished = node.number == knows
        state = b"result" if finished else b"stale"
        node.script.append(
            always(lambda t, s=state, f=finished: [(0.0, m.TakenOver(t.seq, 4, s, f), [])], kind=m.Takeover)
        )
    assert session.takeover(5, 1, 2) == (5, b"result")
    for node in tier.nodes:
        (settle,), (tick,) = node.of(m.Settle), node.of(m.Tick)
        assert (settle.member.clock, settle.state) == (4, b"result")
        assert (tick.member.clock, tick.state, tick.finish) == (4, b"result", True)


def test_an_unfinished_rank_goes_on_after_its_highest_clock() -> None:
    tier = FakeTier(nodes=2)
    session = tier.session()
    for node, clock in zip(tier.nodes, (3, 5), strict=True):
        answer = m.TakenOver(0, clock, b"%d" % clock, staleness=2)
        node.script.append(
            always(lambda t, a=answer: [(0.0, m.TakenOver(t.seq, a.clock, a.state, staleness=2), [])], kind=m.Takeover)
        )
    assert session.takeover(5, 1, 2) == (6, b"5")
    assert session.member is not None
    assert (session.member.clock, session.member.staleness) == (6, 2)
    assert not tier.nodes[0].of(m.Tick)


# ---- the end of a session, and threads that share one -------------------------------------------------------------------


def test_clients_learn_how_long_nodes_remember_them() -> None:
    settings = Settings.parse({"spark.sparkps.sessionTtl": "30s"})
    assert settings.client.session_ttl == settings.node.session_ttl == 30.0
    assert "session_ttl" in {field.name for field in dataclasses.fields(settings.client)}


def test_calls_of_a_session_that_is_closed_end_at_once() -> None:
    tier = FakeTier()
    session = tier.session()
    w = tier.sparse(session)
    tier.nodes[0].script.append(once(silence))
    late = w.add_async([1], [[1.0]])
    session.close()
    with pytest.raises(TierError, match="must be open until its calls are answered"):
        late.result()
    with pytest.raises(TierError, match="must be open for a"):
        w.add([1], [[1.0]])
    assert tier.network.time == 100.0, "nobody waited"


def test_no_write_is_forgotten_by_flush_where_threads_share_a_session() -> None:
    session = FakeTier().session()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(50):
            futures: list[list[Future[None]]] = [[], []]

            def remember(mine: list[Future[None]]) -> None:
                for number in range(40):
                    future: Future[None] = Future(session, f"write {number}", lambda: None)
                    future.expect()
                    mine.append(future)
                    session.remember(future)

            threads = [threading.Thread(target=remember, args=(mine,)) for mine in futures]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert {id(f) for f in session._unfinished} >= {id(f) for mine in futures for f in mine}
            session._unfinished = []
    finally:
        sys.setswitchinterval(interval)


def test_a_rank_s_write_goes_again_however_long_its_session_was_forgotten() -> None:
    tier = FakeTier(session_ttl=100.0, wait_timeout=1000.0)
    session = ranked(tier, staleness=0)
    w = tier.sparse(session)
    tier.nodes[0].script.append(once(silence))
    write = w.add_async([1], [[1.0]])
    tier.network.time += 500.0
    tier.nodes[0].script = [forgotten()]
    write.result()
    first, *_, last = tier.nodes[0].of(m.Step)
    assert (last.member, last.call) == (first.member, first.call), "by which the node knows it, if it has it already"
    assert tier.nodes[0].of(m.Hello)[-1].session == last.session, "its session was opened again"
    session.tick()
    assert len(tier.nodes[0].of(m.Tick)) == 1, "and its clock goes on"


def test_when_the_tier_has_ended_calls_of_every_thread_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tier = FakeTier()
    session = tier.session()
    monkeypatch.setattr(session_module, "_connected", {session})
    monkeypatch.setattr(session_module, "_ended", {})
    w = tier.sparse(session)
    tier.nodes[0].script.append(once(silence))
    late = w.add_async([1], [[1.0]])
    session_module.end_all(msgspec.structs.replace(ADDRESS, tier_id="another"))
    assert session.over is None, "only those of the tier that has ended"
    session_module.end_all(ADDRESS)
    with pytest.raises(TierError, match="It was stopped, and its tables are gone"):
        late.result()
    with pytest.raises(TierError, match="It was stopped, and its tables are gone"):
        w.add([1], [[1.0]])
    assert tier.network.time < 102.0
