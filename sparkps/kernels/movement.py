"""Rows on their way between the order of a call and that of the nodes (see `partition`).

Where no key of a call comes twice, the keys of each bucket stay in the order of the call: they are a few hundred streams through
it. Rows then move in blocks of the call that stay in the cache, all streams side by side: 0.8 ns a row instead of 2.8.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from sparkps.kernels.compiled import FLOATS, array, given, inlined, kernel
from sparkps.kernels.intrinsics import data
from sparkps.kernels.rows import prefetch_row
from sparkps.specs import NUM_BUCKETS

#: Bytes of the call's rows that are moved to and fro at a time.
_BLOCK_BYTES = 1 << 18

_I32, _I64 = types.int32, types.int64


# ---- any keys ----------------------------------------------------------------------------------------------------------


@kernel(lambda t: (given(t, 2), given(_I32), array(t, 2)), dtypes=FLOATS)
def _combine(values: Any, inverse: Any, out: Any) -> None:
    n, dim = values.shape
    source, target = data(values), data(out)
    totals = np.zeros(out.size)
    sums = data(totals)
    for i in range(n):
        prefetch_row(sums, inverse, i, n, dim, 8)
        for column in range(dim):
            sums[np.int64(inverse[i]) * dim + column] += source[i * dim + column]
    for i in range(out.size):
        target[i] = totals[i]  # not the pointer, which would not keep the array alive


@kernel(lambda t: (given(t, 2), given(_I32), array(t, 2)), dtypes=FLOATS)
def _place(values: Any, inverse: Any, out: Any) -> None:
    n, dim = values.shape
    source, target = data(values), data(out)
    per_line = 64 // out.itemsize
    for i in range(n):
        prefetch_row(target, inverse, i, n, dim, per_line)
        for column in range(dim):
            target[np.int64(inverse[i]) * dim + column] = source[i * dim + column]


@kernel(lambda t: (given(t, 2), given(_I32), array(t, 2)), dtypes=FLOATS)
def _spread(values: Any, inverse: Any, out: Any) -> None:
    n, dim = out.shape
    source, target = data(values), data(out)
    per_line = 64 // out.itemsize
    for i in range(n):
        prefetch_row(source, inverse, i, n, dim, per_line)
        for column in range(dim):
            target[i * dim + column] = source[np.int64(inverse[i]) * dim + column]


def combine_values(values: NDArray[Any], inverse: NDArray[np.int32], out: NDArray[Any]) -> NDArray[Any]:
    """Sums the rows of duplicate keys into `out`, in float64 and in order of appearance.

    Parameters
    ----------
    values : ndarray of shape (n, dim), C-contiguous
        One row for each of the caller's keys.
    inverse : ndarray of shape (n,), int32
        `Partition.inverse`.
    out : ndarray of shape (m, dim) of the same dtype
        One row for each unique key; overwritten.

    Returns
    -------
    ndarray
        `out`.
    """
    combine = _place if len(values) == len(out) else _combine  # without duplicates there is nothing to sum
    combine.of(out.dtype)(values, inverse, out)
    return out


def spread(values: NDArray[Any], inverse: NDArray[np.int32], out: NDArray[Any]) -> NDArray[Any]:
    """Rows of the caller's keys from those of the unique keys: ``out[i] = values[inverse[i]]``.

    Parameters
    ----------
    values : ndarray of shape (m, dim), C-contiguous
        One row for each unique key.
    inverse : ndarray of shape (n,), int32
        `Partition.inverse`.
    out : ndarray of shape (n, dim) of the same dtype
        Overwritten.

    Returns
    -------
    ndarray
        `out`.
    """
    _spread.of(out.dtype)(values, inverse, out)
    return out


# ---- keys of which none comes twice ------------------------------------------------------------------------------------


@inlined
def _streams(offsets: Any, begin: int, end: int, cursors: Any, ends: Any) -> int:
    """Where the groups begin and end that have keys in [begin, end); returns how many there are."""
    count = 0
    for position in range(NUM_BUCKETS):
        first, last = max(offsets[position], begin), min(offsets[position + 1], end)
        if first < last:
            cursors[count], ends[count] = first, last
            count += 1
    return count


@inlined
def _move(grouped: Any, of_call: Any, source: Any, offsets: Any, span: Any, shape: Any, into_call: bool) -> None:
    """Moves the rows of the keys in `span` between memory in the order of groups and the call's, of `shape` (n, dim, row bytes)."""
    begin, end = span
    n, dim, row_bytes = shape
    cursors, ends = np.empty(NUM_BUCKETS, np.int64), np.empty(NUM_BUCKETS, np.int64)
    streams = _streams(offsets, begin, end, cursors, ends)
    places = data(source)
    block = max(1, _BLOCK_BYTES // row_bytes)
    for first in range(0, n, block):
        last = first + block
        for stream in range(streams):
            at = cursors[stream]
            while at < ends[stream] and places[at] < last:
                place, row = np.int64(places[at]) * dim, (at - begin) * dim
                for column in range(dim):
                    if into_call:
                        of_call[place + column] = grouped[row + column]
                    else:
                        grouped[row + column] = of_call[place + column]
                at += 1
            cursors[stream] = at


@kernel(lambda t: (given(t, 2), given(_I32), given(_I64), _I64, _I64, array(t, 2)), dtypes=FLOATS)
def _to_call(rows: Any, source: Any, offsets: Any, begin: int, end: int, out: Any) -> None:
    n, dim = out.shape
    _move(data(rows), data(out), source, offsets, (begin, end), (n, dim, dim * out.itemsize), True)


@kernel(lambda t: (given(t, 2), given(_I32), given(_I64), _I64, _I64, array(t, 2)), dtypes=FLOATS)
def _to_groups(values: Any, source: Any, offsets: Any, begin: int, end: int, out: Any) -> None:
    n, dim = values.shape
    _move(data(out), data(values), source, offsets, (begin, end), (n, dim, dim * out.itemsize), False)


def to_call(
    rows: NDArray[Any], source: NDArray[np.int32], offsets: NDArray[np.int64], begin: int, end: int, out: NDArray[Any]
) -> None:
    """Rows of the keys [begin, end) into the order of the call: ``out[source[k]] = rows[k - begin]``.

    Parameters
    ----------
    rows : ndarray of shape (end - begin, dim), C-contiguous
    source : ndarray of shape (n,), int32
        `Partition.source`.
    offsets : ndarray of shape (257,), int64
        `Partition.offsets`.
    begin, end : int
        Any range of the partition's keys.
    out : ndarray of shape (n, dim) of the same dtype
        The rows of the call.
    """
    _to_call.of(out.dtype)(rows, source, offsets, begin, end, out)


def to_groups(
    values: NDArray[Any], source: NDArray[np.int32], offsets: NDArray[np.int64], begin: int, end: int
) -> NDArray[Any]:
    """The other way: rows of the keys [begin, end), of shape (end - begin, dim), from the rows of the call."""
    out = np.empty((end - begin, *values.shape[1:]), values.dtype)
    _to_groups.of(out.dtype)(values, source, offsets, begin, end, out)
    return out


__all__ = ["combine_values", "spread", "to_call", "to_groups"]
