"""Requests and commands to a node with one thing wrong in them: refused by name, and what is just possible is carried out."""

from __future__ import annotations

import math
from typing import Any

import cloudpickle
import numpy as np
import pytest

from sparkps.config import NodeSettings
from sparkps.errors import InvalidInput, ProtocolError
from sparkps.ps_nodes import functions
from sparkps.ps_nodes.handlers import commands
from sparkps.ps_nodes.handlers.calls import LONGEST_CALL
from sparkps.ps_nodes.service import Service
from sparkps.ps_nodes.tables.keysets import KeySetMissing
from sparkps.ps_nodes.tables.operations import MOST_OPS, answer_bytes, targets_of
from sparkps.specs import INFINITE_CLOCK, GroupSpec, RankStart, TableSpec
from sparkps.wire.buckets import packed
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from sparkps.wire.messages.base import Message
from tests.harness.hostile_messages import sent
from tests.harness.requests import Numbered
from tests.unit.ps_nodes.lone_node import GROUP, TABLE, Client, LoneNode, Pool, in_order
from tests.unit.ps_nodes.replication.nodes import At, Nodes

ALL, OTHER, DENSE = (1 << 256) - 1, 2, 3
MEMBER = m.Member(GROUP, 0, 1, 0)


@pytest.fixture
def node() -> LoneNode:
    made = LoneNode()
    made.table(TABLE)
    made.table(OTHER)
    assert made.command(c.CreateTable(0, TableSpec("d", "dense", 1, "float64", shape=(300,), table=DENSE))) == [None]
    return made


def ask(client: Client, message: Message, *arrays: Any) -> Any:
    return client.ask(Numbered(client.number, client.next(), client.acked, message), list(arrays))


# ---- requests ----------------------------------------------------------------------------------------------------------

WITHOUT_ARRAYS: list[m.Request] = [
    m.Unregister(5),
    m.Call(1, [m.FunctionCall("sum", [TABLE], {})], None, 1),
    m.Tick(MEMBER, None, False, 1),
    m.Takeover(m.Member(GROUP, 0, 2, -1), 1),
    m.Settle(m.Member(GROUP, 0, 1, -1), None, 1),
    m.Status(),
    m.Export(1, TABLE, 3, 0, 10),
]


@pytest.mark.parametrize("message", WITHOUT_ARRAYS, ids=lambda each: type(each).__name__)
def test_a_request_without_arrays_must_bring_none(node: LoneNode, message: m.Request) -> None:
    node.group(1, 0)
    rank = Client.of_rank(node, 0)
    answer = ask(rank, message, np.zeros(1))
    assert (answer.error, answer.message) == ("ProtocolError", f"A {type(message).__name__} must bring no arrays. Got 1.")
    assert not isinstance(ask(rank, message), m.Failed)


def dense_pulls(count: int) -> list[m.Op]:
    return [m.Op(m.OpCode.PULL, DENSE, start=0, stop=1)] * count


def test_a_step_has_operations_and_no_more_than_may_be(node: LoneNode) -> None:
    tables = node.service.state.tables
    for ops in ([], dense_pulls(MOST_OPS + 1)):
        with pytest.raises(ProtocolError, match="A step must have between 1 and 4095 operations"):
            targets_of(tables, ops, [], {}, ALL)
        assert ask(Client(node, 5 + len(ops)), m.Step(1, ops, None, 1)).error == "ProtocolError"
    assert len(targets_of(tables, dense_pulls(MOST_OPS), [], {}, ALL)) == MOST_OPS
    assert isinstance(ask(Client(node, 6), m.Step(1, dense_pulls(MOST_OPS), None, 1)), m.Done)


def test_no_more_operations_are_weighed_than_may_be(node: LoneNode) -> None:
    tables = node.service.state.tables
    one, most, more = (answer_bytes(tables, dense_pulls(count), [], {}, ALL) for count in (1, MOST_OPS, 10 * MOST_OPS))
    assert 0 < one * MOST_OPS == most == more


