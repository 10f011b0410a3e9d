"""What a node acknowledges is in its tables, once: the real service, sessions, groups and shards under every order of events."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from sparkps.ps_nodes import dispatch
from sparkps.specs import UNBOUNDED
from sparkps.wire.messages import data as m
from tests.harness.requests import Numbered
from tests.unit.ps_nodes.lone_node import Client, LoneNode


@pytest.fixture
def node() -> LoneNode:
    made = LoneNode()
    made.table()
    return made


def test_a_parked_pull_lets_later_requests_of_its_session_pass(node: LoneNode) -> None:
    node.group(2, 0)
    ahead, behind = Client.of_rank(node, 0), Client.of_rank(node, 1)
    ahead.ask(ahead.tick())
    pull, keys = ahead.pull([1])
    ahead.send(pull, keys)
    after, keys = ahead.add([1], 5.0)
    ahead.send(after, keys)
    assert (ahead.answers(pull.seq), len(ahead.answers(after.seq))) == ([], 1)
    behind.ask(behind.tick())
    node.pool.run()
    assert ahead.rows(pull.seq) == [0.0]


def test_a_session_that_is_opened_again_goes_on_where_its_client_is(node: LoneNode) -> None:
    """Requests are sent again as they were made, when the client had fewer answers than it has now."""
    client = Client(node, 5)
    client.send(m.Bye(5))
    client.number = 7
    client.send(m.Hello(7, 10))
    client.seq, client.acked = 10, 3
    assert client.ask(*client.add([7])).seq == 11
    other = Client(node, 6)
    other.seq = 10
    write, arrays = other.add([7])
    other.send(write, arrays)
    assert other.answers(write.seq) == [], "others before it may still come"


def test_a_hello_says_what_was_answered_to_a_session_that_is_open_further_back(node: LoneNode) -> None:
    """A late repetition of an old Hello has opened the session before the client's last answer."""
    client = Client(node, 5)
    client.seq = 10
    write, arrays = client.add([7])
    client.send(write, arrays)
    assert client.answers(write.seq) == [], "the node waits for those before it"
    client.send(m.Hello(5, 10))
    node.pool.run()
    assert len(client.answers(write.seq)) == 1
    client.send(m.Hello(5, 3))
    assert node.service.state.sessions.sessions[5].acked == 10, "an old one takes nothing back"


def test_a_repeated_piece_of_a_call_is_acknowledged_when_the_first_is_done(
    node: LoneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "INLINE_BYTES", 0)
    client = Client(node, 5)
    entries: list[Any] = []
    monkeypatch.setattr(node.service.state.shards, "carry_out", entries.append)
    first, arrays = client.add([7])
    client.send(first, arrays)
    again = dataclasses.replace(first, seq=client.next())
    client.send(again, arrays)
    node.pool.run()
    assert len(entries) == 1
    monkeypatch.undo()
    assert client.answers(again.seq) == [], "its rows are not there yet"
    node.service.state.shards.carry_out(entries.pop())
    node.pool.run()
    assert [len(client.answers(seq)) for seq in (first.seq, again.seq)] == [1, 1]
    assert node.values([7]) == [1.0]


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_calls_that_a_forgotten_session_repeats_count_once(node: LoneNode, calls: int) -> None:
    client = Client(node, 5)
    writes = [client.add([7], 10.0**number) for number in range(calls)]
    for write, arrays in writes:
        client.send(write, arrays)
    node.time = 1e9
    node.service.look_around()
    client.send(m.Hello(5))
    for write, arrays in writes:
        client.send(write, arrays)
        assert len(client.answers(write.seq)) == 2
    assert node.values([7]) == [float("1" * calls)]


