"""The features that weigh most: which ones, by what names, and their picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sparkps.errors import InvalidInput
from sparkps.mllib.coefficients import LocalCoefficients
from sparkps.mllib.data.raw_columns import RawColumns
from sparkps.mllib.data.raw_plain import rows_of
from sparkps.mllib.models.importance import draw_features, labels_in, names_in, top_features

HELD = LocalCoefficients(np.array([2, 7, 10**12, 10**15]), np.array([[0.5], [-2.0], [2.0], [1.0]]))


def test_the_largest_come_first_and_of_equals_the_smaller_key() -> None:
    found = top_features(HELD, 3)
    assert [each.key for each in found] == [7, 10**12, 10**15]
    assert [each.weight for each in found] == [-2.0, 2.0, 1.0]
    assert [each.name for each in found] == ["7", str(10**12), str(10**15)]
    assert len(top_features(HELD, 100)) == 4


def test_of_several_values_a_feature_the_norm_counts() -> None:
    many = LocalCoefficients(np.array([0, 1]), np.array([[3.0, -4.0], [4.5, 0.0]]))
    first, second = top_features(many, 2, {0: "a", 1: "b"})
    assert (first.name, first.weight, first.weights) == ("a", 5.0, (3.0, -4.0))
    assert (second.name, second.weight) == ("b", 4.5)


@pytest.mark.parametrize("k", [0, -1, 2.5, None, True])
def test_how_many_must_be_a_number(k: Any) -> None:
    with pytest.raises(InvalidInput, match="`k` must be an int of at least 1"):
        top_features(HELD, k)


@pytest.mark.parametrize(
    "metadata",
    [{}, {"ml_attr": {}}, {"ml_attr": {"num_attrs": 3}}, {"ml_attr": {"attrs": {"numeric": [{"idx": 1, "name": "a"}]}}},
     {"ml_attr": {"attrs": {"numeric": [{"idx": 0}]}}}],
)  # fmt: skip
def test_no_names_are_taken_where_not_all_elements_have_one(metadata: dict[str, Any]) -> None:
    assert names_in(metadata) == []


def test_each_feature_is_a_bar_with_its_name() -> None:
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    draw_features(ax, top_features(HELD, 3, {7: "a" * 60, 10**12: "city=Paris"}))
    assert [bar.get_width() for bar in ax.patches] == [-2.0, 2.0, 1.0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a" * 39 + "…", "city=Paris", str(10**15)]
    heights = [bar.get_y() for bar in ax.patches]
    assert heights == sorted(heights, reverse=True)
    draw_features(Figure().add_subplot(), [])


def test_keys_are_named_by_the_first_row_that_has_them() -> None:
    source = RawColumns(("city", "age"), kinds=("string", "number"))
    batch = pa.RecordBatch.from_pydict({"city": ["Oslo", "Bergen", None, "Oslo"], "age": [0.0, 3.0, 4.0, 5.0]})
    _, keys, _ = rows_of(source, batch)
    oslo, bergen, age = keys[:3].tolist()
    assert labels_in(batch, source, {oslo, age}) == {oslo: "city=Oslo", age: "age"}
    assert labels_in(batch.slice(1, 1), source, {oslo, bergen}) == {bergen: "city=Bergen"}
    assert labels_in(batch.slice(0, 0), source, {oslo}) == {}
    assert labels_in(batch, source, set()) == {}
