"""Cutting calls into items, packing items into requests, and routing them anew."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sparkps.client.grouping import Grouping
from sparkps.client.items import Item, cut, dense_items, pack, sparse_items
from sparkps.client.routing import Routing
from sparkps.specs import NUM_BUCKETS, TableSpec
from sparkps.wire.hashing import buckets_of
from sparkps.wire.messages.data import Op, OpCode
from tests.harness.placements import initial, join

SPARSE = TableSpec("w", "sparse", 2, table=1, index=1)
DENSE = TableSpec("d", "dense", 1, shape=(100, 70), table=2)


def routing(nodes: int, epoch: int = 1) -> Routing:
    return Routing.of(epoch, initial(range(nodes)))


def grouped(keys: np.ndarray, route: Routing) -> tuple[np.ndarray, np.ndarray]:
    place = route.order.position[buckets_of(keys)]
    keys = keys[np.argsort(place, kind="stable")]
    return keys, np.concatenate([[0], np.cumsum(np.bincount(place, minlength=NUM_BUCKETS))])


@pytest.mark.parametrize("most", [1, 7, 50, 10_000])
@pytest.mark.parametrize("nodes", [1, 3])
def test_pieces_cover_everything_once_and_cut_at_bucket_borders(most: int, nodes: int) -> None:
    route = routing(nodes)
    keys, offsets = grouped(np.random.default_rng(1).integers(-(2**62), 2**62, 3000), route)
    biggest = int(np.diff(offsets).max())
    pieces = [piece for _, span in route.spans for piece in cut(offsets, span, most)]
    assert (pieces[0][0], pieces[-1][1]) == (0, len(keys))
    assert all(a[1] == b[0] for a, b in itertools.pairwise(pieces))
    assert all(b - a <= max(most, biggest) for a, b in pieces)
    assert set(np.concatenate(pieces).tolist()) <= set(offsets.tolist())


def test_empty_calls_have_no_items() -> None:
    route = routing(2)
    keys, offsets = grouped(np.zeros(0, np.int64), route)
    assert list(sparse_items(route, SPARSE, OpCode.PULL, Grouping(keys, offsets, None, None), None, None, 10)) == []


def test_items_go_to_the_node_of_their_buckets() -> None:
    route = routing(3)
    keys, offsets = grouped(np.arange(5000), route)
    values = np.arange(10_000, dtype=np.float32).reshape(-1, 2)
    items = list(sparse_items(route, SPARSE, OpCode.PUSH, Grouping(keys, offsets, None, None), values, None, 100))
    assert np.array_equal(np.concatenate([item.keys for item in items]), keys)
    assert np.array_equal(np.concatenate([item.values for item in items]), values)
    for item in items:
        assert {route.primaries[b] for b in buckets_of(item.keys)} == {item.node}
        assert item.up == item.keys.nbytes + item.values.nbytes


@pytest.mark.parametrize("size", [(100, 70), (3,), (1, 1)])
def test_dense_items_cover_all_elements(size: tuple[int, ...]) -> None:
    spec = TableSpec("d", "dense", 1, shape=size, table=2)
    out = np.zeros(spec.size, np.float32)
    for item in dense_items(routing(3), spec, OpCode.PULL, None, out, 64):
        item.deliver(np.ones(item.size, np.float32))
    assert out.all()


def test_packing_keeps_order_and_size() -> None:
    spec = TableSpec("w", "sparse", 1, table=1, index=1)
    items = [
        Item(n % 2, spec, Op(OpCode.PULL, 1), np.zeros(size, np.int64), None, None)
        for n, size in enumerate([10, 20, 30, 500, 5, 5])
    ]
    packed = list(pack(items, 8 * 60))
    for node in (0, 1):
        assert [i for n, batch in packed if n == node for i in batch] == [i for i in items if i.node == node]
    assert all(sum(i.up for i in batch) <= 8 * 60 or len(batch) == 1 for _, batch in packed)


@pytest.mark.parametrize("code", [OpCode.PULL, OpCode.PUSH])
def test_a_refused_item_is_rerouted_to_where_its_buckets_are(code: OpCode) -> None:
    old, new = routing(1), Routing.of(2, join(initial([0]), [1, 2]))
    keys, offsets = grouped(np.arange(1000), old)
    values = np.random.default_rng(2).random((1000, 2), np.float32) if code == OpCode.PUSH else None
    (item,) = sparse_items(old, SPARSE, code, Grouping(keys, offsets, None, None), values, None, 10**6)
    parts = list(item.reroute(new))
    assert sum(part.size for part in parts) == 1000
    for part in parts:
        assert {new.primaries[b] for b in buckets_of(part.keys)} == {part.node}
        if code == OpCode.PULL:
            part.deliver(np.repeat(part.keys[:, None], 2, axis=1).astype(np.float32))
    if code == OpCode.PULL:
        assert np.array_equal(item.answer[:, 0], keys)
    else:
        place = {int(key): at for at, key in enumerate(keys)}
        parts.sort(key=lambda part: place[int(part.keys[0])])
        assert np.array_equal(np.concatenate([part.values for part in parts]), values)


def test_a_refused_dense_item_is_rerouted() -> None:
    old, new = routing(1), routing(2, epoch=2)
    out = np.zeros(DENSE.size, np.float32)
    (item,) = dense_items(old, DENSE, OpCode.PULL, None, out, 10**6)
    for part in item.reroute(new):
        part.deliver(np.full(part.size, part.node + 1, np.float32))
    assert set(out.tolist()) == {1.0, 2.0}
