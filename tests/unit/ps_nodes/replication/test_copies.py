"""What a primary acknowledges lies at its replicas, and what comes of it there: two or three nodes, message by message."""

from __future__ import annotations

from typing import Any

import cloudpickle
import numpy as np
import pytest

from sparkps.errors import TierError
from sparkps.ps_nodes import functions
from sparkps.wire.buckets import packed
from sparkps.wire.hashing import buckets_of
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from tests.harness.requests import Numbered
from tests.unit.ps_nodes.lone_node import GROUP, TABLE, Client
from tests.unit.ps_nodes.replication.nodes import At, Nodes

#: Node 0 leads everything, node 1 has copies.
PAIR = [[0, 1]] * 256


def keys_in(bucket: int, count: int) -> list[int]:
    keys = np.arange(100_000)
    return keys[buckets_of(keys) == bucket][:count].tolist()


SOME = keys_in(3, 4)


def client_of(nodes: Nodes, number: int, node: int = 0) -> Client:
    return Client(At(nodes, node), number)  # type: ignore[arg-type]


def done(client: Client, message: Any) -> bool:
    return any(isinstance(answer, m.Done) for answer in client.answers(message.seq))


def at_epoch(message: Numbered, epoch: int) -> Numbered:
    """The same by a newer placement."""
    fields = {name: getattr(message.message, name) for name in message.message.__struct_fields__}
    return Numbered(message.session, message.seq, message.acked, type(message.message)(**{**fields, "epoch": epoch}))


@pytest.mark.parametrize("large", [False, True])
def test_a_write_is_acknowledged_when_the_replica_has_it(large: bool) -> None:
    nodes = Nodes(PAIR, 2)
    nodes.table()
    client = client_of(nodes, 5)
    keys = list(range(20_000)) if large else SOME
    message, arrays = client.add(keys)
    client.send(message, arrays)
    nodes.pools[0].run()
    assert not done(client, message)
    nodes.deliver()
    assert done(client, message)
    bucket = 3
    assert nodes.rows(1, bucket) == nodes.rows(0, bucket) != {}


def test_asynchronous_writes_are_acknowledged_at_once_and_arrive_all_the_same() -> None:
    nodes = Nodes(PAIR, 2, replication_ack="async")
    nodes.table()
    client = client_of(nodes, 5)
    message, arrays = client.add(SOME)
    client.send(message, arrays)
    assert done(client, message)
    assert nodes.rows(1, 3) == {}
    nodes.deliver()
    assert nodes.rows(1, 3) == nodes.rows(0, 3)


def test_later_requests_of_a_session_do_not_wait_for_the_replicas_answer() -> None:
    nodes = Nodes(PAIR, 2)
    nodes.table()
    client = client_of(nodes, 5)
    client.send(*client.add(SOME))
    pull, arrays = client.pull(SOME)
    client.send(pull, arrays)
    nodes.pools[0].run()
    assert client.rows(pull.seq) == [1.0] * len(SOME)


def test_a_repetition_is_not_acknowledged_before_what_it_repeats() -> None:
    nodes = Nodes(PAIR, 2)
    nodes.table()
    client = client_of(nodes, 5)
    message, arrays = client.add(SOME)
    client.send(message, arrays)
    nodes.services[0].state.sessions.sessions.clear()  # the node has forgotten the session, as after a long silence
    client.send(m.Hello(5))
    client.send(message, arrays)
    assert not done(client, message)
    nodes.deliver()
    assert done(client, message)
    assert set(nodes.rows(0, 3).values()) == set(nodes.rows(1, 3).values()) == {1.0}


def test_a_promoted_replica_knows_the_write_that_comes_again() -> None:
    nodes = Nodes(PAIR, 2)
    nodes.table()
    client = client_of(nodes, 5)
    message, arrays = client.add(SOME)
    client.send(message, arrays)
    nodes.deliver(1)  # it is at the replica; the primary dies before it hears of that
    assert not done(client, message)
    nodes.kill(0)
    nodes.place([[1]] * 256)
    again = client_of(nodes, 5, 1)
    same = at_epoch(message, 2)
    again.send(same, arrays)
    assert done(again, same)
    assert set(nodes.rows(1, 3).values()) == {1.0}


def test_a_promoted_replica_carries_out_what_it_has_not_got() -> None:
    nodes = Nodes(PAIR, 2)
    nodes.table()
    client = client_of(nodes, 5)
    message, arrays = client.add(SOME)
    client.send(message, arrays)
    nodes.kill(0)
    nodes.place([[1]] * 256)
    again = client_of(nodes, 5, 1)
    same = at_epoch(message, 2)
    again.send(same, arrays)
    assert done(again, same)
    assert set(nodes.rows(1, 3).values()) == {1.0}


