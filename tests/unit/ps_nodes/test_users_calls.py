"""Calls of users' functions at a node, and what a node checks of registrations and places."""

from __future__ import annotations

import cloudpickle
import numpy as np
import pytest

from sparkps.ps_nodes import functions
from sparkps.ps_nodes.shards import Entry, Shards
from sparkps.ps_nodes.tables.sparse_target import SparseTarget
from sparkps.wire.messages import data as m
from tests.harness.requests import Numbered
from tests.unit.ps_nodes.lone_node import Client, LoneNode, Pool, in_order


@pytest.fixture
def node() -> LoneNode:
    made = LoneNode()
    made.table()
    return made


def test_the_buckets_are_free_when_a_change_is_told():
    shards, free = Shards(Pool()), []
    later = Entry({1: 1}, lambda: None, lambda *_: None)
    shards.apply(Entry({1: 1}, lambda: None, lambda *_: free.append(shards.order(later))))
    assert free == [True]


def test_a_close_leaves_out_what_was_written_to_a_table_that_was_dropped_since(node, monkeypatch):
    applied = []
    monkeypatch.setattr(SparseTarget, "write_sum", staticmethod(lambda targets, _: applied.append(targets)))
    node.group(1, 0)
    rank = Client.of_rank(node, 0)
    rank.ask(*rank.add([7]))
    node.drop(1)
    assert isinstance(rank.ask(rank.tick(finish=True)), m.Done)
    assert applied == []


def test_a_step_with_an_array_too_many_is_refused(node):
    client = Client(node, 5)
    message, arrays = client.add([7])
    assert client.ask(message, [*arrays, np.ones((1, 1))]).error == "ProtocolError"
    assert node.values([7]) == [0.0]


@pytest.mark.parametrize(("start", "total"), [(-1, 3), (1, 3), (0, 2), (1 << 62, 3)])
def test_a_chunk_outside_its_key_set_is_refused(node, start, total):
    client = Client(node, 5)
    answer = client.ask(Numbered(5, client.next(), 0, m.Register(1, 1, 77, start, total)), [in_order([1, 2, 3])])
    assert answer.error == "ProtocolError"


def test_a_key_set_of_another_index_is_not_used(node):
    node.table(2)  # of an index of its own
    client = Client(node, 5)
    assert isinstance(client.ask(Numbered(5, client.next(), 0, m.Register(1, 1, 77, 0, 3)), [in_order([1, 2, 3])]), m.Done)
    add = Numbered(5, client.next(), 0, m.Step(1, [m.Op(m.OpCode.ADD, 2, keyset=77)], None, 1))
    assert isinstance(client.ask(add, [np.ones((3, 1))]), m.UnknownKeySet)


def test_a_node_keeps_sessions_for_as_long_as_the_tier_says():
    assert LoneNode(session_ttl=60.0).service.state.sessions.ttl == 60.0


def test_a_write_that_failed_has_failed_however_often_it_comes(node, monkeypatch):
    """Its mark is there: run again it would count as a duplicate, and be acknowledged."""
    client = Client(node, 5)
    message, arrays = client.add([7])

    def full(*_):
        raise MemoryError("no memory for new rows")

    monkeypatch.setattr(node.service.state.tables.by_id[1].index, "resolve", full)
    client.send(message, arrays)
    monkeypatch.undo()
    client.send(message, arrays)  # the answer was lost
    assert [type(answer) for answer in client.answers(message.seq)] == [m.Failed, m.Failed]
    assert node.values([7]) == [0.0]


def test_a_request_that_cannot_be_understood_is_answered_the_same_when_it_comes_again(node):
    """It may have been a write: one that is whole when it comes again must not run behind later ones."""
    client = Client(node, 5)
    client.ask(*client.add([7]))
    message, arrays = client.add([7])
    small = node.service.state.settings
    node.service.state.settings = type(small)(max_message_bytes=1 << 20)
    large = [in_order(list(range(80_000))), np.ones((80_000, 1))]
    client.send(message, large)
    client.send(message, arrays)
    assert [type(answer) for answer in client.answers(message.seq)] == [m.Failed, m.Failed]
    assert node.values([7]) == [1.0]


