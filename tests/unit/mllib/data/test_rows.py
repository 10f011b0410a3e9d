"""Rows from Arrow: every type of features, every reason to refuse a row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from sparkps.errors import InvalidInput
from sparkps.mllib.data import kernels
from sparkps.mllib.data.features import read_features
from sparkps.mllib.data.labels import BinaryLabels
from sparkps.mllib.data.rows import Columns, RowReader, Rows
from tests.unit.mllib.problems import batch_of, pairs_column, vector_column


def read(features: pa.Array, labels: list | None = None, **options: object) -> Rows:
    more = {"weight": pa.array(options.pop("weights"), pa.float64())} if "weights" in options else {}
    columns = Columns("label", "features", "weight" if more else "", **options)
    return RowReader(columns, rank=3, label_rule=BinaryLabels()).read(batch_of(labels or [0.0] * len(features), features, **more))


def as_dicts(rows: Rows) -> list[dict[int, float]]:
    values = rows.values if len(rows.values) else np.ones(len(rows.indices))
    borders = zip(rows.indptr[:-1], rows.indptr[1:], strict=True)
    return [dict(zip(rows.indices[a:b].tolist(), values[a:b].tolist(), strict=True)) for a, b in borders]


SAME_ROWS = {
    "dense and sparse vectors": vector_column([[0.0, 2.5, 0.0], (3, [0, 2], [1.0, 3.0]), [0.0, 0.0, 0.0]]),
    "sparse vectors": vector_column([(3, [1], [2.5]), (3, [0, 2], [1.0, 3.0]), (3, [], [])]),
    "arrays": pa.array([[0.0, 2.5, 0.0], [1.0, 0.0, 3.0], [0.0] * 3]),
    "float arrays": pa.array([[0.0, 2.5, 0.0], [1.0, 0.0, 3.0], [0.0] * 3], pa.list_(pa.float32())),
    "pairs": pairs_column([([1], [2.5]), ([0, 2], [1.0, 3.0]), ([], [])]),
}


@pytest.mark.parametrize("kind", SAME_ROWS)
def test_every_type_of_features_gives_the_same_rows(kind: str) -> None:
    rows = read(SAME_ROWS[kind])
    assert as_dicts(rows) == [{1: 2.5}, {0: 1.0, 2: 3.0}, {}]
    assert rows.width == (0 if kind == "pairs" else 3)
    assert rows.values.dtype == np.float32


@pytest.mark.parametrize("kind", SAME_ROWS)
def test_a_slice_reads_as_its_own_rows(kind: str) -> None:
    assert as_dicts(read(SAME_ROWS[kind].slice(1, 2))) == [{0: 1.0, 2: 3.0}, {}]


def test_values_that_are_all_one_are_left_out() -> None:
    assert len(read(pairs_column([([5, 9], [1.0, 1.0]), ([7], [1.0])])).values) == 0


def test_values_beyond_float32_stay_float64() -> None:
    rows = read(vector_column([(3, [1], [0.1])]))
    assert rows.values.dtype == np.float64
    assert rows.values.tolist() == [0.1]


def test_indices_may_be_any_int64() -> None:
    assert as_dicts(read(pairs_column([([2**62, 0], [1.0, 2.0])]))) == [{2**62: 1.0, 0: 2.0}]


BAD_ROWS = {
    "label null": (pairs_column([([0], [1.0])]), [None], {}, "label", "must not be null"),
    "label 2": (pairs_column([([0], [1.0])]), [2.0], {}, "label", "must be 0 or 1"),
    "label NaN": (pairs_column([([0], [1.0])]), [np.nan], {}, "label", "must be 0 or 1"),
    "features null": (pairs_column([None]), [1.0], {}, "features", "features must not be null"),
    "vector null": (vector_column([None]), [1.0], {}, "features", "features must not be null"),
    "array null": (pa.array([None], pa.list_(pa.float64())), [1.0], {}, "features", "features must not be null"),
    "index null": (pairs_column([([0, None], [1.0, 2.0])]), [1.0], {}, "features", "indices and values must not be null"),
    "indices null": (pairs_column([(None, [])]), [1.0], {}, "features", "indices and values must not be null"),
    "value null": (pairs_column([([0, 1], [1.0, None])]), [1.0], {}, "features", "indices and values must not be null"),
    "lengths": (pairs_column([([0, 1], [1.0])]), [1.0], {}, "features", "of the same length"),
    "negative": (pairs_column([([3, -1], [1.0, 1.0])]), [1.0], {}, "features", "must not be negative"),
    "too large": (pairs_column([([3, 10], [1.0, 1.0])]), [1.0], {"num_features": 10}, "features", "less than numFeatures \\(10\\)"),
    "NaN": (vector_column([[1.0, np.nan]]), [1.0], {}, "features", "must be finite"),
    "inf": (pairs_column([([0], [np.inf])]), [1.0], {}, "features", "must be finite"),
    "weight": (pairs_column([([0], [1.0])]), [1.0], {"weights": [-1.0]}, "weight", "must be a float in \\[0, inf\\)"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_refused_by_column_content_and_rank(case: str) -> None:
    features, labels, options, column, message = BAD_ROWS[case]
    with pytest.raises(InvalidInput, match=message) as raised:
        read(features, labels, **options)
    assert (raised.value.column, raised.value.rank, raised.value.row) == (column, 3, 0)
    assert "rank 3" in str(raised.value)
    assert "label=" in str(raised.value)


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_skipped_where_asked_for(case: str) -> None:
    features, labels, options, *_ = BAD_ROWS[case]
    good = features.take(pa.array([0]))
    if isinstance(features.type, pa.StructType) and "type" in {f.name for f in features.type}:
        fine = vector_column([[4.0, 0.0]])
    elif pa.types.is_struct(features.type):
        fine = pairs_column([([0], [4.0])])
    else:
        fine = pa.array([[4.0, 0.0]])
    both = pa.concat_arrays([good, fine])
    if "weights" in options:
        options = {**options, "weights": [*options["weights"], 1.0]}
    rows = read(both, [*labels, 1.0], handle_invalid="skip", **options)
    assert (rows.labels.tolist(), as_dicts(rows), rows.skipped) == ([1.0], [{0: 4.0}], 1)


def test_vectors_must_have_one_size_across_batches() -> None:
    reader = RowReader(Columns("label", "features"))
    reader.read(batch_of([0.0], vector_column([[1.0, 2.0]])))
    with pytest.raises(InvalidInput, match="the same size \\(the first has 2\\)"):
        reader.read(batch_of([0.0], vector_column([(3, [0], [1.0])])))


def test_a_column_of_another_type_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="Column 'f' must hold features"):
        read_features(pa.array(["a"]), "f")


def test_labels_without_a_rule_of_their_own_must_be_finite() -> None:
    reader, features = RowReader(Columns("label", "features")), pairs_column([([0], [1.0])])
    assert reader.read(batch_of([-2.5], features)).labels.tolist() == [-2.5]
    with pytest.raises(InvalidInput, match="a label must be finite.*Correct the row, or set handleInvalid"):
        reader.read(batch_of([np.inf], features))


@pytest.mark.parametrize(("label", "advice"), [(-1.0, "map -1 to 0"), (2.0, "OneVsRest"), (0.5, "takes a regression")])
def test_a_rule_gives_its_own_advice(label: float, advice: str) -> None:
    with pytest.raises(InvalidInput, match=advice) as caught:
        read(pairs_column([([0], [1.0])]), [label])
    assert "handleInvalid" not in str(caught.value)


def test_a_label_that_is_no_number_is_of_no_class() -> None:
    with pytest.raises(InvalidInput, match="Correct the row, or set handleInvalid"):
        read(pairs_column([([0], [1.0])]), [np.nan])


def test_weights_are_kept() -> None:
    assert read(pairs_column([([0], [1.0])]), weights=[2.5]).weights.tolist() == [2.5]


def test_entries_with_the_same_index_are_added() -> None:
    rows = [([3, 1, 3], [1.0, 2.0, 4.0]), ([], []), ([5, 2], [1.0, 1.0]), ([0, 0], [1.0, -1.0])]
    kind = pa.struct([("indices", pa.list_(pa.int64())), ("values", pa.list_(pa.float64()))])
    column = pa.array([{"indices": i, "values": v} for i, v in rows], kind)
    found = read_features(column, "features")
    assert found.indptr.tolist() == [0, 2, 2, 4, 5]
    assert found.indices.tolist() == [1, 3, 2, 5, 0]
    assert found.values.tolist() == [2.0, 5.0, 1.0, 1.0, 0.0]
    plain = read_features(column.slice(1, 2), "features")  # none twice: as they come
    assert plain.indices.tolist() == [5, 2]


def test_values_that_are_left_out_stay_so_where_rows_are_chosen() -> None:
    """They were read and written behind the end of their arrays."""
    rows = read(pairs_column([([i, i + 1], [1.0, 1.0]) for i in range(2000)]))
    assert len(rows.values) == 0
    kept = rows.where(np.arange(2000) % 3 == 0)
    assert len(kept.values) == 0
    assert as_dicts(kept) == [{i: 1.0, i + 1: 1.0} for i in range(0, 2000, 3)]
    indices, values = np.full(4, -1, np.int64), np.full(4, 7.0, np.float32)  # with room that must not be touched
    indptr = np.empty(2, np.int32)
    count = kernels.keep_rows.of("float32")(
        np.array([0, 1], np.uint8), np.array([0, 1, 3], np.int32), np.array([5, 6, 7]), values[:0], indptr, indices, values
    )
    assert (count, indices.tolist(), values.tolist()) == (2, [6, 7, -1, -1], [7.0] * 4)


def test_a_further_class_that_weighs_nothing_is_none() -> None:
    rows = read(pa.array([[1.0]] * 4), labels=[0.0, 2.0, 1.0, 7.0], weights=[1.0, 0.0, 2.0, 0.0])
    assert (rows.labels.tolist(), rows.weights.tolist()) == ([0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 2.0, 0.0])


@pytest.mark.parametrize(("label", "weight"), [(2.0, 1e-300), (0.5, 0.0), (-1.0, 0.0), (float("nan"), 0.0), (float("inf"), 0.0)])
def test_a_label_that_is_none_is_wrong_whatever_it_weighs(label: float, weight: float) -> None:
    with pytest.raises(InvalidInput, match="must be 0 or 1"):
        read(pa.array([[1.0]] * 2), labels=[0.0, label], weights=[1.0, weight])