def test_a_primary_that_was_declared_dead_acknowledges_nothing_and_learns_of_it() -> None:
    nodes = Nodes(PAIR, 2)
    nodes.table()
    client = client_of(nodes, 5)
    nodes.kill(0)
    nodes.place([[1]] * 256)
    nodes.dead.clear()  # it was only cut off, and comes back
    message, arrays = client.add(SOME)
    client.send(message, arrays)
    nodes.deliver()
    assert not done(client, message)
    assert "dead" in nodes.services[0].fenced
    assert nodes.rows(1, 3) == {}


def test_who_waits_for_a_replica_that_dies_is_answered_by_the_placement() -> None:
    nodes = Nodes(PAIR, 2)
    nodes.table()
    client = client_of(nodes, 5)
    message, arrays = client.add(SOME)
    client.send(message, arrays)
    nodes.kill(1)
    nodes.deliver()
    assert not done(client, message)
    nodes.place([[0]] * 256)
    assert done(client, message)


def test_a_lead_is_given_up_when_all_that_was_taken_is_at_the_new_primary() -> None:
    nodes = Nodes(PAIR, 2)
    nodes.table()
    client = client_of(nodes, 5)
    message, arrays = client.add(SOME)
    client.send(message, arrays)
    told = nodes.command(0, c.SetPlacement(0, 2, [[1, 0]] * 256, nodes.infos()))
    assert told == [], "what it has shipped is not there yet"
    nodes.deliver()
    assert told == [None]
    assert done(client, message)
    assert nodes.command(1, c.SetPlacement(0, 2, [[1, 0]] * 256, nodes.infos())) == [None]
    other = client_of(nodes, 6, 1)
    second, arrays = other.add(SOME)
    second = at_epoch(second, 2)
    other.send(second, arrays)
    assert not done(other, second)
    nodes.deliver()
    assert done(other, second)
    assert nodes.rows(0, 3) == nodes.rows(1, 3)
    assert set(nodes.rows(0, 3).values()) == {2.0}


def test_a_copy_made_under_writes_has_all_of_them() -> None:
    nodes = Nodes([[0]] * 256, 2)
    nodes.table()
    client = client_of(nodes, 5)
    for _ in range(3):
        client.send(*client.add(SOME))
    told = nodes.copy([3], 0, 1)
    nodes.pools[0].run()
    for _ in range(3):
        client.send(*client.add(SOME))
    assert told == []
    nodes.deliver()
    assert told == [None]
    client.send(*client.add(SOME))
    nodes.deliver()
    assert nodes.rows(1, 3) == nodes.rows(0, 3)
    assert set(nodes.rows(1, 3).values()) == {7.0}


def test_a_copy_is_of_one_placement() -> None:
    nodes = Nodes([[0]] * 256, 2)
    nodes.table()
    client = client_of(nodes, 5)
    client.send(*client.add(SOME))
    told = nodes.copy([3, 4], 0, 1)
    nodes.pools[0].run(1)
    nodes.place([[0]] * 256)
    nodes.deliver()
    (error,) = told
    assert isinstance(error, TierError)
    assert not nodes.services[1].state.tables.held


def test_a_node_leads_nothing_of_which_it_has_no_copy() -> None:
    nodes = Nodes([[0]] * 256, 2)
    nodes.table()
    (error,) = nodes.command(1, c.SetPlacement(0, 2, [[1]] * 256, nodes.infos()))
    assert isinstance(error, TierError)
    assert "must hold a copy" in str(error)


def test_a_copy_that_fails_is_given_up_and_made_anew() -> None:
    nodes = Nodes(PAIR, 2)
    nodes.table()
    client = client_of(nodes, 5)
    client.send(*client.add(SOME))
    nodes.deliver()
    follower = nodes.services[1].state.followers.of(0)
    follower.broken = True
    message, arrays = client.add(SOME)
    client.send(message, arrays)
    nodes.deliver()
    assert not done(client, message), "the copy that does not count is still one of the placement"
    assert nodes.services[0].report()["silent_replicas"] == [1]
    nodes.place([[0]] * 256)
    assert done(client, message)
    told = nodes.copy(list(range(256)), 0, 1)
    nodes.deliver()
    assert told == [None]
    assert not follower.broken
    assert nodes.rows(1, 3) == nodes.rows(0, 3)


