"""Raw columns as features: what each type becomes, in compiled passes and in plain Python alike."""

from __future__ import annotations

import contextlib
import decimal
import itertools
import json
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sparkps.errors import InvalidInput
from sparkps.mllib.data import hashing
from sparkps.mllib.data.ingest import ingest
from sparkps.mllib.data.raw_columns import RawColumns
from sparkps.mllib.data.raw_plain import rows_of
from sparkps.mllib.data.rows import Columns, RowReader
from sparkps.mllib.data.sources import source_of

#: Columns of every type, with nulls, of four rows.
COLUMNS = {
    "s": pa.array(["Oslo", None, "", "Łódź"]),
    "big": pa.array(["x", "y", None, "x"], pa.large_string()),
    "i": pa.array([-5, 0, None, 2**40]),
    "small": pa.array([1, 2, 3, None], pa.int8()),
    "b": pa.array([True, False, None, True]),
    "x": pa.array([0.5, 0.0, None, -2.0]),
    "f": pa.array([0.5, 1.5, -0.0, None], pa.float32()),
    "d": pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("0.00"), decimal.Decimal("-3.00")]),
    "tags": pa.array([["a", "b", "a"], [], None, ["c", None]]),
    "codes": pa.array([[7], [7, 8], None, [None]], pa.list_(pa.int64())),
    "dense": pa.array([[0.5, 0.0, 2.0], None, [1.0], []]),
    "text": pa.array(["The cat; THE cat sat_on 2 mats", None, "", "Åse åSE: naïve—x"]),
    "words": pa.array([["The cat", "sat"], None, [None, "sat"], []]),
}

ALL = RawColumns(
    tuple(COLUMNS),
    crosses=(("s", "i"), ("tags", "x"), ("text", "codes", "b")),
    text=("text", "words"),
    ngrams=2,
    categorical=("f",),
    numeric=("small",),
)


def read(source: RawColumns, columns: dict[str, pa.Array], **options: Any) -> list[dict[int, float]]:
    found = source.read([columns[name] for name in source.names], **options)
    assert not found.codes.any()
    spans = zip(found.indptr[:-1], found.indptr[1:], strict=True)
    return [dict(zip(found.indices[a:b].tolist(), found.values[a:b].tolist(), strict=True)) for a, b in spans]


def plain(source: RawColumns, columns: dict[str, Any]) -> list[dict[int, float]]:
    indptr, keys, values = rows_of(source, columns)
    spans = itertools.pairwise(indptr)
    return [dict(zip(keys[a:b].tolist(), values[a:b].tolist(), strict=True)) for a, b in spans]


def key(column: str, h: int) -> int:
    return hashing.key_of(hashing.mix(hashing.seed_of(column) ^ h))


def one(column: pa.Array, **params: Any) -> list[dict[int, float]]:
    return read(RawColumns(("c",), **params), {"c": column})


# ---- types -------------------------------------------------------------------------------------------------------------


def test_strings_integers_and_booleans_are_categories() -> None:
    a, b = (key("c", hashing.hash_of_bytes(each)) for each in (b"a", b"b"))
    assert one(pa.array(["a", "b", None])) == [{a: 1.0}, {b: 1.0}, {}]
    assert one(pa.array([7, -7, None])) == [{key("c", hashing.mix(7)): 1.0}, {key("c", hashing.mix(-7)): 1.0}, {}]
    assert one(pa.array([True, False, None])) == [{key("c", hashing.mix(1)): 1.0}, {key("c", hashing.mix(0)): 1.0}, {}]


def test_integers_of_every_width_have_the_same_keys() -> None:
    assert len({str(one(pa.array([5, -1], kind))) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())}) == 1


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.decimal128(9, 2)])
def test_floats_and_decimals_are_amounts_of_one_feature(kind: pa.DataType) -> None:
    number = hashing.key_of(hashing.mix(hashing.seed_of("c")))
    assert one(pa.array([1.5, 0.0, -2.0, None]).cast(kind)) == [{number: 1.5}, {}, {number: -2.0}, {}]


def test_floats_may_be_categories_and_integers_amounts() -> None:
    assert one(pa.array([0.5, -0.0]), categorical=("c",)) == [{key("c", hashing.hash_of_float(each)): 1.0} for each in (0.5, 0.0)]
    assert one(pa.array([3, 0]), numeric=("c",)) == one(pa.array([3.0, 0.0]))
    assert one(pa.array([True, False]), numeric=("c",)) == one(pa.array([1.0, 0.0]))


def test_elements_of_arrays_are_entries_and_positions_of_numbers_features() -> None:
    a, b = (key("c", hashing.hash_of_bytes(each)) for each in (b"a", b"b"))
    assert one(pa.array([["a", "b", "a"], [], None])) == [{a: 2.0, b: 1.0}, {}, {}]
    assert one(pa.array([[4.0, 0.0, 5.0], [None, 6.0]])) == [
        {key("c", hashing.mix(1)): 4.0, key("c", hashing.mix(3)): 5.0}, {key("c", hashing.mix(2)): 6.0},
    ]  # fmt: skip


