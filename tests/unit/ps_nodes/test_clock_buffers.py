"""Writes of open clocks, bucket by bucket: what is closed in pieces, or moves, comes out as if it had not."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from sparkps.optim import SGD, Adam, Momentum
from sparkps.ps_nodes.clock_buffers import CallPart, ClockBuffers, Kept, Write
from sparkps.ps_nodes.functions import prepare
from sparkps.ps_nodes.tables.keysets import KeyChunk, NodeKeySet
from sparkps.ps_nodes.tables.operations import targets_of
from sparkps.wire.messages.data import NO_KEYSET, FunctionCall, Member, Op, OpCode
from tests.unit.ps_nodes.tables.test_moves import ALL, DENSE, KEYS, SPARSE, WIDE, everything, made, specs

CODES = [OpCode.ASSIGN, OpCode.ADD, OpCode.PUSH]
SOME = [3, 77, 200]


def filled(tables: Any, seed: int, clocks: int = 1) -> ClockBuffers:
    """Buffers with writes of three ranks, to sparse and dense tables, by keys and by a key set, and server functions."""
    rng, buffers = np.random.default_rng(seed), ClockBuffers(tables)
    keyset = NodeKeySet(1, len(KEYS))
    keyset.add(0, KeyChunk(tables.index(1), KEYS, registered=True))
    for clock in range(clocks):
        for rank in rng.permutation(3).tolist():
            for ordinal in range(4):
                ops, arrays = [], list[np.ndarray]()
                some = np.ascontiguousarray(KEYS[rng.random(len(KEYS)) < 0.02])
                for number, keys, dim in ((SPARSE, KEYS, 1), (WIDE, some, 3)):
                    whole = keys is KEYS
                    ops.append(Op(int(rng.choice(CODES)), number, 7 if whole else NO_KEYSET))
                    values = rng.normal(size=(len(keys), dim)).astype(tables.by_id[number].dtype)
                    arrays += [values] if whole else [keys, values]
                start, stop = sorted(rng.choice(257, 2, replace=False).tolist())
                dense = tables.by_id[DENSE]
                values = rng.choice([0.0, -0.0, 1.5], dense.elements(dense.filled_in(start, stop, ALL)))
                ops.append(Op(int(rng.choice(CODES)), DENSE, start=start, stop=stop))
                targets = targets_of(tables, ops, [*arrays, values.astype(dense.dtype)], {7: keyset}, ALL)
                write = Write.of_targets(targets)
                buffers.keep(clock, Member(1, rank, 1, clock, ordinal), write.only(write.buckets))
            call = prepare([FunctionCall("scale", [WIDE], {"alpha": 0.5})], tables.by_id)
            buffers.keep(clock, Member(1, rank, 1, clock, 9), [CallPart(call, ALL)])
    buffers.validate()
    return buffers


def closed(buffers: ClockBuffers, clock: int, buckets: int | None = None) -> None:
    taken = buffers.take(clock, buckets)
    buffers.validate()
    taken.apply(clock)
    taken.release()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", [SGD(0.1), Momentum(0.1, clip_norm=0.5), Adam(0.1)], ids=repr)
@pytest.mark.parametrize("seed", range(3))
def test_a_clock_closed_in_pieces_is_bit_equal_to_one_that_closes_at_once(dtype: str, optimizer: Any, seed: int) -> None:
    whole, pieces = made(ALL, specs(optimizer, dtype)), made(ALL, specs(optimizer, dtype))
    closed(filled(whole, seed), 0)
    buffers, rng, left = filled(pieces, seed), random.Random(seed), ALL
    assert buffers.nbytes > 0
    while left:
        some = left & rng.getrandbits(256) if rng.random() < 0.8 else left
        closed(buffers, 0, some)
        left &= ~some
    assert not buffers.nbytes
    assert not buffers._parts
    for bucket in range(256):  # rows by key: the order in which keys came differs
        assert by_key(pieces, bucket) == by_key(whole, bucket)


def by_key(tables: Any, bucket: int) -> list[Any]:
    rows = tables.copy_bucket(bucket)
    order = np.argsort(rows.keys[1])
    return [
        [(plane if table.index == 0 else plane[order]).tobytes() for plane in table.planes] + [table.step]
        for table in rows.tables.values()
    ] + [rows.keys[1][order].tobytes()]


def test_a_part_that_does_not_touch_a_bucket_leaves_its_zeros_alone() -> None:
    """-0.0 + 0.0 is 0.0: a sum begins with its first value."""
    whole, pieces = made(ALL), made(ALL)
    for tables in (whole, pieces):
        buffers = ClockBuffers(tables)
        dense: Any = tables.by_id[DENSE]
        dense.assign(dense.held, np.full(1003, -0.0))
        for rank, stop in ((0, 2), (1, 1)):
            mask = dense.filled_in(0, stop, ALL)
            op = Op(OpCode.ADD, DENSE, start=0, stop=stop)
            buffers.keep(0, Member(1, rank, 1, 0), targets_of(tables, [op], [np.full(dense.elements(mask), -0.0)], {}, ALL))
        for each in [None] if tables is whole else [1, 2]:
            closed(buffers, 0, each)
    assert everything(whole, 1) == everything(pieces, 1)
    assert np.signbit(whole.by_id[DENSE].rows_of(1)).all()


def test_what_is_kept_for_a_bucket_moves_with_it() -> None:
    stays, source, target = made(ALL), made(ALL), made(ALL)
    reference, here, there = filled(stays, 4, 2), filled(source, 4, 2), ClockBuffers(target)
    for bucket in SOME:
        kept = here.export(bucket)
        assert all(each.part.mask == 1 << bucket for each in kept)
        assert [each[:3] for each in kept] == sorted(each[:3] for each in kept)
        there.adopt(bucket, over_the_wire(target, kept))
        there.adopt(bucket, over_the_wire(target, kept))  # the second time takes the place of the first
        here.remove(bucket)
        assert here.export(bucket) == []
        here.validate()
        there.validate()
    for clock in range(2):
        closed(reference, clock)
        closed(here, clock)
        closed(there, clock)
    assert not here.nbytes
    assert not there.nbytes
    for bucket in SOME:
        assert by_key(target, bucket) == by_key(stays, bucket)
    for bucket in (0, 4, 255):
        assert by_key(source, bucket) == by_key(stays, bucket)


def over_the_wire(tables: Any, kept: list[Kept]) -> list[Kept]:
    """The parts as another node makes them of what was shipped."""
    made_there = []
    for clock, rank, ordinal, part in kept:
        if isinstance(part, CallPart):
            again: Any = CallPart(prepare([each.call for each in part.prepared.calls], tables.by_id), part.mask)
        else:
            op, arrays = part.shipped()  # type: ignore[attr-defined]
            (again,) = targets_of(tables, [op], arrays, {}, part.mask)
        made_there.append(Kept(clock, rank, ordinal, again))
    return made_there


def test_writes_are_dropped_in_some_buckets_or_in_all() -> None:
    tables = made(ALL)
    buffers = filled(tables, 5, 2)
    buffers.drop_above(0, 0, 0b1000)
    buffers.validate()
    ranks = {bucket: {(each.clock, each.rank) for each in buffers.export(bucket)} for bucket in (3, 4)}
    assert ranks[4] == {(clock, rank) for clock in range(2) for rank in range(3)}
    assert ranks[3] == ranks[4] - {(1, 0)}
    buffers.drop_above(1, -1)
    buffers.validate()
    assert {(each.clock, each.rank) for each in buffers.export(4)} == {(0, 0), (0, 2), (1, 0), (1, 2)}