def test_bsp_closes_at_the_replica_as_at_the_primary() -> None:
    nodes = Nodes(PAIR, 2)
    nodes.table()
    nodes.group(2, 0)
    ranks = [_rank(nodes, rank) for rank in range(2)]
    for rank, client in enumerate(ranks):
        client.send(*client.add(SOME, 1.5 + rank))
    nodes.deliver()
    assert nodes.rows(0, 3) == nodes.rows(1, 3) == {}
    for client in ranks:
        client.send(client.tick())
    nodes.deliver()
    assert nodes.rows(0, 3) == nodes.rows(1, 3)
    assert set(nodes.rows(1, 3).values()) == {4.0}


def test_a_promoted_replica_closes_the_clock_that_the_dead_primary_had_not() -> None:
    nodes = Nodes(PAIR, 2)
    nodes.table()
    nodes.group(2, 0)
    ranks = [_rank(nodes, rank) for rank in range(2)]
    for client in ranks:
        client.send(*client.add(SOME, 2.0))
    ranks[0].send(ranks[0].tick())
    nodes.deliver()
    nodes.kill(0)
    nodes.place([[1]] * 256)
    last = ranks[1].tick()
    other = Client(At(nodes, 1), ranks[1].number)  # type: ignore[arg-type]
    other.send(at_epoch(Numbered(last.session, 1, 0, last.message), 2))
    nodes.deliver()
    assert set(nodes.rows(1, 3).values()) == {4.0}


def _rank(nodes: Nodes, rank: int) -> Client:
    client = client_of(nodes, 100 + rank)
    at = m.Member(GROUP, rank, 1, -1)
    for message in (m.Takeover(at), m.Settle(at)):
        client.send(Numbered(client.number, client.next(), client.acked, message))
        nodes.deliver()
    client.member = m.Member(GROUP, rank, 1, 0)
    return client


def test_what_a_call_has_read_and_written_is_answered_again_by_the_promoted_replica() -> None:
    nodes = Nodes(PAIR, 2)
    nodes.table()
    client = client_of(nodes, 5)
    client.send(*client.add(SOME))
    nodes.deliver()
    calls = [m.FunctionCall("scale", [TABLE], {"alpha": 2.0}), m.FunctionCall("sum", [TABLE], {})]
    message = Numbered(5, client.next(), 0, m.Call(1, calls, None, 9, buckets=packed((1 << 256) - 1)))
    client.send(message)
    nodes.deliver()
    (first,) = [arrays for answer, arrays in nodes.answers[0][client.identity] if answer.seq == message.seq]
    nodes.kill(0)
    nodes.place([[1]] * 256)
    again = client_of(nodes, 5, 1)
    again.send(at_epoch(Numbered(5, 1, 0, message.message), 2))
    nodes.deliver()
    (second,) = [arrays for answer, arrays in nodes.answers[1][again.identity] if answer.seq == 1]
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    assert set(nodes.rows(1, 3).values()) == {2.0}


def double(shard: Any) -> float:
    rows = shard.rows()
    rows *= 2.0
    return float(rows.sum())


def test_what_a_users_function_writes_reaches_the_replica_as_rows() -> None:
    nodes = Nodes(PAIR, 2)
    nodes.table()
    functions.register("double", cloudpickle.dumps(double))
    for service in nodes.services:
        service.state.users.start = _at_once  # type: ignore[method-assign]
    client = client_of(nodes, 5)
    client.send(*client.add(SOME))
    nodes.deliver()
    message = client.call("double")
    client.send(message)
    client.send(*client.add(SOME))
    nodes.deliver()
    assert done(client, message)
    assert nodes.rows(0, 3) == nodes.rows(1, 3)
    assert set(nodes.rows(1, 3).values()) == {3.0}
    assert not nodes.services[1].state.followers.of(0).holds


def _at_once(job: Any, seconds: float, then: Any, ended: Any, *, name: str = "") -> None:
    then(job(), None)
    ended()


def test_entries_for_buckets_that_were_let_go_of_are_for_nobody() -> None:
    nodes = Nodes(PAIR, 2)
    nodes.table()
    client = client_of(nodes, 5)
    message, arrays = client.add(list(range(200)))
    client.send(message, arrays)
    part = [[0, 1] if bucket % 2 else [0] for bucket in range(256)]
    nodes.epoch = 2
    told = nodes.command(1, c.SetPlacement(0, 2, part, nodes.infos()))  # the replica hears of it first
    assert told == [None]
    nodes.deliver()
    assert nodes.command(0, c.SetPlacement(0, 2, part, nodes.infos())) == [None]
    nodes.deliver()
    assert not nodes.services[1].state.followers.of(0).broken
    for bucket in range(256):
        if bucket % 2:
            assert nodes.rows(1, bucket) == nodes.rows(0, bucket)
