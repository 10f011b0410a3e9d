"""Order of a session's requests, answers that are asked for again, and what is forgotten when."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.ps_nodes import sessions
from sparkps.ps_nodes.sessions import MOST_AHEAD, NodeSession, SessionTable, Verdict


def opened(table: SessionTable | None = None, number: int = 1, now: float = 0.0) -> NodeSession:
    session = (table or SessionTable()).open(number, b"a", now)
    assert session is not None
    return session


def deliver(session: NodeSession, seq: int, acked: int = 0) -> list[int]:
    """A new request arrives; the requests whose turn has come."""
    assert session.arrive(seq, acked) is Verdict.NEW
    session.hold(seq, seq, 10)
    begun = list(session.in_turn())
    session.validate()
    assert session.waiting_bytes == 10 * len(session.early)
    return begun


def test_requests_begin_in_the_order_of_their_numbers_whatever_the_order_of_arrival() -> None:
    session = opened()
    assert deliver(session, 3) == []
    assert deliver(session, 2) == []
    assert session.waiting_bytes == 20
    assert deliver(session, 1) == [1, 2, 3]
    assert session.waiting_bytes == 0


def test_a_request_runs_once_however_often_it_arrives() -> None:
    session = opened()
    assert deliver(session, 1) == [1]
    assert session.arrive(1, 0) is Verdict.PENDING
    session.answered(1, [b"done"], record=True)
    assert session.arrive(1, 0) is Verdict.ANSWERED
    assert deliver(session, 2, acked=1) == [2]
    assert session.answers == {}, "what the client has is forgotten"
    assert session.arrive(1, 0) is Verdict.STALE


def test_a_pull_may_run_again() -> None:
    session = opened()
    deliver(session, 1)
    session.answered(1, [b"rows"], record=False)
    assert session.arrive(1, 0) is Verdict.AGAIN


def test_a_request_far_ahead_of_its_turn_counts_as_lost() -> None:
    session = opened()
    assert session.arrive(1 + MOST_AHEAD, 0) is Verdict.STALE
    assert session.arrive(MOST_AHEAD, 0) is Verdict.NEW


def test_a_session_that_is_opened_again_goes_on_behind_what_its_client_has() -> None:
    table = SessionTable()
    session = table.open(1, b"a", 0.0, acked=4)
    assert session is not None
    assert session.arrive(4, 4) is Verdict.STALE
    assert deliver(session, 6, acked=4) == []
    assert deliver(session, 5, acked=4) == [5, 6]


def test_what_the_client_has_does_not_wait_for_its_turn() -> None:
    session = opened()
    deliver(session, 3)
    assert deliver(session, 5, acked=3) == []
    assert deliver(session, 4, acked=3) == [4, 5]


def test_a_later_write_does_not_overtake_one_that_was_sent_back() -> None:
    session = opened()
    session.bar(2)
    assert not session.bars(2, 0)
    assert session.bars(3, 1)
    session.bar(3)
    assert session.bars(4, 2), "the client did not know of 3"
    assert not session.bars(4, 3)


def test_what_is_sent_again_is_barred_although_the_client_has_heard_of_the_refusal_since() -> None:
    session = opened()
    for seq in (1, 2):
        deliver(session, seq)
    session.bar(1)
    session.acknowledge(1)  # a Hello, ahead of the repetition of 2
    assert session.bars(2, 0)
    session.bar(2)
    assert not session.bars(3, 2)


def test_what_is_sent_back_behind_a_refused_write_lets_nothing_between_them_pass() -> None:
    session = opened()
    for seq in range(1, 7):
        deliver(session, seq)
    session.bar(5)  # a piece of one call, and then one of the call before, which began behind its fellows
    session.bar(2)
    session.bar(2)
    assert not session.bars(1, 0)
    assert all(session.bars(seq, 0) for seq in (3, 4, 5, 6))
    assert session.bars(7, 4), "the client did not know of 5"
    assert not session.bars(8, 5)
    session.bar(7)
    assert session.bars(6, 0), "a repetition that comes late"
    assert not session.bars(6, 5)
    assert session.bars(8, 6)


def test_refusals_that_no_request_can_precede_are_forgotten() -> None:
    session = opened()
    session.bar(2)
    session.acknowledge(MOST_AHEAD + 10)
    session.bar(MOST_AHEAD + 20)
    assert session.refused == [MOST_AHEAD + 20]


def test_silent_sessions_are_forgotten_unless_they_wait_and_their_marks_later() -> None:
    table = SessionTable(ttl=10.0)
    opened(table, 1)
    opened(table, 2).arrive(1, 0)
    opened(table, 3)
    assert table.expire(11.0, {1, 2}) == [], "session 3 has no marks"
    assert table.get(1, b"a", 11.0) is None
    assert table.get(2, b"b", 11.0) is not None
    assert table.expire(20.0) == []
    assert table.expire(22.0) == [1]


def test_a_session_that_comes_back_keeps_its_marks() -> None:
    table = SessionTable(ttl=10.0)
    opened(table, 1)
    table.expire(11.0)
    opened(table, 1, now=12.0)
    assert table.expire(21.5) == []
    assert 1 in table.sessions


def test_of_many_sessions_those_with_nothing_to_lose_are_forgotten_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 2)
    table = SessionTable(ttl=1e6)
    for number in range(1, 6):
        opened(table, number)
    kept = table.sessions[1]
    kept.arrive(1, 0)
    kept.answered(1, [b"header", b"array"], record=True, plain=False)
    table.sessions[2].answered(1, [b"done"], record=True)
    assert table.expire(30.0) == []
    table.expire(100.0)
    assert set(table.sessions) == {1, 5}


def test_a_session_that_said_good_bye_is_not_opened_by_a_late_message() -> None:
    table = SessionTable()
    opened(table, 1)
    assert table.close(1, 0.0), "its marks may go at once"
    assert table.open(1, b"a", 1.0) is None
    assert table.get(1, b"a", 1.0) is None


@pytest.mark.parametrize("seed", range(30))
def test_loss_duplicates_and_reordering_run_every_request_once_and_in_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    session = opened()
    ran: list[int] = []
    answered: set[int] = set()
    network: list[tuple[int, int]] = []
    last = 0
    for step in range(800):
        acked = 0
        while acked + 1 in answered:
            acked += 1
        if step < 400 and rng.random() < 0.3:
            last += 1
            network.append((last, acked))
        elif acked < last:
            network.append((int(rng.integers(acked + 1, last + 1)), acked))  # sent again
        if network:
            at = int(rng.integers(len(network)))
            seq, ack = network[at] if rng.random() < 0.4 else network.pop(at)
            if rng.random() < 0.1:
                continue
            verdict = session.arrive(seq, ack)
            if verdict is Verdict.NEW:
                session.hold(seq, seq, 1)
                for work in session.in_turn():
                    ran.append(work)
                    session.answered(work, [b"done"], record=True)
            if seq in session.answers and rng.random() < 0.7:
                answered.add(seq)
        session.validate()
    assert ran == list(range(1, len(ran) + 1))
    assert len(ran) > 50


def test_the_marks_of_a_session_that_leaves_writes_under_way_are_kept_for_its_ttl() -> None:
    table = SessionTable(ttl=10.0)
    opened(table, 1).arrive(1, 0)
    assert not table.close(1, 5.0)
    assert table.expire(15.0) == []
    assert table.expire(15.1) == [1]


def test_what_is_only_ahead_of_its_turn_keeps_no_silent_session() -> None:
    table = SessionTable(ttl=10.0)
    deliver(opened(table, 1), 2)
    table.expire(11.0)
    assert not table.sessions
