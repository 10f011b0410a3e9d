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
from sparkps.kernels.layout import CAPACITY, COUNT, ENTRIES, ENTRY, LOCK, PLANE, ROOM, WIDTH

#: A key's place is asked for this many keys ahead of its turn.
_AHEAD = 24


@inlined
def lock_word(index: Any, bucket: int) -> Any:
    """Pointer to the lock word of `bucket`."""
    return int64_at(address_of(data(index), np.int64(bucket) * WIDTH + LOCK))


@inlined
def _slot_at(entries: Any, place: int) -> Any:
    return entries[place * ENTRY + 2]


@inlined
def _key_at(entries: Any, place: int) -> np.int64:
    low = np.uint64(np.uint32(entries[place * ENTRY]))
    return np.int64(low | (np.uint64(np.uint32(entries[place * ENTRY + 1])) << np.uint64(32)))


@inlined
def _put(entries: Any, place: int, key: int, slot: int) -> None:
    entries[place * ENTRY] = np.int32(key & 0xFFFFFFFF)
    entries[place * ENTRY + 1] = np.int32(key >> 32)
    entries[place * ENTRY + 2] = np.int32(slot)


@inlined
def _place_of(entries: Any, capacity: np.uint64, key: int) -> int:
    """The place that holds `key`, or the empty one where it belongs."""
    place = position_of_hash(mix(key), capacity)
    last = np.int64(capacity) - 1
    while _slot_at(entries, place) >= 0 and _key_at(entries, place) != key:
        place = place + 1 if place < last else 0
    return place


@kernel(lambda _: (given(types.int64), given(types.uint8), array(types.int32), array(types.int64), array(types.uint8)))
def split_runs(keys: Any, owned: Any, buckets: Any, offsets: Any, bits: Any) -> int:
    """Buckets of `keys`, which are grouped by ascending bucket, and where each bucket's keys begin.

    The bucket's bit is set in `bits`, of shape (NUM_BUCKETS / 8,), the lowest bit of a byte first.

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
            bits[bucket >> 3] |= np.uint8(1 << (bucket & 7))
            count += 1
            current = bucket
    offsets[count] = keys.shape[0]
    return count


@kernel(lambda _: (HEADS, given(types.int64), given(types.int32), given(types.int64), array(types.int32)))
def find(index: Any, keys: Any, buckets: Any, offsets: Any, slots: Any) -> int:
    """Slots of keys, -1 for a missing one; returns how many are missing.

    Places are asked for across the borders of buckets: with few keys in each, the next bucket's would come too late. That
    reads the next bucket's head without its lock; if it changes meanwhile, a useless line is fetched and nothing more.
    """
    missing = 0
    ahead, ahead_run, border, count = 0, -1, np.int64(0), keys.shape[0]
    ahead_entries, ahead_capacity = int32_at(0), np.uint64(0)
    for run in range(buckets.shape[0]):
        bucket = buckets[run]
        word = lock_word(index, bucket)
        lock(word)
        entries = int32_at(index[bucket, ENTRIES])
        capacity = np.uint64(index[bucket, CAPACITY])
        for i in range(offsets[run], offsets[run + 1]):
            stop = min(i + _AHEAD, count)
            while ahead < stop:
                if ahead == border:
                    ahead_run += 1
                    border = offsets[ahead_run + 1]
                    ahead_entries = int32_at(index[buckets[ahead_run], ENTRIES])
                    ahead_capacity = np.uint64(index[buckets[ahead_run], CAPACITY])
                prefetch(ahead_entries, position_of_hash(mix(keys[ahead]), ahead_capacity) * ENTRY)
                ahead += 1
            slot = _slot_at(entries, _place_of(entries, capacity, keys[i]))
            slots[i] = slot
            missing += slot < 0
        unlock(word)
    return missing


@inlined
def _insert_run(index: Any, bucket: int, keys: Any, begin: int, end: int, slots: Any) -> None:
    entries = int32_at(index[bucket, ENTRIES])
    capacity = np.uint64(index[bucket, CAPACITY])
    count = index[bucket, COUNT]
    for i in range(begin, end):
        if i + _AHEAD < end:
            prefetch(entries, position_of_hash(mix(keys[i + _AHEAD]), capacity) * ENTRY)
        if slots[i] < 0:
            place = _place_of(entries, capacity, keys[i])
            if _slot_at(entries, place) < 0:
                _put(entries, place, keys[i], count)
                count += 1
            slots[i] = _slot_at(entries, place)
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


@kernel(lambda _: (HEADS, types.int64, types.int64, types.int64))
def rehash(index: Any, bucket: int, new_entries: int, new_capacity: int) -> None:
    """Moves a bucket's index into a larger array at this address."""
    target = int32_at(new_entries)
    for place in range(new_capacity):
        target[place * ENTRY + 2] = np.int32(-1)
    capacity = np.uint64(new_capacity)
    word = lock_word(index, bucket)
    lock(word)
    entries = int32_at(index[bucket, ENTRIES])
    for place in range(index[bucket, CAPACITY]):
        if _slot_at(entries, place) >= 0:
            key = _key_at(entries, place)
            _put(target, _place_of(target, capacity, key), key, _slot_at(entries, place))
    index[bucket, ENTRIES] = new_entries
    index[bucket, CAPACITY] = new_capacity
    unlock(word)


@kernel(lambda _: (HEADS, HEADS, types.int64, given(types.int64), types.int64, given(types.int64)))
def move_planes(table: Any, index: Any, bucket: int, planes: Any, room: int, row_bytes: Any) -> None:
    """Moves a table's planes in one bucket into larger arrays at these addresses; `row_bytes` is by plane."""
    word = lock_word(index, bucket)
    lock(word)
    used = min(index[bucket, COUNT], table[bucket, ROOM])  # a table that is just being attached has no rows to move
    for plane in range(planes.shape[0]):
        copy_bytes(planes[plane], table[bucket, PLANE + plane], used * row_bytes[plane])
        table[bucket, PLANE + plane] = planes[plane]
    table[bucket, ROOM] = room
    unlock(word)


@kernel(lambda _: (HEADS, types.int64, given(types.int64, 2), given(types.float64, 2)))
def begin_bucket(index: Any, bucket: int, law_ints: Any, law_floats: Any) -> None:
    """Begins the rows of all of a bucket's keys in the tables of these laws."""
    word = lock_word(index, bucket)
    lock(word)
    entries = int32_at(index[bucket, ENTRIES])
    for law in range(law_ints.shape[0]):
        for place in range(index[bucket, CAPACITY]):
            if _slot_at(entries, place) >= 0:
                begin_row(law_ints, law_floats, law, bucket, _slot_at(entries, place), _key_at(entries, place))
    unlock(word)


@kernel(lambda _: (HEADS, types.int64, array(types.int64)))
def list_keys(index: Any, bucket: int, keys: Any) -> None:
    """Keys of a bucket in slot order, as many as `keys` has room for."""
    word = lock_word(index, bucket)
    lock(word)
    entries = int32_at(index[bucket, ENTRIES])
    for place in range(index[bucket, CAPACITY]):
        slot = _slot_at(entries, place)
        if 0 <= slot < keys.shape[0]:
            keys[slot] = _key_at(entries, place)
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
