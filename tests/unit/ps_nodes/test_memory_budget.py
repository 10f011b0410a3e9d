"""A node near its memory limit refuses new rows before anybody hears of them, and goes on with those that it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sparkps.errors import OutOfNodeMemory, from_wire
from sparkps.host_memory import UNLIMITED
from sparkps.optim import Adagrad
from sparkps.ps_nodes import dispatch
from sparkps.ps_nodes.memory_budget import SHARE_OF_ROWS
from sparkps.ps_nodes.tables.directory import Tables
from sparkps.ps_nodes.tables.keysets import KeyChunk
from sparkps.specs import UNBOUNDED, TableSpec
from sparkps.wire.buckets import packed
from sparkps.wire.codec import encode
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from sparkps.wire.messages.log import Shipped, ShipWrite
from tests.harness.requests import Numbered
from tests.unit.ps_nodes.lone_node import GROUP, TABLE, Client, LoneNode, in_order

MiB = 1 << 20

LIMIT = 8 * MiB


@pytest.fixture
def node() -> LoneNode:
    made = LoneNode()
    made.table()
    made.service.state.memory.set_limit(LIMIT, 1)
    return made


def allocated(node: LoneNode) -> int:
    return sum(node.service.state.tables.sizes())


def is_refused(answer: Any) -> bool:
    return isinstance(answer, m.Failed) and answer.error == "OutOfNodeMemory"


def fill(client: Client, node: LoneNode, step: int = 3000, first: int = 0) -> tuple[list[int], int]:
    """Add new keys until one write is refused: keys that are there, and the first of those that are not."""
    for at in range(first, 1 << 30, step):
        assert allocated(node) <= LIMIT, "it never comes to that"
        answer = client.ask(*client.add(list(range(at, at + step))))
        if is_refused(answer):
            return list(range(first, at)), at
    raise AssertionError("never refused")


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "pool"])
def test_new_rows_are_refused_near_the_limit_and_nothing_of_them_is_there(
    node: LoneNode, inline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "INLINE_BYTES", 1 << 20 if inline else 0)
    client = Client(node, 5)
    keys, more = fill(client, node)
    rows = node.service.report()["rows"]
    assert rows == len(keys)
    assert allocated(node) > 0.6 * LIMIT, "and not much earlier"
    answer = client.ask(*client.add([*keys[:100], *range(more, more + 3000)]))
    assert is_refused(answer)
    error = from_wire(answer.error, answer.message, answer.attributes)
    assert isinstance(error, OutOfNodeMemory)
    assert (error.table, error.key, error.limit) == ("t1", "spark.sparkps.nodeMemory", LIMIT)
    assert "'t1'" in answer.message
    assert "spark.sparkps.nodeMemory" in answer.message
    assert node.service.report()["rows"] == rows
    assert node.values([*keys[:100], more]) == [1.0] * 100 + [0.0], "nothing of it has changed"


def test_existing_rows_go_on_working_at_the_line(node: LoneNode) -> None:
    client = Client(node, 5)
    keys, _ = fill(client, node)
    assert isinstance(client.ask(*client.add(keys)), m.Done)
    pull, wanted = client.pull(keys[:1000])
    assert isinstance(client.ask(pull, wanted), m.Done)
    assert client.rows(pull.seq) == [2.0] * 1000


def test_dropping_a_table_makes_room(node: LoneNode) -> None:
    client = Client(node, 5)
    fill(client, node)
    node.drop()
    node.table(2)
    assert isinstance(client.ask(*client.add(list(range(5000)), table=2)), m.Done)
    assert not node.service.state.memory.full


def test_tables_never_grow_beyond_what_new_rows_may_take(node: LoneNode) -> None:
    """Many small writes: the last bucket to grow by half is counted before it does."""
    node.table(2, index=TABLE, optimizer=Adagrad(0.1))
    clients = [Client(node, 5), Client(node, 6)]
    rng, refused = np.random.default_rng(3), 0
    for turn in range(1500):
        client = clients[turn % 2]
        keys = np.unique(rng.integers(0, 1 << 40, 200)).tolist()
        refused += is_refused(client.ask(*client.add(keys, table=1 + turn % 2)))
        assert allocated(node) <= SHARE_OF_ROWS * LIMIT
    assert refused > 10


def test_what_is_kept_for_a_clock_has_its_room(node: LoneNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepted before, closed later: by then nothing may be refused."""
    node.group(2, 0)
    ranks = [Client.of_rank(node, rank) for rank in range(2)]
    node.service.state.memory.set_limit(LIMIT // 2, 1)
    accepted, at = 0, 0
    answer: Any = None
    while not is_refused(answer):
        at += 1000
        for rank in ranks:
            message, keys = rank.add(list(range(at + 100_000 * rank.number, at + 100_000 * rank.number + 1000)), ordinal=at)
            answer = rank.ask(message, keys)
            if is_refused(answer):
                break
            accepted += 1000
    assert accepted > 10_000
    memory = node.service.state.memory
    index = node.service.state.tables.index(TABLE)
    with memory.growth.lock:
        memory.growth.count_all()
    assert node.service.report()["rows"] == 0
    assert node.service.state.group(GROUP)._cause is not None, "a clock that lacks a write cannot close"
    assert not index.promised.any(), "its buffers are gone, and so is what they were to need"
    other = ranks[0]
    assert other.ask(other.tick()).error == "OutOfNodeMemory"


def test_a_clock_closes_with_all_that_was_accepted(node: LoneNode) -> None:
    node.group(2, 0)
    ranks = [Client.of_rank(node, rank) for rank in range(2)]
    node.service.state.memory.set_limit(LIMIT // 2, 1)
    memory, accepted = node.service.state.memory, 0
    while not memory.near:
        for rank in ranks:
            first = 1_000_000 * rank.number + accepted
            assert isinstance(rank.ask(*rank.add(list(range(first, first + 500)), ordinal=accepted)), m.Done)
        accepted += 500
    for _ in range(10):  # near the line every key is looked up
        for rank in ranks:
            first = 1_000_000 * rank.number + accepted
            assert isinstance(rank.ask(*rank.add(list(range(first, first + 10)), ordinal=accepted)), m.Done)
        accepted += 10
    with memory.growth.lock:
        foreseen = memory._needed(None)
    for rank in ranks:
        assert isinstance(rank.ask(rank.tick()), m.Done)
    assert node.service.report()["rows"] == 2 * accepted
    assert allocated(node) <= foreseen, "it came to no more than was foreseen"


def test_far_from_the_limit_no_key_is_looked_up(node: LoneNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("keys were looked up")

    monkeypatch.setattr(KeyChunk, "new_keys", never)
    client = Client(node, 5)
    for first in range(0, 50_000, 10_000):
        assert isinstance(client.ask(*client.add(list(range(first, first + 10_000)))), m.Done)
    assert not node.service.state.memory.near


def test_keys_that_are_all_there_are_looked_up_once(node: LoneNode, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(node, 5)
    keys, _ = fill(client, node)
    resolved: list[int] = []
    index = node.service.state.tables.index(TABLE)
    monkeypatch.setattr(index, "resolve", lambda keys, runs: resolved.append(len(keys)))
    assert isinstance(client.ask(*client.add(keys[:50])), m.Done)
    assert resolved == []


@pytest.mark.parametrize("staleness", [1, UNBOUNDED])
def test_ranks_that_may_write_at_once_are_told_and_the_group_goes_on(node: LoneNode, staleness: int) -> None:
    node.group(1, staleness)
    rank = Client.of_rank(node, 0)
    answer: Any = None
    ordinal = 0
    while not is_refused(answer):
        ordinal += 1
        answer = rank.ask(*rank.add(list(range(3000 * ordinal, 3000 * (ordinal + 1))), ordinal=ordinal))
    assert node.service.state.group(GROUP)._cause is None
    assert isinstance(rank.ask(*rank.add([3000], ordinal=ordinal + 1)), m.Done)


def test_a_dense_table_that_does_not_fit_is_not_made(node: LoneNode) -> None:
    big = TableSpec("big", "dense", 1, "float64", shape=(LIMIT // 8,), table=7)
    (error,) = node.command(c.CreateTable(0, big))
    assert isinstance(error, OutOfNodeMemory)
    assert ("'big'" in str(error), error.key) == (True, "spark.sparkps.nodeMemory")
    assert 7 not in node.service.state.tables.by_id
    small = TableSpec("small", "dense", 1, "float64", shape=(LIMIT // 64,), table=8)
    assert node.command(c.CreateTable(0, small)) == [None]
    assert node.command(c.CreateTable(0, small)) == [None], "that it is there already costs nothing"


def test_a_table_beside_many_keys_needs_room_for_its_rows(node: LoneNode) -> None:
    client = Client(node, 5)
    client.ask(*client.add(list(range(60_000))))
    wide = TableSpec("wide", "sparse", 16, "float64", table=7, index=TABLE)
    (error,) = node.command(c.CreateTable(0, wide))
    assert isinstance(error, OutOfNodeMemory)
    assert node.command(c.CreateTable(0, TableSpec("other", "sparse", 16, "float64", table=8, index=8))) == [None]


def test_registered_keys_count_and_are_refused_beyond_the_limit(node: LoneNode) -> None:
    state = node.service.state
    state.settings = replace(state.settings, session_memory=1 << 40)
    client = Client(node, 5)
    answer: Any = None
    number = 0
    while not is_refused(answer) and number < 100:
        number += 1
        keys = in_order(list(range(20_000)))
        register = m.Register(1, TABLE, number, 0, len(keys))
        answer = client.ask(Numbered(5, client.next(), 0, register), [keys])
        node.service.look_around()
    assert is_refused(answer)
    assert LIMIT // 4 < node.service.report()["keyset_bytes"] <= LIMIT


def test_a_rank_ahead_is_held_back_when_the_node_has_no_room(node: LoneNode) -> None:
    node.group(2, 0)
    ahead, behind = Client.of_rank(node, 0), Client.of_rank(node, 1)
    assert isinstance(ahead.ask(ahead.tick()), m.Done)
    node.service.state.memory._set_full(True)
    message, keys = ahead.add([1])
    ahead.send(message, keys)
    assert ahead.answers(message.seq) == [], "it waits"
    assert isinstance(behind.ask(*behind.add([1])), m.Done), "others wait for this one"
    behind.ask(behind.tick())
    node.pool.run()
    assert [type(answer) for answer in ahead.answers(message.seq)] == [m.Done]


def test_buffers_of_a_group_take_a_share_of_a_small_node(node: LoneNode) -> None:
    memory = node.service.state.memory
    memory.set_buffers(256 * MiB)
    assert memory.buffer_room == LIMIT // 8
    memory.set_limit(1 << 40, 1)
    assert memory.buffer_room == 256 * MiB


def test_pushes_of_open_clocks_end_at_the_limit(node: LoneNode) -> None:
    """Of rows that are there, by ranks that nobody is ahead of: they could not be held back."""
    client = Client(node, 5)
    keys = list(range(20_000))
    client.ask(*client.add(keys))
    node.group(1, 0)
    rank = Client.of_rank(node, 0)
    answer: Any = None
    ordinal = 0
    while not is_refused(answer) and ordinal < 200:
        ordinal += 1
        answer = rank.ask(*rank.add(keys, ordinal=ordinal))
        assert node.service.report()["memory_bytes"] <= LIMIT
    assert is_refused(answer)
    assert "open" in answer.message
    assert node.service.state.group(GROUP)._cause is not None


# ---- copies ------------------------------------------------------------------------------------------------------------


def test_new_rows_are_refused_where_a_copy_has_no_room(node: LoneNode) -> None:
    client = Client(node, 5)
    client.ask(*client.add([1, 2, 3]))
    memory = node.service.state.memory
    memory.copied_by = lambda number: (1 << 256) - 1 if number == 4 else 0
    memory.hear(4, True)
    answer = client.ask(*client.add([1, 9]))
    assert is_refused(answer)
    assert "Node 4" in answer.message
    assert isinstance(client.ask(*client.add([1, 2])), m.Done)
    memory.hear(4, False)
    assert isinstance(client.ask(*client.add([1, 9])), m.Done)
    memory.hear(5, True)
    assert isinstance(client.ask(*client.add([10])), m.Done), "which copies nothing of it"
    node.service.look_around()
    assert memory.full_nodes == frozenset(), "and nothing at all"


def test_a_replica_at_its_line_says_so_with_each_acknowledgement(node: LoneNode) -> None:
    state = node.service.state
    state.nodes[1] = c.NodeInfo(1, "tcp://127.0.0.1:1", "h", 1)
    follower = state.followers.of(1)
    said = state.followers.acknowledgement(follower)
    assert (type(said), said.full) == (Shipped, False)
    fill(Client(node, 5), node)
    said = state.followers.acknowledgement(follower)
    assert (type(said), said.full) == (Shipped, True)
    primary = LoneNode()
    primary.table()
    primary.service.hear_node(0, [bytes(frame) for frame in encode(said)])
    assert primary.service.state.memory.full_nodes == {0}


def test_a_replica_takes_what_its_primary_has_accepted(node: LoneNode) -> None:
    """At its line, too: a share of its memory is kept for that."""
    _, more = fill(Client(node, 5), node)
    state = node.service.state
    state.nodes[1] = c.NodeInfo(1, "tcp://127.0.0.1:1", "h", 1)
    follower = state.followers.of(1)
    follower.held = (1 << 256) - 1
    new = in_order(list(range(more + 50_000, more + 50_400)))
    op, among = m.Op(m.OpCode.ADD, TABLE), packed((1 << 256) - 1)
    follower.take(1, 1, ShipWrite([op], [among], 9, 1), [new, np.ones((len(new), 1))], 100)
    node.pool.run()
    assert not follower.broken
    assert node.values(new.tolist()) == [1.0] * len(new)


def test_no_copy_is_begun_on_a_node_without_room(node: LoneNode) -> None:
    state = node.service.state
    state.nodes[1] = c.NodeInfo(1, "tcp://127.0.0.1:1", "h", 1)
    state.memory.hear(1, True)
    (error,) = node.command(c.CopyBuckets(0, [3], 1))
    assert isinstance(error, OutOfNodeMemory)


# ---- what is promised --------------------------------------------------------------------------------------------------


def tables_of(*dims: int) -> Tables:
    tables = Tables(range(256))
    for number, dim in enumerate(dims, 1):
        tables.create(TableSpec(f"t{number}", "sparse", dim, "float32", table=number, index=1, optimizer=Adagrad(0.1)))
    return tables


@pytest.mark.parametrize("dims", [(1,), (3, 8)])
def test_what_is_foreseen_is_what_is_allocated(dims: tuple[int, ...]) -> None:
    tables, rng = tables_of(*dims), np.random.default_rng(5)
    index = tables.index(1)
    for count in (10, 3000, 50, 20_000, 7, 7):
        keys = in_order(np.unique(rng.integers(0, 1 << 50, count)).tolist())
        chunk = KeyChunk(index, keys)
        missing = chunk.new_keys()
        assert missing is not None
        more = np.zeros(256, np.int64)
        more[chunk.runs[0]] = missing
        foreseen, _ = index.to_come(more)
        before, grown = sum(tables.sizes()), tables.growth.grown
        chunk.for_writing()
        assert sum(tables.sizes()) - before == tables.growth.grown - grown == foreseen


def test_a_promise_is_over_when_its_keys_are_there_or_nobody_holds_them() -> None:
    tables = tables_of(2)
    index, growth = tables.index(1), tables.growth
    keys = in_order(list(range(1000)))

    def promised() -> tuple[int, int]:
        with growth.lock:
            growth.count_all()
        return int(index.promised.sum()), growth.worst

    for end in _ENDS:
        chunk = KeyChunk(index, keys)
        chunk.promise = growth.promise(index, chunk.runs, chunk.size, 0)
        assert promised()[0] == 1000
        half = chunk.only(np.arange(1000) < 500)
        assert promised()[0] == 1000
        end(chunk)
        del chunk
        assert promised()[0] == 1000, "half of it is held"
        half.for_writing()
        assert promised() == (0, 0)


def _dropped(chunk: KeyChunk) -> None:
    chunk.promise = None


_ENDS: tuple[Callable[[KeyChunk], Any], ...] = (_dropped, KeyChunk.for_writing)


def test_without_a_limit_nothing_is_near() -> None:
    node = LoneNode()
    node.table()
    client = Client(node, 5)
    client.ask(*client.add(list(range(100_000))))
    node.service.look_around()
    report = node.service.report()
    assert node.service.state.memory.limit == UNLIMITED
    assert (report["memory_limit"], report["memory_bytes"] > 100_000 * 24) == (0, True)
