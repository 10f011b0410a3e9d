"""Refused writes: none is overtaken, each keeps its number, and all go again when no write is in flight."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from sparkps.client.futures import Future
from sparkps.client.order import GONE, Refusals, RefusedPiece
from sparkps.client.pieces import Piece
from sparkps.errors import DeadlineExceeded
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.hashing import buckets_of
from sparkps.wire.messages import data as m
from sparkps.wire.messages.base import Message
from tests.harness.placements import initial, join
from tests.harness.requests import is_a
from tests.unit.client.fake_tier import Answer, FakeNode, FakeTier, always, once, silence, wrong_epoch


def piece(call: int, number: int = 0, *, write: bool = True) -> Piece:
    future: Future[None] = Future(None, "push", lambda: None)  # type: ignore[arg-type]
    return Piece(future, 0, m.Status(), [], write=write, place=(call, number))


def refused(piece: Piece, not_before: float = 0.0, deadline: float = 60.0) -> RefusedPiece:
    return RefusedPiece(piece, m.WrongEpoch(1, 2, []), False, not_before, deadline)


def test_writes_go_again_in_the_order_of_calls_and_pieces() -> None:
    refusals = Refusals()
    pieces = [piece(2, 1), piece(1, 0), piece(2, 0), piece(1, 1)]
    for seq, each in enumerate(pieces, 1):
        refusals.add(refused(each), node=0, seq=seq)
    ready = refusals.ready(0.0, writing=False, acked=lambda node: 4)
    assert [each.piece.place for each in ready] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert not refusals


@pytest.mark.parametrize(("writing", "acked", "now"), [(True, 9, 9.0), (False, 6, 9.0), (False, 9, 4.0)])
def test_writes_wait_for_writes_in_flight_for_earlier_requests_and_for_nodes_that_are_behind(
    writing: bool, acked: int, now: float
) -> None:
    refusals = Refusals()
    refusals.add(refused(piece(1), not_before=5.0), node=0, seq=7)
    assert refusals.ready(now, writing=writing, acked=lambda node: acked) == []
    assert refusals.writes == 1
    assert len(refusals.ready(5.0, writing=False, acked=lambda node: 7)) == 1


def test_pulls_wait_for_nothing_but_nodes_that_are_behind() -> None:
    refusals = Refusals()
    refusals.add(refused(piece(1, write=False)), node=0, seq=7)
    refusals.add(refused(piece(2, write=False), not_before=5.0), node=0, seq=8)
    refusals.add(refused(piece(3)), node=0, seq=9)
    assert [r.piece.place for r in refusals.ready(0.0, writing=True, acked=lambda node: 0)] == [(1, 0)]
    assert (refusals.pulls, refusals.writes) == (1, 1)
    assert refusals.next_due(0.0) == 5.0


def test_what_waits_too_long_is_given_up_but_not_for_time_in_which_nobody_looked() -> None:
    refusals = Refusals()
    refusals.add(refused(piece(1), deadline=60.0), node=0, seq=1)
    refusals.unseen(30.0)
    assert refusals.expired(89.0) == []
    assert [r.piece.place for r in refusals.expired(90.0)] == [(1, 0)]
    assert not refusals


class StrictNode(FakeNode):
    """A node that applies writes in order, and refuses those behind a refused one until the session knows of the refusal."""

    def __init__(self, number: int, buckets: int, epoch: int = 1) -> None:
        super().__init__(number, buckets)
        self.epoch = epoch
        self.barred: tuple[int, Any] | None = None
        #: (call, key) of every write, as applied; and the stamp of each bucket.
        self.applied: list[tuple[int, int]] = []
        #: Whether to keep answers back, and those kept.
        self.slow = 0.0
        self.placement: list[list[int]] = []
        #: Key sets that it has forgotten or never known.
        self.keysets: set[int] = set()

    def usual(self, message: Any, arrays: list[Any]) -> list[Answer]:
        if is_a(message, m.Register):
            self.keysets.add(message.keyset)
        if not is_a(message, m.Step) or message.ops[0].code == m.OpCode.PULL:
            return super().usual(message, arrays)
        refusal = self._refusal(message)
        if refusal is not None:
            self.barred = (message.seq, refusal)
            return [(self.slow, refusal, [])]
        if message.acked >= (self.barred or (0, None))[0]:
            self.barred = None
        for array in arrays:
            if array.dtype == np.int64:
                self.applied += [(message.call, int(key)) for key in array]
        return [(self.slow, m.Done(message.seq), [])]

    def _refusal(self, message: Any) -> Message | None:
        if self.barred is not None and message.acked < self.barred[0]:
            kind = type(self.barred[1])
            if kind is m.WrongEpoch:
                return m.WrongEpoch(message.seq, self.epoch, self.placement)
            return m.UnknownKeySet(message.seq, self.barred[1].keyset)
        if message.epoch != self.epoch:
            return m.WrongEpoch(message.seq, self.epoch, self.placement)
        missing = [op.keyset for op in message.ops if op.keyset != m.NO_KEYSET and op.keyset not in self.keysets]
        return m.UnknownKeySet(message.seq, missing[0]) if missing else None


class StrictTier(FakeTier):
    def add_node(self) -> FakeNode:
        node = StrictNode(len(self.nodes), 0)
        self.network.nodes[f"fake://{node.number}"] = node
        self.nodes.append(node)
        return node


def test_a_new_placement_lets_no_write_overtake_another_at_any_shard() -> None:
    tier = StrictTier(nodes=2)
    session = tier.session()
    w = tier.sparse(session)
    moved = join(initial([0]), [1])
    for node in tier.nodes:
        node.placement, node.slow = moved, 0.01  # type: ignore[attr-defined]
    futures = []
    for call in range(12):
        if call == 4:
            tier.nodes[0].epoch = 2  # type: ignore[attr-defined]
        if call == 6:
            tier.nodes[1].epoch = 2  # type: ignore[attr-defined]
        futures.append(w.add_async(np.arange(40), np.full((40, 1), float(call))))
        if call % 3 == 2:
            futures[-1].done()
    for future in futures:
        future.result()
    applied = [entry for node in tier.nodes for entry in node.applied]  # type: ignore[attr-defined]
    assert sorted(applied) == sorted(itertools.product(range(1, 13), range(40))), "each write once, under its own number"
    for node in tier.nodes:
        calls: dict[int, int] = {}
        for call, key in node.applied:  # type: ignore[attr-defined]
            assert call > calls.get(key, 0), "stamps rise at every shard"
            calls[key] = call
    assert session.routing.epoch == 2


def test_a_write_that_waited_for_room_while_the_placement_changed_goes_where_the_next_one_goes() -> None:
    """To where its rows were it would come back from behind the next one, and count as known."""
    tier = StrictTier(nodes=2, chunk_bytes=1 << 12, push_credit_bytes=1 << 12)
    tier.placement = [[0]] * NUM_BUCKETS
    session = tier.session()
    w = tier.sparse(session)
    for node in tier.nodes:
        node.placement, node.slow, node.epoch = [[1]] * NUM_BUCKETS, 0.01, 2  # type: ignore[attr-defined]
    tier.nodes[0].slow = 0.5  # type: ignore[attr-defined]
    keys = np.arange(600)  # two pieces, of which the second waits until the first one was refused, and its rows were taken elsewhere
    last = keys[buckets_of(keys) > 200]
    futures = [w.add_async(each, np.ones((len(each), 1))) for each in (keys, last)]
    for future in futures:
        future.result()
    applied = tier.nodes[1].applied  # type: ignore[attr-defined]
    assert len(applied) == len(keys) + len(last)
    for key in last.tolist():
        assert [call for call, each in applied if each == key] == [1, 2], "stamps rise at every shard"


def test_no_new_write_is_sent_while_a_refused_one_waits() -> None:
    tier = FakeTier()
    session = tier.session()
    w = tier.sparse(session)
    node = tier.nodes[0]
    slow = [(0.5, m.Done(2), [])]
    node.script = [once(wrong_epoch(2, tier.placement), lambda message: slow)]
    w.add_async([1], [[1.0]])
    w.add_async([2], [[1.0]])
    session.poll()
    assert [step.call for step in node.of(m.Step)] == [1, 2]
    w.add_async([3], [[1.0]])
    assert [(step.call, step.seq) for step in node.of(m.Step)] == [(1, 1), (2, 2), (1, 3), (3, 4)]
    assert [step.epoch for step in node.of(m.Step)] == [1, 1, 2, 2], "what has waited is cut by the placement of those before it"
    assert tier.network.time == pytest.approx(100.5), "it waited until no write was in flight"
    assert node.of(m.Step)[2].acked >= 1


def test_a_placement_is_adopted_when_no_write_is_in_flight_and_pulls_do_not_wait_for_that() -> None:
    tier = FakeTier()
    session = tier.session()
    w = tier.sparse(session)
    node = tier.nodes[0]
    node.script = [once(silence, wrong_epoch(2, tier.placement))]
    w.add_async([1], [[1.0]])
    assert w.pull([1]).shape == (1, 1)
    assert session.routing.epoch == 1
    assert [(s.seq, s.epoch) for s in node.of(m.Step)] == [(1, 1), (2, 1), (3, 2)]
    session.flush()
    assert session.routing.epoch == 2


@pytest.mark.parametrize("forgets", [1, 2])
def test_key_sets_that_a_node_forgot_are_registered_again_and_writes_keep_their_order(forgets: int) -> None:
    tier = StrictTier()
    session = tier.session()
    w = tier.sparse(session)
    ks, other = w.register([1, 2]), w.register([3])
    node = tier.nodes[0]
    node.slow = 0.01  # type: ignore[attr-defined]
    node.keysets.clear()  # type: ignore[attr-defined]
    futures = [ks.table.push_async(ks, np.ones((2, 1))), w.add_async([1], [[1.0]])]
    if forgets == 2:
        futures.append(other.push_async(np.ones((1, 1))))
    for future in futures:
        future.result()
    calls = [call for call, _ in node.applied]  # type: ignore[attr-defined]
    assert calls == sorted(calls)
    assert set(calls) == set(range(1, forgets + 2))
    before = len(node.of(m.Register))
    ks.push(np.ones((2, 1)))
    assert len(node.of(m.Register)) == before + 1, "known again"
    assert node.of(m.Step)[-1].ops[0].keyset != m.NO_KEYSET


def test_a_refused_write_that_cannot_go_again_in_time_fails_by_name() -> None:
    tier = FakeTier(request_timeout=4.0)
    session = tier.session()
    tier.nodes[0].script = [always(wrong_epoch(0, []))]
    future = tier.sparse(session).add_async([1], [[1.0]])
    with pytest.raises(DeadlineExceeded, match=r"add of table 'w'.*not heard of the placement yet"):
        future.result(timeout=30.0)
    assert tier.network.time < 105.0


# ---- nodes that are gone -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("goes", range(3))
def test_writes_of_a_node_that_is_gone_wait_for_no_word_of_it_but_for_the_others(goes: int) -> None:
    refusals = Refusals()
    acked = {0: 4, 1: 8}
    refusals.add(refused(piece(1)), node=0, seq=5)
    events = ["node 1 refuses", "node 1 has answered all"]
    events.insert(goes, "node 0 goes")
    for number, event in enumerate(events):
        if event == "node 0 goes":
            refusals.gone(0)
            refusals.add(RefusedPiece(piece(0), GONE, False, 0.0, 60.0))
            del acked[0]
        elif event == "node 1 refuses":
            refusals.add(refused(piece(2)), node=1, seq=9)
        else:
            acked[1] = 9
        if number < 2:
            assert refusals.ready(0.0, writing=acked[1] < 9, acked=acked.__getitem__) == []
    ready = refusals.ready(0.0, writing=False, acked=acked.__getitem__)
    assert [each.piece.place[0] for each in ready] == [0, 1, 2]
    refusals.put_back(ready[1:], 7.0)
    assert refusals.ready(6.9, writing=False, acked=acked.__getitem__) == []
    refusals.placed(6.9)
    assert [each.piece.place[0] for each in refusals.ready(6.9, writing=False, acked=acked.__getitem__)] == [1, 2]


def test_a_node_that_has_caught_up_is_asked_again_at_once() -> None:
    refusals = Refusals()
    future: Future[None] = Future(None, "push", lambda: None)  # type: ignore[arg-type]
    for node, epoch in ((0, 2), (0, 3), (1, 2)):
        waits = Piece(future, node, m.Step(epoch, []), [])
        refusals.add(RefusedPiece(waits, m.WrongEpoch(1, 1, []), True, 5.0, 60.0))
    refusals.caught_up(0, 2, 1.0)
    assert [(each.piece.node, each.piece.epoch) for each in refusals.ready(1.0, writing=False, acked=lambda _: 0)] == [(0, 2)]
    refusals.placed(2.0)
    assert refusals.ready(2.0, writing=False, acked=lambda _: 0) == [], "what waits for its own node does not wait for a placement"
    assert [each.piece.node for each in refusals.drain()] == [0, 1]
    assert not refusals
