"""Rows that lie in 16 bits: rounded at random, the same way everywhere, and held by what copies, moves and restores tables."""

from __future__ import annotations

from typing import Any

import cloudpickle
import numpy as np
import pytest

from sparkps import optim
from sparkps.errors import InvalidInput, TableMismatch
from sparkps.initializers import Constant, Normal
from sparkps.optim import FTRL, SGD, Adagrad, Adam
from sparkps.ps_nodes import functions
from sparkps.ps_nodes.tables.directory import Tables
from sparkps.ps_nodes.tables.images import NodeImage
from sparkps.ps_nodes.tables.index import KeyIndex
from sparkps.ps_nodes.tables.sparse import SparseShards
from sparkps.specs import TableSpec
from sparkps.wire.buckets import buckets_in
from sparkps.wire.encodings import NAMED, decoded, encoded
from sparkps.wire.messages.data import FunctionCall, OpCode
from tests import naive
from tests.unit.ps_nodes.tables.given import grouped
from tests.unit.ps_nodes.tables.test_moves import FEW, KEYS, made, train, travelled

each_storage = pytest.mark.parametrize("storage", ["bfloat16", "float16"])

#: Bits of float32 where rounding is most likely to go wrong: ends of ranges, ties, numbers next to them, and what is no number.
EDGES = np.array(
    [
        0x00000000, 0x80000000, 0x00000001, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000,
        0x7F800001, 0x7FFFFFFF, 0x3F808000, 0x3F818000, 0x3F807FFF, 0x33000000, 0x33000001, 0x33800000, 0x33C00000, 0x387FE000,
        0x387FFFFF, 0x38800000, 0x477FE000, 0x477FEFFF, 0x477FF000, 0x477FFFFF, 0x3F801000, 0x3F803000, 0x7F7F8000, 0x7F7F7FFF,
    ],
    np.uint32,
).view(np.float32)  # fmt: skip


def table(storage: Any, optimizer: optim.Optimizer = SGD(1.0), dim: int = 16, init: Any = Normal(0, 0.1)) -> SparseShards:  # noqa: B008
    index = KeyIndex(range(256))
    found = SparseShards(TableSpec("t", "sparse", dim, init=init, optimizer=optimizer, seed=5, storage=storage), index)
    index.attach(found)
    return found


def places(of: SparseShards, keys: np.ndarray) -> tuple[Any, Any]:
    runs = of.index.runs(keys)
    return of.index.resolve(keys, runs), runs


