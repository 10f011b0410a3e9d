"""Buckets that move under work: nothing that is under way is lost, refused for good, or left at the node that gave it up."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from sparkps.ps_nodes.handlers import calls as calls_module
from sparkps.ps_nodes.handlers import rows
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from sparkps.wire.placement import Placement
from tests.harness.requests import Numbered
from tests.unit.ps_nodes.lone_node import Client
from tests.unit.ps_nodes.replication.clients import (
    ALONE,
    PAIR,
    SOME,
    SURVIVOR,
    SWAPPED,
    Held,
    add,
    at_epoch,
    client_of,
    done,
    fail_over,
    keys_in,
    rank_of,
    scale_and_sum,
    two_nodes,
    with_double,
)
from tests.unit.ps_nodes.replication.nodes import Nodes


def moves_meanwhile(nodes: Nodes, patch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    """The first time that a pool's thread comes by, the I/O thread takes a placement over in which node 1 leads."""
    real, io, moved = getattr(module, name), nodes.services[0].io, []

    def then_moved(*args: Any, **more: Any) -> Any:
        found = real(*args, **more)
        if not moved and io._ident == -1:
            moved.append(True)
            io.take_over()
            nodes.place(SWAPPED, first=(0,))
            io._ident = -1
        return found

    patch.setattr(module, name, then_moved)


