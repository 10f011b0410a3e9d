"""Arrays of a node whose memory goes back to the operating system when they are dropped, and the growth of buckets.

The C library keeps freed memory for later; a table that grows bucket by bucket would leave holes worth half its size. Large
arrays are therefore mapped on their own. Capacities follow a geometric series that starts at another place for each
bucket, so that buckets of equal size do not grow at the same moment.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sparkps.specs import NUM_BUCKETS

#: Arrays of at least this many bytes are mapped on their own.
MAPPED_BYTES = 1 << 15

#: Pages are asked for all at once, which takes half the time of a fault for each, for at most this many bytes.
_PREPARED_BYTES = 4 << 20

_MADV_POPULATE_WRITE = 23
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def allocate(count: int, dtype: DTypeLike, used: int = 0) -> NDArray[Any]:
    """An uninitialised array of shape (count,), of which the first `used` elements will be written at once."""
    itemsize = np.dtype(dtype).itemsize
    if count * itemsize < MAPPED_BYTES:
        return np.empty(count, dtype)
    try:
        memory = mmap.mmap(-1, count * itemsize, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:  # the process has as many mappings as the kernel allows
        return np.empty(count, dtype)
    if 0 < used * itemsize <= _PREPARED_BYTES:
        with suppress(OSError):  # a kernel before Linux 5.14 gives the pages one by one
            memory.madvise(_MADV_POPULATE_WRITE, 0, used * itemsize)
    return np.frombuffer(memory, dtype, count)


def pointer_table() -> NDArray[np.int64]:
    """A table of zeros for kernels (`kernels.layout`), one cache line per bucket."""
    from sparkps.kernels.layout import WIDTH

    raw = np.zeros(NUM_BUCKETS * WIDTH + WIDTH, np.int64)
    skip = (-raw.ctypes.data % 64) // 8
    return raw[skip : skip + NUM_BUCKETS * WIDTH].reshape(NUM_BUCKETS, WIDTH)


class GrowthSeries:
    """Capacities that a bucket passes through: ``least * factor**(k + b/V)`` for k = 0, 1, ...

    Parameters
    ----------
    least : int
        Capacity of bucket 0 at the start.
    factor : float
        Growth at each step, > 1.

    Examples
    --------
    >>> series = GrowthSeries(16, 1.5)
    >>> series.at_least(0, 10), series.at_least(128, 10), series.at_least(0, 30)
    (16, 19, 36)
    """

    def __init__(self, least: int, factor: float) -> None:
        self._factor = factor
        self._start = least * factor ** (np.arange(NUM_BUCKETS) / NUM_BUCKETS)

    def at_least(self, bucket: int, need: float) -> int:
        """The first capacity of `bucket` that is not below `need`."""
        start = float(self._start[bucket])
        if need <= int(start):
            return int(start)
        steps = int(np.ceil(np.log(need / start) / np.log(self._factor) - 1e-9))
        capacity = int(start * self._factor**steps)
        return capacity if capacity >= need else int(start * self._factor ** (steps + 1))

    def all_at_least(self, needs: NDArray[Any]) -> NDArray[np.int64]:
        """The same for needs of all buckets, by bucket.

        Examples
        --------
        >>> int(GrowthSeries(16, 1.5).all_at_least(np.full(NUM_BUCKETS, 30.0))[0])
        36
        """
        steps = np.ceil(np.log(np.maximum(needs, self._start) / self._start) / np.log(self._factor) - 1e-9)
        capacities = (self._start * self._factor**steps).astype(np.int64)
        more = (self._start * self._factor ** (steps + 1)).astype(np.int64)
        found: NDArray[np.int64] = np.where((capacities < needs) & (needs > self._start.astype(np.int64)), more, capacities)
        return found


@cache
def _library() -> Any:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None


def keep_message_buffers(largest: int = 32 << 20) -> None:
    """Tells the C library to reuse buffers of up to `largest` bytes, and to share them among a few threads.

    Requests and answers of a few MiB come and go all the time; mapping each anew would cost a page fault per 4 KiB. Tables
    do not depend on it (`allocate`). Called once, when a node starts; does nothing without glibc.
    """
    library = _library()
    if library is not None:
        library.mallopt(_M_MMAP_THRESHOLD, largest)
        library.mallopt(_M_TRIM_THRESHOLD, 4 * largest)
        library.mallopt(_M_ARENA_MAX, 2)


def return_freed_memory() -> None:
    """Gives memory that allocators hold back to the operating system; for the moment after a table was dropped, or a checkpoint written."""
    arrow = sys.modules.get("pyarrow")
    if arrow is not None:
        arrow.default_memory_pool().release_unused()
    library = _library()
    if library is not None:
        library.malloc_trim(0)
