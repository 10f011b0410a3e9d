"""Dense tables: ranges, parts of a clock, clipping by row."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sparkps.optim import SGD
from sparkps.ps_nodes.tables.dense import DenseShards
from sparkps.specs import TableSpec
from sparkps.wire.buckets import mask_of_range
from sparkps.wire.messages.data import OpCode
from sparkps.wire.placement import dense_range
from tests import naive

SHAPES = [(1,), (3, 2), (255,), (256,), (257,), (10, 7, 11), (5000,)]


def made(shape: tuple[int, ...], buckets: range = range(256), **fields: object) -> DenseShards:
    return DenseShards(TableSpec("d", "dense", 1, "float64", shape, **fields), buckets)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nodes_hold_their_ranges_and_together_the_table(shape: tuple[int, ...]) -> None:
    nodes = [made(shape, range(100)), made(shape, range(100, 101)), made(shape, range(101, 256))]
    size = nodes[0].spec.size
    values = np.random.default_rng(1).normal(size=size)
    at = 0
    for node in nodes:
        count = node.elements(node.held)
        node.assign(node.held, values[at : at + count])
        at += count
    assert at == size
    assert np.array_equal(np.concatenate([node.gather(node.held) for node in nodes]), values)
    for bucket in (0, 99, 100, 200):
        node = nodes[0 if bucket < 100 else 1 if bucket == 100 else 2]
        first, last = dense_range(size, bucket)
        assert node.range_of(bucket) == (first, last)
        assert np.array_equal(node.gather(1 << bucket), values[first:last])
        assert np.array_equal(node.rows_of(bucket)[:, 0], values[first:last])
        assert node.keys_of(bucket).tolist() == list(range(first, last))


@pytest.mark.parametrize("mode", [OpCode.PUSH, OpCode.ADD, OpCode.ASSIGN])
def test_parts_of_different_ranges_are_applied_once(mode: OpCode) -> None:
    table = made((1000,), optimizer=SGD(0.5))
    rng = np.random.default_rng(2)
    parts, expected, touched = [], np.zeros(1000), np.zeros(1000, bool)
    for start, stop in ((10, 20), (0, 256), (200, 210)) if mode != OpCode.ASSIGN else ((10, 20), (15, 40), (200, 210)):
        place = slice(dense_range(1000, start)[0], dense_range(1000, stop - 1)[1])
        values = rng.normal(size=table.elements(mask_of_range(start, stop)))
        parts.append((mask_of_range(start, stop), values))
        expected[place] = values + (0 if mode == OpCode.ASSIGN else expected[place])
        touched[place] = True
    table.apply_sum(parts, mode, 3)
    assert np.allclose(table.gather(table.held), expected * (-0.5 if mode == OpCode.PUSH else 1), rtol=1e-14)
    steps = table.heads[:, 4]
    assert set(steps[table.runs(table.held)[0]]) == ({4} if mode == OpCode.PUSH else {0})


def test_buckets_without_a_part_keep_their_step() -> None:
    table = made((1000,))
    one, other = mask_of_range(10, 20), mask_of_range(50, 60)
    table.apply_sum([(each, np.ones(table.elements(each))) for each in (one, other)], OpCode.PUSH, 7)
    touched = np.flatnonzero(table.heads[:, 4])
    assert touched.tolist() == [*range(10, 20), *range(50, 60)]
    assert np.count_nonzero(table.gather(table.held)) == table.elements(one | other)


def test_clip_norm_acts_on_the_part_of_a_row_that_a_bucket_holds() -> None:
    optimizer = SGD(1.0, clip_norm=0.5)
    table = made((40, 25), optimizer=optimizer)
    grads = np.random.default_rng(4).normal(size=1000)
    table.push(mask_of_range(3, 250), grads[table.range_of(3)[0] : table.range_of(249)[1]])
    expected = np.zeros(1000)
    for bucket in range(3, 250):
        first, last = table.range_of(bucket)
        borders = [first, *(row for row in range(0, 1000, 25) if first < row < last), last]
        for begin, end in pairwise(borders):
            expected[begin:end] = -naive.clip(grads[begin:end], optimizer)
    assert np.allclose(table.gather(table.held), expected, rtol=1e-14)
