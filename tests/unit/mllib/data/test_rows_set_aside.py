"""Offsets of rows, rows that are set aside to measure on, and labels of classes."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pytest

from sparkps.errors import InvalidInput
from sparkps.mllib.data.ingest import ingest
from sparkps.mllib.data.labels import ClassLabels
from sparkps.mllib.data.rows import Columns, RowReader
from sparkps.mllib.data.store import Chunk, Store
from sparkps.mllib.solvers.ranks import Figures, RankSummary
from tests.unit.mllib.problems import batch_of, pairs_column

COLUMNS = Columns("label", "features", "w", offset="o", validation="v")


def batch(first: int, rows: int = 4) -> pa.RecordBatch:
    """Row i has label i, key i, weight i + 0.5, offset -i, and is set aside where i % 4 is 3."""
    numbers = list(range(first, first + rows))
    beside = {
        "w": pa.array([i + 0.5 for i in numbers]),
        "o": pa.array([float(-i) for i in numbers]),
        "v": pa.array([i % 4 == 3 for i in numbers]),
    }
    return batch_of([float(i) for i in numbers], pairs_column([([i, 1000], [float(i), 2.0]) for i in numbers]), **beside)


def read(batches: list[pa.RecordBatch], **options: object) -> Store:
    return ingest(batches, RowReader(COLUMNS), **options)


def contents(store: Store) -> list[tuple]:
    return [
        (chunk.labels[r], chunk.weights[r], chunk.offsets[r], store.keys[chunk.ids[chunk.indptr[r] : chunk.indptr[r + 1]]].tolist())
        for chunk in store
        for r in range(len(chunk))
    ]


@pytest.mark.parametrize("budget", [1 << 40, 0])
def test_rows_set_aside_are_a_store_of_their_own_with_the_same_keys(budget: int) -> None:
    store = read([batch(0), batch(4), batch(8)], budget=budget, chunk_entries=5)
    aside = store.validation
    assert aside is not None
    assert store.is_spilled == aside.is_spilled == (budget == 0)
    assert contents(aside) == [(float(i), i + 0.5, float(-i), [i, 1000]) for i in (3, 7, 11)]
    assert contents(store) == [(float(i), i + 0.5, float(-i), [i, 1000]) for i in range(12) if i % 4 != 3]
    assert aside.keys is store.keys
    store.close()
    assert aside.chunks == []


def test_both_stores_follow_the_order_of_the_tier() -> None:
    turned = read([batch(0)], order=lambda keys: (keys[::-1].copy(), np.arange(len(keys) - 1, -1, -1, dtype=np.int32)))
    assert contents(turned.validation) == [(3.0, 3.5, -3.0, [3, 1000])]
    assert turned.keys[turned.parameters].tolist() == [-1]


def test_a_budget_is_for_both_stores_together() -> None:
    store = read([batch(4 * i) for i in range(64)], budget=1 << 12, chunk_entries=64)
    held = sum(chunk.nbytes for each in (store, store.validation) for chunk in each.chunks)
    assert 0 < held <= 1 << 12
    assert len(store) == 192
    assert len(store.validation) == 64


def test_no_row_may_be_set_aside() -> None:
    store = read([batch(0, 3)])
    assert (len(store), len(store.validation), list(store.validation)) == (3, 0, [])
    assert ingest([], RowReader(Columns("label", "features"))).validation is None


@pytest.mark.parametrize(
    ("beside", "column", "must"),
    [
        ({"o": pa.array([np.nan])}, "o", "an offset must be finite"),
        ({"o": pa.array([None], pa.float64())}, "o", "an offset must be finite"),
        ({"v": pa.array([None], pa.bool_())}, "v", "whether a row is for validation must not be null"),
    ],
)
def test_a_wrong_offset_or_indicator_is_refused_or_left_out(beside: dict, column: str, must: str) -> None:
    given = {"w": pa.array([1.0]), "o": pa.array([0.0]), "v": pa.array([False]), **beside}
    wrong = batch_of([0.0], pairs_column([([0], [1.0])]), **given)
    with pytest.raises(InvalidInput, match=must) as caught:
        RowReader(COLUMNS).read(wrong)
    assert caught.value.column == column
    skipping = RowReader(Columns("label", "features", "w", 0, "skip", "o", "v"))
    assert (skipping.read(wrong).skipped, len(skipping.read(wrong).labels)) == (1, 0)


def test_offsets_are_sliced_and_joined_with_their_rows() -> None:
    store = read([batch(0, 3)])
    chunk = store.rows(1, 3)
    assert chunk.offsets.tolist() == [-1.0, -2.0]
    plain = Chunk(np.ones(1), np.empty(0), np.array([0, 1], np.int32), np.zeros(1, np.int32), np.ones(1))
    assert Chunk.join([chunk, plain]).offsets.tolist() == [-1.0, -2.0, 0.0]


def test_a_fit_without_rows_for_validation_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Figures.of([RankSummary(3, 0, 9, 0, 0)], COLUMNS)
    assert "Column 'v' marks no row for validation" in caplog.text
    assert Figures.of([RankSummary(3, 0, 9, 0, 2)], COLUMNS).validation_rows == 2
    with pytest.raises(InvalidInput, match=r"Got none \(1 were left out by handleInvalid, 5 are for validation\)"):
        Figures.of([RankSummary(0, 1, 9, 0, 5)], COLUMNS)


@pytest.mark.parametrize(
    ("label", "advice"),
    [(-1.0, "map -1 to 0"), (0.5, "takes a regression"), (3.0, "Number the classes from 0"), (np.nan, "set handleInvalid")],
)
def test_a_label_that_is_no_class_is_refused_with_what_to_do(label: float, advice: str) -> None:
    reader = RowReader(Columns("label", "features"), label_rule=ClassLabels(3))
    with pytest.raises(InvalidInput, match=f"a whole number from 0 to 2.*{advice}"):
        reader.read(batch_of([label], pairs_column([([0], [1.0])])))


def test_classes_of_unknown_number_have_any_whole_number_below_a_limit() -> None:
    assert ClassLabels().wrong(np.array([0.0, 99_999.0, 2.0**40])).tolist() == [False, False, True]
