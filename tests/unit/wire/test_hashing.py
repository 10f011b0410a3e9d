"""The hash of keys: as its definition says, and even."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkps.specs import NUM_BUCKETS
from sparkps.wire.hashing import MAX_CAPACITY, buckets_of, mix, positions_of

KEYS = st.integers(-(1 << 63), (1 << 63) - 1)
WORD = (1 << 64) - 1


def defined(key: int) -> int:
    """The definition, in integers without a limit."""
    h = (key & WORD) * 0x9E3779B97F4A7C15 & WORD
    h ^= h >> 32
    h = h * 0xD6E8FEB86659FD93 & WORD
    return h ^ (h >> 32)


@settings(deadline=None, derandomize=True)
@given(st.lists(KEYS, max_size=20), st.integers(1, MAX_CAPACITY - 1))
def test_hash_bucket_and_position_are_as_defined(keys: list[int], capacity: int) -> None:
    array = np.array(keys, np.int64)
    assert mix(array).tolist() == [defined(key) for key in keys]
    assert buckets_of(array).tolist() == [defined(key) >> 56 for key in keys]
    assert positions_of(array, capacity).tolist() == [(defined(key) & 0xFFFFFFFF) * capacity >> 32 for key in keys]


@pytest.mark.parametrize("stride", [1, 256, 1 << 20, 1 << 32, (1 << 40) + 1])
def test_regular_keys_spread_over_buckets_and_positions(stride: int) -> None:
    count = 1 << 16
    keys = np.arange(count, dtype=np.int64) * stride
    loads = np.bincount(buckets_of(keys), minlength=NUM_BUCKETS)
    assert loads.min() / (count / NUM_BUCKETS) > 0.7
    assert loads.max() / (count / NUM_BUCKETS) < 1.3
    mine = keys[buckets_of(keys) == 3]
    places = np.bincount(positions_of(mine, 16), minlength=16) / (len(mine) / 16)
    assert places.min() > 0.2
    assert places.max() < 2.5


@pytest.mark.parametrize("capacity", [0, -1, MAX_CAPACITY])
def test_an_impossible_capacity_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match="capacity of an index"):
        positions_of(np.zeros(1, np.int64), capacity)
