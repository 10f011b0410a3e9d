"""The key index of a bucket: open addressing with linear probing, found, filled and rehashed in batches.

A place is empty when its slot is -1, so that every int64 is a legal key. All kernels take the bucket's lock word.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from sparkps.kernels.compiled import HEADS, array, given, inlined, kernel
from sparkps.kernels.hashing import bucket_of_hash, mix, position_of_hash
from sparkps.kernels.initial import begin_row
from sparkps.kernels.intrinsics import address_of, copy_bytes, data, int32_at, int64_at, lock, prefetch, unlock
from sparkps.kernels.layout import CAPACITY, COUNT, KEYS, LOCK, PLANE, ROOM, SLOTS, WIDTH

#: Keys whose places are asked for before the first of them is looked at.
_AHEAD = 64


@inlined
def lock_word(index: Any, bucket: int) -> Any:
    """Pointer to the lock word of `bucket`."""
    return int64_at(address_of(data(index), np.int64(bucket) * WIDTH + LOCK))


@inlined
def place_of(table_keys: Any, table_slots: Any, capacity: np.uint64, key: int) -> int:
    """The place that holds `key`, or the empty one where it belongs."""
    place = position_of_hash(mix(key), capacity)
    last = np.int64(capacity) - 1
    while table_slots[place] >= 0 and table_keys[place] != key:
        place = place + 1 if place < last else 0
    return place


@kernel(lambda _: (given(types.int64), given(types.uint8), array(types.int32), array(types.int64)))
def split_runs(keys: Any, owned: Any, buckets: Any, offsets: Any) -> int:
    """Buckets of `keys`, which are grouped by ascending bucket, and where each bucket's keys begin.

    Returns the number of buckets, or -1 - i if key i is of a bucket that is not `owned` or comes after a later one.
    """
    count = 0
    current = -1
    for i in range(keys.shape[0]):
        bucket = bucket_of_hash(mix(keys[i]))
        if bucket != current:
            if bucket < current or owned[bucket] == 0:
                return -1 - i
            buckets[count] = bucket
            offsets[count] = i
            count += 1
            current = bucket
    offsets[count] = keys.shape[0]
    return count


@kernel(lambda _: (HEADS, given(types.int64), given(types.int32), given(types.int64), array(types.int32)))
def find(index: Any, keys: Any, buckets: Any, offsets: Any, slots: Any) -> int:
    """Slots of keys, -1 for a missing one; returns how many are missing."""
    missing = 0
    for run in range(buckets.shape[0]):
        bucket = buckets[run]
        word = lock_word(index, bucket)
        lock(word)
        table_keys = int64_at(index[bucket, KEYS])
        table_slots = int32_at(index[bucket, SLOTS])
        capacity = np.uint64(index[bucket, CAPACITY])
        for begin in range(offsets[run], offsets[run + 1], _AHEAD):
            end = min(begin + _AHEAD, offsets[run + 1])
            for i in range(begin, end):
                place = position_of_hash(mix(keys[i]), capacity)
                prefetch(table_keys, place)
                prefetch(table_slots, place)
            for i in range(begin, end):
                slot = table_slots[place_of(table_keys, table_slots, capacity, keys[i])]
                slots[i] = slot
                missing += slot < 0
        unlock(word)
    return missing


@inlined
def _insert_run(index: Any, bucket: int, keys: Any, begin: int, end: int, slots: Any) -> None:
    table_keys = int64_at(index[bucket, KEYS])
    table_slots = int32_at(index[bucket, SLOTS])
    capacity = np.uint64(index[bucket, CAPACITY])
    count = index[bucket, COUNT]
    for i in range(begin, end):
        if i + 16 < end:
            ahead = position_of_hash(mix(keys[i + 16]), capacity)
            prefetch(table_keys, ahead)
            prefetch(table_slots, ahead)
        if slots[i] < 0:
            place = place_of(table_keys, table_slots, capacity, keys[i])
            if table_slots[place] < 0:
                table_keys[place] = keys[i]
                table_slots[place] = np.int32(count)
                count += 1
            slots[i] = table_slots[place]
    index[bucket, COUNT] = count


@kernel(
    lambda _: (
        HEADS,
        given(types.int64),
        given(types.int32),
        given(types.int64),
        array(types.int32),
        given(types.int64, 2),
        given(types.float64, 2),
    )
)
def insert(index: Any, keys: Any, buckets: Any, offsets: Any, slots: Any, law_ints: Any, law_floats: Any) -> None:
    """Gives the keys whose slot is -1 the next slots of their buckets, and begins their rows in every attached table.

    The caller has made room, and nobody else inserts meanwhile.
    """
    for run in range(buckets.shape[0]):
        bucket = buckets[run]
        begin, end = offsets[run], offsets[run + 1]
        word = lock_word(index, bucket)
        lock(word)
        first = index[bucket, COUNT]
        _insert_run(index, bucket, keys, begin, end, slots)
        if index[bucket, COUNT] > first:
            for law in range(law_ints.shape[0]):
                for i in range(begin, end):
                    if slots[i] >= first:
                        begin_row(law_ints, law_floats, law, bucket, slots[i], keys[i])
        unlock(word)


@kernel(lambda _: (HEADS, types.int64, types.int64, types.int64, types.int64))
def rehash(index: Any, bucket: int, new_keys: int, new_slots: int, new_capacity: int) -> None:
    """Moves a bucket's index into larger arrays at these addresses."""
    target_keys, target_slots = int64_at(new_keys), int32_at(new_slots)
    for place in range(new_capacity):
        target_slots[place] = np.int32(-1)
    capacity = np.uint64(new_capacity)
    word = lock_word(index, bucket)
    lock(word)
    table_keys = int64_at(index[bucket, KEYS])
    table_slots = int32_at(index[bucket, SLOTS])
    for place in range(index[bucket, CAPACITY]):
        if table_slots[place] >= 0:
            target = place_of(target_keys, target_slots, capacity, table_keys[place])
            target_keys[target] = table_keys[place]
            target_slots[target] = table_slots[place]
    index[bucket, KEYS] = new_keys
    index[bucket, SLOTS] = new_slots
    index[bucket, CAPACITY] = new_capacity
    unlock(word)


