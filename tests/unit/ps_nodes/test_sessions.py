"""De-duplication of requests by (session, seq)."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.ps_nodes.sessions import SessionTable, Verdict


def test_a_request_runs_once_however_often_it_arrives() -> None:
    session = SessionTable().open(1, b"a", 0.0)
    assert session.arrive(1, 0) is Verdict.NEW
    assert session.arrive(1, 0) is Verdict.PENDING
    session.answered(1, [b"done"], record=True)
    assert session.arrive(1, 0) is Verdict.ANSWERED
    assert session.arrive(2, 1) is Verdict.NEW
    assert session.answers == {}, "what the client has is forgotten"
    assert session.arrive(1, 0) is Verdict.STALE


def test_a_pull_may_run_again() -> None:
    session = SessionTable().open(1, b"a", 0.0)
    assert session.arrive(1, 0) is Verdict.NEW
    session.answered(1, [b"rows"], record=False)
    assert session.arrive(1, 0) is Verdict.NEW


def test_silent_sessions_are_forgotten_unless_they_wait() -> None:
    table = SessionTable(ttl=10.0)
    table.open(1, b"a", 0.0)
    table.open(2, b"b", 0.0).arrive(1, 0)
    assert table.expire(11.0) == 1
    assert table.get(1, b"a", 11.0) is None
    assert table.get(2, b"b", 11.0) is not None


@pytest.mark.parametrize("seed", range(30))
def test_duplicates_and_reordering_never_run_a_write_twice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    session = SessionTable().open(1, b"a", 0.0)
    ran: list[int] = []
    answered: set[int] = set()
    network: list[tuple[int, int]] = []
    last = 0
    for _ in range(500):
        acked = 0
        while acked + 1 in answered:
            acked += 1
        if rng.random() < 0.3:
            last += 1
            network.append((last, acked))
        if network:
            at = int(rng.integers(len(network)))
            seq, ack = network[at] if rng.random() < 0.4 else network.pop(at)
            verdict = session.arrive(seq, ack)
            if verdict is Verdict.NEW:
                ran.append(seq)
                session.answered(seq, [b"done"], record=True)
            if verdict in (Verdict.NEW, Verdict.ANSWERED) and rng.random() < 0.7:
                answered.add(seq)
        session.validate()
        assert len(ran) == len(set(ran))
