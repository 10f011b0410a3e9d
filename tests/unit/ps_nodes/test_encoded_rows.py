"""A node takes gradients in fewer bytes, answers with rows in fewer bytes, and refuses what it cannot read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparkps.specs import TableSpec
from sparkps.wire.encodings import Encoding, decoded, encoded, layout_of
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from tests.harness.requests import Numbered
from tests.unit.ps_nodes.lone_node import Client, LoneNode, in_order

FLOATS, DOUBLES, DENSE, DIM = 1, 2, 3, 4
KEYS = in_order(list(range(50)))
LOSSY = [Encoding.FLOAT16, Encoding.BFLOAT16, Encoding.INT8]


@pytest.fixture
def client() -> Client:
    node = LoneNode()
    for spec in (
        TableSpec("floats", "sparse", DIM, table=FLOATS, index=1),
        TableSpec("doubles", "sparse", DIM, "float64", table=DOUBLES, index=2),
        TableSpec("dense", "dense", 1, shape=(64,), table=DENSE),
    ):
        assert node.command(c.CreateTable(1, spec)) == [None]
    return Client(node, 1)


def asked(
    client: Client, code: int, arrays: list[np.ndarray], encoding: int, table: int = FLOATS, **op: Any
) -> tuple[Any, list[np.ndarray]]:
    """The answer to one operation, with its arrays."""
    client.calls += 1
    message = Numbered(
        client.number, client.next(), client.acked, m.Step(1, [m.Op(code, table, encoding=encoding, **op)], None, client.calls)
    )
    answer = client.ask(message, arrays)
    (found,) = [arrays for one, arrays in client.node.answers[client.identity] if one is answer]
    return answer, found


@pytest.mark.parametrize("encoding", LOSSY, ids=lambda found: found.name)
def test_rows_are_what_their_encoding_says(client: Client, encoding: Encoding) -> None:
    gradients = np.random.default_rng(0).normal(size=(len(KEYS), DIM)).astype(np.float32)
    sent = encoded(gradients, encoding)
    answer, _ = asked(client, m.OpCode.PUSH, [KEYS, sent], encoding)
    assert isinstance(answer, m.Done)
    _, (exact,) = asked(client, m.OpCode.PULL, [KEYS], Encoding.PLAIN)
    assert np.array_equal(exact, -decoded(sent, encoding))  # SGD at rate 1, in float32
    _, (rows,) = asked(client, m.OpCode.PULL, [KEYS], encoding)
    assert (rows.dtype, rows.shape) == layout_of(encoding, len(KEYS), DIM)
    assert np.array_equal(rows, encoded(exact, encoding))


def wrong(array: np.ndarray) -> list[np.ndarray]:
    """Gradients that are not what `array` is: of other lengths, widths, dtypes and numbers of dimensions."""
    return [
        array[:-1],
        np.concatenate([array, array[:1]]),
        np.ascontiguousarray(array[:, :-1]),
        np.empty((len(array), 0), array.dtype),
        np.empty((0, array.shape[1]), array.dtype),
        array.reshape(-1),
        array.reshape(1, *array.shape),
        np.zeros((), array.dtype),
        array.astype(np.int32),
        array.astype(np.float32),
    ]


@pytest.mark.parametrize("encoding", LOSSY, ids=lambda found: found.name)
def test_gradients_of_another_shape_or_dtype_are_refused(client: Client, encoding: Encoding) -> None:
    right = encoded(np.ones((len(KEYS), DIM), np.float32), encoding)
    for array in wrong(right):
        answer, _ = asked(client, m.OpCode.PUSH, [KEYS, array], encoding)
        assert answer.error == "InvalidInput"
        assert "The values for table 'floats' must be" in answer.message
    answer, _ = asked(client, m.OpCode.PUSH, [KEYS, right], Encoding.PLAIN)
    assert answer.error == "InvalidInput", "without the word, they are not what the table holds"
    answer, _ = asked(client, m.OpCode.PUSH, [KEYS, np.ones((len(KEYS), DIM), np.float32)], encoding)
    assert answer.error == "InvalidInput"
    _, (rows,) = asked(client, m.OpCode.PULL, [KEYS], Encoding.PLAIN)
    assert not rows.any()


@pytest.mark.parametrize("number", [-1, 4, 255, 1 << 40, -(1 << 63)])
@pytest.mark.parametrize("code", [m.OpCode.PULL, m.OpCode.PUSH])
def test_encodings_that_there_are_not_are_refused(client: Client, number: int, code: int) -> None:
    arrays = [KEYS] if code == m.OpCode.PULL else [KEYS, np.ones((len(KEYS), DIM), np.float32)]
    answer, _ = asked(client, code, arrays, number)
    assert answer.error == "ProtocolError"
    assert f"one of [0, 1, 2, 3]. Got {number}" in answer.message


@pytest.mark.parametrize("encoding", LOSSY, ids=lambda found: found.name)
def test_what_must_be_exact_is_not_taken_in_fewer_bytes(client: Client, encoding: Encoding) -> None:
    sent = encoded(np.ones((len(KEYS), DIM), np.float32), encoding)
    refused = [
        asked(client, m.OpCode.ADD, [KEYS, sent], encoding),
        asked(client, m.OpCode.ASSIGN, [KEYS, sent], encoding),
        asked(client, m.OpCode.PUSH, [KEYS, sent], encoding, DOUBLES),
        asked(client, m.OpCode.PULL, [KEYS], encoding, DOUBLES),
        asked(client, m.OpCode.PULL, [], encoding, DENSE, start=0, stop=256),
        asked(client, m.OpCode.PUSH, [encoded(np.ones((64, 1), np.float32), encoding)], encoding, DENSE, start=0, stop=256),
    ]
    for answer, _ in refused:
        assert answer.error == "InvalidInput"
        assert "must be rows or gradients of a sparse table of float32" in answer.message