def to_nearest(values: np.ndarray, storage: str) -> np.ndarray:
    return decoded(encoded(np.ascontiguousarray(values, np.float32), NAMED[storage]), NAMED[storage])


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Bit by bit; all NaN are one."""
    return bool(((one.view(np.uint32) == other.view(np.uint32)) | (np.isnan(one) & np.isnan(other))).all())


@each_storage
def test_what_is_assigned_is_rounded_to_the_nearest_as_on_the_way(storage: str) -> None:
    rng = np.random.default_rng(0)
    anything = rng.integers(0, 1 << 32, 6000, np.uint64).astype(np.uint32).view(np.float32)
    common = (rng.normal(size=6000) * 10.0 ** rng.integers(-9, 6, 6000)).astype(np.float32)
    values = np.concatenate([EDGES, anything, common])[: 12_000].reshape(-1, 16)
    keys = grouped(np.arange(len(values)))
    rows = table(storage)
    where = places(rows, keys)
    rows.assign(*where, values)
    got = rows.gather(None, *where)
    assert same(got, to_nearest(values, storage))
    rows.assign(*where, got)
    rows.add(*where, np.full_like(got, -0.0))
    assert same(rows.gather(None, *where), got), "what 16 bits hold stays as it is"


@each_storage
def test_first_rows_are_the_same_before_and_after_they_are_made(storage: str) -> None:
    keys = grouped(np.arange(500))
    rows, plain = table(storage), table("")
    first = rows.gather(keys, rows.index.find(keys, rows.index.runs(keys)), rows.index.runs(keys))
    assert same(first, rows.gather(None, *places(rows, keys)))
    assert same(first, to_nearest(plain.gather(None, *places(plain, keys)), storage))


@pytest.mark.parametrize(
    ("storage", "optimizer"),
    [("bfloat16", SGD(0.1, l1=0.02)), ("bfloat16", Adagrad(0.5)), ("bfloat16", Adam(0.05)), ("bfloat16", FTRL(0.5, l1=0.1)),
     ("float16", Adagrad(0.5))],
    ids=repr,
)  # fmt: skip
def test_a_step_ends_on_one_of_the_two_numbers_around_what_the_formula_gives(storage: str, optimizer: optim.Optimizer) -> None:
    rng, keys = np.random.default_rng(1), grouped(np.arange(-20, 20))
    rows = table(storage, optimizer, dim=3)
    where = places(rows, keys)
    for t in range(8):
        before = rows.gather(None, *where)
        states = [_planes(rows, keys, plane) for plane in range(1, rows.rule.planes)]
        grads = rng.normal(size=before.shape).astype(np.float32)
        rows.push(*where, grads)
        after = rows.gather(None, *where)
        for i in range(len(keys)):
            exact, state = before[i].copy(), [each[i].copy() for each in states]
            naive.step(optimizer, exact, state, grads[i], t)
            last_place = np.abs(exact) * 2.0 ** (-7 if storage == "bfloat16" else -10) + 1e-7
            assert (np.abs(after[i] - exact) <= last_place).all()
            for mine, theirs in zip(state, (_planes(rows, keys, plane)[i] for plane in range(1, rows.rule.planes)), strict=True):
                assert theirs == pytest.approx(mine, rel=2e-5, abs=2e-5), "the state is float32"


def _planes(rows: SparseShards, keys: np.ndarray, plane: int) -> np.ndarray:
    slots, (buckets, offsets) = places(rows, keys)
    parts = [rows.plane_of(int(b), plane)[slots[i:j]] for b, i, j in zip(buckets, offsets, offsets[1:], strict=False)]
    return np.concatenate(parts)


@pytest.mark.parametrize("by", ["push", "add"])
@each_storage
def test_many_steps_that_are_too_small_to_see_add_up(storage: str, by: str) -> None:
    """Each is 1/1024 of the last place: the nearest number is always the old one."""
    small, steps = (2.0**-7 if storage == "bfloat16" else 2.0**-10) / 1024, 2048
    rows, keys = table(storage, init=Constant(1.0)), grouped(np.arange(2000))
    where = places(rows, keys)
    grads = np.full((len(keys), 16), -small, np.float32)
    assert (to_nearest(1.0 - grads, storage) == 1.0).all()
    for _ in range(steps):
        rows.push(*where, grads) if by == "push" else rows.add(*where, -grads)
    moved = rows.gather(None, *where).astype(np.float64) - 1.0
    # Binomial, with a deviation of 70 %; rows of one bucket that are equal go together, which leaves 4,096 that are independent.
    assert moved.mean() / (steps * small) == pytest.approx(1.0, abs=0.04)
    assert moved.std() / (steps * small) == pytest.approx(np.sqrt(0.5), rel=0.05)


@each_storage
def test_beyond_the_largest_number_steps_end_on_it(storage: str) -> None:
    largest = 65504.0 if storage == "float16" else 3.3895313892515355e38
    rows, keys = table(storage, init=Constant(largest), dim=2), grouped(np.arange(300))
    where = places(rows, keys)
    for _ in range(5):
        rows.push(*where, np.full((300, 2), -largest * 1e-3, np.float32))
    assert (rows.gather(None, *where) == np.float32(largest)).all()
    rows.push(*where, np.full((300, 2), np.nan, np.float32))
    assert np.isnan(rows.gather(None, *where)).all()


@each_storage
def test_a_row_takes_half_of_the_memory(storage: str) -> None:
    keys = grouped(np.arange(50_000))
    sizes = {}
    for held in ("", storage):
        rows = table(held, Adagrad(0.1))
        places(rows, keys)
        room = int(rows.room(np.arange(256, dtype=np.int32)).sum())
        sizes[held] = (rows.nbytes() - rows.heads.nbytes) / room
        assert rows.index.growth.grown >= room * sizes[held]
    assert sizes == {"": 16 * (4 + 4), storage: 16 * (2 + 4)}


def tables_of(storage: Any, buckets: int, *more: TableSpec) -> Tables:
    one, other = (Adagrad(0.5), Adagrad(0.1)) if storage == "float16" else (FTRL(0.5, l1=0.1), Adam(0.1))  # each kernel takes time
    group = [
        TableSpec("s", "sparse", 1, "float32", (), Normal(0, 1), one, seed=1, table=1, index=1, storage=storage),
        TableSpec("w", "sparse", 3, "float32", (), Normal(0, 1), other, seed=2, table=2, index=1, storage=storage),
        TableSpec("d", "dense", 1, "float64", (1003,), table=3),
    ]
    return made(buckets, [*group, *more])


def everything(of: Tables, bucket: int) -> list[Any]:
    rows = of.copy_bucket(bucket)
    return [rows.header(), *((a.shape, str(a.dtype), a.tobytes()) for a in rows.arrays())]


@each_storage
def test_a_bucket_that_moves_is_bit_equal_and_trains_on_bit_equal(storage: str) -> None:
    source, target = tables_of(storage, FEW), tables_of(storage, 1 << 200)
    train(source, FEW, 1)
    target.hold(FEW)
    for bucket in buckets_in(FEW):
        target.adopt_bucket(travelled(source.copy_bucket(bucket)))
    for of in (source, target):
        train(of, FEW, 2)
    assert [everything(target, bucket) for bucket in buckets_in(FEW)] == [everything(source, bucket) for bucket in buckets_in(FEW)]
    with pytest.raises(TableMismatch, match=r"must have planes of float32, float32, float32 of shape .* Got (uint16|float16), float32"):
        tables_of("", FEW).adopt_bucket(travelled(source.copy_bucket(0)))


@each_storage
def test_a_bucket_is_as_it_was_when_its_image_began(storage: str) -> None:
    tables = tables_of(storage, FEW)
    train(tables, FEW, 1)
    expected = {bucket: everything(tables, bucket) for bucket in buckets_in(FEW)}
    image = NodeImage(tables.use([1, 2, 3]).tables)
    for bucket in expected:
        image.begin(bucket)
    train(tables, FEW, 2)
    for bucket, rows in expected.items():
        taken = travelled(image.take(bucket, [1, 2, 3], [1]).whole)
        assert [taken.header(), *((a.shape, str(a.dtype), a.tobytes()) for a in taken.arrays())] == rows
    image.end()


def _add_one(shard: Any) -> None:
    shard.rows()[:] += 1


@each_storage
def test_what_server_functions_do_with_them(storage: Any) -> None:
    best = TableSpec("best", "sparse", 3, table=4, index=1, storage=storage)
    plain = TableSpec("plain", "sparse", 3, table=5, index=1)
    tables = tables_of(storage, FEW, best, plain)
    train(tables, FEW, 1)
    buckets = list(buckets_in(FEW))

    def call(name: str, *ids: int, **args: Any) -> Any:
        return functions.run([FunctionCall(name, list(ids), args)], tables.by_id, buckets)

    call("copy", 4, 2)
    for bucket in buckets:
        assert np.array_equal(tables.by_id[4].rows_of(bucket), tables.by_id[2].rows_of(bucket))
    _, keys, measures = call("topk", 1, k=3, by="value")
    values = np.concatenate([tables.by_id[1].rows_of(bucket)[:, 0] for bucket in buckets])
    assert np.array_equal(measures, np.sort(values)[::-1][:3])
    assert np.isin(keys, KEYS).all()
    functions.register("test-add-one", cloudpickle.dumps(_add_one))
    before = [tables.by_id[2].rows_of(bucket) for bucket in buckets]
    call("test-add-one", 2)
    for bucket, rows in zip(buckets, before, strict=True):
        assert same(tables.by_id[2].rows_of(bucket), to_nearest(rows + np.float32(1), storage)), "of one's own, on float32"
    for name, ids, args in (("sum", (1,), {}), ("copy", (5, 4), {}), ("scale", (4,), {"alpha": 2.0})):
        with pytest.raises(InvalidInput, match=f"The tables of '{name}' must lie as float32 or float64 on the nodes. Got .*{storage}"):
            call(name, *ids, **args)


def test_rows_do_not_depend_on_where_they_lie() -> None:
    """Keys that come in another order have other slots."""
    keys, rng = grouped(np.arange(300)), np.random.default_rng(3)
    one, other = table("bfloat16", Adagrad(0.1)), table("bfloat16", Adagrad(0.1))
    for part in (keys[::2], keys):
        places(other, np.ascontiguousarray(part))
    for _ in range(5):
        grads = rng.normal(size=(300, 16)).astype(np.float32)
        for each in (one, other):
            each.push(*places(each, keys), grads)
            each.add(*places(each, keys), grads)
    assert not np.array_equal(places(one, keys)[0], places(other, keys)[0])
    assert same(one.gather(None, *places(one, keys)), other.gather(None, *places(other, keys)))


def test_the_same_writes_give_the_same_bits_as_one_sum_or_alone() -> None:
    """A clock's sum of several parts, and the same sum in one part."""
    keys, rng = grouped(np.arange(300)), np.random.default_rng(2)
    one, other = table("bfloat16", Adam(0.1)), table("bfloat16", Adam(0.1))
    for clock in range(5):
        grads = (rng.integers(-8, 8, (300, 16)) / 8).astype(np.float32)
        where = places(one, keys)
        one.apply_sum([(*where, grads), (*where, grads)], OpCode.PUSH, clock)
        other.apply_sum([(*places(other, keys), 2 * grads)], OpCode.PUSH, clock)
    assert same(one.gather(None, *places(one, keys)), other.gather(None, *places(other, keys)))
