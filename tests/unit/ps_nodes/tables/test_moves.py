"""Buckets that come to and go from a running node: copies are bit-equal, and train on as the original does."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import numpy as np
import pytest

from sparkps.errors import InvalidInput, ProtocolError, TableMismatch
from sparkps.initializers import Normal
from sparkps.optim import SGD, Adam
from sparkps.ps_nodes.tables.bucket_rows import BucketRows
from sparkps.ps_nodes.tables.directory import Tables
from sparkps.ps_nodes.tables.keysets import KeyChunk, KeySetMissing, NodeKeySet
from sparkps.ps_nodes.tables.operations import targets_of
from sparkps.specs import TableSpec
from sparkps.wire.buckets import bits_of, buckets_in, mask_of_range
from sparkps.wire.hashing import buckets_of
from sparkps.wire.messages.data import NO_KEYSET, Op, OpCode
from tests.unit.ps_nodes.tables.given import grouped
from tests.unit.ps_nodes.tables.test_optimizers import DTYPES, OPTIMIZERS

ALL = (1 << 256) - 1
FEW = 0b1011
KEYS = grouped(np.random.default_rng(0).integers(-(1 << 62), 1 << 62, 20_000))
SPARSE, WIDE, DENSE = 1, 2, 3


def specs(optimizer: Any = SGD(0.1), dtype: str = "float64") -> list[TableSpec]:  # noqa: B008
    """Two sparse tables of one group, and a dense one."""
    first = Normal(0, 1)
    return [
        TableSpec("s", "sparse", 1, dtype, (), first, optimizer, seed=1, table=SPARSE, index=1),
        TableSpec("w", "sparse", 3, dtype, (), first, Adam(0.1), seed=2, table=WIDE, index=1),
        TableSpec("d", "dense", 1, dtype, (1003,), first, optimizer, seed=3, table=DENSE),
    ]


def made(buckets: int, of: list[TableSpec] | None = None) -> Tables:
    tables = Tables(buckets_in(buckets))
    for spec in of or specs():
        tables.create(spec)
    return tables


def keys_in(buckets: int) -> np.ndarray:
    return KEYS[bits_of(buckets)[buckets_of(KEYS)]]


def train(tables: Tables, buckets: int, seed: int) -> None:
    """Some pushes to the keys and elements of these buckets."""
    rng = np.random.default_rng(seed)
    for _ in range(3):
        keys = keys_in(buckets)
        keys = np.ascontiguousarray(keys[rng.random(len(keys)) < 0.5])
        for number, dim in ((SPARSE, 1), (WIDE, 3)):
            grads = rng.normal(size=(len(keys), dim)).astype(tables.by_id[number].dtype)
            write(tables, Op(OpCode.PUSH, number), [keys, grads], buckets)
        dense = tables.by_id[DENSE]
        grads = rng.normal(size=dense.elements(buckets)).astype(dense.dtype)  # type: ignore[union-attr]
        write(tables, Op(OpCode.PUSH, DENSE, start=0, stop=256), [grads], buckets)


def write(tables: Tables, op: Op, arrays: list[np.ndarray], among: int) -> None:
    for target in targets_of(tables, [op], arrays, {}, among):
        target.write()


def travelled(rows: BucketRows) -> BucketRows:
    """What arrives of it by way of a message or a file."""
    return BucketRows.of(msgspec.msgpack.decode(msgspec.msgpack.encode(rows.header())), rows.arrays())


def everything(tables: Tables, bucket: int) -> list[Any]:
    rows = tables.copy_bucket(bucket)
    return [rows.header(), *((a.shape, str(a.dtype), a.tobytes()) for a in rows.arrays())]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bucket_that_moves_is_bit_equal_and_trains_on_bit_equal(optimizer: Any, dtype: str) -> None:
    source, target = made(FEW, specs(optimizer, dtype)), made(1 << 200, specs(optimizer, dtype))
    train(source, FEW, 1)
    target.hold(FEW)
    for bucket in buckets_in(FEW):
        target.adopt_bucket(travelled(source.copy_bucket(bucket)))
        assert everything(target, bucket) == everything(source, bucket)
    for tables in (source, target):
        train(tables, FEW, 2)
        tables._indexes[1].validate()
    for bucket in buckets_in(FEW):
        assert everything(target, bucket) == everything(source, bucket)


def test_a_bucket_is_held_empty_and_dense_elements_are_as_at_first() -> None:
    never, later = made(ALL), made(0)
    later.hold(FEW)
    assert later.held == FEW
    for bucket in buckets_in(FEW):
        assert everything(later, bucket) == everything(never, bucket)
    train(later, FEW, 1)
    train(never, FEW, 1)
    assert everything(later, 3) == everything(never, 3)


def test_what_is_let_go_is_refused_and_its_memory_is_freed() -> None:
    tables = made(ALL)
    before = [table.nbytes() for table in tables.by_id.values()], tables.index_bytes()
    train(tables, ALL, 1)
    tables.let_go(ALL & ~FEW)
    assert tables.held == FEW
    with pytest.raises(InvalidInput):
        tables.copy_bucket(4)
    with pytest.raises(InvalidInput):
        tables.export(SPARSE, 4, 0, 1)
    with pytest.raises(InvalidInput):
        targets_of(tables, [Op(OpCode.PULL, DENSE, start=0, stop=256)], [], {}, ALL)
    with pytest.raises(InvalidInput):
        targets_of(tables, [Op(OpCode.PULL, SPARSE)], [KEYS], {}, ALL)
    every = (1 << 256) - 1
    there = sum(len(tables.copy_bucket(bucket).keys[1]) for bucket in (0, 1, 3))
    assert tables.by_id[SPARSE].row_count(every) == tables.by_id[WIDE].row_count(every) == there
    tables.let_go(FEW)
    sparse, wide, dense = (tables.by_id[number].nbytes() for number in (SPARSE, WIDE, DENSE))
    assert [sparse, wide] == before[0][:2]
    assert dense < before[0][2]
    assert tables.index_bytes() <= before[1]
    tables.hold(FEW)
    assert everything(tables, 3) == everything(made(FEW), 3)


def test_what_is_being_read_stays_until_the_reader_is_done() -> None:
    """Also where the bucket comes back, and goes again, meanwhile."""
    tables = made(ALL)
    train(tables, ALL, 1)
    use = tables.use([SPARSE, DENSE])
    ops = [Op(OpCode.PULL, SPARSE), Op(OpCode.PULL, DENSE, start=0, stop=256)]
    targets = targets_of(tables, ops, [keys_in(FEW)], {}, FEW)
    rows = [target.read() for target in targets]
    held = tables.by_id[DENSE].nbytes()
    tables.let_go(FEW)
    assert all(np.array_equal(target.read(), row) for target, row in zip(targets, rows, strict=True))
    tables.hold(FEW)
    later = tables.use([SPARSE])
    tables.let_go(FEW)
    use.release()
    assert tables.by_id[DENSE].nbytes() == held, "who began before it went the second time may read it"
    later.release()
    assert tables.by_id[DENSE].nbytes() < held
    assert not tables._leaving_buckets
    assert not tables._users_before


def test_memory_is_freed_when_whoever_has_nothing_in_use_cannot_read_it() -> None:
    posted: list[Any] = []
    tables = Tables(range(256), posted.append)
    tables.create(specs()[2])
    held = tables.by_id[DENSE].nbytes()
    tables.let_go(FEW)
    assert tables.by_id[DENSE].nbytes() == held
    (job,) = posted
    job()
    assert tables.by_id[DENSE].nbytes() < held


def test_adopted_rows_take_the_place_of_those_that_are_there() -> None:
    source, target = made(FEW), made(FEW)
    train(source, FEW, 1)
    train(target, FEW, 2)
    target.adopt_bucket(source.copy_bucket(3))
    assert everything(target, 3) == everything(source, 3)
    target.adopt_bucket(BucketRows(3, {}, {}))
    assert everything(target, 3) == everything(made(FEW), 3)
    target._indexes[1].validate()


def test_tables_that_the_copy_lacks_begin_and_those_that_are_unknown_are_ignored() -> None:
    source, target = made(FEW, specs()[:1]), made(FEW, specs()[1:])
    keys = keys_in(0b1000)
    write(source, Op(OpCode.ADD, SPARSE), [keys, np.ones((len(keys), 1))], FEW)
    target.adopt_bucket(travelled(source.copy_bucket(3)))
    fresh = made(FEW, specs()[1:])
    first = targets_of(fresh, [Op(OpCode.PULL, WIDE)], [keys], {}, FEW)[0].read()
    assert np.array_equal(target.by_id[WIDE].rows_of(3), first)
    assert np.array_equal(target.copy_bucket(3).keys[1], keys)
    assert SPARSE not in target.by_id


def test_rows_of_another_specification_are_refused_and_change_nothing() -> None:
    source, target = made(FEW, specs(Adam(0.1))), made(FEW, specs(SGD(0.1)))
    train(source, FEW, 1)
    train(target, FEW, 2)
    before = everything(target, 3)
    with pytest.raises(TableMismatch, match="planes of float64"):
        target.adopt_bucket(source.copy_bucket(3))
    assert everything(target, 3) == before
    with pytest.raises(InvalidInput, match="must be on this node"):
        target.adopt_bucket(BucketRows(9, {}, {}))


def test_a_header_that_does_not_fit_its_arrays_is_refused() -> None:
    source = made(FEW)
    train(source, FEW, 1)
    rows = source.copy_bucket(3)
    header, arrays = rows.header(), rows.arrays()
    for bad in (
        ({}, arrays),
        (header, arrays[:-1]),
        (header, [*arrays, arrays[0]]),
        ({**header, "bucket": 256}, arrays),
        ({**header, "bucket": "3"}, arrays),
        (header, [arrays[0][:-1].copy(), *arrays[1:]]),
        (header, [arrays[0].astype(np.int32), *arrays[1:]]),
    ):
        with pytest.raises(ProtocolError):
            BucketRows.of(*bad)
    for keys in (arrays[0] + 1, np.repeat(arrays[0][:1], len(arrays[0]))):
        with pytest.raises(ProtocolError):
            made(FEW).adopt_bucket(BucketRows.of(header, [keys, *arrays[1:]]))


# ---- operations on some buckets ----------------------------------------------------------------------------------------


def test_a_client_s_operation_touches_only_what_it_may() -> None:
    tables = made(ALL)
    with pytest.raises(InvalidInput):
        targets_of(tables, [Op(OpCode.PULL, SPARSE)], [keys_in(0b111)], {}, 0b011)
    dense = tables.by_id[DENSE]
    everything_, among = dense.gather(dense.held), 0b1010 | 1 << 100  # type: ignore[union-attr]
    (target,) = targets_of(tables, [Op(OpCode.PULL, DENSE, start=2, stop=150)], [], {}, among)
    assert target.mask == 0b1000 | 1 << 100
    expected = np.concatenate([everything_[slice(*dense.range_of(b))] for b in (3, 100)])  # type: ignore[union-attr]
    assert np.array_equal(target.read(), expected)


def test_a_shipped_write_does_at_another_node_what_it_did_here() -> None:
    here, there = made(ALL), made(mask_of_range(0, 100))
    some = sum(1 << bucket for bucket in range(0, 100, 3))
    rng = np.random.default_rng(5)
    keyset = NodeKeySet(1, len(KEYS))
    keyset.add(0, KeyChunk(here.index(1), KEYS, registered=True))
    for code in (OpCode.ASSIGN, OpCode.ADD, OpCode.PUSH):
        ops = [Op(code, SPARSE, 7, 0), Op(code, WIDE), Op(code, DENSE, start=0, stop=256)]
        arrays = [rng.normal(size=(len(KEYS), 1)), KEYS, rng.normal(size=(len(KEYS), 3)), rng.normal(size=1003)]
        for target in targets_of(here, ops, arrays, {7: keyset}, ALL):
            (part,) = target.only(some)
            if code != OpCode.ADD:  # before and after it is carried out here
                target.write()
            op, shipped = part.shipped()
            if code == OpCode.ADD:
                target.write()
            assert op.keyset == NO_KEYSET
            for copy in targets_of(there, [op], shipped, {}, part.mask):
                assert copy.mask == part.mask
                copy.write()
    for bucket in buckets_in(some):
        assert everything(here, bucket) == everything(there, bucket)


def test_keys_of_a_registered_chunk_are_kept_where_they_go_on() -> None:
    tables = made(ALL)
    for keep in (False, True):
        chunk = KeyChunk(tables.index(1), KEYS, registered=True, keep_keys=keep)
        chunk.for_writing()
        assert (chunk.keys is not None) == keep
        assert np.array_equal(chunk.shipped_keys(), KEYS)
        half = chunk.only(bits_of(mask_of_range(0, 128))[buckets_of(KEYS)])
        assert np.array_equal(half.shipped_keys(), keys_in(mask_of_range(0, 128)))
    (target,) = targets_of(
        tables, [Op(OpCode.ADD, SPARSE)], [KEYS, np.ones((len(KEYS), 1))], {}, ALL, keep_keys=True
    )
    target.write()
    assert target.chunk.keys is not None  # type: ignore[attr-defined]


@pytest.mark.parametrize("keep", [False, True])
def test_slots_of_a_registered_chunk_do_not_outlive_its_buckets(keep: bool) -> None:
    """A bucket that comes back may have its keys in other slots."""
    tables, other = made(FEW), made(FEW)
    keys = keys_in(0b1000)
    keyset = NodeKeySet(1, len(keys))
    keyset.add(0, KeyChunk(tables.index(1), keys, registered=True, keep_keys=keep))
    named = [Op(OpCode.ADD, SPARSE, 7, 0)]
    ones = np.ones((len(keys), 1))
    for target in targets_of(tables, named, [ones], {7: keyset}, FEW):
        target.write()
    mixed = grouped(np.random.default_rng(1).permutation(keys))
    backwards = np.ascontiguousarray(mixed[::-1])
    write(other, Op(OpCode.ADD, SPARSE), [backwards, np.arange(1.0, len(keys) + 1).reshape(-1, 1)], FEW)
    tables.let_go(0b1000)
    with pytest.raises(KeySetMissing):
        targets_of(tables, named, [ones], {7: keyset}, FEW & ~0b1000)
    tables.hold(0b1000)
    tables.adopt_bucket(other.copy_bucket(3))
    pull = [Op(OpCode.PULL, SPARSE, 7, 0)]
    if not keep:
        with pytest.raises(KeySetMissing):
            targets_of(tables, pull, [], {7: keyset}, FEW)
        return
    (target,) = targets_of(tables, pull, [], {7: keyset}, FEW)
    (same,) = targets_of(other, [Op(OpCode.PULL, SPARSE)], [keys], {}, FEW)
    assert np.array_equal(target.read(), same.read())


def test_a_bucket_comes_and_goes_while_others_are_written_and_read() -> None:
    source, target = made(FEW), made(mask_of_range(4, 256))
    train(source, FEW, 1)
    there, sums, stop = keys_in(mask_of_range(4, 256)), [0, 0], threading.Event()

    def work(thread: int) -> None:
        rng = np.random.default_rng(thread)
        while not stop.is_set() or not sums[thread]:
            mine = np.ascontiguousarray(there[rng.random(len(there)) < 0.05])
            with target.use([SPARSE]):
                write(target, Op(OpCode.ADD, SPARSE), [mine, np.ones((len(mine), 1))], target.held)
            sums[thread] += len(mine)

    before = targets_of(made(ALL), [Op(OpCode.PULL, SPARSE)], [there], {}, ALL)[0].read()
    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        target.hold(FEW)
        for bucket in buckets_in(FEW):
            target.adopt_bucket(source.copy_bucket(bucket))
            assert everything(target, bucket) == everything(source, bucket)
        target.let_go(FEW)
    stop.set()
    for thread in threads:
        thread.join(50)
        assert not thread.is_alive()
    assert not target._leaving_buckets
    target._indexes[1].validate()
    after = targets_of(target, [Op(OpCode.PULL, SPARSE)], [there], {}, target.held)[0].read()
    assert round(float((after - before).sum())) == sum(sums)
