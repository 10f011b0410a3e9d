"""The client's partition against its slow twin, over keys of every kind."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkps.kernels.movement import combine_values, spread
from sparkps.kernels.partition import Partition, partition
from sparkps.wire import hashing
from tests import naive

EXTREMES = [0, -1, 1, -(1 << 63), (1 << 63) - 1]
ORDER = np.random.default_rng(3).permutation(256).astype(np.int32)


def assert_like_twin(keys: np.ndarray, order: np.ndarray) -> None:
    unique, offsets, inverse = naive.partition(keys.tolist(), order.tolist())
    made = partition(keys, order)
    assert made.keys.tolist() == unique
    assert made.offsets.tolist() == offsets
    assert places(made) == inverse


def places(made: Partition) -> list[int]:
    """Place of each of the caller's keys among the unique ones, whichever way the partition says it."""
    if made.source is not None:
        return np.argsort(made.source).tolist()
    return made.inverse.tolist() if made.inverse is not None else list(range(len(made.keys)))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.sampled_from(EXTREMES), st.integers(0, 40)), max_size=300
    )
)
def test_partition_equals_its_twin(keys: list[int]) -> None:
    assert_like_twin(np.array(keys, np.int64), ORDER)


@pytest.mark.parametrize("distinct", [1, 30, 5_000, 60_000])
def test_partition_of_many_duplicates_equals_its_twin(distinct: int) -> None:
    rng = np.random.default_rng(distinct)
    pool = rng.integers(-(1 << 63), 1 << 63, distinct, dtype=np.int64)
    assert_like_twin(rng.choice(pool, 60_000), ORDER)


def test_one_bucket_with_more_keys_than_the_small_table() -> None:
    keys = np.random.default_rng(1).integers(-(1 << 62), 1 << 62, 3_000_000)
    keys = keys[hashing.buckets_of(keys) == 7]
    assert len(keys) > 8192
    assert_like_twin(np.concatenate([keys, keys[::-1]]), ORDER)


def test_keys_in_order_and_unique_are_returned_as_they_are() -> None:
    keys = partition(np.arange(1000, dtype=np.int64), ORDER).keys.copy()
    keys.flags.writeable = False
    again = partition(keys, ORDER)
    assert (again.inverse, again.source) == (None, None)
    assert again.keys is keys


def test_no_keys() -> None:
    made = partition(np.empty(0, np.int64), ORDER)
    assert len(made.keys) == 0
    assert made.offsets.tolist() == [0] * 257


def test_unique_keys_of_any_order_keep_it_within_their_bucket() -> None:
    keys = np.random.default_rng(5).permutation(5000).astype(np.int64)
    made = partition(keys, ORDER)
    assert made.inverse is None
    assert made.source is not None
    assert np.array_equal(keys[made.source], made.keys)
    for first, last in itertools.pairwise(made.offsets):
        assert (np.diff(made.source[first:last]) > 0).all()
    assert_like_twin(keys, ORDER)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dim", [1, 3, 16])
@pytest.mark.parametrize("distinct", [50, 1999])
def test_combine_and_spread_equal_their_twins(dtype: str, dim: int, distinct: int) -> None:
    rng = np.random.default_rng(dim)
    keys = rng.integers(0, distinct, 2000)
    made = partition(keys, ORDER)
    assert made.inverse is not None
    values = rng.normal(size=(2000, dim)).astype(dtype)
    values.flags.writeable = False
    sums = combine_values(values, made.inverse, np.empty((len(made.keys), dim), dtype))
    assert np.array_equal(sums, naive.combine(values, made.inverse.tolist(), len(made.keys)))
    back = spread(sums, made.inverse, np.empty((2000, dim), dtype))
    assert np.array_equal(back, sums[made.inverse])


def test_compiled_hash_is_that_of_the_wire() -> None:
    keys = np.array([*EXTREMES, 12345, -987654321], np.int64)
    assert hashing.buckets_of(keys).tolist() == [naive.bucket_of(int(key)) for key in keys]
    by_bucket = partition(keys, np.arange(256, dtype=np.int32))
    counts = np.bincount(hashing.buckets_of(keys), minlength=256)
    assert np.array_equal(np.diff(by_bucket.offsets), counts)


def test_combine_of_many_unique_keys_with_a_few_duplicates() -> None:
    """The sums take megabytes, which are mapped on their own: a pointer into freed memory would not go unnoticed."""
    keys = np.concatenate([np.arange(600_000), [5, 5]]).astype(np.int64)
    made = partition(keys, ORDER)
    assert made.inverse is not None
    sums = combine_values(np.ones((len(keys), 1)), made.inverse, np.empty((len(made.keys), 1)))
    assert len(made.keys) == 600_000
    assert sums.sum() == len(keys)
    assert sums.max() == 3


@pytest.mark.parametrize("size", [1, 2, 5000])
def test_ascending_keys_equal_their_twin(size: int) -> None:
    assert_like_twin(np.arange(-size // 2, size, dtype=np.int64), ORDER)
    almost = np.arange(-size // 2, size, dtype=np.int64)
    almost[-1] = almost[0]
    assert_like_twin(almost, ORDER)
