"""The client's side of the hash: duplicate keys combined, unique keys grouped by node and bucket. Rows follow in `movement`.

Keys are hashed, never sorted: a pass that counts, a pass that moves them into groups, and one small hash table per bucket
that stays in the cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from sparkps.kernels.compiled import array, given, inlined, kernel
from sparkps.kernels.hashing import bucket_of_hash, mix
from sparkps.kernels.intrinsics import data
from sparkps.specs import NUM_BUCKETS

#: Added to a number of keys of which none came twice.
_UNIQUE = 1 << 40

#: Places of the table of unique keys that a large group begins with.
_SMALL = 8192


class Partition(NamedTuple):
    """Keys grouped for the nodes.

    Attributes
    ----------
    keys : ndarray of shape (m,), int64
        The unique keys, grouped by position in the order of buckets, in order of first appearance within a bucket.
    offsets : ndarray of shape (257,), int64
        ``keys[offsets[p]:offsets[p + 1]]`` are those of the bucket at position p.
    inverse : ndarray of shape (n,), int32, or None
        ``keys[inverse[i]]`` is the caller's key i; None if `source` says it, or if the caller's keys are `keys` already.
    source : ndarray of shape (n,), int32, or None
        ``keys[j]`` is the caller's key ``source[j]``: given where no key comes twice. Ascends within each bucket.
    """

    keys: NDArray[np.int64]
    offsets: NDArray[np.int64]
    inverse: NDArray[np.int32] | None
    source: NDArray[np.int32] | None


@inlined
def _grow_table(places: Any, capacity: int, unique: Any, first: int, count: int) -> None:
    """Fills places[:capacity] with the unique keys found so far."""
    for place in range(capacity):
        places[place] = np.int32(-1)
    mask = np.uint64(capacity - 1)
    for i in range(first, count):
        place = mix(unique[i]) & mask
        while places[place] >= 0:
            place = (place + np.uint64(1)) & mask
        places[place] = np.int32(i)


@inlined
def _unique_of_group(
    grouped: Any, source: Any, begin: int, end: int, places: Any, unique: Any, count: int, inverse: Any
) -> int:
    """Appends the unique keys of one bucket to unique[count:]; returns how many there are then."""
    capacity = 64
    while capacity < 2 * (end - begin) and capacity < _SMALL:
        capacity *= 2
    first = count
    _grow_table(places, capacity, unique, first, count)
    mask = np.uint64(capacity - 1)
    for c in range(begin, end):
        key = grouped[c]
        place = mix(key) & mask
        while places[place] >= 0 and unique[places[place]] != key:
            place = (place + np.uint64(1)) & mask
        number = places[place]
        if number < 0:
            number = np.int32(count)
            unique[count] = key
            count += 1
            if 2 * (count - first) > capacity:
                capacity *= 2
                mask = np.uint64(capacity - 1)
                _grow_table(places, capacity, unique, first, count)
            else:
                places[place] = number
        if source.shape[0] == 0:
            inverse[c] = number
        else:
            inverse[source[c]] = number
    return count


@inlined
def _count_groups(keys: Any, order: Any, group: Any, counts: Any) -> tuple[bool, bool]:
    """Position of each key's bucket and the number of keys of each; whether the keys are in that order, and ascending."""
    in_order, ascending = True, True
    last, before = 0, keys[0]
    for i in range(keys.shape[0]):
        key = keys[i]
        position = order[bucket_of_hash(mix(key))]
        group[i] = position
        counts[position] += 1
        in_order &= position >= last
        ascending &= key > before or i == 0
        last, before = position, key
    return in_order, ascending


@inlined
def _begins(counts: Any, begins: Any) -> None:
    """Where the keys of each position begin: ``begins[p] = sum(counts[:p])``."""
    begin = 0
    for position in range(NUM_BUCKETS):
        begins[position] = begin
        begin += counts[position]
    begins[NUM_BUCKETS] = begin


@inlined
def _unique_of_groups(grouped: Any, source: Any, counts: Any, unique: Any, offsets: Any, inverse: Any) -> int:
    """The unique keys of all groups; returns how many there are."""
    largest = 0
    for position in range(NUM_BUCKETS):  # not `max()`, whose module numba would import wherever this is loaded
        largest = max(largest, counts[position])
    most = 64
    while most < 2 * largest + 2:
        most *= 2
    places = np.empty(most, np.int32)
    begin, count = 0, 0
    for position in range(NUM_BUCKETS):
        offsets[position] = count
        end = begin + counts[position]
        if end > begin:
            count = _unique_of_group(data(grouped), source, begin, end, places, unique, count, inverse)
        begin = end
    offsets[NUM_BUCKETS] = count
    return count


@kernel(
    lambda _: (given(types.int64), given(types.int32), array(types.int64), array(types.int64), array(types.int32)),
)
def _partition(keys: Any, order: Any, unique: Any, offsets: Any, inverse: Any) -> int:
    """Returns the number of unique keys, negated (and less one) if the keys are grouped and unique already.

    Where no key comes twice, `inverse` gets the `Partition.source`, and `_UNIQUE` is added to the number. Ascending keys, the usual
    form of a sparse batch, are known to be unique: they are moved and nothing more.
    """
    n = keys.shape[0]
    if n == 0:
        offsets[:] = 0
        return -1
    group = np.empty(n, np.uint8)
    counts = np.zeros(NUM_BUCKETS, np.int64)
    in_order, ascending = _count_groups(keys, order, group, counts)
    if in_order:
        count = _unique_of_groups(keys, inverse[:0], counts, unique, offsets, inverse)
        return -1 - count if count == n else count
    _begins(counts, offsets)
    cursor = offsets.copy()
    if ascending:
        for i in range(n):
            at = cursor[group[i]]
            cursor[group[i]] = at + 1
            unique[at] = keys[i]
            inverse[at] = np.int32(i)
        return n + _UNIQUE
    grouped, source = np.empty(n, np.int64), np.empty(n, np.int32)
    for i in range(n):
        at = cursor[group[i]]
        cursor[group[i]] = at + 1
        grouped[at] = keys[i]
        source[at] = np.int32(i)
    count = _unique_of_groups(grouped, source, counts, unique, offsets, inverse)
    if count < n:
        return count
    inverse[:] = source
    return n + _UNIQUE


def partition(keys: NDArray[np.int64], order: NDArray[np.int32]) -> Partition:
    """Combines duplicate keys and groups the unique ones by bucket.

    Parameters
    ----------
    keys : ndarray of shape (n,), int64, C-contiguous
        Any keys, in any order, with or without duplicates; fewer than 2**31.
    order : ndarray of shape (256,), int32
        Position of each bucket among all: by node, then ascending.

    Returns
    -------
    Partition
    """
    unique = np.empty(len(keys), np.int64)
    offsets = np.empty(NUM_BUCKETS + 1, np.int64)
    inverse = np.empty(len(keys), np.int32)
    count = _partition(keys, order, unique, offsets, inverse)
    if count < 0:
        return Partition(keys, offsets, None, None)
    if count >= _UNIQUE:
        return Partition(unique, offsets, None, inverse)
    return Partition(unique[:count], offsets, inverse, None)