@pytest.mark.parametrize("staleness", [0, 1, UNBOUNDED, None], ids=["bsp", "ssp", "asp", "outside"])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_writes_are_carried_out_in_the_order_in_which_they_were_made(
    node: LoneNode, staleness: int | None, order: tuple[int, ...]
) -> None:
    """The first write is lost, and sent again behind later ones: every one of them counts."""
    if staleness is None:
        client = Client(node, 5)
    else:
        node.group(1, staleness)
        client = Client.of_rank(node, 0)
    writes = [client.add([7], 10.0**number, ordinal=number) for number in range(3)]
    for number in order:
        client.send(*writes[number])
    assert all(len(client.answers(message.seq)) == 1 for message, _ in writes)
    if staleness is not None:
        client.ask(client.tick())
        node.pool.run()
    assert node.values([7]) == [111.0]


@pytest.mark.parametrize("lost", range(3))
def test_a_write_lost_before_a_worker_is_lost_is_done_by_its_successor(node: LoneNode, lost: int) -> None:
    """Of three pushes one never arrives, later ones do, and the worker dies: its successor's count as they must."""
    node.group(1, UNBOUNDED)
    first = Client.of_rank(node, 0)
    for number in range(3):
        message, arrays = first.add([7], 10.0**number, ordinal=number)
        if number != lost:
            first.send(message, arrays)
    second = Client.of_rank(node, 0, incarnation=2)
    for number in range(3):
        assert isinstance(second.ask(*second.add([7], 10.0**number, ordinal=number)), m.Done)
    assert node.values([7]) == [111.0]


def test_a_repetition_that_comes_while_the_answer_is_made_is_not_run_again(
    node: LoneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "INLINE_BYTES", 0)
    client = Client(node, 5)
    message, arrays = client.add([7])
    client.send(message, arrays)
    client.send(message, arrays)
    node.pool.run(1)
    client.send(message, arrays)
    node.pool.run()
    assert node.values([7]) == [1.0]
    assert {type(answer) for answer in client.answers(message.seq)} == {m.Done}


def test_a_write_sent_again_after_its_session_was_forgotten_counts_once(node: LoneNode) -> None:
    client = Client(node, 5)
    message, arrays = client.add([7])
    assert isinstance(client.ask(message, arrays), m.Done)
    node.service.state.sessions.ttl = 10.0
    node.time = 11.0
    node.service.look_around()
    client.send(message, arrays)
    assert isinstance(client.answers(1)[-1], m.UnknownSession)
    client.send(m.Hello(client.number, 0))
    client.send(message, arrays)
    assert isinstance(client.answers(1)[-1], m.Done)
    assert node.values([7]) == [1.0]


@pytest.mark.parametrize("staleness", [0, 1, UNBOUNDED])
def test_a_function_that_writes_counts_once_for_a_rank_that_is_lost_and_its_successor(
    node: LoneNode, staleness: int
) -> None:
    writer = Client(node, 5)
    writer.ask(*writer.add([7]))
    node.group(1, staleness)
    first = Client.of_rank(node, 0)
    assert isinstance(first.ask(first.call("scale", alpha=2.0)), m.Done)
    second = Client.of_rank(node, 0, incarnation=2)
    assert isinstance(second.ask(second.call("scale", alpha=2.0)), m.Done)
    second.ask(second.tick(finish=True))
    assert node.values([7]) == [2.0]


def test_calls_of_a_rank_that_read_and_write_at_once_are_refused_by_name(node: LoneNode) -> None:
    node.group(1, 0)
    rank = Client.of_rank(node, 0)
    calls = [m.FunctionCall("fill", [1], {"value": 1.0}), m.FunctionCall("sum", [1], {})]
    answer = rank.ask(Numbered(rank.number, rank.next(), 0, m.Call(1, calls, rank.member, 1, 10.0)))
    assert answer.error == "ProtocolError"
    assert "fill, sum" in answer.message


