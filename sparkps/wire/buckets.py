"""Sets of buckets as integers with one bit per bucket: small enough to be compared and combined on every request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from sparkps.specs import NUM_BUCKETS


def mask_of(buckets: NDArray[np.int32]) -> int:
    """The set of bucket numbers in an array.

    Examples
    --------
    >>> mask_of(np.array([0, 3], np.int32))
    9
    """
    bits = np.zeros(NUM_BUCKETS, bool)
    bits[buckets] = True
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")


def mask_of_range(start: int, stop: int) -> int:
    """The buckets [start, stop).

    Examples
    --------
    >>> mask_of_range(1, 3)
    6
    """
    return (1 << stop) - (1 << start)


def bits_of(mask: int) -> NDArray[np.bool_]:
    """Whether each bucket is in the set: ndarray of shape (NUM_BUCKETS,), bool."""
    packed = np.frombuffer(mask.to_bytes(NUM_BUCKETS // 8, "little"), np.uint8)
    return np.unpackbits(packed, bitorder="little").astype(bool)


def listed(mask: int) -> NDArray[np.int32]:
    """The bucket numbers in a set, ascending: ndarray of shape (n,), int32.

    Examples
    --------
    >>> listed(9)
    array([0, 3], dtype=int32)
    """
    return np.flatnonzero(bits_of(mask)).astype(np.int32)


def buckets_in(mask: int) -> Iterator[int]:
    """The bucket numbers in a set, ascending.

    Examples
    --------
    >>> list(buckets_in(9))
    [0, 3]
    """
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def union(masks: Iterable[int]) -> int:
    """All buckets of some sets.

    Examples
    --------
    >>> union([0b1001, 0b11])
    11
    """
    found = 0
    for mask in masks:
        found |= mask
    return found


def packed(mask: int) -> bytes:
    """A set of buckets as messages carry it.

    Examples
    --------
    >>> unpacked(packed(0b1001)) == 0b1001, len(packed(0))
    (True, 32)
    """
    return mask.to_bytes(NUM_BUCKETS // 8, "little")


def unpacked(data: bytes) -> int:
    """The set in a message; bytes beyond those of all buckets count for nothing."""
    return int.from_bytes(data[: NUM_BUCKETS // 8], "little")