@kernel(lambda _: (HEADS, HEADS, types.int64, given(types.int64), types.int64, types.int64))
def move_planes(table: Any, index: Any, bucket: int, planes: Any, room: int, row_bytes: int) -> None:
    """Moves a table's planes in one bucket into larger arrays at these addresses."""
    word = lock_word(index, bucket)
    lock(word)
    for plane in range(planes.shape[0]):
        copy_bytes(planes[plane], table[bucket, PLANE + plane], index[bucket, COUNT] * row_bytes)
        table[bucket, PLANE + plane] = planes[plane]
    table[bucket, ROOM] = room
    unlock(word)


@kernel(lambda _: (HEADS, types.int64, given(types.int64, 2), given(types.float64, 2)))
def begin_bucket(index: Any, bucket: int, law_ints: Any, law_floats: Any) -> None:
    """Begins the rows of all of a bucket's keys in the tables of these laws."""
    word = lock_word(index, bucket)
    lock(word)
    table_keys = int64_at(index[bucket, KEYS])
    table_slots = int32_at(index[bucket, SLOTS])
    for law in range(law_ints.shape[0]):
        for place in range(index[bucket, CAPACITY]):
            if table_slots[place] >= 0:
                begin_row(law_ints, law_floats, law, bucket, table_slots[place], table_keys[place])
    unlock(word)


@kernel(lambda _: (HEADS, types.int64, array(types.int64)))
def list_keys(index: Any, bucket: int, keys: Any) -> None:
    """Keys of a bucket in slot order, as many as `keys` has room for."""
    word = lock_word(index, bucket)
    lock(word)
    table_keys = int64_at(index[bucket, KEYS])
    table_slots = int32_at(index[bucket, SLOTS])
    for place in range(index[bucket, CAPACITY]):
        slot = table_slots[place]
        if 0 <= slot < keys.shape[0]:
            keys[slot] = table_keys[place]
    unlock(word)


@kernel(lambda _: (HEADS, given(types.int32)))
def lock_buckets(index: Any, buckets: Any) -> None:
    """Takes the locks of ascending `buckets`, for Python code that works on their arrays."""
    for i in range(buckets.shape[0]):
        lock(lock_word(index, buckets[i]))


@kernel(lambda _: (HEADS, given(types.int32)))
def unlock_buckets(index: Any, buckets: Any) -> None:
    """Gives back the locks of `buckets`."""
    for i in range(buckets.shape[0]):
        unlock(lock_word(index, buckets[i]))