def test_equal_values_of_different_columns_have_different_keys() -> None:
    (row,) = read(RawColumns(("a", "b")), {"a": pa.array(["x"]), "b": pa.array(["x"])})
    assert len(row) == 2


# ---- text and crosses --------------------------------------------------------------------------------------------------


def test_a_text_is_runs_of_words_and_how_often_it_has_them() -> None:
    (row,) = one(pa.array(["The cat; THE cat"]), ngrams=2)
    seed, words = hashing.seed_of("c"), {word: hashing.hash_of_bytes(word.encode()) for word in ("the", "cat")}

    def gram(*run: str) -> int:
        g = seed
        for word in run:
            g = hashing.mix(g ^ words[word])
        return hashing.key_of(g)

    assert row == {gram("the"): 2.0, gram("the", "cat"): 2.0, gram("cat"): 2.0, gram("cat", "the"): 1.0}


def test_strings_are_text_where_runs_of_words_are_asked_for_or_they_are_named() -> None:
    text = pa.array(["b a"])
    assert len(one(text)[0]) == 1
    assert len(one(text, text=("c",))[0]) == 2
    assert len(one(text, ngrams=2)[0]) == 3
    assert len(one(text, text=(), ngrams=2)[0]) == 1


def test_a_cross_has_every_combination_with_the_product_of_values() -> None:
    columns = {"t": pa.array([["p", "q"], ["p"], None]), "x": pa.array([0.5, 0.0, 2.0])}
    rows = read(RawColumns((), crosses=(("t", "x"),)), columns)
    assert [sorted(row.values()) for row in rows] == [[0.5, 0.5], [], []]
    swapped = read(RawColumns((), crosses=(("x", "t"),)), columns)
    assert not rows[0].keys() & swapped[0].keys()


def test_fields_number_inputs_and_then_crosses() -> None:
    source = RawColumns(("a", "b"), crosses=(("a", "b"),))
    found = source.read([pa.array([["x", "y"], []]), pa.array([1, 2])], fields=True)
    assert found.fields.tolist() == [0, 0, 1, 2, 2, 1]


def test_a_store_knows_the_column_of_each_key() -> None:
    batch = pa.RecordBatch.from_pydict({"label": [1.0, 0.0], "a": ["x", "y"], "b": ["x", "x"]})
    reader = RowReader(Columns("label", "", raw=RawColumns(("a", "b"))), fields=True)
    store = ingest([batch], reader, lambda keys: (keys[::-1].copy(), np.arange(len(keys) - 1, -1, -1, dtype=np.int32)))
    by_key = dict(zip(store.keys.tolist(), store.fields.tolist(), strict=True))
    assert by_key == {**dict.fromkeys(read(RawColumns(("a",)), {"a": pa.array(["x"])})[0], 0),
        key("a", hashing.hash_of_bytes(b"y")): 0, key("b", hashing.hash_of_bytes(b"x")): 1, -1: -1}  # fmt: skip


# ---- all of it ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buckets", [0, 64, 1000])
def test_compiled_passes_and_plain_python_agree_in_entries_and_order(buckets: int) -> None:
    source = RawColumns(**{**ALL.__dict__, "buckets": buckets}).resolved({name: column.type for name, column in COLUMNS.items()})
    found, expected = read(source, COLUMNS), plain(source, {name: column.to_pylist() for name, column in COLUMNS.items()})
    assert [list(row.items()) for row in found] == [list(row.items()) for row in expected]
    assert plain(source, pa.table(COLUMNS)) == expected
    assert len(found[0]) > (20 if buckets != 64 else 5)
    assert all(0 <= k < (buckets or 2**63) for row in found for k in row)


def test_a_slice_reads_as_its_own_rows() -> None:
    sliced = {name: pa.concat_arrays([column, column]).slice(3, 4) for name, column in COLUMNS.items()}
    rows = read(ALL, COLUMNS)
    assert read(ALL, sliced) == [rows[3], *rows[:3]]


def test_what_lies_beneath_a_null_is_not_read() -> None:
    values, offsets = pa.array(["a b", "c"]), pa.py_buffer(np.array([0, 1, 2], np.int32))
    first_null = pa.py_buffer(bytes([2]))
    lists = pa.Array.from_buffers(pa.list_(pa.string()), 2, [first_null, offsets], children=[values])
    texts = pa.Array.from_buffers(pa.string(), 2, [first_null, *values.buffers()[1:]])
    assert [len(row) for row in one(lists)] == [len(row) for row in one(texts)] == [0, 1]
    assert [len(row) for row in one(texts, ngrams=2)] == [0, 1]


def test_no_rows() -> None:
    assert read(ALL, {name: column.slice(0, 0) for name, column in COLUMNS.items()}) == []


