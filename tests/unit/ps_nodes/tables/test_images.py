"""Images of tables: a bucket is copied as it was, whatever is written before its copy."""

from __future__ import annotations

from typing import Any

import cloudpickle
import numpy as np
import pytest

from sparkps.errors import CheckpointError
from sparkps.ps_nodes import functions
from sparkps.ps_nodes.tables.directory import Tables
from sparkps.ps_nodes.tables.images import NodeImage
from sparkps.ps_nodes.tables.operations import targets_of
from sparkps.wire.buckets import buckets_in
from sparkps.wire.hashing import buckets_of
from sparkps.wire.messages.data import FunctionCall, Op, OpCode
from tests.unit.ps_nodes.tables.given import grouped
from tests.unit.ps_nodes.tables.test_moves import DENSE, KEYS, SPARSE, WIDE, everything, made, specs, train, travelled
from tests.unit.ps_nodes.tables.test_optimizers import DTYPES, OPTIMIZERS

SOME = sum(1 << bucket for bucket in (0, 1, 3, 77, 200, 255))
BOTH = [SPARSE, WIDE]


def image_of(tables: Tables, buckets: int = SOME) -> NodeImage:
    image = NodeImage(tables.use([SPARSE, WIDE, DENSE]).tables)
    for bucket in buckets_in(buckets):
        image.begin(bucket)
    return image


def taken(image: NodeImage, bucket: int) -> list[Any]:
    """As `everything` gives it."""
    rows = travelled(image.take(bucket, [SPARSE, WIDE, DENSE], [1]).whole)
    return [rows.header(), *((a.shape, str(a.dtype), a.tobytes()) for a in rows.arrays())]


def call(tables: Tables, function: str, buckets: int, table: int, *others: int, **args: Any) -> None:
    functions.run([FunctionCall(function, [table, *others], args)], tables.by_id, list(buckets_in(buckets)))


def anything(tables: Tables, rng: np.random.Generator) -> None:
    """One change of any kind, in some buckets."""
    buckets = int.from_bytes(rng.bytes(32), "little") & (SOME | 1 << 40)
    if not buckets:
        return
    mine = np.flatnonzero([buckets >> int(bucket) & 1 for bucket in buckets_of(KEYS)])
    keys = np.ascontiguousarray(KEYS[mine[rng.random(len(mine)) < 0.3]])
    number = int(rng.choice([SPARSE, WIDE]))
    dtype, dim = tables.by_id[number].dtype, tables.by_id[number].spec.dim
    kind = rng.integers(7)
    if kind < 3 and len(keys):
        code = (OpCode.PUSH, OpCode.ADD, OpCode.ASSIGN)[kind]
        values = rng.normal(size=(len(keys), dim)).astype(dtype)
        parts = [target for _ in range(2) for target in targets_of(tables, [Op(code, number)], [keys, values], {}, buckets)]
        if rng.random() < 0.5:
            parts[0].write()
        else:
            parts[0].write_sum(parts, 3)
    elif kind == 3:
        dense = tables.by_id[DENSE]
        values = rng.normal(size=dense.elements(buckets)).astype(dense.dtype)  # type: ignore[union-attr]
        code = OpCode(int(rng.integers(1, 4)))
        for target in targets_of(tables, [Op(code, DENSE, start=0, stop=256)], [values], {}, buckets):
            target.write()
    elif kind == 4:
        call(tables, "scale", buckets, int(rng.choice([SPARSE, WIDE, DENSE])), alpha=0.5)
    elif kind == 5:
        call(tables, "test-every-third", buckets, int(rng.choice([SPARSE, WIDE, DENSE])))
    else:
        call(tables, "fill", buckets, int(rng.choice([SPARSE, WIDE, DENSE])), value=2.0)


def every_third(shard: Any) -> None:
    shard.rows()[::3] += 1


@pytest.fixture(autouse=True, scope="module")
def registered():
    functions.register("test-every-third", cloudpickle.dumps(every_third))


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bucket_is_as_it_was_when_its_image_began(optimizer: Any, dtype: str) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        tables = made(SOME | 1 << 40, specs(optimizer, dtype))
        train(tables, int.from_bytes(rng.bytes(32), "little") & SOME, seed)
        expected = {bucket: everything(tables, bucket) for bucket in buckets_in(SOME)}
        image = image_of(tables)
        for bucket in rng.permutation(list(expected)).tolist():
            for _ in range(rng.integers(5)):
                anything(tables, rng)
            assert taken(image, bucket) == expected[bucket], (seed, bucket)
        image.end()
        assert all(table.watch().image is None for table in tables.by_id.values())