def test_a_write_that_was_looked_at_before_a_move_is_sent_back(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, client = two_nodes()
    moves_meanwhile(nodes, monkeypatch, rows, "targets_of")
    message, _ = add(client, list(range(20_000)))
    nodes.deliver()
    (answer,) = client.answers(message.seq)
    assert isinstance(answer, m.WrongEpoch)
    assert nodes.rows(0, 3) == nodes.rows(1, 3) == {}


@pytest.mark.parametrize("staleness", [0, 1])
def test_a_write_of_a_rank_that_was_looked_at_before_a_move_is_sent_back(
    monkeypatch: pytest.MonkeyPatch, staleness: int
) -> None:
    nodes = Nodes(PAIR, 2)
    nodes.table()
    nodes.group(1, staleness)
    rank = rank_of(nodes, 0)
    moves_meanwhile(nodes, monkeypatch, rows, "targets_of")
    message, arrays = rank.add(list(range(20_000)))
    rank.send(message, arrays)
    nodes.deliver()
    (answer,) = rank.answers(message.seq)
    assert isinstance(answer, m.WrongEpoch)


def test_a_call_that_was_looked_at_before_a_move_is_sent_back(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, client = two_nodes()
    add(client)
    nodes.deliver()
    moves_meanwhile(nodes, monkeypatch, calls_module, "_buckets")
    message = scale_and_sum(client)
    client.send(message)
    nodes.deliver()
    (answer,) = client.answers(message.seq)
    assert isinstance(answer, m.WrongEpoch)
    assert nodes.rows(0, 3) == nodes.rows(1, 3)


def test_a_lead_is_not_given_up_while_a_users_function_runs_on_it() -> None:
    (nodes, client), held = two_nodes(), Held()
    with_double(nodes, held.start)
    add(client)
    nodes.deliver()
    message = client.call("double", limit=100.0)
    client.send(message)
    nodes.deliver()
    told = nodes.command(0, c.SetPlacement(0, 2, SWAPPED, nodes.infos()))
    nodes.deliver()
    assert told == []
    held.run()
    nodes.deliver()
    assert told == [None]
    assert done(client, message)
    assert set(nodes.rows(1, 3).values()) == set(nodes.rows(0, 3).values()) == {2.0}


def test_a_copy_is_made_when_all_that_was_acknowledged_is_there() -> None:
    nodes, client = two_nodes(ALONE)
    told = nodes.copy([3], 0, 1)
    nodes.pools[0].run()
    add(client)
    nodes._one()  # the bucket arrives; the write behind it is still under way
    source, target, frames = nodes.heard.popleft()
    nodes.services[target].hear_node(source, frames)
    nodes.services[0].io.run_posted()
    assert told == []
    nodes.deliver()
    assert told == [None]
    assert nodes.rows(1, 3) == nodes.rows(0, 3)


@pytest.mark.parametrize("in_group", [False, True])
def test_a_call_reaches_the_copy_though_a_table_that_it_reads_is_dropped_afterwards(in_group: bool) -> None:
    nodes = Nodes(PAIR, 2)
    for number in (1, 2):
        nodes.table(number, index=1, group="g")
    nodes.table(3)
    nodes.group(1, 0)
    client = client_of(nodes, 5)
    for number in (1, 2):
        client.send(*client.add(SOME, table=number))
        nodes.deliver()
    who = rank_of(nodes, 0) if in_group else client
    client.send(*client.add(list(range(40_000)), table=3))  # keeps a thread of the replica busy
    nodes.pools[0].run()
    call = Numbered(
        who.number, who.next(), 0, m.Call(1, [m.FunctionCall("axpy", [1, 2], {"alpha": 1.0})], who.member, 77, 10.0)
    )
    who.send(call)
    if in_group:
        who.send(who.tick())
    while nodes.shipped or nodes.heard or nodes.pools[0].waiting:
        nodes.pools[0].run()
        if nodes.shipped:
            source, target, frames = nodes.shipped.popleft()
            nodes.services[target].receive(b"node %d" % source, frames)
        elif nodes.heard:
            source, target, frames = nodes.heard.popleft()
            nodes.services[target].hear_node(source, frames)
    assert done(who, call)
    for number in (0, 1):
        nodes.command(number, c.DropTable(0, "t2", 2))
    nodes.deliver()
    assert nodes.rows(1, 3, 1) == nodes.rows(0, 3, 1)
    assert set(nodes.rows(1, 3, 1).values()) == {2.0}


def test_an_answer_moves_with_its_buckets() -> None:
    nodes, client = two_nodes(ALONE)
    add(client)
    message = scale_and_sum(client)
    client.send(message)
    nodes.deliver()
    assert nodes.copy(list(range(256)), 0, 1) == []
    nodes.deliver()
    nodes.place(PAIR, (0,))
    nodes.place(SWAPPED, (0,))
    again = client_of(nodes, 5, 1)
    again.send(at_epoch(Numbered(5, 1, 0, message.message), 3))
    nodes.deliver()
    assert isinstance(again.answers(1)[0], m.Done)
    assert set(nodes.rows(1, 3).values()) == {2.0}


def test_nobody_waits_for_a_silent_replica_that_no_placement_names() -> None:
    nodes, client = two_nodes()
    message, _ = add(client)
    nodes.services[0].io.run_posted()
    nodes.shipped.clear()
    assert nodes.command(0, c.SetPlacement(0, 2, ALONE, nodes.infos())) == [None]
    nodes.services[0].io.run_posted()
    assert done(client, message)


def test_a_copy_that_cannot_be_begun_does_not_stop_the_log() -> None:
    nodes = Nodes(ALONE, 2)
    nodes.table()
    marks = nodes.services[0].state.shards.marks
    real = marks.export

    def fails(bucket: int) -> Any:
        raise RuntimeError("something else")

    marks.export = fails  # type: ignore[method-assign]
    told = nodes.copy([3], 0, 1)
    nodes.deliver()
    assert isinstance(told[0], RuntimeError)
    marks.export = real  # type: ignore[method-assign]
    told = nodes.copy([3], 0, 1)
    nodes.deliver()
    assert told == [None]


def test_a_bucket_that_comes_again_before_it_has_gone_stays() -> None:
    (nodes, client), held = two_nodes(), Held()
    with_double(nodes, held.start)
    add(client)
    nodes.deliver()
    client.send(client.call("double"))
    nodes.deliver()
    nodes.place(ALONE)
    told = nodes.copy([3], 0, 1)
    nodes.deliver()
    held.run()
    nodes.deliver()
    assert told == [None]
    assert not nodes.services[1].state.followers.of(0).broken
    assert nodes.rows(1, 3) == nodes.rows(0, 3)


@pytest.mark.parametrize("moment", ["order_with", "copy_bucket", "adopt_bucket"])
def test_a_table_that_is_created_and_written_while_a_copy_is_made_is_there_once(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, client = two_nodes(ALONE)
    add(client)
    nodes.deliver()
    state = nodes.services[1 if moment == "adopt_bucket" else 0].state
    place = state.shards if moment == "order_with" else state.tables
    real, created = getattr(place, moment), []

    def at_that_moment(*args: Any) -> Any:
        if not created:
            created.append(True)
            ident, nodes.services[0].io._ident = nodes.services[0].io._ident, threading.get_ident()
            nodes.table(2)
            client.send(*client.add(SOME, table=2))
            nodes.services[0].io._ident = ident
        return real(*args)

    monkeypatch.setattr(place, moment, at_that_moment)
    told = nodes.copy([3], 0, 1)
    nodes.deliver()
    assert told == [None]
    assert nodes.rows(0, 3, 2) == nodes.rows(1, 3, 2) == dict.fromkeys(SOME, 1.0)
    assert nodes.rows(0, 3) == nodes.rows(1, 3)


def test_a_copy_made_later_knows_the_write_that_comes_again() -> None:
    nodes, client = two_nodes(ALONE)
    message, arrays = add(client)
    told = nodes.copy(list(range(256)), 0, 1)
    nodes.deliver()
    assert told == [None]
    nodes.place(PAIR)
    fail_over(nodes)
    client_of(nodes, 5, 1).send(at_epoch(Numbered(5, 1, 0, message.message), 3), arrays)
    nodes.deliver()
    assert set(nodes.rows(1, 3).values()) == {1.0}


def test_a_copy_made_later_has_what_is_buffered() -> None:
    nodes = Nodes(ALONE, 2)
    nodes.table()
    nodes.group(1, 0)
    rank: Client = rank_of(nodes, 0)
    rank.send(*rank.add(SOME, 2.0))
    told = nodes.copy(list(range(256)), 0, 1)
    nodes.deliver()
    assert told == [None]
    rank.send(rank.tick())
    nodes.deliver()
    assert nodes.rows(1, 3) == nodes.rows(0, 3)
    assert set(nodes.rows(1, 3).values()) == {2.0}


def test_sessions_are_forgotten_at_copies_too() -> None:
    nodes, client = two_nodes()
    add(client)
    client.send(scale_and_sum(client))
    nodes.deliver()
    nodes.services[0].state.forget(5)
    nodes.deliver()
    assert not nodes.services[1].state.followers.of(0).marks.export(3)
    assert not nodes.services[1].state.answers._latest


def test_what_a_session_writes_at_the_former_primary_says_nothing_of_a_bucket_that_it_gave_up() -> None:
    """Writes that are under way at once: those to others are at the old primary before the new one leads, and before its own come there."""
    nodes, old = two_nodes()
    other = keys_in(9, 4)
    first = [add(old, SOME + other)[0]]
    nodes.deliver()
    moved: Placement = [[1, 0] if bucket == 3 else [0, 1] for bucket in range(256)]
    nodes.epoch, nodes.placement = 2, moved
    placing = c.SetPlacement(0, 2, moved, nodes.infos())
    nodes.command(0, placing)
    nodes.deliver()
    new = client_of(nodes, old.number, 1)
    for _ in range(3):
        message, arrays = old.add(other)
        first.append(at_epoch(message, 2))
        old.send(first[-1], arrays)
    nodes.deliver()
    nodes.command(1, placing)
    nodes.deliver()
    new.calls = old.calls - 3
    for _ in range(3):
        message, arrays = new.add(SOME)
        first.append(at_epoch(message, 2))
        new.send(first[-1], arrays)
    nodes.deliver()
    assert all(done(client, message) for client, message in zip([old] * 4 + [new] * 3, first, strict=True))
    assert nodes.rows(1, 3) == dict.fromkeys(SOME, 4.0)
    assert nodes.rows(0, 9) == dict.fromkeys(other, 4.0)
    assert nodes.rows(0, 3) == nodes.rows(1, 3)


def test_a_bucket_that_is_copied_while_a_function_runs_keeps_nobody_else_waiting() -> None:
    """Neither writers of other tables in that bucket, nor those of other buckets that the same node copies."""
    nodes, client = two_nodes(ALONE)
    nodes.table(2)
    held, other = Held(), client_of(nodes, 6)
    with_double(nodes, held.start)
    assert add(client)
    first = nodes.copy([5], 0, 1)
    nodes.deliver()
    assert first == [None]
    client.send(client.call("double", limit=60.0))
    copied = nodes.copy([3], 0, 1)
    nodes.deliver()
    for key in (keys_in(3, 1)[0], keys_in(5, 1)[0]):
        message, arrays = other.add([key], table=2)
        other.send(message, arrays)
        nodes.deliver()
        assert done(other, message), key
    assert copied == []
    held.run()
    nodes.deliver()
    assert copied == [None]
    assert nodes.rows(1, 3) == nodes.rows(0, 3) == dict.fromkeys(SOME, 2.0)
    assert nodes.rows(1, 3, 2) == nodes.rows(0, 3, 2) == {keys_in(3, 1)[0]: 1.0}


def test_a_node_names_every_bucket_that_it_cannot_lead() -> None:
    """It could not carry out what the primary shipped, which dies: the coordinator must know what is lost with it."""
    nodes, _ = two_nodes()
    nodes.services[1].state.followers.of(0).broken = True
    nodes.kill(0)
    (refused,) = nodes.command(1, c.SetPlacement(0, nodes.epoch + 1, SURVIVOR, nodes.infos()))
    cause = c.Cause.of(refused)
    assert (cause.attributes["node"], cause.attributes["buckets"]) == (1, list(range(256)))


def test_buckets_that_have_begun_anew_can_be_given_up_to_nobody() -> None:
    """A restore that is taken back: what was lost is lost again."""
    nodes, _ = two_nodes(ALONE)
    nodes.kill(0)
    infos, state = nodes.infos(), nodes.services[1].state
    assert nodes.command(1, c.SetPlacement(0, 2, SURVIVOR, infos, list(range(256)), is_restoring=True)) == [None]
    assert state.bucket_bits == (1 << 256) - 1
    told = nodes.command(1, c.SetPlacement(0, 3, ALONE, infos))
    nodes.deliver()
    assert told == [None]
    assert state.bucket_bits == state.tables.held == 0
