"""Rows by key in memory that is bounded: each key has one place, which it may lose to another key."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.wire.hashing import mix

Array = NDArray[Any]

#: Bytes of a place besides its row: key, and number.
_OVERHEAD = 16


class RowSlots:
    """A direct-mapped store of rows: finding and keeping cost a hash and one look for each key, and what is kept last stays.

    Memory of places that were never used is not taken from the system.

    Parameters
    ----------
    dim : int
        Values of a row.
    max_bytes : int
        Of all rows, keys and numbers.

    Examples
    --------
    >>> slots = RowSlots(2, 1 << 10)
    >>> slots.keep(np.array([7]), np.array([[1.0, 2.0]], np.float32), 5)
    >>> found, places = slots.find(np.array([7, 8]))
    >>> found.tolist(), slots.rows[places[found]].tolist(), slots.numbers[places[found]].tolist()
    ([True, False], [[1.0, 2.0]], [5])
    """

    def __init__(self, dim: int, max_bytes: int) -> None:
        fit = max_bytes // (4 * dim + _OVERHEAD)
        #: Places, a power of two; 0: nothing is kept.
        self.capacity = 1 << (fit.bit_length() - 1) if fit > 0 else 0
        self.keys = np.zeros(self.capacity, np.int64)
        #: float32 (capacity, dim).
        self.rows = np.zeros((self.capacity, dim), np.float32)
        #: 1 more than the number that the row was kept with; 0: none is kept there.
        self._numbers = np.zeros(self.capacity, np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes that it may come to take."""
        return self.keys.nbytes + self.rows.nbytes + self._numbers.nbytes

    @property
    def numbers(self) -> Array:
        """int64 (capacity,): the number that each row was kept with; -1: none is kept there."""
        return self._numbers - 1

    def numbers_at(self, places: Array) -> Array:
        """The same at `places`."""
        return self._numbers[places] - 1

    def places(self, keys: Array) -> Array:
        """int64 (n,): the one place of each key. Not for a store without any."""
        return (mix(keys) & np.uint64(self.capacity - 1)).astype(np.int64)

    def find(self, keys: Array) -> tuple[Array, Array]:
        """Which of `keys` have a row here, bool (n,), and the place of each, int64 (n,)."""
        if not self.capacity:
            return np.zeros(len(keys), bool), np.zeros(len(keys), np.int64)
        places = self.places(keys)
        return (self.keys[places] == keys) & (self._numbers[places] > 0), places

    def keep(self, keys: Array, rows: Array, number: int = 0) -> None:
        """Rows (n, dim) of distinct keys, with a number >= 0, in place of what was there. Of keys that share a place one is kept."""
        if not self.capacity or not len(keys):
            return
        places = self.places(keys)
        self.keys[places] = keys
        kept = np.flatnonzero(self.keys[places] == keys)
        self.rows[places[kept]] = rows[kept]
        self._numbers[places[kept]] = number + 1


__all__ = ["RowSlots"]
