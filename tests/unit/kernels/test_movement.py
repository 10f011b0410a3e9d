"""Rows of ascending keys, there and back, against plain indexing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sparkps.kernels.movement import to_call, to_groups
from sparkps.kernels.partition import partition
from sparkps.specs import NUM_BUCKETS

ORDER = np.random.default_rng(3).permutation(NUM_BUCKETS).astype(np.int32)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dim", [1, 5])
@pytest.mark.parametrize("size", [1, 2, 300, 200_000])  # the largest takes several blocks
def test_rows_of_any_range_of_keys_move_there_and_back(dtype: str, dim: int, size: int) -> None:
    made = partition(np.arange(-5, size - 5, dtype=np.int64), ORDER)
    source = made.source if made.source is not None else np.arange(size, dtype=np.int32)
    values = np.random.default_rng(size).random((size, dim)).astype(dtype)
    values.flags.writeable = False
    out = np.zeros((size, dim), dtype)
    borders = sorted({0, size // 7, size // 3, size // 3 + 1, size - 1, size})
    for begin, end in itertools.pairwise(borders):
        rows = to_groups(values, source, made.offsets, begin, end)
        assert np.array_equal(rows, values[source[begin:end]])
        to_call(rows, source, made.offsets, begin, end, out)
    assert np.array_equal(out, values)


def test_no_rows() -> None:
    offsets = np.zeros(NUM_BUCKETS + 1, np.int64)
    nothing = np.empty((0, 2), np.float32)
    assert to_groups(nothing, np.empty(0, np.int32), offsets, 0, 0).shape == (0, 2)
    to_call(nothing, np.empty(0, np.int32), offsets, 0, 0, nothing)