class Held:
    """Stands for the threads of users' functions: what they were given, to be run by the test."""

    def __init__(self, node, monkeypatch):
        self.given = []
        monkeypatch.setattr(node.service.state.users, "start", lambda *given, **_: self.given.append(given))

    def run(self, between=lambda: None):
        for job, _, done, ended in self.given:
            try:
                result, error = job(), None
            except Exception as raised:
                result, error = None, raised
            between()
            done(result, error)
            ended()
        self.given = []


def doubled(shard):
    shard.rows()[:] *= 2.0


@pytest.mark.parametrize("staleness", [0, 1])
def test_a_users_function_that_a_rank_calls_cannot_write(node, monkeypatch, staleness):
    held = Held(node, monkeypatch)
    functions.register("doubled", cloudpickle.dumps(doubled))
    driver = Client(node, 900)
    driver.ask(*driver.add([7]))
    node.group(1, staleness)
    rank = Client.of_rank(node, 0)
    call = rank.call("doubled")
    rank.send(call)
    node.pool.run()
    held.run()
    assert "must only read" in rank.answers(call.seq)[0].message
    assert node.values([7]) == [1.0]


def test_a_users_function_that_wrote_is_not_run_again(node, monkeypatch):
    held = Held(node, monkeypatch)
    functions.register("doubled", cloudpickle.dumps(doubled))
    driver = Client(node, 900)
    driver.ask(*driver.add([7]))
    call = driver.call("doubled")
    for _ in range(2):  # the answer was lost
        driver.send(call)
        node.pool.run()
        held.run()
        node.pool.run()
    assert [type(answer) for answer in driver.answers(call.seq)] == [m.Done, m.Done]
    assert node.values([7]) == [2.0]


def test_a_table_dropped_under_a_users_function_is_freed_when_that_ends(node, monkeypatch):
    held = Held(node, monkeypatch)
    functions.register("mine", cloudpickle.dumps(lambda shard: None))
    client = Client(node, 900)
    client.send(client.call("mine"))
    node.pool.run()
    table = node.service.state.tables.by_id[1]
    node.drop(1)
    assert table in table.index._tables
    held.run()
    assert table not in table.index._tables


def test_a_function_of_a_rank_waits_for_the_clock_as_a_pull_does(node):
    node.group(2, 0)
    fast, slow = Client.of_rank(node, 0), Client.of_rank(node, 1)
    slow.ask(*slow.add([7], 3.0))
    fast.ask(fast.tick())
    call = fast.call("sum")
    fast.send(call)
    node.pool.run()
    assert fast.answers(call.seq) == []
    slow.ask(slow.tick())
    node.pool.run()
    (answer,) = fast.answers(call.seq)
    assert isinstance(answer, m.Done)


def test_server_functions_run_on_the_pool(node):
    client = Client(node, 5)
    call = client.call("sum")
    client.send(call)
    assert client.answers(call.seq) == []
    node.pool.run()
    assert isinstance(client.answers(call.seq)[0], m.Done)


def test_the_answers_of_a_users_function_are_bounded(node, monkeypatch):
    from sparkps.ps_nodes import shard_copies

    monkeypatch.setattr(shard_copies, "MAX_ANSWER_BYTES", 256 * 80)
    held = Held(node, monkeypatch)
    functions.register("wide", cloudpickle.dumps(lambda shard, n: np.zeros(n)))
    client = Client(node, 900)
    for n, kind in ((10, m.Done), (11, m.Failed)):
        call = client.call("wide", n=n)
        client.send(call)
        node.pool.run()
        held.run()
        node.pool.run()
        assert [type(answer) for answer in client.answers(call.seq)] == [kind]
