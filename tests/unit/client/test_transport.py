"""What a session does with answers, silence and refusals, on a network of the test's own."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.client.inflight import FILLER
from sparkps.errors import DeadlineExceeded, ShardLost, TierError
from sparkps.wire.hashing import buckets_of
from sparkps.wire.messages import data as m
from sparkps.wire.messages.control import Attach
from tests.harness.placements import initial, join
from tests.harness.requests import is_a
from tests.unit.client.fake_tier import (
    FakeTier,
    after,
    always,
    forgotten,
    once,
    silence,
    wrong_epoch,
)

# ---- answers before timers ---------------------------------------------------------------------------------------------


def test_answers_that_came_while_the_caller_computed_are_taken_before_anything_is_sent_again() -> None:
    tier = FakeTier()
    session = tier.session()
    w = tier.sparse(session)
    futures = [w.add_async([key], [[1.0]]) for key in range(20)]
    tier.network.time += 500.0  # past every retry and every deadline
    for future in futures:
        future.result()
    assert len(tier.nodes[0].of(m.Step)) == 20, "nothing was sent again"


@pytest.mark.parametrize("seconds", [2.0, 60.0])
def test_an_answer_that_comes_just_when_its_request_is_due_or_late_counts(seconds: float) -> None:
    tier = FakeTier(retry_initial=seconds, retry_max=seconds)
    session = tier.session()
    tier.nodes[0].script = [always(after(seconds))]
    tier.sparse(session).push([1], [[1.0]])
    assert len(tier.nodes[0].of(m.Step)) == 1


def test_computing_past_the_deadline_fails_no_request_whose_answer_is_still_on_its_way() -> None:
    tier = FakeTier()
    session = tier.session()
    tier.nodes[0].script = [always(after(70.5))]
    future = tier.sparse(session).add_async([1], [[1.0]])
    tier.network.time += 70.0  # the deadline is 60 s
    future.result()
    assert len(tier.nodes[0].of(m.Step)) == 1, "half a second of silence is no reason to send again"


def test_a_process_that_was_stopped_while_it_waited_does_not_blame_the_node() -> None:
    tier = FakeTier()
    session = tier.session()
    tier.nodes[0].script = [always(after(501.0))]

    def stopped() -> None:
        tier.network.time += 500.0

    tier.network.at(0.5, stopped)
    tier.sparse(session).push([1], [[1.0]])
    assert len(tier.nodes[0].of(m.Step)) == 1


def test_only_what_is_late_is_sent_again() -> None:
    tier = FakeTier()
    session = tier.session()
    w = tier.sparse(session)
    tier.nodes[0].script = [once(silence)]
    first, second = w.add_async([1], [[1.0]]), w.add_async([2], [[1.0]])
    first.result()
    second.result()
    assert [step.seq for step in tier.nodes[0].of(m.Step)] == [1, 2, 1]
    assert tier.network.time == pytest.approx(102.0)


def test_polling_now_and_then_counts_as_looking() -> None:
    tier = FakeTier()
    session = tier.session()
    tier.nodes[0].script = [once(silence)]
    future = tier.sparse(session).add_async([1], [[1.0]])
    for _ in range(60):
        future.done()
        tier.network.time += 0.05
    assert future.done()
    assert len(tier.nodes[0].of(m.Step)) == 2


# ---- silence and the coordinator ---------------------------------------------------------------------------------------


def test_nobody_waits_for_a_coordinator_that_does_not_answer() -> None:
    tier = FakeTier()
    session = tier.session()
    tier.control.answers = False
    tier.nodes[0].script = [once(silence, silence, after(0.0))]
    began = tier.network.time
    tier.sparse(session).push([1], [[1.0]])
    assert tier.network.time - began == pytest.approx(6.0), "sent again after 2 s and 4 s more, and answered at once"
    assert [waited for message, waited in tier.control.asked if isinstance(message, Attach)] == [True, False]
    session.close()
    assert all(inquiry.closed for inquiry in tier.control.inquiries)


def test_a_parked_pull_is_no_silence() -> None:
    tier = FakeTier()
    session = tier.session()

    def parked(message: m.Step) -> list:
        return [(0.0, m.Parked(message.seq, 3, [1]), [])]

    tier.nodes[0].script = [once(silence, parked, parked, parked)]
    with pytest.raises(DeadlineExceeded, match=r"rank\(s\) 1"):
        tier.sparse(session).pull_async([1]).result(timeout=20.0)
    assert len(tier.nodes[0].of(m.Step)) == 4
    assert len(tier.control.asked) == 4, "the coordinator was asked at the start, and before the node had said that it is parked"


def test_a_dead_node_is_learnt_from_an_answer_nobody_waited_for() -> None:
    tier = FakeTier(nodes=2)
    session = tier.session()
    tier.nodes[1].script = [always(silence)]
    pull = tier.sparse(session).pull_async(np.arange(100))
    tier.dead[1] = "was killed by signal 9"
    began = tier.network.time
    with pytest.raises(ShardLost, match="killed by signal 9"):
        pull.result(timeout=10.0)
    assert tier.network.time - began <= 4.0
    with pytest.raises(ShardLost):
        tier.sparse(session).push(np.arange(100), np.ones((100, 1)))


def test_a_tier_that_is_gone_for_its_coordinator_ends_every_wait() -> None:
    tier = FakeTier()
    session = tier.session()
    tier.nodes[0].script = [always(silence)]

    def other_tier(message: object) -> object:
        raise TierError("A table handle must belong to the running tier.")

    tier.control.answer = other_tier  # type: ignore[method-assign]
    with pytest.raises(TierError, match="must belong"):
        tier.sparse(session).push([1], [[1.0]])
    assert tier.network.time < 110.0


def test_nodes_that_appear_while_timers_run_disturb_nobody() -> None:
    tier = FakeTier(nodes=2)
    session = tier.session()
    tier.nodes[0].script = [always(silence)]
    tier.nodes[1].script = [always(silence)]
    pull = tier.sparse(session).pull_async(np.arange(100))
    tier.add_node()
    tier.placement, tier.epoch = join(tier.placement, [2]), 2
    with pytest.raises(DeadlineExceeded):
        pull.result(timeout=20.0)
    assert tier.nodes[2].of(m.Hello)
    assert session.routing.epoch == 2


# ---- placement ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [True, False])
def test_a_placement_in_a_refusal_is_used_without_asking_the_coordinator(write: bool) -> None:
    tier = FakeTier(nodes=2)
    session = tier.session()
    moved = [[1] for _ in range(256)]
    tier.control.answers = False
    for node in tier.nodes:
        node.script = [always(lambda s: wrong_epoch(2, moved)(s) if s.epoch < 2 else None)]
    w = tier.sparse(session)
    if write:
        w.push(np.arange(100), np.ones((100, 1)))
    else:
        assert w.pull(np.arange(100)).shape == (100, 1)
    assert session.routing.epoch == 2
    new = [arrays for message, arrays in zip(tier.nodes[1].got, tier.nodes[1].arrays, strict=True) if arrays and message.epoch == 2]
    assert sorted(key for arrays in new for keys in arrays if keys.dtype == np.int64 for key in keys) == list(range(100))


def test_only_a_node_whose_endpoint_is_unknown_makes_a_session_ask() -> None:
    tier = FakeTier()
    session = tier.session()
    tier.add_node()
    tier.placement, tier.epoch = join(initial([0]), [1]), 2
    tier.nodes[0].script = [always(lambda s: wrong_epoch(2, tier.placement)(s) if s.epoch < 2 else None)]
    tier.sparse(session).push(np.arange(100), np.ones((100, 1)))
    assert len(tier.control.asked) == 2
    assert tier.nodes[1].of(m.Step)


def test_a_node_that_has_not_heard_of_the_placement_yet_is_asked_again_in_a_moment() -> None:
    tier = FakeTier()
    tier.epoch = 3
    session = tier.session()
    tier.nodes[0].script = [once(wrong_epoch(0, []), wrong_epoch(0, []))]
    tier.sparse(session).push([1], [[1.0]])
    assert [(s.seq, s.call) for s in tier.nodes[0].of(m.Step)] == [(1, 1), (2, 1), (3, 1)]
    assert tier.network.time == pytest.approx(100.1)


# ---- sessions that a node has forgotten --------------------------------------------------------------------------------


def test_a_forgotten_session_is_opened_again_and_goes_on() -> None:
    tier = FakeTier()
    session = tier.session()
    w = tier.sparse(session)
    w.push([1], [[1.0]])
    w.push([1], [[1.0]])
    tier.nodes[0].script = [forgotten()]
    del tier.nodes[0].got[:]
    futures = [w.add_async([key], [[1.0]]) for key in range(3)]
    for future in futures:
        future.result()
    assert tier.nodes[0].of(m.Hello) == [m.Hello(session.id, 2, "t1")], "it says what it has"
    assert [s.seq for s in tier.nodes[0].of(m.Step)] == [3, 4, 5, 3, 4, 5], "all again, in order, once"
    assert session.network.now() < 101.0


def test_numbers_that_a_forgetful_node_lacks_are_filled() -> None:
    tier = FakeTier()
    session = tier.session()
    w = tier.sparse(session)
    tier.nodes[0].script = [once(silence)]
    slow = w.pull_async([1])  # seq 1
    w.push([2], [[1.0]])
    w.push([3], [[1.0]])
    tier.nodes[0].script = [forgotten()]
    last = w.add_async([4], [[1.0]])  # seq 4
    last.result()
    hello = tier.nodes[0].got.index(m.Hello(session.id, 0, "t1"), 1)
    again = tier.nodes[0].got[hello + 1 : hello + 5]
    assert [message.seq for message in again] == [1, 2, 3, 4]
    assert [type(request.message) for request in again] == [m.Step, m.Unregister, m.Unregister, m.Step]
    assert slow.result().shape == (1, 1)


def test_a_write_too_old_to_be_sent_again_says_that_it_may_have_been_applied() -> None:
    tier = FakeTier(session_ttl=100.0)
    session = tier.session()
    w = tier.sparse(session)
    tier.nodes[0].script = [once(silence, silence)]
    old, pull = w.add_async([1], [[1.0]]), w.pull_async([1])
    tier.network.time += 101.0
    tier.nodes[0].script = [forgotten()]
    young = w.add_async([2], [[1.0]])
    young.result()
    with pytest.raises(TierError, match="may or may not have been applied") as caught:
        old.result()
    assert not isinstance(caught.value, ShardLost)
    assert pull.result().shape == (1, 1), "to read twice does no harm"
    hello = tier.nodes[0].got.index(m.Hello(session.id, 0, "t1"), 1)
    assert [type(x.message) for x in tier.nodes[0].got[hello + 1 : hello + 4]] == [m.Unregister, m.Step, m.Step]


def test_a_lost_hello_is_said_again() -> None:
    tier = FakeTier()
    tier.nodes[0].script = [once(silence, kind=m.Hello), forgotten()]
    session = tier.session()
    tier.sparse(session).push([1], [[1.0]])
    assert len(tier.nodes[0].of(m.Hello)) == 2
    assert tier.network.time == pytest.approx(102.0)


# ---- deadlines and credits ---------------------------------------------------------------------------------------------


def test_a_request_that_is_given_up_leaves_no_gap_in_the_numbers() -> None:
    tier = FakeTier(request_timeout=5.0)
    session = tier.session()
    w = tier.sparse(session)
    tier.nodes[0].script = [always(lambda s: [] if s.seq == 1 else None)]
    lost = w.pull_async([1])
    with pytest.raises(DeadlineExceeded):
        lost.result(timeout=4.0)
    tier.nodes[0].script = [always(lambda s: [] if s.seq < 3 else None)]
    later = w.pull_async([2])
    with pytest.raises(DeadlineExceeded):
        lost.result(timeout=2.0)
    filler = tier.nodes[0].got[-1]
    assert is_a(filler, m.Unregister)
    assert (filler.seq, filler.keyset) == (1, m.NO_KEYSET)
    with pytest.raises(DeadlineExceeded):
        later.result(timeout=9.0)
    lane = session._lanes[0]
    assert (lane.acked, lane.requests) == (2, {}), "nothing in flight needs a filler"
    assert FILLER.down == 0


def test_the_error_names_a_request_of_the_call_that_was_waited_for() -> None:
    tier = FakeTier(nodes=2)
    session = tier.session()
    w, d = tier.sparse(session), tier.dense(session)
    for node in tier.nodes:
        node.script = [always(silence)]
    pull = w.pull_async(np.arange(100))
    push = d.push_async(np.ones(512))
    with pytest.raises(DeadlineExceeded, match="push of table 'd'"):
        push.result(timeout=1.0)
    with pytest.raises(DeadlineExceeded, match="pull of table 'w'"):
        pull.result(timeout=1.0)


def small_credit() -> FakeTier:
    """A tier whose nodes answer no step, and where one push takes all the room."""
    tier = FakeTier(chunk_bytes=1 << 12, push_credit_bytes=1 << 12, request_timeout=5.0)
    tier.nodes[0].script = [always(silence)]
    return tier


def test_a_push_larger_than_the_credit_keeps_back_no_request_without_arrays() -> None:
    tier = small_credit()
    session = tier.session()
    one_bucket = np.flatnonzero(buckets_of(np.arange(1 << 18)) == 5)
    assert one_bucket.nbytes > 1 << 12, "a bucket is never cut"
    push = tier.sparse(session).add_async(one_bucket, np.ones((len(one_bucket), 1)))
    began = tier.network.time
    status = session.broadcast("status", m.Status())
    assert tier.network.time == began, "it did not wait for room"
    status.result()
    assert not push.settled()


def test_no_room_in_time_names_who_keeps_it() -> None:
    tier = small_credit()
    session = tier.session()
    d = tier.dense(session)
    session.takeover(1, 0, 1)  # its calls may take longer
    d.add_async(np.ones(512))
    session.leave()
    with pytest.raises(DeadlineExceeded, match=r"push of table 'd' must be sent.*behind an earlier request.*add of table 'd'"):
        d.push_async(np.ones(512))
