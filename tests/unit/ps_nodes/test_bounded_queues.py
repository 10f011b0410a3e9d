"""What others do not read or do not carry out grows to a bound, and not beyond."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from sparkps.ps_nodes import dispatch
from sparkps.ps_nodes.replication import copies, follower, sent_log
from sparkps.ps_nodes.replication.answers import Answers
from sparkps.ps_nodes.replication.follower import Follower
from sparkps.ps_nodes.replication.sent_log import SentLog
from sparkps.ps_nodes.shards import Shards
from sparkps.ps_nodes.tables.directory import Tables
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from tests.unit.ps_nodes.lone_node import Client, LoneNode, Pool

ALL = (1 << 256) - 1


@pytest.fixture
def node() -> LoneNode:
    made = LoneNode()
    made.table()
    return made


def with_a_silent_replica(node: LoneNode) -> copies.Copies:
    """Node 1 copies everything, and says nothing."""
    state = node.service.state
    state.nodes[1] = c.NodeInfo(1, "tcp://127.0.0.1:1", "h", 1)
    state.copies.begin(1, ALL)
    state.copies.caught_up(1, ALL)
    return state.copies


@pytest.mark.parametrize("keys", [10, 2000], ids=["at once", "ordered"])
def test_of_a_silent_replica_a_write_waits_so_that_the_log_holds_what_clients_may_have_under_way(
    node: LoneNode, keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "INLINE_BYTES", 4096)
    held = with_a_silent_replica(node)
    client = Client(node, 5)
    sent = [client.add(list(range(keys))) for _ in range(5)]
    for message, arrays in sent:
        client.send(message, arrays)
        node.pool.run()
    assert [client.answers(message.seq) for message, _ in sent] == [[]] * 5
    at_most = 5 * (keys * 16 + 2048)
    assert keys * 16 * 5 < held.nbytes() < at_most
    held.acknowledged(1, 1, 5)
    assert [len(client.answers(message.seq)) for message, _ in sent] == [1] * 5
    assert held.nbytes() == 0


def test_where_writes_are_acknowledged_first_they_wait_from_a_bound_on(
    node: LoneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "MOST_AHEAD_BYTES", 100_000)
    held = with_a_silent_replica(node)
    held.asynchronous = True
    client, answered = Client(node, 5), 0
    for _ in range(100):
        message, arrays = client.add(list(range(100)))
        client.send(message, arrays)
        if not client.answers(message.seq):
            break
        answered += 1
    assert 20 < answered < 60
    assert 100_000 < held.nbytes() < 110_000, "a client that keeps within its credit adds no more than that"


def test_a_primary_sends_no_further_than_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_log, "WINDOW_BYTES", 10_000)
    log = SentLog(1)
    for _ in range(100):
        log.fill(log.reserve(), [bytes(1000)])
    first = log.due(0.0)
    assert 5 < len(first) < 10
    assert log.due(0.1) == []
    log.acknowledge(first[1][0], 0.2)
    assert [number for number, _ in log.due(0.2)] == [len(first) + 1, len(first) + 2]


def test_a_replica_that_is_behind_acknowledges_nothing_until_it_has_caught_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "MOST_WAITING_BYTES", 10_000)
    monkeypatch.setattr(follower, "INLINE_BYTES", 0)
    pool, done = Pool(), list[Any]()
    follows = Follower(
        1, Tables(range(256)), Shards(pool), pool, Answers(), lambda group: None, lambda _, message, __: done.append(message),
        lambda: ALL, lambda epoch: True, lambda bucket: 1,
    )  # fmt: skip
    for number in range(1, 21):
        follows.take(1, number, number, [], 1000)
    assert follows.acknowledged is None, "so its primary sends nothing more"
    assert follows.nbytes() == 20_000
    pool.run(1)
    pool.run()
    assert (follows.acknowledged, len(done), follows.nbytes()) == (20, 20, 0)


# ---- nothing is kept longer than it must be ----------------------------------------------------------------------------


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is free only when cycles are looked for stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _as_session(node: LoneNode) -> Client:
    return Client(node, 5)


def _as_rank(node: LoneNode) -> Client:
    node.group(1, 2)
    return Client.of_rank(node, 0)


@pytest.mark.parametrize("who", [_as_session, _as_rank])
def test_a_write_and_a_dropped_table_are_free_at_once(
    node: LoneNode, who: Callable[[LoneNode], Client], no_collector: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "INLINE_BYTES", 0)
    client = who(node)
    assert isinstance(client.ask(*client.add(list(range(1000)))), m.Done)
    table = weakref.ref(node.service.state.tables.by_id[1])
    plane: weakref.ref[np.ndarray] = weakref.ref(node.service.state.tables.by_id[1]._planes[3][0])
    node.drop()
    assert plane() is None
    assert table() is None
