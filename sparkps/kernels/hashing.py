"""The compiled twin of `sparkps.wire.hashing`."""

from __future__ import annotations

import numpy as np

from sparkps.kernels.compiled import inlined
from sparkps.wire import hashing

_FIRST = np.uint64(hashing.MULTIPLY_FIRST)
_SECOND = np.uint64(hashing.MULTIPLY_SECOND)
_FOLD = np.uint64(hashing.FOLD_SHIFT)
_BUCKET = np.uint64(hashing.BUCKET_SHIFT)
_POSITION = np.uint64(hashing.POSITION_MASK)


@inlined
def mix(key: int) -> np.uint64:
    """The 64-bit hash of a key."""
    h = np.uint64(key) * _FIRST
    h ^= h >> _FOLD
    h *= _SECOND
    h ^= h >> _FOLD
    return h


@inlined
def bucket_of_hash(h: np.uint64) -> np.int64:
    """The bucket of a key with hash `h`."""
    return np.int64(h >> _BUCKET)


@inlined
def position_of_hash(h: np.uint64, capacity: np.uint64) -> np.int64:
    """Where the search for a key with hash `h` begins."""
    return np.int64(((h & _POSITION) * capacity) >> _FOLD)
