"""What a clock's close changes, in which order, and what it needs before it begins."""

from __future__ import annotations

import cloudpickle
import numpy as np
import pytest

from sparkps.optim import SGD
from sparkps.ps_nodes import functions
from sparkps.specs import TableSpec
from sparkps.wire.hashing import buckets_of
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from tests.harness.requests import Numbered
from tests.unit.ps_nodes.lone_node import GROUP, Client, LoneNode, in_order

MANY = list(range(20_000))


@pytest.fixture
def node() -> LoneNode:
    made = LoneNode()
    made.table()
    return made


def test_a_close_has_its_turn_at_its_buckets_as_every_change_has(node, monkeypatch):
    """Else a user's function that runs meanwhile would write back what it copied before the close."""
    node.group(1, 0)
    rank, driver = Client.of_rank(node, 0), Client(node, 900)
    driver.ask(*driver.add([7], 1.0))
    held = []
    monkeypatch.setattr(node.service.state.users, "start", lambda *given, **_: held.append(given))

    def double(shard):
        shard.rows()[:] *= 2.0

    functions.register("double", cloudpickle.dumps(double))
    call = driver.call("double")
    driver.send(call)
    node.pool.run()
    ((job, _, done, ended),) = held
    outcome = job()  # copies are made, and changed
    rank.ask(*rank.add([7], 10.0))
    last = rank.tick(finish=True)
    rank.send(last)
    node.pool.run()
    assert rank.answers(last.seq) == [], "the function has these buckets"
    done(outcome, None)
    ended()
    node.pool.run()
    assert isinstance(driver.answers(call.seq)[0], m.Done)
    assert isinstance(rank.answers(last.seq)[0], m.Done)
    assert node.values([7]) == [12.0]


def test_a_table_dropped_after_a_close_is_freed(node):
    node.group(1, 0)
    rank = Client.of_rank(node, 0)
    rank.ask(*rank.add([7]))
    rank.ask(rank.tick())
    table = node.service.state.tables.by_id[1]
    node.drop(1)
    assert table not in table.index._tables


def test_what_a_failed_group_had_buffered_is_given_back_at_once(node):
    node.group(2, 0)
    rank = Client.of_rank(node, 0)
    rank.ask(*rank.add([1]))
    assert node.service.report()["buffered_bytes"] > 0
    node.command(c.FailGroup(0, GROUP, c.Cause("GroupError", "no more")))
    assert node.service.report()["buffered_bytes"] == 0


def test_what_was_closed_or_dropped_is_buffered_no_more(node):
    node.group(2, 0)
    one, two = Client.of_rank(node, 0), Client.of_rank(node, 1)
    one.ask(*one.add([1]))
    two.ask(*two.add([1]))
    one.ask(one.tick())
    two.ask(two.tick())
    assert node.service.report()["buffered_bytes"] == 0
    two.ask(*two.add([1]))
    assert node.service.report()["buffered_bytes"] > 0
    Client.of_rank(node, 1, incarnation=2)
    assert node.service.report()["buffered_bytes"] == 0


def test_a_clock_is_its_assigns_then_its_adds_then_its_gradients(node):
    spec = TableSpec("s", "sparse", 1, "float64", optimizer=SGD(1.0), table=3, index=3)
    assert node.command(c.CreateTable(0, spec)) == [None]
    node.group(1, 0)
    rank = Client.of_rank(node, 0)
    keys = in_order([7])
    for ordinal, (code, value) in enumerate([(m.OpCode.PUSH, 1.0), (m.OpCode.ADD, 10.0), (m.OpCode.ASSIGN, 100.0)]):
        member = m.Member(GROUP, 0, 1, 0, ordinal)
        step = Numbered(rank.number, rank.next(), 0, m.Step(1, [m.Op(code, 3)], member, ordinal + 1))
        assert isinstance(rank.ask(step, [keys, np.full((1, 1), value)]), m.Done)
    rank.ask(rank.tick(finish=True))
    assert node.values([7], 3) == [109.0]


def test_a_close_finds_its_memory_before_it_changes_anything(node, monkeypatch):
    node.table(2)
    node.group(1, 0)
    rank = Client.of_rank(node, 0)
    rank.ask(*rank.add([7]))
    rank.ask(*rank.add([7], table=2, ordinal=1))

    def full(*_):
        raise MemoryError("no memory for new rows")

    monkeypatch.setattr(node.service.state.tables.by_id[2].index, "resolve", full)
    assert isinstance(rank.ask(rank.tick(finish=True)), m.Failed)
    assert node.values([7]) == [0.0]


def test_a_write_finds_its_memory_before_it_changes_anything(node, monkeypatch):
    node.table(2)
    client = Client(node, 5)

    def full(*_):
        raise MemoryError("no memory for new rows")

    monkeypatch.setattr(node.service.state.tables.by_id[2].index, "resolve", full)
    step = Numbered(5, client.next(), 0, m.Step(1, [m.Op(m.OpCode.ADD, 1), m.Op(m.OpCode.ADD, 2)], None, 1))
    keys, ones = in_order([7]), np.ones((1, 1))
    assert isinstance(client.ask(step, [keys, ones, keys, ones]), m.Failed)
    assert node.values([7]) == [0.0]


def test_a_dense_write_that_is_partly_new_adds_the_right_elements(node):
    spec = TableSpec("d", "dense", 1, "float64", shape=(512,), table=9)  # two elements a bucket
    assert node.command(c.CreateTable(0, spec)) == [None]
    client = Client(node, 5)
    first = Numbered(5, client.next(), 0, m.Step(1, [m.Op(m.OpCode.ADD, 9, start=0, stop=1)], None, 1))
    assert isinstance(client.ask(first, [np.array([1.0, 2.0])]), m.Done)
    wider = Numbered(5, client.next(), 0, m.Step(1, [m.Op(m.OpCode.ADD, 9, start=0, stop=3)], None, 1))
    assert isinstance(client.ask(wider, [np.arange(1.0, 7.0)]), m.Done)
    pull = Numbered(5, client.next(), 0, m.Step(1, [m.Op(m.OpCode.PULL, 9, stop=3)]))
    client.ask(pull)
    assert client.rows(pull.seq) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_a_call_that_is_partly_new_acts_where_it_is_new(node):
    keys = [1, 2, 3, 4]
    writer = Client(node, 5)
    writer.ask(*writer.add(keys))
    from sparkps.ps_nodes.clock_buffers import CallPart, Write
    from sparkps.ps_nodes.functions import prepare

    state = node.service.state
    call = m.FunctionCall("scale", [1], {"alpha": 2.0})
    write = Write.of_call(prepare([call], state.tables.by_id), state.bucket_bits)
    there = 1 << int(buckets_of(np.array([1], np.int64))[0])
    (part,) = write.narrowed(1, there)
    assert isinstance(part, CallPart)
    assert part.mask == there
    part.write()
    assert node.values([1]) == [2.0]
    assert sum(node.values(keys)) == 5.0
