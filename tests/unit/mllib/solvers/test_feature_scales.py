"""Units of features: what they do not depend on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from sparkps.mllib.data.store import Chunk
from sparkps.mllib.solvers.feature_scales import FeatureScales, TypicalScales


class Rows:
    """What of a store is looked at: one chunk, and the keys that its ids number."""

    def __init__(
        self, keys: np.ndarray, ids: list[list[int]], values: list[list[float]] | None, weights: tuple[float, ...] = ()
    ) -> None:
        self.keys = keys
        indptr, flat = np.cumsum([0, *map(len, ids)]).astype(np.int32), np.concatenate(ids).astype(np.int32)
        given = np.concatenate(values).astype(np.float32) if values else np.empty(0, np.float32)
        self.chunk = Chunk(np.zeros(len(ids)), np.array(weights), indptr, flat, given)

    def __iter__(self) -> Iterator[Chunk]:
        return iter([self.chunk])

    def __len__(self) -> int:
        return len(self.chunk.labels)


class Table:
    """Sums by key."""

    def __init__(self) -> None:
        self.sums: dict[int, np.ndarray] = {}

    def add_async(self, keys: np.ndarray, rows: np.ndarray) -> None:
        self.add(keys, rows)

    def add(self, keys: np.ndarray, rows: np.ndarray) -> None:
        for key, row in zip(keys.tolist(), rows, strict=True):
            self.sums[key] = self.sums.get(key, 0.0) + row

    def pull(self, keys: np.ndarray) -> np.ndarray:
        return np.array([self.sums[key] for key in keys.tolist()])


def taken(kind: type[FeatureScales], rows: Any, *tables: Any) -> np.ndarray:
    scales = kind(rows, *tables)
    scales.take(shared=bool(tables), intercept=-1)
    return scales.scales


IDS, VALUES = [[0, 1], [1, 2], [0, 1, 2], [0]], [[1.0, -2.0], [4.0, 0.5], [2.0, 1.0, 0.25], [40.0]]


def test_a_feature_in_another_unit_has_that_unit_in_its_scale() -> None:
    plain = taken(TypicalScales, Rows(np.arange(3), IDS, VALUES))
    rows = zip(IDS, VALUES, strict=True)
    in_thousandths = [[1000 * x if j == 1 else x for j, x in zip(*row, strict=True)] for row in rows]
    other = taken(TypicalScales, Rows(np.arange(3), IDS, in_thousandths))
    assert other == pytest.approx(plain / [1, 1000, 1], rel=1e-6)


def test_one_value_that_is_far_larger_makes_the_others_count_for_less_by_the_largest_than_by_the_typical_one() -> None:
    rows = Rows(np.arange(3), IDS, VALUES)
    (typical, other, _), (by_largest, other_by_largest, _) = taken(TypicalScales, rows), taken(FeatureScales, rows)
    assert typical / other > 1.1 * by_largest / other_by_largest


def test_ranks_agree_on_typical_values_and_on_who_has_each_feature() -> None:
    whole, table = taken(TypicalScales, Rows(np.array([10, 20, 30]), IDS, VALUES)), Table()
    first = Rows(np.array([10, 20, 30]), IDS[:3], VALUES[:3])
    second = Rows(np.array([10, 99]), [[0]], [[40.0]])
    ranks = [TypicalScales(rows, table) for rows in (first, second)]  # type: ignore[arg-type]
    for rank in ranks:
        rank.tell()
    for rank in ranks:
        rank.take(shared=True, intercept=-1)
    assert ranks[0].scales / ranks[0].scales[0] == pytest.approx(whole / whole[0], rel=1e-6)
    assert [rank.holders.tolist() for rank in ranks] == [[2, 1, 1], [2, 1]]


@pytest.mark.parametrize("kind", [FeatureScales, TypicalScales])
def test_rows_of_weight_0_have_no_say_in_scales(kind: type[FeatureScales]) -> None:
    without = taken(kind, Rows(np.arange(3), IDS, VALUES))
    for values in ([1e4, 1e-4], [0.0, 1.0]):
        weights = (1.0,) * len(IDS) + (0.0,)
        found = taken(kind, Rows(np.arange(3), [*IDS, [0, 2]], [*VALUES, values], weights))
        assert found.tolist() == without.tolist()
    plain, more = Rows(np.arange(3), IDS, None), Rows(np.arange(3), [*IDS, [0]], None, (1.0,) * len(IDS) + (0.0,))
    assert taken(kind, plain).tolist() == taken(kind, more).tolist()


def test_values_that_are_all_1_on_a_rank_weigh_the_same_written_out_or_not() -> None:
    ones = [[1.0 for _ in row] for row in IDS]
    found = []
    for values in (ones, None):
        table = Table()
        ranks = [TypicalScales(rows, table) for rows in (Rows(np.arange(3), IDS, values), Rows(np.arange(3), IDS, VALUES))]  # type: ignore[arg-type]
        for rank in ranks:
            rank.tell()
        ranks[0].take(shared=True, intercept=-1)
        found.append(ranks[0].scales)
    assert found[0] == pytest.approx(found[1], rel=1e-6)


@pytest.mark.parametrize("kind", [FeatureScales, TypicalScales])
@pytest.mark.parametrize("ranks", [2, 5])
def test_ranks_with_the_same_rows_have_the_scales_of_one(kind: type[FeatureScales], ranks: int) -> None:
    table, alone = Table(), taken(kind, Rows(np.arange(3), IDS, VALUES))
    several = [kind(Rows(np.arange(3), IDS, VALUES), table) for _ in range(ranks)]  # type: ignore[arg-type]
    for each in several:
        each.tell()
    for each in several:
        each.take(shared=True, intercept=-1)
        assert each.scales == pytest.approx(alone, rel=1e-5)