def test_a_key_set_is_used_where_its_keys_may_be(node: LoneNode) -> None:
    client = Client(node, 5)
    keys = in_order([1, 2, 3])
    assert isinstance(ask(client, m.Register(1, TABLE, 77, 0, 3), keys), m.Done)
    state = node.service.state
    keysets = state.sessions.sessions[5].keysets
    mask = keysets[77].chunks[0].mask
    op = m.Op(m.OpCode.PULL, TABLE, 77, 0)
    assert targets_of(state.tables, [op], [], keysets, mask)[0].mask == mask
    for among in (ALL & ~(mask & -mask), 0, mask >> 1 & ~mask):
        with pytest.raises(KeySetMissing):
            targets_of(state.tables, [op], [], keysets, among)
    refused = ask(client, m.Step(1, [m.Op(m.OpCode.PULL, OTHER, 77, 0)], None, 1))
    assert isinstance(refused, m.UnknownKeySet), "it is of another index"
    assert refused.keyset == 77
    assert isinstance(ask(client, m.Step(1, [op], None, 2)), m.Done)


@pytest.mark.parametrize("bucket", [-1, -256, 256, 1 << 40])
def test_no_bucket_that_there_cannot_be_is_exported(node: LoneNode, bucket: int) -> None:
    answer = ask(Client(node, 5), m.Export(1, TABLE, bucket, 0, 10))
    assert (answer.error, answer.message) == ("InvalidInput", f"Bucket {bucket} must be this node's.")


@pytest.mark.parametrize("bucket", [0, 255])
def test_the_first_and_the_last_bucket_are_exported(node: LoneNode, bucket: int) -> None:
    assert isinstance(ask(Client(node, 5), m.Export(1, TABLE, bucket, 0, 10)), m.Done)


