"""What a node keeps for one session is bounded, accounted, and refused beyond the bound by an error that says what to set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sparkps.config import NodeSettings
from sparkps.ps_nodes import dispatch, sessions
from sparkps.ps_nodes.state import SILENT_SECONDS
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from tests.harness.hostile_messages import sent
from tests.harness.requests import Numbered
from tests.unit.ps_nodes.lone_node import TABLE, Client, LoneNode, in_order

KiB = 1 << 10


@pytest.fixture
def node() -> LoneNode:
    """One that keeps 100 KiB for a session."""
    made = LoneNode()
    made.table()
    set_bounds(made, 100 * KiB)
    return made


def set_bounds(node: LoneNode, kept: int, waiting: int = 1 << 30) -> None:
    state = node.service.state
    state.settings = replace(NodeSettings(), session_bytes=waiting)
    object.__setattr__(state.settings, "session_memory", kept)  # less than may be set, so that little is needed to reach it
    node.service.look_around()


def is_refused(answer: Any) -> bool:
    return isinstance(answer, m.Failed) and answer.error == "OutOfNodeMemory" and "spark.sparkps.sessionMemory" in answer.message


def test_answers_that_a_client_never_acknowledges_are_kept_up_to_a_bound(node: LoneNode) -> None:
    client, answers = Client(node, 5), []
    for _ in range(300):
        answers.append(client.ask(*client.add([7])))
    done = [isinstance(answer, m.Done) for answer in answers]
    assert 90 <= sum(done) <= 101
    assert all(is_refused(answer) for answer, is_done in zip(answers, done, strict=True) if not is_done)
    assert node.values([7]) == [sum(done)], "what was refused changed nothing"
    report = node.service.report()
    assert 90 * KiB <= report["answer_bytes"] <= 101 * KiB
    client.acked = client.seq
    assert isinstance(client.ask(*client.add([7])), m.Done), "it is served again when it has said what it has"
    assert node.service.report()["answer_bytes"] <= 2 * KiB


def test_a_write_that_was_refused_and_comes_again_is_not_done(node: LoneNode) -> None:
    client = Client(node, 5)
    while not is_refused(client.ask(*(last := client.add([7])))):
        pass
    before = node.values([7])
    client.acked = client.seq - 1
    for _ in range(2):
        client.send(*last)
    assert node.values([7]) == before
    assert all(isinstance(answer, m.Failed) for answer in client.answers(last[0].seq))


def test_key_sets_are_bounded_by_their_chunks_too(node: LoneNode) -> None:
    client, taken = Client(node, 5), 0
    for start in range(100):  # of no keys
        answer = client.ask(Numbered(5, client.next(), client.seq - 1, m.Register(1, TABLE, 1, start, 100)), [np.zeros(0, np.int64)])
        taken += isinstance(answer, m.Done)
    assert 10 < taken < 30
    assert is_refused(answer)
    unregister = Numbered(5, client.next(), client.seq - 1, m.Unregister(1))
    assert isinstance(client.ask(unregister), m.Done)
    keys = in_order(list(range(5000)))
    answer = client.ask(Numbered(5, client.next(), client.seq - 1, m.Register(1, TABLE, 2, 0, 5000)), [keys])
    assert isinstance(answer, m.Done)
    session = node.service.state.sessions.sessions[5]
    assert session.keyset_room >= 40_000 == session.keysets[2].nbytes()
    session.validate()


def test_key_sets_of_clients_that_are_gone_keep_nothing_from_those_who_live(node: LoneNode) -> None:
    """They have said no good-bye. Whoever was only silent is told to register again."""
    set_bounds(node, 1 << 30)
    state = node.service.state
    state.memory.limit = 4 << 20
    keys = in_order(list(range(20_000)))

    def register(client: Client) -> Any:
        return client.ask(Numbered(client.number, client.next(), client.seq - 1, m.Register(1, TABLE, 1, 0, 20_000)), [keys])

    def pull(client: Client) -> Any:
        return client.ask(Numbered(client.number, client.next(), client.seq - 1, m.Step(1, [m.Op(0, TABLE, keyset=1)])))

    gone = [Client(node, number) for number in range(1, 21)]
    for client in gone:
        assert isinstance(register(client), m.Done)
    node.time += SILENT_SECONDS - 1
    alive = Client(node, 99)
    assert isinstance(register(alive), m.Done)
    node.time += 2
    node.service.look_around()
    kept = [bool(state.sessions.sessions[client.number].keysets) for client in gone]
    assert kept == sorted(kept), "those that were silent for longest go first"
    assert 1 <= sum(kept) < 15, "no more than needed"
    assert isinstance(pull(alive), m.Done)
    assert isinstance(pull(gone[0]), m.UnknownKeySet)
    assert isinstance(register(gone[0]), m.Done)
    for session in state.sessions.sessions.values():
        session.validate()


def register(client: Client, keyset: int, keys: int) -> Any:
    """A whole key set, in one chunk."""
    message = Numbered(client.number, client.next(), client.seq - 1, m.Register(client.node.service.state.epoch, TABLE, keyset, 0, keys))
    return client.ask(message, [in_order(list(range(keys)))])


def test_a_chunk_that_alone_is_too_large_is_refused_and_nothing_of_it_is_kept(node: LoneNode) -> None:
    client = Client(node, 5)
    assert is_refused(register(client, 2, 200 * KiB // 8))
    session = node.service.state.sessions.sessions[5]
    assert (session.keyset_room, session.keysets) == (0, {})
    assert isinstance(register(client, 2, 5000), m.Done)


def test_a_chunk_that_comes_again_counts_once(node: LoneNode) -> None:
    client = Client(node, 5)
    assert isinstance(register(client, 2, 1000), m.Done)
    session = node.service.state.sessions.sessions[5]
    room = session.keyset_room
    for _ in range(3):
        assert isinstance(register(client, 2, 1000), m.Done), "as it is where a client was not sure of the first"
        assert session.keyset_room == room == session.keysets[2].room
        session.validate()
    assert isinstance(client.ask(Numbered(5, client.next(), client.seq - 1, m.Unregister(2))), m.Done)
    assert session.keyset_room == 0


def test_key_sets_that_a_new_placement_has_ended_do_not_count_any_more(node: LoneNode) -> None:
    client = Client(node, 5)
    session = node.service.state.sessions.sessions[5]
    for epoch in range(2, 30):
        assert isinstance(register(client, 2, 5000), m.Done)
        assert node.command(c.SetPlacement(0, epoch, [[0]] * 256, [])) == [None]
        session.validate()
        assert session.keyset_room == 0


def filled(client: Client) -> None:
    """So much is kept for a session that it is refused: answers that it has not acknowledged."""
    while not is_refused(client.ask(*client.add([7]))):
        pass


def test_what_frees_is_taken_from_a_session_for_which_too_much_is_kept(node: LoneNode) -> None:
    client = Client(node, 5)
    assert isinstance(register(client, 2, 5000), m.Done)
    filled(client)
    assert isinstance(client.ask(Numbered(5, client.next(), client.acked, m.Unregister(2))), m.Done)
    assert isinstance(client.ask(*client.add([7])), m.Done), "there is room again"


def test_a_rank_for_which_too_much_is_kept_can_tick(node: LoneNode) -> None:
    """Others wait for it."""
    node.group(1, 0)
    rank = Client.of_rank(node, 0)
    filled(rank)
    tick = rank.tick()
    rank.send(tick)
    node.pool.run()
    assert not any(is_refused(answer) for answer in rank.answers(tick.seq))
    assert rank.answers(tick.seq)


def test_pulls_that_wait_for_other_ranks_are_bounded(node: LoneNode) -> None:
    node.group(2, 0)
    ahead = Client.of_rank(node, 0)
    Client.of_rank(node, 1)
    ahead.ask(ahead.tick())
    asked = [ahead.pull(list(range(100))) for _ in range(300)]
    for message, keys in asked:
        ahead.send(message, keys)
    parked = node.service.report()["parked"]
    assert 20 < parked < 80
    assert node.service.report()["parked_bytes"] <= 103 * KiB
    refused = [message for message, _ in asked if ahead.answers(message.seq)]
    assert len(refused) == 300 - parked
    assert all(is_refused(ahead.answers(message.seq)[0]) for message in refused)
    node.service.state.sessions.sessions[ahead.number].validate()


@pytest.mark.parametrize("bound", ["the session's", "its part of the node's"])
def test_requests_behind_one_that_waits_are_bounded(node: LoneNode, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """In their order, too: those beyond the bound count as lost, and are taken when they come again."""
    monkeypatch.setattr(dispatch, "INLINE_BYTES", 0)
    set_bounds(node, 1 << 20, 64 * KiB if bound == "the session's" else 1 << 30)
    if bound != "the session's":
        node.service.state.most_waiting = 64 * KiB
    client = Client(node, 5)
    writes = [client.add([7]) for _ in range(500)]
    for message, arrays in writes:  # the pool does not run yet: the first one keeps back the others
        client.send(message, arrays)
    session = node.service.state.sessions.sessions[5]
    assert session.queue is not None
    assert 30 < len(session.queue) < 70
    assert session.queued_bytes <= 65 * KiB
    assert node.service.report()["waiting_bytes"] == session.queued_bytes
    for _ in range(20):
        for message, arrays in writes:
            client.send(message, arrays)
        node.pool.run()
    assert node.values([7]) == [500.0]


def test_a_connection_has_a_bounded_number_of_sessions(node: LoneNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_OF_CONNECTION", 5)
    table = node.service.state.sessions
    for number in range(1, 20):
        node.service.receive(b"peer", sent(m.Hello(number)))
    assert len(table.sessions) == 5
    status = sent(m.Status(), (), (9, 1, 0))
    node.service.receive(b"peer", status)
    answer = node.answers[b"peer"][-1][0]
    assert (type(answer), answer.seq, answer.error) == (m.Failed, 1, "TierError")
    assert "at most 5 sessions" in answer.message
    node.service.receive(b"peer", sent(m.Bye(3)))
    node.service.receive(b"peer", sent(m.Hello(9)))
    assert 9 in table.sessions
    node.service.receive(b"other", sent(m.Hello(1)))  # it comes on another connection now
    node.service.receive(b"peer", sent(m.Hello(10)))
    assert 10 in table.sessions
    assert table._of_connection == {b"peer": 5, b"other": 1}


def test_a_node_has_a_bounded_number_of_sessions_and_forgets_those_that_never_said_good_bye(
    node: LoneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MOST_OPEN", 50)
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 10)
    for number in range(1, 200):
        node.service.receive(b"peer %d" % number, sent(m.Hello(number)))
    assert len(node.service.state.sessions.sessions) == 50
    node.time += 61.0
    node.service.look_around()
    assert len(node.service.state.sessions.sessions) == 10
    assert not node.service.state.sessions._forgotten, "they have written nothing"
    assert len(node.service.state.sessions._of_connection) == 10


def test_where_all_sessions_have_more_than_their_share_each_may_have_an_equal_part() -> None:
    node = LoneNode()
    node.table()
    state = node.service.state
    state.memory.limit = 8 << 20
    clients = [Client(node, number) for number in range(1, 5)]
    for client in clients:
        state.sessions.sessions[client.number].keyset_room = 3 << 20
    state._share_among_sessions()
    assert state.most_kept == state.most_waiting == 1 << 20
    for client in clients:
        state.sessions.sessions[client.number].keyset_room = 0
    state._share_among_sessions()
    assert state.most_kept == 2 << 20, "a quarter of what the node may use"
