"""Answers to a client that are not what was asked for: kernels that move rows look at nothing, so the client does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sparkps.client.items import Item
from sparkps.client.session import Session
from sparkps.errors import ProtocolError
from sparkps.specs import STALENESS_LIMIT, UNBOUNDED, TableSpec
from sparkps.wire.encodings import Encoding, encoded
from sparkps.wire.marks import MAX_CLOCK
from sparkps.wire.messages import data as m
from tests.unit.client.fake_tier import Answer, FakeTier, always, once

# ---- rows --------------------------------------------------------------------------------------------------------------

WIDE = TableSpec("wide", "sparse", 2, "float32", table=7, index=7)
SHORT = TableSpec("short", "dense", 1, "float64", shape=(3,), table=8)
KEYS = np.array([5, 6, 7])


def item(spec: TableSpec, encoding: Encoding = Encoding.PLAIN) -> Item:
    if spec.kind == "dense":
        return Item(0, spec, m.Op(m.OpCode.PULL, spec.table, start=0, stop=256), None, None, np.full(3, -1.0))
    return Item(0, spec, m.Op(m.OpCode.PULL, spec.table, encoding=encoding), KEYS, None, np.full((3, 2), -1.0, np.float32))


def rows(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.ones(shape, dtype)


HALF, QUARTER = (encoded(rows(3, 2), each) for each in (Encoding.BFLOAT16, Encoding.INT8))

WRONG_ROWS: dict[str, tuple[Item, np.ndarray]] = {
    "a row too few": (item(WIDE), rows(2, 2)),
    "a row too many": (item(WIDE), rows(4, 2)),
    "one row for all": (item(WIDE), rows(1, 2)),
    "a column too few": (item(WIDE), rows(3, 1)),
    "a column too many": (item(WIDE), rows(3, 3)),
    "without rows": (item(WIDE), rows(3)),
    "the other way round": (item(WIDE), rows(2, 3)),
    "in one": (item(WIDE), rows(6)),
    "a dimension too many": (item(WIDE), rows(3, 2, 1)),
    "one number": (item(WIDE), rows()),
    "of 8 bytes": (item(WIDE), rows(3, 2, dtype="float64")),
    "whole numbers": (item(WIDE), rows(3, 2, dtype="int32")),
    "in fewer bytes": (item(WIDE), HALF),
    "plain where fewer bytes were asked for": (item(WIDE, Encoding.BFLOAT16), rows(3, 2)),
    "in other bytes than were asked for": (item(WIDE, Encoding.BFLOAT16), QUARTER),
    "a row too few in fewer bytes": (item(WIDE, Encoding.BFLOAT16), HALF[:-1]),
    "a row too many in a byte each": (item(WIDE, Encoding.INT8), np.concatenate([QUARTER, QUARTER[:1]])),
    "dense, an element too few": (item(SHORT), rows(2, dtype="float64")),
    "dense, an element too many": (item(SHORT), rows(4, dtype="float64")),
    "dense, one element for all": (item(SHORT), rows(1, dtype="float64")),
    "dense, as rows": (item(SHORT), rows(3, 1, dtype="float64")),
    "dense, of 4 bytes": (item(SHORT), rows(3)),
}


@pytest.mark.parametrize("what", WRONG_ROWS)
def test_rows_that_were_not_asked_for_are_refused_before_they_are_moved(what: str) -> None:
    asked, given = WRONG_ROWS[what]
    assert asked.out is not None
    with pytest.raises(ProtocolError, match=f"The rows of table '{asked.spec.name}' must come as"):
        asked.deliver(given)
    assert (asked.out == -1.0).all()
    kept = dataclasses.replace(asked, out=None)
    with pytest.raises(ProtocolError, match="must come as"):
        kept.deliver(given)
    assert kept.answer is None


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (item(WIDE), rows(3, 2)),
        (item(WIDE, Encoding.BFLOAT16), HALF),
        (item(WIDE, Encoding.INT8), QUARTER),
        (item(SHORT), rows(3, dtype="float64")),
    ],
)
def test_rows_that_were_asked_for_are_taken(asked: Item, given: np.ndarray) -> None:
    asked.deliver(given)
    assert asked.out is not None
    assert np.allclose(asked.out, 1.0, atol=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (0, 1), (2,), (2, 2)])
@pytest.mark.parametrize("keys", [[9, 4], [4, 9], [4, 9, 4]], ids=["moved", "plain", "one twice"])
def test_a_call_fails_whose_rows_are_not_as_many_as_its_keys(keys: list[int], shape: tuple[int, ...]) -> None:
    tier = FakeTier()
    tier.nodes[0].script.append(once(lambda step: [(0.0, m.Done(step.seq), [np.ones(shape)])]))
    w = tier.sparse(tier.session())
    with pytest.raises(ProtocolError, match=r"must come as PLAIN, float64 of shape \(2, 1\)"):
        w.pull(keys)
    assert w.pull(keys).shape == (len(keys), 1)


# ---- other answers -----------------------------------------------------------------------------------------------------

Ask = Callable[[FakeTier, Session], Any]

ASKS: dict[str, tuple[type[Any], Ask]] = {
    "Step": (m.Step, lambda tier, session: tier.sparse(session).push([1], [[1.0]])),
    "Call": (m.Call, lambda tier, session: tier.sparse(session).call("sum")),
    "Takeover": (m.Takeover, lambda tier, session: session.takeover(1, 0, 1)),
    "Status": (m.Status, lambda tier, session: session.node_reports()),
}

OTHERS: dict[str, Callable[[int], Any]] = {
    "Done": m.Done,
    "TakenOver": lambda seq: m.TakenOver(seq, 3),
    "StatusReport": lambda seq: m.StatusReport(seq, {"node": 0}),
}

FITTING = {("Step", "Done"), ("Call", "Done"), ("Takeover", "TakenOver"), ("Status", "StatusReport")}


@pytest.mark.parametrize("answer", OTHERS)
@pytest.mark.parametrize("name", ASKS)
def test_a_request_is_answered_as_such(name: str, answer: str) -> None:
    tier = FakeTier()
    kind, ask = ASKS[name]
    arrays = [np.zeros(0, np.int32), np.zeros(0)] if name == "Call" else []
    tier.nodes[0].script.append(once(lambda request: [(0.0, OTHERS[answer](request.seq), arrays)], kind=kind))
    session = tier.session()
    if (name, answer) in FITTING:
        ask(tier, session)
        return
    with pytest.raises(ProtocolError, match=f"A node must answer a {name} as such. Got {answer}"):
        ask(tier, session)


PLACES, SUMS = np.arange(2, dtype=np.int32), np.ones(2)


def called(arrays: list[Any]) -> Any:
    tier = FakeTier()
    tier.nodes[0].script.append(once(lambda call: [(0.0, m.Done(call.seq), arrays)], kind=m.Call))
    return tier.sparse(tier.session()).call("sum")


@pytest.mark.parametrize("arrays", [[], [PLACES], [PLACES, SUMS, SUMS], [PLACES, SUMS, PLACES, SUMS]], ids=len)
def test_an_answer_to_a_call_has_the_arrays_of_all_its_functions_and_no_more(arrays: list[Any]) -> None:
    with pytest.raises(ProtocolError, match=f"An answer to 1 calls must have the arrays of all. Got {len(arrays)}."):
        called(arrays)
    assert called([PLACES, SUMS]) == 2.0


def standing(**fields: int) -> tuple[FakeTier, Session]:
    tier = FakeTier()

    def answer(request: Any) -> list[Answer]:
        return [(0.0, m.TakenOver(request.seq, fields.get("clock", 3), None, False, fields.get("staleness", 0)), [])]

    tier.nodes[0].script.append(always(answer, kind=m.Takeover))
    return tier, tier.session()


@pytest.mark.parametrize(
    "fields",
    [{"clock": -2}, {"clock": MAX_CLOCK}, {"clock": 1 << 62}, {"staleness": UNBOUNDED - 1}, {"staleness": STALENESS_LIMIT}],
)
def test_a_rank_cannot_stand_where_no_rank_can(fields: dict[str, int]) -> None:
    tier, session = standing(**fields)
    with pytest.raises(ProtocolError, match=r"A rank must stand at a clock in \[-1, "):
        session.takeover(1, 0, 1)
    assert session.member is None
    assert tier.nodes[0].of(m.Settle) == []


@pytest.mark.parametrize(
    "fields", [{"clock": -1}, {"clock": MAX_CLOCK - 2}, {"staleness": UNBOUNDED}, {"staleness": STALENESS_LIMIT - 1}]
)
def test_a_rank_can_stand_anywhere_else(fields: dict[str, int]) -> None:
    _, session = standing(**fields)
    assert session.takeover(1, 0, 1)[0] == fields.get("clock", 3) + 1


@pytest.mark.parametrize(
    ("placement", "words"),
    [
        ([[1]] * 256, "must hold nodes that have joined"),
        ([[0]] * 255 + [[0, 1]], "must hold nodes that have joined"),
        ([[0]] * 255, "A placement must have 256 rows"),
        ([[0]] * 257, "A placement must have 256 rows"),
        ([[0]] * 255 + [[]], "must hold ids of different nodes, at least one"),
        ([[0, 0]] * 256, "must hold ids of different nodes"),
    ],
)
def test_a_session_begins_on_nodes_that_are_there(placement: list[list[int]], words: str) -> None:
    tier = FakeTier()
    tier.placement = placement
    with pytest.raises(ProtocolError, match=words):
        tier.session()
    tier.placement = [[0]] * 256
    assert tier.sparse(tier.session()).pull([1]).shape == (1, 1)
