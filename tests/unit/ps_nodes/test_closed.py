"""What a node tells whoever asks for rows while a checkpoint is restored, and after one that was not restored to its end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparkps.wire.buckets import packed
from sparkps.wire.hashing import buckets_of
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from tests.harness.requests import Numbered
from tests.unit.ps_nodes.lone_node import TABLE, Client, LoneNode


@pytest.fixture
def node() -> LoneNode:
    node = LoneNode()
    node.table()
    Client(node, 9).ask(*write(Client(node, 7), 1))
    return node


def place(node: LoneNode, epoch: int, **serving: Any) -> None:
    told = node.command(c.SetPlacement(0, epoch, [[0]] * 256, [], [], **serving))
    node.service.io.run_posted()
    node.pool.run()
    node.service.io.run_posted()
    assert told == [None]


def write(client: Client, epoch: int) -> tuple[Numbered, list[np.ndarray]]:
    client.calls += 1
    step = m.Step(epoch, [m.Op(m.OpCode.ADD, TABLE)], None, client.calls)
    return Numbered(client.number, client.next(), client.acked, step), [np.array([7]), np.ones((1, 1))]


def bucket_of(key: int) -> int:
    return int(buckets_of(np.array([key]))[0])


def requests(client: Client, epoch: int, bucket: int = 0) -> list[tuple[Numbered, list[np.ndarray]]]:
    """One of each kind that reads or writes rows."""
    client.calls += 1
    steps = m.Step(epoch, [m.Op(m.OpCode.PULL, TABLE)], None, client.calls), [np.array([7])]
    calls = m.Call(epoch, [m.FunctionCall("sum", [TABLE], {})], None, client.calls, 10.0), []
    export = m.Export(epoch, TABLE, bucket, 0, 10), []
    made = [Numbered(client.number, client.next(), client.acked, message) for message in (steps[0], calls[0], export[0])]
    return [(message, arrays) for message, (_, arrays) in zip(made, (steps, calls, export), strict=True)]


def test_while_a_checkpoint_is_restored_clients_are_told_to_ask_again(node: LoneNode) -> None:
    place(node, 2, is_restoring=True)
    client = Client(node, 5)
    for message, arrays in [*requests(client, 2), write(client, 2)]:
        answer = client.ask(message, arrays)
        assert isinstance(answer, m.WrongEpoch)
        assert answer.epoch < 2, "as a node that lags behind says: the same request may be made again"
    assert node.values([7]) == [1.0]
    place(node, 3)
    client.acked = client.seq
    for message, arrays in [*requests(client, 3), write(client, 3)]:
        assert isinstance(client.ask(message, arrays), m.Done)
    assert node.values([7]) == [2.0]


def test_after_a_restore_that_did_not_come_to_its_end_rows_are_lost(node: LoneNode) -> None:
    place(node, 2, is_restoring=True)
    place(node, 3, torn="It was unplugged")
    client = Client(node, 5)
    for message, arrays in [*requests(client, 3), write(client, 3)]:
        answer = client.ask(message, arrays)
        assert isinstance(answer, m.Failed)
        assert answer.error == "ShardLost"
        assert "unplugged" in answer.message
    assert node.values([7]) == [1.0]


def test_a_write_that_was_looked_at_before_is_not_ordered_afterwards(node: LoneNode) -> None:
    """A thread may have stopped between the two."""
    client = Client(node, 5)
    take, held = node.service.state.shards.order_once, []
    at_once = node.service.state.shards.write_at_once

    def late(kind: Any) -> Any:
        def order(*args: Any, **more: Any) -> Any:
            if not held:
                held.append(True)
                place(node, 2, is_restoring=True)
            return kind(*args, **more)

        return order

    node.service.state.shards.order_once = late(take)  # type: ignore[method-assign]
    node.service.state.shards.write_at_once = late(at_once)  # type: ignore[method-assign]
    answer = client.ask(*write(client, 1))
    assert held
    assert isinstance(answer, m.WrongEpoch)
    assert node.values([7]) == [1.0]


def test_rows_that_no_checkpoint_had_are_lost_until_their_table_is_made_anew(node: LoneNode) -> None:
    """Of one table in some buckets; other tables there, and the table in other buckets, are served."""
    node.table(TABLE + 1)
    missing = {TABLE: packed(1 << bucket_of(7))}
    place(node, 2, missing=missing)
    client = Client(node, 5)
    for message, arrays in [*requests(client, 2, bucket_of(7)), write(client, 2)]:
        answer = client.ask(message, arrays)
        assert isinstance(answer, m.Failed)
        assert answer.error == "ShardLost"
        assert f"t{TABLE}" in answer.message
    client.acked = client.seq
    elsewhere = next(key for key in range(100) if bucket_of(key) != bucket_of(7))
    other = m.Step(2, [m.Op(m.OpCode.PULL, TABLE)], None, 20), [np.array([elsewhere])]
    another = m.Step(2, [m.Op(m.OpCode.PULL, TABLE + 1)], None, 21), [np.array([7])]
    part = m.Call(2, [m.FunctionCall("sum", [TABLE], {})], None, 22, 10.0, packed(1 << bucket_of(elsewhere))), []
    for message, arrays in (other, another, part):
        assert isinstance(client.ask(Numbered(client.number, client.next(), client.acked, message), arrays), m.Done)
    place(node, 3)
    client.acked = client.seq
    for message, arrays in [*requests(client, 3, bucket_of(7)), write(client, 3)]:
        assert isinstance(client.ask(message, arrays), m.Done)
