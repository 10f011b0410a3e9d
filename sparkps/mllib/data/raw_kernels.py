"""Compiled passes over raw columns: hashes of values and words, their combinations, and rows of keys. Definitions: `hashing`.

A column's entries are ``hashes[at[r]:at[r + 1]]`` for row r, with the values beside them; an empty array of values says that all are 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from sparkps.kernels.compiled import array, given, inlined, kernel
from sparkps.kernels.hashing import mix

_I32, _I64, _U64, _F64, _U8 = types.int32, types.int64, types.uint64, types.float64, types.uint8


# ---- values ------------------------------------------------------------------------------------------------------------


@inlined
def _hash_span(data: Any, begin: int, end: int) -> Any:
    """H of ``data[begin:end]``."""
    h = mix(end - begin + 1)
    at = begin
    while at + 8 <= end:
        word = np.uint64(0)
        for i in range(8):
            word |= np.uint64(data[at + i]) << np.uint64(8 * i)
        h = mix(h ^ word)
        at += 8
    if at < end:
        word = np.uint64(0)
        for i in range(end - at):
            word |= np.uint64(data[at + i]) << np.uint64(8 * i)
        h = mix(h ^ word)
    return h


@kernel(lambda _: (given(_I64), given(_U8), array(_U64)))
def hash_strings(offsets: Any, data: Any, out: Any) -> None:
    """``out[i]`` = H of ``data[offsets[i]:offsets[i + 1]]``."""
    for i in range(out.shape[0]):
        out[i] = _hash_span(data, offsets[i], offsets[i + 1])


@kernel(lambda _: (_U64, array(_U64)))
def seeded(seed: Any, hashes: Any) -> None:
    """hashes ← mix(seed ^ hashes)."""
    for i in range(hashes.shape[0]):
        hashes[i] = mix(seed ^ hashes[i])


# ---- words -------------------------------------------------------------------------------------------------------------


@inlined
def _code_point(data: Any, at: int, end: int) -> Any:
    """The code point that begins at `at`, and its bytes; -1 for bytes that are no UTF-8."""
    first = np.int64(data[at])
    if first < 0x80:
        return first, 1
    size = 2 if first < 0xE0 else (3 if first < 0xF0 else 4)
    if first < 0xC0 or at + size > end:
        return np.int64(-1), 1
    point = first & (0x7F >> size)
    for i in range(1, size):
        point = (point << 6) | (np.int64(data[at + i]) & 0x3F)
    return point, size


@kernel(lambda _: (given(_I64), given(_U8), given(_U8), array(_I64), array(_U64)))
def words(offsets: Any, data: Any, is_word: Any, at: Any, hashes: Any) -> int:
    """Hashes of the words of each text, ``data[offsets[r]:offsets[r + 1]]`` in UTF-8: runs of code points that `is_word` has 1 for.

    Returns the number of words.
    """
    count = 0
    at[0] = 0
    known = is_word.shape[0]
    for r in range(offsets.shape[0] - 1):
        place = offsets[r]
        end = offsets[r + 1]
        begin = np.int64(-1)
        while place < end:
            point, size = _code_point(data, place, end)
            inside = 0 <= point < known and is_word[point] != 0
            if inside and begin < 0:
                begin = place
            if not inside and begin >= 0:
                hashes[count] = _hash_span(data, begin, place)
                count += 1
                begin = np.int64(-1)
            place += size
        if begin >= 0:
            hashes[count] = _hash_span(data, begin, end)
            count += 1
        at[r + 1] = count
    return count


@kernel(lambda _: (given(_I64), given(_U64), _I64, _U64, array(_I64), array(_U64)))
def grams(at: Any, hashes: Any, most: int, seed: Any, out_at: Any, out: Any) -> int:
    """Hashes of all runs of 1 to `most` words of each row; returns their number."""
    count = 0
    out_at[0] = 0
    for r in range(at.shape[0] - 1):
        for first in range(at[r], at[r + 1]):
            g = seed
            for k in range(first, min(first + most, at[r + 1])):
                g = mix(g ^ hashes[k])
                out[count] = g
                count += 1
        out_at[r + 1] = count
    return count


# ---- combinations ------------------------------------------------------------------------------------------------------


@kernel(lambda _: (given(_I64), given(_U64), given(_F64), given(_I64), given(_U64), given(_F64), array(_U64), array(_F64)))
def all_pairs(at: Any, hashes: Any, values: Any, other_at: Any, others: Any, other_values: Any, out: Any, out_values: Any) -> None:
    """Of each row every entry with every other one: mix(hash ^ other), and the product of their values unless there is no room for it."""
    count = 0
    for r in range(at.shape[0] - 1):
        for i in range(at[r], at[r + 1]):
            for j in range(other_at[r], other_at[r + 1]):
                out[count] = mix(hashes[i] ^ others[j])
                if out_values.shape[0] > 0:
                    one = 1.0 if values.shape[0] == 0 else values[i]
                    out_values[count] = one * (1.0 if other_values.shape[0] == 0 else other_values[j])
                count += 1


# ---- rows --------------------------------------------------------------------------------------------------------------


@kernel(lambda _: (given(_I64), given(_U64), given(_F64), _I32, array(_I64), array(_U64), array(_F64), array(_I32)))
def place_entries(at: Any, hashes: Any, values: Any, field: int, ends: Any, out: Any, out_values: Any, out_fields: Any) -> None:
    """Puts the entries of a column behind those that rows have already: row r has them up to ``ends[r]``, which moves on."""
    for r in range(ends.shape[0]):
        place = ends[r]
        for i in range(at[r], at[r + 1]):
            out[place] = hashes[i]
            out_values[place] = 1.0 if values.shape[0] == 0 else values[i]
            if out_fields.shape[0] > 0:
                out_fields[place] = field
            place += 1
        ends[r] = place


@kernel(lambda _: (given(_I64), given(_U64), _U64, array(_I64, 2), array(_I32), array(_I64), array(_F64), array(_I32)))
def rows_of_keys(
    starts: Any, hashes: Any, buckets: Any, seen: Any, indptr: Any, keys: Any, values: Any, fields: Any
) -> int:
    """Rows of hashes as rows of keys, each key once a row, with the sum of its values, which are brought together in place.

    `seen` is room for twice the entries of the longest row, a power of two: stamp (row + 1) and place of a key; all 0. Returns the number
    of entries.
    """
    count = 0
    mask = np.uint64(seen.shape[0] - 1)
    indptr[0] = 0
    for r in range(starts.shape[0] - 1):
        for i in range(starts[r], starts[r + 1]):
            h = hashes[i] >> np.uint64(1)
            key = np.int64(h if buckets == 0 else h % buckets)
            place = np.int64(mix(key) & mask) if buckets > 0 else np.int64(h & mask)
            while seen[place, 0] == r + 1 and keys[seen[place, 1]] != key:
                place = np.int64(np.uint64(place + 1) & mask)
            if seen[place, 0] == r + 1:
                values[seen[place, 1]] += values[i]
                continue
            seen[place, 0] = r + 1
            seen[place, 1] = count
            keys[count] = key
            values[count] = values[i]
            if fields.shape[0] > 0:
                fields[count] = fields[i]
            count += 1
        indptr[r + 1] = count
    return count
