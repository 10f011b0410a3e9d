"""Worker groups that end, or begin, while buckets are on their way: nodes hear of it at different moments."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from sparkps.ps_nodes.replication.follower import Follower
from sparkps.specs import GroupSpec
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from sparkps.wire.placement import Placement
from tests.harness.requests import Numbered
from tests.unit.ps_nodes.lone_node import GROUP
from tests.unit.ps_nodes.replication.clients import (
    ALONE,
    PAIR,
    SOME,
    SWAPPED,
    add,
    at_epoch,
    client_of,
    done,
    fail_over,
    lose_the_close,
    rank_of,
    two_nodes,
)
from tests.unit.ps_nodes.replication.nodes import Nodes

#: Each of two nodes leads half of the buckets, and copies the other half.
HALVES: Placement = [[bucket % 2, 1 - bucket % 2] for bucket in range(256)]


def but_for_bucket_3(row: list[int]) -> Placement:
    """`HALVES` with another row for bucket 3, which node 1 leads there."""
    return [row if bucket == 3 else other for bucket, other in enumerate(HALVES)]


def takes_over(nodes: Nodes, node: int) -> Any:
    """A rank speaks to a node for the first time; the answer."""
    rank = client_of(nodes, 200 + node, node)
    takeover = at_epoch(Numbered(rank.number, rank.next(), rank.acked, m.Takeover(m.Member(GROUP, 0, 1, -1))), nodes.epoch)
    rank.send(takeover)
    nodes.deliver()
    (answer,) = rank.answers(takeover.seq)
    return answer


def ranks_that_have_finished(nodes: Nodes) -> None:
    """Two ranks have added to the same rows, and finished: nobody has delivered anything since."""
    nodes.table()
    nodes.group(2, 0)
    ranks = [rank_of(nodes, rank) for rank in range(2)]
    for rank in ranks:
        rank.send(*rank.add(SOME, 2.0))
    nodes.deliver()
    for rank in ranks:
        rank.send(rank.tick(finish=True))


# ---- it ends -------------------------------------------------------------------------------------------------------------


def both_halves() -> Nodes:
    """Two nodes that know of their own buckets, and of the other's, that somebody speaks in a group; node 1 has closed it."""
    nodes = Nodes(HALVES, 2)
    nodes.table()
    nodes.group(1, 0)
    for node in (0, 1):
        takes_over(nodes, node)
    assert all(GROUP in nodes.services[node].state.followers.of(1 - node).groups for node in (0, 1))
    nodes.command(1, c.CloseGroup(0, GROUP))
    return nodes


def test_a_copy_is_let_go_of_though_its_group_had_ended_when_it_came() -> None:
    nodes = both_halves()
    for epoch, row in ((2, [0, 1]), (3, [0])):
        told = nodes.command(1, c.SetPlacement(0, epoch, but_for_bucket_3(row), nodes.infos()))
    nodes.deliver()
    assert told == [None]
    assert not nodes.services[1].state.tables.held >> 3 & 1


def test_a_bucket_goes_to_and_fro_though_its_group_has_ended_here_and_not_yet_there() -> None:
    nodes = both_halves()
    nodes.place(but_for_bucket_3([0, 1]), first=(1,))
    nodes.place(but_for_bucket_3([0]))
    nodes.command(0, c.CloseGroup(0, GROUP))
    nodes.copy([3], 0, 1)
    nodes.deliver()
    nodes.place(but_for_bucket_3([0, 1]))
    nodes.place(HALVES, first=(0,))
    assert nodes.services[1].state.bucket_bits >> 3 & 1


def test_what_is_due_in_a_bucket_goes_with_it_though_its_group_is_being_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparkps.ps_nodes.closing.HEAVY_ROWS", 0)  # a thread of the pool will close the clock
    nodes = Nodes(PAIR, 2)
    ranks_that_have_finished(nodes)
    closed = nodes.command(0, c.CloseGroup(0, GROUP))
    assert closed == []
    assert nodes.rows(0, 3) == {}
    nodes.place(SWAPPED, first=(0,))
    assert closed == [None]
    assert set(nodes.rows(1, 3).values()) == {4.0}


