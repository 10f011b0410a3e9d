"""What the kernels of `kernels.partition` and `kernels.movement` do, in numpy: for the first small calls of a process.

To load what is compiled takes a process half a second, most of it numba. A program that looks a few rows up has its answer before that
would have begun; where numba is there already, or a call is large, the kernels do it. Both give the same, bit by bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.specs import NUM_BUCKETS
from sparkps.wire.hashing import buckets_of

Array = NDArray[Any]


def partition(keys: NDArray[np.int64], order: NDArray[np.int32]) -> tuple[Array, Array, Array | None, Array | None]:
    """As `kernels.partition.partition`: keys, offsets, inverse, source.

    Examples
    --------
    >>> keys, _, inverse, source = partition(np.array([5, 7, 5]), np.arange(256, dtype=np.int32))
    >>> sorted(keys.tolist()), keys[inverse].tolist(), source
    ([5, 7], [5, 7, 5], None)
    """
    unique, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    positions = order[buckets_of(unique)]
    grouped = np.lexsort((first, positions))
    offsets = np.zeros(NUM_BUCKETS + 1, np.int64)
    np.cumsum(np.bincount(positions, minlength=NUM_BUCKETS), out=offsets[1:])
    if len(unique) < len(keys):
        place = np.empty(len(unique), np.int32)
        place[grouped] = np.arange(len(unique), dtype=np.int32)
        return unique[grouped], offsets, place[inverse.reshape(-1)], None
    source = first[grouped].astype(np.int32)
    if np.array_equal(source, np.arange(len(keys))):
        return keys, offsets, None, None
    return keys[source], offsets, None, source


def combine_values(values: Array, inverse: NDArray[np.int32], out: Array) -> Array:
    """As `kernels.movement.combine_values`: the rows of each key are summed in float64, in order of appearance."""
    totals = np.zeros(out.shape)
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large becomes infinite, which is refused by name
        np.add.at(totals, inverse, values)
        out[...] = totals
    return out


def spread(values: Array, inverse: NDArray[np.int32], out: Array) -> Array:
    """As `kernels.movement.spread`."""
    return np.take(values, inverse, axis=0, out=out)


def to_call(rows: Array, source: NDArray[np.int32], offsets: NDArray[np.int64], begin: int, end: int, out: Array) -> None:
    """As `kernels.movement.to_call`."""
    out[source[begin:end]] = rows


def to_groups(values: Array, source: NDArray[np.int32], offsets: NDArray[np.int64], begin: int, end: int) -> Array:
    """As `kernels.movement.to_groups`."""
    rows: Array = values.take(source[begin:end], axis=0)
    return rows


__all__ = ["combine_values", "partition", "spread", "to_call", "to_groups"]
