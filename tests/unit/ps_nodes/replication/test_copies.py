"""What a primary acknowledges lies at its replicas, and what comes of it there: two or three nodes, message by message."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.errors import TierError
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from tests.harness.requests import Numbered
from tests.unit.ps_nodes.lone_node import Client
from tests.unit.ps_nodes.replication.clients import (
    ALONE,
    PAIR,
    SOME,
    SURVIVOR,
    SWAPPED,
    add,
    at_epoch,
    at_once,
    client_of,
    done,
    done_after_failover,
    fail_over,
    rank_of,
    scale_and_sum,
    two_nodes,
    with_double,
)
from tests.unit.ps_nodes.replication.nodes import At, Nodes


@pytest.mark.parametrize("large", [False, True])
def test_a_write_is_acknowledged_when_the_replica_has_it(large: bool) -> None:
    nodes, client = two_nodes()
    keys = list(range(20_000)) if large else SOME
    message, _ = add(client, keys)
    nodes.pools[0].run()
    assert not done(client, message)
    nodes.deliver()
    assert done(client, message)
    bucket = 3
    assert nodes.rows(1, bucket) == nodes.rows(0, bucket) != {}


def test_asynchronous_writes_are_acknowledged_at_once_and_arrive_all_the_same() -> None:
    nodes, client = two_nodes(replication_ack="async")
    message, _ = add(client)
    assert done(client, message)
    assert nodes.rows(1, 3) == {}
    nodes.deliver()
    assert nodes.rows(1, 3) == nodes.rows(0, 3)


def test_later_requests_of_a_session_do_not_wait_for_the_replicas_answer() -> None:
    nodes, client = two_nodes()
    add(client)
    pull, arrays = client.pull(SOME)
    client.send(pull, arrays)
    nodes.pools[0].run()
    assert client.rows(pull.seq) == [1.0] * len(SOME)


def test_a_repetition_is_not_acknowledged_before_what_it_repeats() -> None:
    nodes, client = two_nodes()
    message, arrays = add(client)
    nodes.services[0].state.sessions.sessions.clear()  # the node has forgotten the session, as after a long silence
    client.send(m.Hello(5))
    client.send(message, arrays)
    assert not done(client, message)
    nodes.deliver()
    assert done(client, message)
    assert set(nodes.rows(0, 3).values()) == set(nodes.rows(1, 3).values()) == {1.0}


def test_a_promoted_replica_knows_the_write_that_comes_again() -> None:
    nodes, client = two_nodes()
    message, arrays = add(client)
    nodes.deliver(1)  # it is at the replica; the primary dies before it hears of that
    assert not done(client, message)
    assert done_after_failover(nodes, message, arrays)
    assert set(nodes.rows(1, 3).values()) == {1.0}


def test_a_promoted_replica_carries_out_what_it_has_not_got() -> None:
    nodes, client = two_nodes()
    message, arrays = add(client)
    assert done_after_failover(nodes, message, arrays)
    assert set(nodes.rows(1, 3).values()) == {1.0}


def test_a_primary_that_was_declared_dead_acknowledges_nothing_and_learns_of_it() -> None:
    nodes, client = two_nodes()
    fail_over(nodes)
    nodes.dead.clear()  # it was only cut off, and comes back
    message, _ = add(client)
    nodes.deliver()
    assert not done(client, message)
    assert "dead" in nodes.services[0].state.must_end
    assert nodes.rows(1, 3) == {}


def test_who_waits_for_a_replica_that_dies_is_answered_by_the_placement() -> None:
    nodes, client = two_nodes()
    message, _ = add(client)
    nodes.kill(1)
    nodes.deliver()
    assert not done(client, message)
    nodes.place(ALONE)
    assert done(client, message)


def test_a_lead_is_given_up_when_all_that_was_taken_is_at_the_new_primary() -> None:
    nodes, client = two_nodes()
    message, arrays = add(client)
    told = nodes.command(0, c.SetPlacement(0, 2, SWAPPED, nodes.infos()))
    assert told == [], "what it has shipped is not there yet"
    nodes.deliver()
    assert told == [None]
    assert done(client, message)
    assert nodes.command(1, c.SetPlacement(0, 2, SWAPPED, nodes.infos())) == [None]
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
    nodes, client = two_nodes(ALONE)
    for _ in range(3):
        add(client)
    told = nodes.copy([3], 0, 1)
    nodes.pools[0].run()
    for _ in range(3):
        add(client)
    assert told == []
    nodes.deliver()
    assert told == [None]
    add(client)
    nodes.deliver()
    assert nodes.rows(1, 3) == nodes.rows(0, 3)
    assert set(nodes.rows(1, 3).values()) == {7.0}


def test_a_copy_is_of_one_placement() -> None:
    nodes, client = two_nodes(ALONE)
    add(client)
    told = nodes.copy([3, 4], 0, 1)
    nodes.pools[0].run(1)
    nodes.place(ALONE)
    nodes.deliver()
    (error,) = told
    assert isinstance(error, TierError)
    assert not nodes.services[1].state.tables.held


def test_a_node_leads_nothing_of_which_it_has_no_copy() -> None:
    nodes = Nodes(ALONE, 2)
    nodes.table()
    (error,) = nodes.command(1, c.SetPlacement(0, 2, SURVIVOR, nodes.infos()))
    assert isinstance(error, TierError)
    assert "must hold a copy" in str(error)


def test_a_copy_that_fails_is_given_up_and_made_anew() -> None:
    nodes, client = two_nodes()
    add(client)
    nodes.deliver()
    follower = nodes.services[1].state.followers.of(0)
    follower.broken = True
    message, _ = add(client)
    nodes.deliver()
    assert not done(client, message), "the copy that does not count is still one of the placement"
    assert nodes.services[0].report()["silent_replicas"] == [1]
    nodes.place(ALONE)
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
    ranks = [rank_of(nodes, rank) for rank in range(2)]
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
    ranks = [rank_of(nodes, rank) for rank in range(2)]
    for client in ranks:
        client.send(*client.add(SOME, 2.0))
    ranks[0].send(ranks[0].tick())
    nodes.deliver()
    fail_over(nodes)
    last = ranks[1].tick()
    other = Client(At(nodes, 1), ranks[1].number)  # type: ignore[arg-type]
    other.send(at_epoch(Numbered(last.session, 1, 0, last.message), 2))
    nodes.deliver()
    assert set(nodes.rows(1, 3).values()) == {4.0}


def test_what_a_call_has_read_and_written_is_answered_again_by_the_promoted_replica() -> None:
    nodes, client = two_nodes()
    add(client)
    nodes.deliver()
    message = scale_and_sum(client)
    client.send(message)
    nodes.deliver()
    (first,) = [arrays for answer, arrays in nodes.answers[0][client.identity] if answer.seq == message.seq]
    fail_over(nodes)
    again = client_of(nodes, 5, 1)
    again.send(at_epoch(Numbered(5, 1, 0, message.message), 2))
    nodes.deliver()
    (second,) = [arrays for answer, arrays in nodes.answers[1][again.identity] if answer.seq == 1]
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    assert set(nodes.rows(1, 3).values()) == {2.0}


def test_what_a_users_function_writes_reaches_the_replica_as_rows() -> None:
    nodes, client = two_nodes()
    with_double(nodes, at_once)
    add(client)
    nodes.deliver()
    message = client.call("double")
    client.send(message)
    add(client)
    nodes.deliver()
    assert done(client, message)
    assert nodes.rows(0, 3) == nodes.rows(1, 3)
    assert set(nodes.rows(1, 3).values()) == {3.0}
    assert not nodes.services[1].state.followers.of(0).holds


def test_entries_for_buckets_that_were_let_go_of_are_for_nobody() -> None:
    nodes, client = two_nodes()
    add(client, list(range(200)))
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
