"""Where a key lives: the hash that chooses its bucket and its place in the bucket's index.

::

    h = key * MULTIPLY_FIRST ; h ^= h >> 32 ; h *= MULTIPLY_SECOND ; h ^= h >> 32          (mod 2**64)

    bucket(key)               = h >> 56
    position(key, capacity)   = ((h & 0xFFFFFFFF) * capacity) >> 32

The bits that choose the bucket are not those that choose the position, so a bucket's keys spread over its whole index.
Each step is a bijection of the 64-bit integers: two keys never share all bits. `kernels.hashing` holds the compiled twin
of these functions; both read the constants below.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparkps.specs import NUM_BUCKETS

#: First multiplier: 2**64 divided by the golden ratio, made odd (Knuth, The Art of Computer Programming 3, 6.4).
MULTIPLY_FIRST = 0x9E3779B97F4A7C15
#: Second multiplier, that of the degski64 mixer, whose shifts by 32 these are as well.
MULTIPLY_SECOND = 0xD6E8FEB86659FD93
#: Both exclusive-or shifts.
FOLD_SHIFT = 32
#: ``h >> BUCKET_SHIFT`` is the bucket.
BUCKET_SHIFT = 56
#: ``h & POSITION_MASK``, scaled to the capacity, is the position.
POSITION_MASK = 0xFFFFFFFF
#: The capacity of a bucket's index stays below this.
MAX_CAPACITY = 1 << 31

if NUM_BUCKETS != 1 << (64 - BUCKET_SHIFT):
    raise ImportError(
        f"BUCKET_SHIFT must leave exactly the bits of NUM_BUCKETS = {NUM_BUCKETS}. Got {BUCKET_SHIFT} instead."
    )


def mix(keys: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The 64-bit hash of each key.

    Parameters
    ----------
    keys : ndarray of int64
        Any keys.

    Returns
    -------
    ndarray of uint64, of the same shape
    """
    hashes = np.ascontiguousarray(keys, np.int64).view(np.uint64) * np.uint64(MULTIPLY_FIRST)
    hashes ^= hashes >> np.uint64(FOLD_SHIFT)
    hashes *= np.uint64(MULTIPLY_SECOND)
    hashes ^= hashes >> np.uint64(FOLD_SHIFT)
    return hashes


def buckets_of(keys: NDArray[np.int64]) -> NDArray[np.int32]:
    """The bucket of each key, in ``[0, NUM_BUCKETS)``.

    Examples
    --------
    >>> buckets_of(np.array([0, 1, 2])).tolist()
    [0, 23, 201]
    """
    return (mix(keys) >> np.uint64(BUCKET_SHIFT)).astype(np.int32)


def positions_of(keys: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """Where the search for each key starts in its bucket's index of `capacity` places."""
    if not 0 < capacity < MAX_CAPACITY:
        raise ValueError(f"The capacity of an index must be in (0, {MAX_CAPACITY}). Got {capacity} instead.")
    low = mix(keys) & np.uint64(POSITION_MASK)
    return ((low * np.uint64(capacity)) >> np.uint64(FOLD_SHIFT)).astype(np.int64)
