"""Rows in CSR chunks: numbering of keys, the tier's order, spilling, slices."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.mllib.data.ingest import as_they_come, ingest
from sparkps.mllib.data.keys import KeyMap
from sparkps.mllib.data.rows import Columns, RowReader
from sparkps.mllib.data.store import INTERCEPT_KEY, Chunk, Spill, Store
from tests.unit.mllib.problems import batch_of, pairs_column, random_chunk


def batches(count: int = 7, rows: int = 50) -> list:
    rng = np.random.default_rng(1)
    made = []
    for _ in range(count):
        entries = [(rng.integers(0, 10**12, n).tolist(), rng.normal(size=n).astype(np.float32).tolist()) for n in rng.integers(0, 9, rows)]
        made.append(batch_of(rng.integers(0, 2, rows).astype(float), pairs_column(entries)))
    return made


def reversed_order(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return keys[::-1].copy(), np.arange(len(keys) - 1, -1, -1, dtype=np.int32)


def contents(store: Store) -> list[tuple[float, list[int], list[float]]]:
    found = []
    for chunk in store:
        for r in range(len(chunk)):
            span = slice(chunk.indptr[r], chunk.indptr[r + 1])
            found.append((chunk.labels[r], store.keys[chunk.ids[span]].tolist(), chunk.values[span].tolist()))
    return found


def read(**options: object) -> Store:
    return ingest(batches(), RowReader(Columns("label", "features")), **options)


def test_keys_are_numbered_by_first_appearance() -> None:
    rng = np.random.default_rng(2)
    keys = rng.integers(-(2**63), 2**63 - 1, 30_000)[rng.integers(0, 30_000, 200_000)]
    numbers = KeyMap()
    ids = np.concatenate([numbers.number(part) for part in np.array_split(keys, 13)])
    assert numbers.keys[ids].tolist() == keys.tolist()
    assert len(numbers) == len(np.unique(keys))
    first = np.array([np.flatnonzero(ids == i)[0] for i in range(50)])
    assert (np.diff(first) > 0).all()


def test_find_gives_minus_one_for_unknown_keys() -> None:
    numbers = KeyMap.of(np.array([9, -4, 2**62]))
    assert numbers.find(np.array([2**62, 5, 9, -1])).tolist() == [2, -1, 0, -1]


def test_the_rows_do_not_depend_on_order_or_budget() -> None:
    plain = read()
    spilled = read(order=reversed_order, budget=4096, chunk_entries=200)
    assert not plain.is_spilled
    assert spilled.is_spilled
    assert spilled.keys.tolist() == plain.keys.tolist()[::-1]
    assert plain.keys[plain.parameters] == spilled.keys[spilled.parameters] == [INTERCEPT_KEY]
    assert contents(plain) == contents(spilled) == contents(spilled)


@pytest.mark.parametrize("order", [as_they_come, reversed_order])
def test_parameters_without_a_feature_have_keys_below_0_and_change_no_number_of_features(order) -> None:
    store = read(order=order, scalars=2)
    assert store.keys[store.parameters].tolist() == [-1, -2, -3]
    assert store.num_features == read().num_features


def test_all_rows_spill_under_a_budget_of_nothing(tmp_path) -> None:
    store = read(budget=0, scratch=str(tmp_path / "new"))
    assert store.chunks == []
    assert store.spill.nbytes > 0
    assert contents(store) == contents(read())
    assert list((tmp_path / "new").iterdir()) == []
    store.close()


@pytest.mark.parametrize("budget", [1 << 30, 4096])
def test_slices_cross_chunks(budget: int) -> None:
    store = read(budget=budget, chunk_entries=300)
    assert len(store.lengths) > 2
    whole = Chunk.join(list(store))
    for start, stop in [(0, 0), (0, 350), (49, 51), (120, 333), (349, 350)]:
        part = store.rows(start, stop)
        first, last = whole.indptr[start], whole.indptr[stop]
        assert part.labels.tolist() == whole.labels[start:stop].tolist()
        assert part.ids.tolist() == whole.ids[first:last].tolist()
        assert part.values.tolist() == whole.values[first:last].tolist()
        assert part.indptr.tolist() == (whole.indptr[start : stop + 1] - first).tolist()


def test_joined_chunks_keep_implicit_ones_and_weights() -> None:
    rng = np.random.default_rng(3)
    plain = random_chunk(rng, 5, 4, "ones")
    valued = random_chunk(rng, 5, 4, "float32", weighted=True)
    joined = Chunk.join([plain, valued])
    assert joined.values[: len(plain.ids)].tolist() == [1.0] * len(plain.ids)
    assert joined.weights.tolist() == [1.0] * 5 + valued.weights.tolist()
    assert len(Chunk.join([plain, plain]).values) == 0


@pytest.mark.parametrize("values", ["ones", "float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_spilled_chunk_comes_back_as_it_was(values: str, weighted: bool) -> None:
    chunk = random_chunk(np.random.default_rng(4), 40, 9, values, weighted=weighted)
    spill = Spill()
    spill.append(chunk)
    back = spill[0]
    for field in ("labels", "weights", "indptr", "ids", "values"):
        assert getattr(back, field).tolist() == getattr(chunk, field).tolist()
        assert getattr(back, field).dtype == getattr(chunk, field).dtype
    spill.close()


def test_no_rows_at_all() -> None:
    store = ingest([], RowReader(Columns("label", "features")))
    assert (len(store), store.keys.tolist(), store.num_features) == (0, [INTERCEPT_KEY], 0)


def test_number_of_features_is_the_largest_index_plus_one() -> None:
    store = ingest([batch_of([1.0], pairs_column([([10**12, 3], [1.0, 1.0])]))], RowReader(Columns("label", "features")))
    assert store.num_features == 10**12 + 1
