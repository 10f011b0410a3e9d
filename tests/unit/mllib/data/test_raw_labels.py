"""What keys of raw columns stand for."""

from __future__ import annotations

import pyarrow as pa

from sparkps.mllib.data.raw_columns import RawColumns
from sparkps.mllib.data.raw_plain import labels_of, rows_of
from tests.unit.mllib.data.test_raw_columns import ALL, COLUMNS

SOURCE = ALL.resolved({name: column.type for name, column in COLUMNS.items()})


def test_every_key_of_a_row_has_a_label_whatever_its_columns_are() -> None:
    table = pa.table(COLUMNS)
    indptr, keys, _ = rows_of(SOURCE, table)
    for row in range(4):
        labels = labels_of(SOURCE, table.slice(row, 1))
        assert set(labels) == set(keys[indptr[row] : indptr[row + 1]].tolist())


def test_labels_are_what_people_would_write() -> None:
    found = set(labels_of(SOURCE, pa.table(COLUMNS).slice(0, 1)).values())
    assert {"s=Oslo", "i=-5", "b=True", "x", "d", "tags=a", "codes=7", "dense[0]", "dense[2]", "f=0.5", "small"} <= found
    assert {"text=the", "text=the cat", "words=The cat", "words=The cat sat", "s=Oslo × i=-5", "tags=b × x"} <= found
    assert "text=the × codes=7 × b=True" in found
    assert "dense[1]" not in found


def test_of_keys_in_one_bucket_the_first_names_it() -> None:
    source = RawColumns(("a", "b"), buckets=1, kinds=("string", "string"))
    assert labels_of(source, {"a": ["x"], "b": ["y"]}) == {0: "a=x"}