def test_writes_are_the_same_with_and_without_an_image() -> None:
    with_one, without = made(SOME | 1 << 40), made(SOME | 1 << 40)
    image = image_of(with_one)
    for tables in (with_one, without):
        rng = np.random.default_rng(5)
        for _ in range(60):
            anything(tables, rng)
    for bucket in buckets_in(SOME):
        assert everything(with_one, bucket) == everything(without, bucket)
    image.end()


def test_each_row_is_kept_aside_once_and_none_of_what_is_taken() -> None:
    tables = made(SOME)
    train(tables, SOME, 1)
    image = image_of(tables)
    begun = image.nbytes
    train(tables, SOME, 2)
    train(tables, SOME, 3)
    once = image.nbytes
    train(tables, SOME, 2)
    rows = sum(tables.copy_bucket(bucket).nbytes for bucket in buckets_in(SOME))
    assert begun < once <= image.nbytes <= begun + 2 * rows
    for _ in range(20):
        train(tables, SOME, 3)
    assert image.nbytes <= begun + 2 * rows
    for bucket in buckets_in(SOME):
        image.take(bucket, [], [])
    before = image.nbytes
    train(tables, SOME, 4)
    assert image.nbytes <= before


def test_versions_are_alike_only_where_the_content_is() -> None:
    """And they stay where nobody writes, so that it is not written again."""
    tables = made(SOME | 1 << 40)
    rng = np.random.default_rng(9)
    known: dict[tuple[int, str, int], Any] = {}
    for _ in range(40):
        image = image_of(tables)
        for bucket in buckets_in(SOME):
            of_tables, of_indexes = image.versions(bucket)
            rows = image.take(bucket, of_tables, of_indexes).whole
            for number, version in of_tables.items():
                table = rows.tables[number]
                content = table.step, [plane.tobytes() for plane in table.planes]
                assert known.setdefault((bucket, "t", version), content) == content
            for number, version in of_indexes.items():
                assert known.setdefault((bucket, "i", version), rows.keys[number].tobytes()) == rows.keys[number].tobytes()
        image.end()
        for _ in range(rng.integers(4)):
            anything(tables, rng)
    image = image_of(tables)
    before = {bucket: image.versions(bucket) for bucket in buckets_in(SOME)}
    call(tables, "scale", 1 << 3, WIDE, alpha=0.5)
    again = image_of(tables)
    for bucket, (of_tables, of_indexes) in before.items():
        now = again.versions(bucket)
        assert now[1] == of_indexes
        assert {number for number in of_tables if of_tables[number] != now[0][number]} == ({WIDE} if bucket == 3 else set())
    assert len(known) > 100


def test_a_bucket_that_comes_anew_has_another_version() -> None:
    tables = made(SOME)
    train(tables, SOME, 1)
    first = image_of(tables).versions(3)
    rows = tables.copy_bucket(3)
    tables.adopt_bucket(rows)
    second = image_of(tables).versions(3)
    tables.let_go(1 << 3)
    tables.hold(1 << 3)
    third = image_of(tables).versions(3)
    for one, other in ((first, second), (second, third), (first, third)):
        assert not set(one[0].values()) & set(other[0].values())
        assert not set(one[1].values()) & set(other[1].values())


def test_rows_that_another_table_of_the_index_gets_count_as_a_change() -> None:
    tables = made(SOME)
    before = image_of(tables).versions(3)
    keys = grouped(KEYS[buckets_of(KEYS) == 3][:5])
    for target in targets_of(tables, [Op(OpCode.ADD, SPARSE)], [keys, np.ones((5, 1))], {}, SOME):
        target.write()
    after = image_of(tables).versions(3)
    assert {number for number in BOTH if before[0][number] != after[0][number]} == {SPARSE, WIDE}
    assert before[1] != after[1]


@pytest.mark.parametrize("number", [SPARSE, DENSE])
def test_without_memory_writes_go_on_and_the_image_says_so(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = made(SOME)
    train(tables, SOME, 1)
    image = image_of(tables)

    def none(*_: Any) -> None:
        raise MemoryError

    table_image = image._images[number]
    monkeypatch.setattr(table_image, "_keep_rows" if number == SPARSE else "_copied", none)
    before = everything(tables, 3)
    call(tables, "scale", SOME, DENSE, alpha=0.5)
    train(tables, SOME, 2)
    assert everything(tables, 3) != before
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="nodeMemory"):
        image.take(3, [SPARSE, WIDE, DENSE], [1])
