"""Whole-table kernels against their slow twins, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.kernels import layout, vectors
from sparkps.ps_nodes.tables.dense import DenseShards
from sparkps.specs import TableSpec
from tests import naive

BUCKETS = np.array([0, 3, 255], np.int32)


def tables_of(sizes: int, dtypes: list[str]) -> list[DenseShards]:
    rng = np.random.default_rng(sizes)
    tables = [DenseShards(TableSpec(f"t{i}", "dense", 1, dtype, (sizes,)), range(256)) for i, dtype in enumerate(dtypes)]
    for table in tables:
        table.assign(table.held, rng.normal(size=sizes).astype(table.dtype))
    return tables


def described(tables: list[DenseShards]) -> np.ndarray:
    return np.array([[t.heads.ctypes.data, t.dtype.itemsize] for t in tables], np.int64)


@pytest.mark.parametrize("size", [10, 256 * 15, 256 * 1500 + 77])
def test_gram_equals_its_twin(size: int) -> None:
    tables = tables_of(size, ["float64", "float32", "float64"])
    first = tables[0]
    for left, right in ((tables, []), (tables[:1], tables[1:])):
        out = np.empty((len(BUCKETS), len(left), len(right or left)))
        where = first.lock_heads, BUCKETS, first.sizes(BUCKETS)
        vectors.gram_buckets(described([*left, *right]), len(left), int(not right), *where, out)
        for b, bucket in enumerate(BUCKETS):
            for i, one in enumerate(left):
                for j, other in enumerate(right or left):
                    expected = naive.lane_dot(one.rows_of(bucket)[:, 0], other.rows_of(bucket)[:, 0])
                    assert out[b, i, j] == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [10, 256 * 1500 + 77])
def test_reductions_equal_numpy(size: int, dtype: str) -> None:
    (table,) = tables_of(size, [dtype])
    twins = {
        layout.SUM: lambda x: x.sum(),
        layout.NORM1: lambda x: np.abs(x).sum(),
        layout.SQUARES: lambda x: (x * x).sum(),
        layout.MIN: lambda x: np.min(x, initial=np.inf),
        layout.MAX: lambda x: np.max(x, initial=-np.inf),
        layout.NONZERO: np.count_nonzero,
    }
    for kind, twin in twins.items():
        out = np.empty(len(BUCKETS))
        vectors.reduce_buckets(kind, described([table]), table.lock_heads, BUCKETS, table.sizes(BUCKETS), out)
        expected = [twin(table.rows_of(bucket)[:, 0].astype(np.float64)) for bucket in BUCKETS]
        assert out == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtypes", [["float64", "float64", "float32"], ["float32", "float64", "float32"]])
def test_combination_may_read_what_it_writes(dtypes: list[str]) -> None:
    tables = tables_of(256 * 600 + 5, dtypes)
    before = [table.gather(table.held).astype(np.float64) for table in tables]
    where = tables[0].lock_heads, BUCKETS, tables[0].sizes(BUCKETS)
    weights = np.array([0.5, -2.0, 3.0])
    vectors.combine_buckets(described([tables[0], *tables]), weights, 0.0, *where)
    after = tables[0].gather(tables[0].held)
    for bucket in range(256):
        place = slice(*tables[0].range_of(bucket))
        expected = before[0][place]
        if bucket in BUCKETS:
            expected = weights[0] * before[0][place] + weights[1] * before[1][place] + weights[2] * before[2][place]
        assert np.array_equal(after[place], expected.astype(dtypes[0]))


@pytest.mark.parametrize("most", [0, 1499, 1500, 9999])
def test_copies_of_a_bucket_are_its_rows_or_nothing(most: int) -> None:
    tables = tables_of(256 * 1500, ["float64", "float32"])
    locks = np.unique([table.lock_heads.ctypes.data for table in tables])
    rows = np.array([[table.heads.ctypes.data, table.row_bytes] for table in tables], np.int64)
    copies = [np.full(most + 1, -1.0, table.dtype) for table in tables]
    targets = np.array([copy.ctypes.data for copy in copies], np.int64)
    assert vectors.copy_bucket(rows, locks, 3, most, targets) == 1500
    for table, copy in zip(tables, copies, strict=True):
        copied = 1500 if most >= 1500 else 0
        assert np.array_equal(copy[:copied], table.rows_of(3)[:copied, 0])
        assert (copy[copied:] == -1.0).all()
        assert (table.lock_heads[:, layout.LOCK] == 0).all()


@pytest.mark.parametrize("size", [10, 256 * 15, 256 * 1500 + 77])
def test_sums_under_weights_equal_their_twins(size: int) -> None:
    tables = tables_of(size, ["float64", "float32", "float64", "float64"])
    first = tables[0]
    where = first.lock_heads, BUCKETS, first.sizes(BUCKETS)
    gram, norms = np.empty((len(BUCKETS), 2, 1)), np.empty(len(BUCKETS))
    vectors.weighted_gram_buckets(described(tables), 2, *where, gram)
    vectors.weighted_norm1_buckets(described(tables[:2]), *where, norms)
    for b, bucket in enumerate(BUCKETS):
        w, *left, right = (table.rows_of(bucket)[:, 0].astype(np.float64) for table in tables)
        assert gram[b, :, 0].tolist() == [naive.lane_dot(each * w, right) for each in left]
        assert norms[b] == pytest.approx(np.abs(w * left[0]).sum(), rel=1e-12)