def test_facts_make_the_same_columns_again_in_json_and_pickled() -> None:
    source = ALL.resolved({name: column.type for name, column in COLUMNS.items()})
    again = source_of(json.loads(json.dumps(source.facts())))
    assert read(again, COLUMNS) == read(pickle.loads(pickle.dumps(source)), COLUMNS) == read(source, COLUMNS)


def test_plain_python_needs_neither_numba_nor_spark() -> None:
    code = "import sys, sparkps.mllib.data.raw_plain; print(sorted({'numba', 'pyspark'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


# ---- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", [pa.array([np.nan, 1.0]), pa.array([np.inf, 1.0]), pa.array([[1.0, -np.inf], [2.0]])])
def test_a_number_that_is_not_finite_is_a_wrong_row_of_its_column(column: pa.Array) -> None:
    batch = pa.RecordBatch.from_pydict({"label": [1.0, 0.0], "ok": [2.0, 3.0], "c": column})
    raw = RawColumns(("ok", "c"))
    with pytest.raises(InvalidInput, match=r"Column 'c': values must be finite\. Got the row label=1\.0, ok=2\.0, c=") as caught:
        RowReader(Columns("label", "", raw=raw)).read(batch)
    assert (caught.value.column, caught.value.row) == ("c", 0)
    rows = RowReader(Columns("label", "", handle_invalid="skip", raw=raw)).read(batch)
    assert (rows.skipped, rows.labels.tolist(), len(rows.indices)) == (1, [0.0], 2)


@pytest.mark.parametrize(
    ("kind", "params", "message"),
    [
        (pa.date32(), {}, "must hold strings, booleans, integers, floats or decimals, or arrays of these. Got date32"),
        (pa.map_(pa.string(), pa.int32()), {}, "must hold strings, booleans"),
        (pa.list_(pa.list_(pa.int32())), {}, "must hold strings, booleans"),
        (pa.int64(), {"text": ("c",)}, "must hold strings, or arrays of them, to be one of `textCols`. Got int64"),
        (pa.string(), {"numeric": ("c",)}, "must hold numbers, or arrays of them, to be one of `numericCols`. Got string"),
    ],
)
def test_a_type_that_cannot_be_hashed_is_refused_by_name(kind: pa.DataType, params: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"Column 'c' {message}") as caught:
        RawColumns(("c",), **params).resolved({"c": kind})
    assert caught.value.column == "c"


def test_scoring_refuses_a_type_that_gives_other_keys() -> None:
    trained = RawColumns(("c", "n")).resolved({"c": pa.int32(), "n": pa.float64()})
    trained.check_types({"c": pa.bool_(), "n": pa.int64()})
    with pytest.raises(InvalidInput, match="Column 'c' must be of a type like that of the training, which was integers or booleans"):
        trained.check_types({"c": pa.string(), "n": pa.float64()})


#: Types that give the keys of a column whose values were of a type, or taken for something, in training.
AS_GOOD = [
    ({}, pa.string(), {"string"}),
    ({}, pa.int64(), {"bool", "int32", "int64"}),
    ({}, pa.float64(), {"bool", "int32", "int64", "double"}),
    ({"text": ("c",)}, pa.string(), {"string"}),
    ({"categorical": ("c",)}, pa.float64(), {"bool", "int32", "int64", "double"}),
    ({"numeric": ("c",)}, pa.int32(), {"bool", "int32", "int64", "double"}),
]


@pytest.mark.parametrize(("params", "kind", "good"), AS_GOOD)
def test_types_that_are_as_good_as_that_of_the_training(params: dict, kind: pa.DataType, good: set[str]) -> None:
    trained = RawColumns(("c",), **params).resolved({"c": kind})
    found = set()
    for other in (pa.string(), pa.bool_(), pa.int32(), pa.int64(), pa.float64()):
        with contextlib.suppress(InvalidInput):
            trained.check_types({"c": other})
            found.add(str(other))
    assert found == good


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"n": [1]}, "Column 'c' must be given"),
        ({"c": ["a", "b"], "n": [1]}, "of one length"),
        ({"c": [3], "n": [1]}, "Column 'c': a value must be finite and of the kind 'string'"),
        ({"c": ["a"], "n": [1.5]}, "Column 'n': a value must be finite and of the kind 'integer'"),
        ({"c": ["a"], "n": [1], "x": [np.inf]}, "Column 'x': a value must be finite"),
    ],
)
def test_plain_python_refuses_what_is_not_as_in_training(columns: dict, message: str) -> None:
    source = RawColumns(("c", "n", "x"), kinds=("string", "integer", "number"))
    with pytest.raises(InvalidInput, match=message):
        rows_of(source, {"x": [None] * len(columns["n"]), **columns})


def test_a_text_that_is_no_utf8_is_refused() -> None:
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe")])
    with pytest.raises(InvalidInput, match="Column 'c' must hold text in UTF-8"):
        one(broken, ngrams=2)
