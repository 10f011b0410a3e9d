"""`sparkps.estimate` beside what tables allocate."""

from __future__ import annotations

import numpy as np
import pytest

import sparkps
from sparkps import optim
from sparkps.driver_bridge.resources import NODE_HEAP, NODE_PROCESSES
from sparkps.errors import InvalidInput
from sparkps.estimates import PROCESS_BYTES
from sparkps.ps_nodes.tables.dense import DenseShards
from sparkps.ps_nodes.tables.index import KeyIndex
from sparkps.ps_nodes.tables.sparse import SparseShards
from sparkps.specs import NUM_BUCKETS, TableSpec
from sparkps.wire.hashing import buckets_of

ALL = np.arange(NUM_BUCKETS, dtype=np.int32)


def filled(rows: int, dim: int, dtype: str, optimizer: optim.Optimizer, tables: int = 1) -> tuple[KeyIndex, list[SparseShards]]:
    """Tables of one group that `rows` random keys were written to, a tenth at a time."""
    index = KeyIndex(ALL)
    made = [SparseShards(TableSpec(f"t{i}", "sparse", dim, dtype, optimizer=optimizer), index) for i in range(tables)]
    for table in made:
        index.attach(table)
    keys = np.random.default_rng(rows + dim).permutation(np.arange(rows, dtype=np.int64) * 7919)
    for part in np.array_split(keys, 10):
        part = np.ascontiguousarray(part[np.argsort(buckets_of(part), kind="stable")])
        index.resolve(part, index.runs(part))
    assert int(index.counts().sum()) == rows
    return index, made


@pytest.mark.parametrize("rows", [1, 300, 5_000, 60_000, 400_000])
@pytest.mark.parametrize(
    ("dim", "dtype", "optimizer", "tables"),
    [
        (1, "float64", optim.SGD(0.1), 3),
        (16, "float32", optim.Adagrad(0.1), 1),
        (5, "float32", optim.Adam(0.1), 1),
        (2, "float64", optim.FTRL(0.1), 2),
    ],
)
def test_sparse_tables_take_what_was_estimated(rows: int, dim: int, dtype: str, optimizer: optim.Optimizer, tables: int) -> None:
    said = sparkps.estimate(rows, dim, dtype, optimizer, num_nodes=1, tables=tables)  # type: ignore[arg-type]
    index, made = filled(rows, dim, dtype, optimizer, tables)
    heads = index.heads.nbytes + sum(table.heads.nbytes for table in made)
    takes = index.nbytes() + sum(table.nbytes() for table in made) - heads
    if rows >= 5_000:
        assert said.bytes_per_copy == pytest.approx(takes, rel=0.12)
    else:  # buckets without a row have no room either
        assert takes <= said.bytes_per_copy < takes + (1 << 20)
    assert said.bytes_per_row == pytest.approx(said.bytes_per_copy / rows, rel=1e-3)
    grown, replaced = index.to_come(np.ones(NUM_BUCKETS, np.int64))
    assert PROCESS_BYTES + takes + heads + grown + replaced <= 0.9 * said.node_memory, "there is room for all of them"


def test_dense_tables_take_what_was_estimated() -> None:
    table = DenseShards(TableSpec("d", "dense", 1, "float32", (3000, 50), optimizer=optim.Adam(0.1)), ALL.tolist())
    said = sparkps.estimate(150_000, optimizer=optim.Adam(0.1), num_nodes=1, dense=True)
    assert said.bytes_per_copy == table.nbytes() - table.heads.nbytes - table.lock_heads.nbytes


def test_copies_and_nodes() -> None:
    alone = sparkps.estimate(1 << 20, 8, num_nodes=1)
    assert sparkps.estimate(1 << 20, 8, num_nodes=4, replication=2).bytes_per_node == pytest.approx(alone.bytes_per_copy / 2, rel=0.01)
    two = sparkps.estimate(100 << 20, 8, num_nodes=4, replication=1)
    assert two.node_memory < sparkps.estimate(100 << 20, 8, num_nodes=2, replication=1).node_memory
    replicated = sparkps.estimate(100 << 20, 8, num_nodes=3, replication=2)
    alike = sparkps.estimate(100 << 20, 8, num_nodes=2, replication=2)
    assert replicated.node_memory == alike.node_memory, "room for the copies of a node that is lost"
    assert replicated.bytes_per_node < alike.bytes_per_node


def test_container_is_what_spark_is_asked_for() -> None:
    said = sparkps.estimate(1_000_000)
    assert (said.heap, said.overhead) == (NODE_HEAP, said.node_memory + NODE_PROCESSES)
    assert f"nodeMemory  {said.node_memory >> 20}m" in str(said)


@pytest.mark.parametrize(
    "wrong",
    [{"rows": 0}, {"rows": 1.5}, {"dim": True}, {"replication": 3}, {"dtype": "int8"}, {"optimizer": "adam"}, {"tables": -1}],
)
def test_numbers_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        sparkps.estimate(**{"rows": 10, **wrong})  # type: ignore[arg-type]


def test_numbers_of_any_kind_are_numbers_and_elements_have_no_dim() -> None:
    assert sparkps.estimate(np.int64(1000)).bytes_per_copy == sparkps.estimate(1e3).bytes_per_copy == sparkps.estimate(1000).bytes_per_copy
    with pytest.raises(InvalidInput, match=r"`rows` must be an int"):
        sparkps.estimate(1000.5)
    with pytest.raises(InvalidInput, match=r"of a dense one `rows` counts all elements"):
        sparkps.estimate(1000, 16, dense=True)