def test_a_small_write_waits_for_whoever_changes_the_same_rows(node: LoneNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "INLINE_BYTES", 0)
    slow, small = Client(node, 5), Client(node, 6)
    entries: list[Any] = []
    monkeypatch.setattr(node.service.state.shards, "carry_out", entries.append)
    first, arrays = slow.add([7], 1.0)
    slow.send(first, arrays)
    node.pool.run()  # has its turn, and takes its time
    monkeypatch.undo()
    second, arrays = small.add([7], 2.0)
    small.send(second, arrays)
    assert small.answers(second.seq) == []
    assert node.values([7]) == [0.0]
    node.service.state.shards.carry_out(entries.pop())
    node.pool.run()
    assert (len(slow.answers(first.seq)), len(small.answers(second.seq))) == (1, 1)
    assert node.values([7]) == [3.0]
    node.drop()
    assert not node.service.state.tables._users, "nobody uses the table any more"


def test_a_small_write_is_done_once_and_one_that_fails_is_told(node: LoneNode, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(node, 5)
    write, arrays = client.add([7], 5.0)
    client.send(write, arrays)
    again = dataclasses.replace(write, seq=client.next())
    client.send(again, arrays)  # the same call, as after the node has forgotten the session
    assert node.values([7]) == [5.0]
    table = node.service.state.tables.by_id[1]

    def no_memory(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(table.index, "resolve", no_memory)
    failed, arrays = client.add([8], 5.0)
    client.send(failed, arrays)
    (answer,) = client.answers(failed.seq)
    assert (type(answer), "no room" in answer.message) == (m.Failed, True)
    monkeypatch.undo()
    assert isinstance(client.ask(*client.add([7], 1.0)), m.Done), "others go on"
    assert node.values([7]) == [6.0]


def test_a_duplicate_is_acknowledged_when_the_write_that_it_repeats_is_done(
    node: LoneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fenced attempt's write has its place, but has not been carried out when the successor's repetition comes."""
    monkeypatch.setattr(dispatch, "INLINE_BYTES", 0)
    node.group(1, UNBOUNDED)
    outside, first = Client(node, 5), Client.of_rank(node, 0)
    slow, arrays = outside.add([7])
    entries = []
    monkeypatch.setattr(node.service.state.shards, "carry_out", entries.append)
    outside.send(slow, arrays)
    node.pool.run()  # has its turn, and takes its time
    write, rows = first.add([7], 5.0)
    first.send(write, rows)
    node.pool.run()
    monkeypatch.undo()
    monkeypatch.setattr(dispatch, "INLINE_BYTES", 1 << 20)
    second = Client.of_rank(node, 0, incarnation=2)
    again, rows = second.add([7], 5.0)
    second.send(again, rows)
    assert second.answers(again.seq) == [], "its rows are not there yet"
    assert node.values([7]) == [0.0]
    node.service.state.shards.carry_out(entries.pop())
    node.pool.run()
    assert [type(answer) for answer in second.answers(again.seq)] == [m.Done]
    assert node.values([7]) == [6.0]


def test_writes_behind_one_that_was_sent_back_do_not_overtake_it(node: LoneNode) -> None:
    client = Client(node, 5)
    client.calls = 1
    unknown = Numbered(5, client.next(), 0, m.Step(1, [m.Op(m.OpCode.ADD, 1, keyset=99)], None, 1))
    assert isinstance(client.ask(unknown, [np.ones((1, 1))]), m.UnknownKeySet)
    overtaking, arrays = client.add([7])
    assert isinstance(client.ask(overtaking, arrays), m.WrongEpoch)
    client.send(unknown, [np.ones((1, 1))])
    assert isinstance(client.answers(1)[-1], m.UnknownKeySet), "its answer is kept"
    client.acked = 2
    again = Numbered(5, client.next(), 2, m.Step(1, [m.Op(m.OpCode.ADD, 1)], None, 1))
    assert isinstance(client.ask(again, [np.array([7]), np.ones((1, 1))]), m.Done)
    after = Numbered(5, client.next(), 2, m.Step(1, [m.Op(m.OpCode.ADD, 1)], None, 2))
    assert isinstance(client.ask(after, [np.array([7]), np.ones((1, 1))]), m.Done)
    assert node.values([7]) == [2.0]
