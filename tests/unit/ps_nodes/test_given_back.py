"""What a node keeps, and gives back: marks, sessions, answers, memory that is held back."""

from __future__ import annotations

import pytest

from sparkps.ps_nodes import sessions
from sparkps.ps_nodes.sessions import SessionTable, Verdict
from sparkps.specs import TableSpec
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from tests.harness.requests import Numbered
from tests.unit.ps_nodes.lone_node import GROUP, Client, LoneNode, in_order


@pytest.fixture
def node() -> LoneNode:
    made = LoneNode()
    made.table()
    return made


def opened(table=None, number=1, now=0.0):
    session = (table or SessionTable()).open(number, b"a", now)
    assert session is not None
    return session


def deliver(session, seq, acked=0):
    assert session.arrive(seq, acked) is Verdict.NEW
    session.hold(seq, seq, 10)
    begun = list(session.in_turn())
    session.validate()
    return begun


def test_marks_go_with_the_good_bye(node):
    client = Client(node, 5)
    client.ask(*client.add([7]))
    assert len(node.service.state.shards.marks) == 1
    client.send(m.Bye(5))
    assert len(node.service.state.shards.marks) == 0


def test_marks_of_a_session_without_good_bye_go_in_the_end(node):
    client = Client(node, 5)
    client.ask(*client.add([7]))
    ttl = node.service.state.sessions.ttl
    for node.time, kept in ((ttl + 1, 1), (2 * ttl + 3, 0)):
        node.service.look_around()
        assert len(node.service.state.shards.marks) == kept


def test_a_session_whose_answers_have_content_is_not_forgotten_early(node, monkeypatch):
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 0)
    client, idle = Client(node, 5), Client(node, 6)
    assert isinstance(client.ask(client.call("sum")), m.Done)
    assert isinstance(idle.ask(*idle.add([7])), m.Done)
    node.time = 100.0
    node.service.look_around()
    assert set(node.service.state.sessions.sessions) == {5}


def test_a_small_request_for_a_large_answer_runs_on_the_pool(node):
    spec = TableSpec("d", "dense", 1, "float64", shape=(1 << 17,), table=9)
    assert node.command(c.CreateTable(0, spec)) == [None]
    client = Client(node, 5)
    pull = Numbered(5, client.next(), 0, m.Step(1, [m.Op(m.OpCode.PULL, 9, stop=256)]))
    client.send(pull)
    assert client.answers(pull.seq) == []
    node.pool.run()
    assert len(client.rows(pull.seq)) == 1 << 17


def test_what_the_client_has_already_takes_no_room_among_what_waits():
    session = opened()
    deliver(session, 3)
    assert deliver(session, 5, acked=3) == []
    assert deliver(session, 4, acked=3) == [4, 5]
    assert session.waiting_bytes == 0


def test_a_session_with_key_sets_is_not_forgotten_early(monkeypatch):
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 0)
    table = SessionTable(ttl=1e6)
    opened(table, 1).keysets[3] = object()
    opened(table, 2)
    table.expire(100.0)
    assert set(table.sessions) == {1}


def test_a_session_that_speaks_does_not_keep_older_ones():
    table = SessionTable(ttl=10.0)
    opened(table, 1)
    opened(table, 2)
    table.get(1, b"a", 5.0)
    table.expire(11.0)
    assert set(table.sessions) == {1}


def test_of_the_sessions_that_said_good_bye_the_latest_are_remembered(monkeypatch):
    monkeypatch.setattr(sessions, "MOST_CLOSED", 2)
    table = SessionTable()
    for number in (1, 2, 3):
        opened(table, number)
        table.close(number, 0.0)
    assert table.open(3, b"a", 1.0) is None
    assert table.open(2, b"a", 1.0) is None


def test_an_answer_that_the_client_gave_up_is_not_kept():
    session = opened()
    deliver(session, 1)
    deliver(session, 2, acked=1)
    session.answered(1, [b"done"], record=True)
    assert session.answers == {}
    session.validate()


def test_key_sets_go_with_the_last_table_of_their_index(node):
    client = Client(node, 5)
    keys = in_order([1, 2, 3])
    answer = client.ask(Numbered(5, client.next(), 0, m.Register(1, 1, 77, 0, 3)), [keys])
    assert isinstance(answer, m.Done)
    assert node.service.state.sessions.keyset_bytes() > 0
    node.drop(1)
    assert node.service.state.sessions.sessions[5].keysets == {}
    assert node.service.state.sessions.keyset_bytes() == 0


def test_a_close_that_fails_ends_its_group_and_is_not_acknowledged(node, monkeypatch):
    node.group(1, 0)
    rank = Client.of_rank(node, 0)
    assert isinstance(rank.ask(*rank.add([7])), m.Done)

    def full(*_):
        raise MemoryError("no memory for new rows")

    monkeypatch.setattr(node.service.state.tables.by_id[1].index, "resolve", full)
    refused = rank.ask(rank.tick(finish=True))
    assert isinstance(refused, m.Failed)
    assert "Clock 0 could not be closed" in refused.message


def test_the_first_cause_of_a_group_stays(node):
    node.group(1, 0)
    rank = Client.of_rank(node, 0)
    node.command(c.FailGroup(0, GROUP, c.Cause("GroupError", "the first")))
    node.command(c.FailGroup(0, GROUP, c.Cause("GroupError", "the second")))
    assert rank.ask(rank.tick()).message == "the first"


def test_room_that_a_takeover_makes_lets_a_held_back_rank_go_on(node):
    node.service.state.settings = type(node.service.state.settings)(buffer_bytes=1 << 16)
    node.group(3, 0)
    lost, fast, _ = (Client.of_rank(node, rank) for rank in range(3))
    fast.ask(fast.tick())
    for ordinal in range(14):  # of a clock that is not ticked: dropped at the takeover
        assert isinstance(lost.ask(*lost.add(list(range(200)), ordinal=ordinal)), m.Done)
    write, arrays = fast.add(list(range(500)))
    fast.send(write, arrays)
    assert fast.answers(write.seq) == []
    Client.of_rank(node, 0, incarnation=2)
    node.pool.run()
    assert [type(answer) for answer in fast.answers(write.seq)] == [m.Done]


def test_a_finish_that_waits_for_closes_hears_that_its_group_failed(node):
    node.group(1, 0)
    rank = Client.of_rank(node, 0)
    rank.ask(*rank.add(list(range(20_000))))
    last = rank.tick(finish=True)
    rank.send(last)
    assert rank.answers(last.seq) == []
    node.command(c.FailGroup(0, GROUP, c.Cause("GroupError", "no more")))
    node.pool.run()
    assert [answer.message for answer in rank.answers(last.seq)] == ["no more"]
