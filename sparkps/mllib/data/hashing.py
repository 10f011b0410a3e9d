"""What a value of a raw column hashes to: definitions in plain Python, without numba. `raw_kernels` holds the compiled twins.

All arithmetic is that of unsigned 64-bit integers, and `mix` is the one of `sparkps.wire.hashing`, a bijection::

    H(bytes)   = h after: h = mix(number of bytes + 1); for each 8 bytes, little-endian, the last padded with zeros: h = mix(h ^ word)
    H(integer) = mix(integer in two's complement); of true and false that of 1 and 0
    H(float)   = mix(bits of the float64), where it is a category; -0.0 is 0.0

    seed       = H(name of the column in UTF-8)
    category   : mix(seed ^ H(value)), with value 1
    number x   : mix(seed), with value x; element i of an array: mix(seed ^ mix(i + 1))
    n-gram     : g = seed; for each of its words: g = mix(g ^ H(word)), with the number of times that the row has it as value
    cross      : g = CROSS; for each of its columns, in order: g = mix(g ^ hash in that column), with the product of their values

    key        = hash >> 1, which is in [0, 2^63); with B buckets (hash >> 1) mod B

Entries of a row that have the same key become one, their values added up, at the place of the first.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from sparkps.wire.hashing import FOLD_SHIFT, MULTIPLY_FIRST, MULTIPLY_SECOND

_MASK = (1 << 64) - 1

#: Number of keys where they are not folded.
ALL_KEYS = 1 << 63


def mix(value: int) -> int:
    """The 64-bit hash of an integer.

    Examples
    --------
    >>> import numpy as np
    >>> from sparkps.wire import hashing
    >>> mix(7) == hashing.mix(np.array([7]))[0]
    np.True_
    """
    h = (value & _MASK) * MULTIPLY_FIRST & _MASK
    h ^= h >> FOLD_SHIFT
    h = h * MULTIPLY_SECOND & _MASK
    return h ^ h >> FOLD_SHIFT


def hash_of_bytes(data: bytes) -> int:
    """H of bytes.

    Examples
    --------
    >>> hash_of_bytes(b"a") != hash_of_bytes(b"a\\0")
    True
    """
    h = mix(len(data) + 1)
    for at in range(0, len(data), 8):
        h = mix(h ^ int.from_bytes(data[at : at + 8], "little"))
    return h


def hash_of_float(value: float) -> int:
    """H of a number that is a category."""
    return mix(int.from_bytes(struct.pack("<d", value + 0.0), "little"))


@lru_cache(maxsize=1 << 16)
def seed_of(column: str) -> int:
    """What makes equal values of different columns different keys."""
    return hash_of_bytes(column.encode())


#: Where the hash of a cross begins.
CROSS = hash_of_bytes(b"cross of columns")


def key_of(h: int, buckets: int = 0) -> int:
    """The key of a hash; 0 buckets: not folded."""
    return (h >> 1) % buckets if buckets else h >> 1


__all__ = ["ALL_KEYS", "CROSS", "hash_of_bytes", "hash_of_float", "key_of", "mix", "seed_of"]