def test_a_node_answers_for_its_own_buckets_only() -> None:
    nodes = Nodes([[0, 1]] * 128 + [[1, 0]] * 128, 2)
    nodes.table(TABLE)
    client = Client(At(nodes, 0), 5)  # type: ignore[arg-type]
    total = [m.FunctionCall("sum", [TABLE], {})]
    for buckets in (1 << 128, 1 << 255, ALL):
        answer = ask(client, m.Call(1, total, None, 1, 5.0, packed(buckets)))
        assert answer.error == "ProtocolError"
        assert answer.message.startswith("The buckets of a call must be this node's. Got [128" if buckets != 1 << 255 else "The buckets")
    answer = ask(client, m.Export(1, TABLE, 128, 0, 10))
    assert (answer.error, answer.message) == ("InvalidInput", "Bucket 128 must be this node's.")
    assert isinstance(ask(client, m.Call(1, total, None, 2, 5.0, packed((1 << 128) - 1))), m.Done)
    assert isinstance(ask(client, m.Export(1, TABLE, 127, 0, 10)), m.Done)


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [(5.0, 5.0), (LONGEST_CALL, LONGEST_CALL), (1e300, LONGEST_CALL), (math.inf, LONGEST_CALL), (-3.0, 0.0), (math.nan, 0.0)],
)
def test_a_function_of_a_user_has_a_time_that_is_one(
    node: LoneNode, limit: float, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions.register("of a test of limits", cloudpickle.dumps(lambda shard: 1.0))
    started: list[float] = []
    monkeypatch.setattr(node.service.state.users, "start", lambda work, given, *_, **__: started.append(given))
    client = Client(node, 5)
    message = m.Call(1, [m.FunctionCall("of a test of limits", [TABLE], {})], None, 1, limit)
    client.send(Numbered(5, client.next(), 0, message))
    node.pool.run()
    assert started == [seconds]


@pytest.mark.parametrize("session", [0, -1, -(1 << 62)])
def test_a_session_has_a_number(node: LoneNode, session: int) -> None:
    node.service.receive(b"peer", sent(m.Hello(session)))
    assert node.answers[b"peer"][0][0].message == f"A session must have a number, from 1. Got {session} instead."
    assert node.service.state.sessions.sessions == {}
    node.service.receive(b"peer", sent(m.Hello(1)))
    assert isinstance(node.answers[b"peer"][1][0], m.Ready)
    assert set(node.service.state.sessions.sessions) == {1}


# ---- commands ----------------------------------------------------------------------------------------------------------

INFO = c.NodeInfo(0, "tcp://127.0.0.1:1", "h", 1)
SECOND = c.NodeInfo(1, "tcp://127.0.0.1:2", "h", 2)


def group(**fields: Any) -> GroupSpec:
    return GroupSpec(**{"group": GROUP, "name": "g", "num_ranks": 2, "num_workers": 2, "staleness": 0, **fields})


REFUSED_COMMANDS: dict[str, tuple[c.ControlMessage, type[Exception], str]] = {
    "a placement on a node that is not there": (
        c.SetPlacement(1, 2, [[0, 5]] * 256, [INFO]), ProtocolError, "A row of a placement must hold nodes that have joined",
    ),
    "a placement with too few rows": (c.SetPlacement(1, 2, [[0]] * 255, [INFO]), ProtocolError, "A placement must have 256 rows"),
    "a bucket anew above the last": (
        c.SetPlacement(1, 2, [[0]] * 256, [INFO], [0, 256]), ProtocolError, "Buckets that begin anew must be in",
    ),
    "a bucket anew below the first": (
        c.SetPlacement(1, 2, [[0]] * 256, [INFO], [-1]), ProtocolError, "Buckets that begin anew must be in",
    ),
    "nobody verifies": (c.VerifyCheckpoint(1, "file:///none", "00000001-aaaaaaaa", []), ProtocolError, "must be verified by nodes"),
    "a group without ranks": (c.OpenGroup(1, group(num_ranks=0, num_workers=0)), InvalidInput, "must have at least 1 worker"),
    "a group of too many ranks": (
        c.OpenGroup(1, group(num_ranks=1 << 30, num_workers=1 << 30)), InvalidInput, "must have at most",
    ),
    "a group without a number": (c.OpenGroup(1, group(group=0)), InvalidInput, "The id of worker group 'g' must be at least 1"),
    "a group that goes on with one rank of two": (
        c.OpenGroup(1, group(start=(RankStart(3),))), InvalidInput, "must go on with a clock >= -1 of each of its 2 ranks",
    ),
    "a group that goes on too late": (
        c.OpenGroup(1, group(start=(RankStart(INFINITE_CLOCK), RankStart(-1)))), InvalidInput, "must go on with a clock >= -1",
    ),
    "a table without columns": (
        c.CreateTable(1, TableSpec("n", "sparse", 0, "float64", table=9, index=9)), InvalidInput, "dim",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED_COMMANDS)
def test_a_command_that_cannot_be_is_refused_and_changes_nothing(node: LoneNode, what: str) -> None:
    message, error, words = REFUSED_COMMANDS[what]
    state = node.service.state
    (told,) = node.command(message)
    assert isinstance(told, error), told
    assert words in str(told)
    assert (state.epoch, state.placing, set(state.nodes)) == (1, [], set())
    assert (state.groups, state.group_specs) == ({}, {})
    assert set(state.tables.by_id) == {TABLE, OTHER, DENSE}


def test_commands_that_can_just_be_are_carried_out(node: LoneNode) -> None:
    state = node.service.state
    start = RankStart(INFINITE_CLOCK - 1), RankStart(-1)
    assert node.command(c.OpenGroup(1, group(start=start))) == [None]
    assert GROUP in state.groups
    told = node.command(c.SetPlacement(1, 2, [[0]] * 256, [INFO, SECOND], [0, 255]))
    node.pool.run()
    assert told == [None]
    assert state.epoch == 2


@pytest.mark.parametrize(
    ("tables", "groups"),
    [
        ([TableSpec("n", "sparse", 0, "float64", table=9, index=9)], []),
        ([TableSpec("n", "sparse", 1, "float64", table=-9, index=9)], []),
        ([], [group(num_ranks=0, num_workers=0)]),
    ],
    ids=["a table without columns", "a table below the first", "a group without ranks"],
)
def test_what_a_node_is_welcomed_with_is_looked_at(tables: list[TableSpec], groups: list[GroupSpec]) -> None:
    service = Service(lambda *_: None, Pool(), lambda: 0.0)  # type: ignore[arg-type]
    message = c.Welcome(1, 0, "tier", 1, [[0]] * 256, tables, [], groups, NodeSettings())
    with pytest.raises(InvalidInput):
        commands.welcome(service.state, message)
    assert service.state.tables.by_id == {}
    assert service.state.groups == {}