def test_nobody_asks_for_more_of_a_group_that_is_being_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparkps.ps_nodes.closing.HEAVY_ROWS", 0)
    nodes = Nodes(ALONE, 1)
    ranks_that_have_finished(nodes)
    nodes.command(0, c.CloseGroup(0, GROUP))
    refused = takes_over(nodes, 0)
    assert isinstance(refused, m.Failed)
    assert refused.error == "Fenced"


def test_what_was_due_at_a_primary_that_died_is_closed_though_the_group_has_ended_here() -> None:
    nodes = Nodes(PAIR, 2)
    ranks_that_have_finished(nodes)
    lose_the_close(nodes)
    assert nodes.command(1, c.CloseGroup(0, GROUP)) == [None]
    assert nodes.rows(1, 3) == {}
    fail_over(nodes)
    nodes.deliver()
    assert set(nodes.rows(1, 3).values()) == {4.0}
    assert nodes.services[1].state.groups == {}


def test_a_group_that_failed_at_a_primary_does_not_go_on_where_its_buckets_go() -> None:
    nodes = Nodes(PAIR, 2)
    nodes.table()
    nodes.group(1, 0)
    takes_over(nodes, 0)
    nodes.services[0].state.groups[GROUP].end(RuntimeError("it failed"))  # type: ignore[arg-type]
    nodes.place(SWAPPED, first=(0,))
    refused = takes_over(nodes, 1)
    assert isinstance(refused, m.Failed)
    assert "ended at node 0" in refused.message


# ---- it begins -----------------------------------------------------------------------------------------------------------


def test_a_copy_has_what_a_group_keeps_that_is_opened_while_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(ALONE, 2)
    nodes.table()
    state = nodes.services[0].state
    rank, real = client_of(nodes, 300), state.shards.order_with

    def order_with(*args: Any) -> bool:
        if rank.member is None:  # in the middle of a copy: the group begins, and its first write is kept
            ident, nodes.services[0].io._ident = nodes.services[0].io._ident, threading.get_ident()
            for service in nodes.services:
                service.state.open_group(GroupSpec(GROUP, "g", 1, 1, 0))
            at = m.Member(GROUP, 0, 1, -1)
            for message in (m.Takeover(at), m.Settle(at)):
                rank.send(Numbered(rank.number, rank.next(), rank.acked, message))
            rank.member = m.Member(GROUP, 0, 1, 0)
            rank.send(*rank.add(SOME))
            nodes.services[0].io._ident = ident
        return real(*args)

    monkeypatch.setattr(state.shards, "order_with", order_with)
    told = nodes.copy([3], 0, 1)
    nodes.deliver()
    assert told == [None]
    rank.send(rank.tick())
    nodes.deliver()
    assert nodes.rows(0, 3) == nodes.rows(1, 3) == dict.fromkeys(SOME, 1.0)


# ---- what cannot be taken over, or kept ------------------------------------------------------------------------------------


def test_a_node_that_has_taken_a_placement_over_in_part_must_end(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, client = two_nodes()

    def bring(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Follower, "bring", bring)
    told = nodes.command(0, c.SetPlacement(0, 2, SWAPPED, nodes.infos()))
    assert [type(each) for each in told] == [MemoryError]
    assert "in part" in nodes.services[0].state.must_end
    message, _ = add(client)
    nodes.deliver()
    assert not done(client, message)


def test_nothing_is_sent_to_a_node_that_copies_nothing_any_more() -> None:
    nodes, client = two_nodes()
    add(client)
    nodes.services[0].io.run_posted()
    nodes.shipped.clear()
    assert nodes.command(0, c.SetPlacement(0, 2, ALONE, nodes.infos())) == [None]
    nodes.time += 60.0
    nodes.services[0].look_around()
    nodes.services[0].io.run_posted()
    assert not nodes.shipped
    assert nodes.services[0].state.copies.targets() == []
