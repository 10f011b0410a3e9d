"""Rows of one table that were pulled at earlier clocks, kept at a worker for as long as its consistency lets it use them again.

Reads and writes are what `RowSlots` does: a hash and one look for each key, for all keys at once. Where two keys share a place, the one
that was pulled last has it; a row too old to be used is in nobody's way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.row_slots import RowSlots

Array = NDArray[Any]

#: Most bytes of the rows of one table at one worker, with their keys.
CACHE_BYTES = 64 << 20


class RowCache:
    """Rows by key, each with the clock at which it was asked for.

    That clock is what is known of a row. A node answers a pull at clock c of a group with staleness s when all ranks have ticked c - s - 1:
    the row has every update up to there, and may have later ones. So a reader that must see all updates up to clock m can use
    rows of clock m + s + 1 and later: its `oldest`. Of its own updates it sees those of clocks before the row's.

    Parameters
    ----------
    dim : int
        Values of a row.
    max_bytes : int
        Of all rows, with their keys; 0: none are kept.

    Examples
    --------
    >>> cache = RowCache(1)
    >>> cache.keep(np.array([7, 9]), np.array([[0.7], [0.9]], np.float32), 3)
    >>> rows, missing = cache.look_up(np.array([7, 8]), oldest=3)
    >>> round(float(rows[0, 0]), 1), missing.tolist(), cache.look_up(np.array([7]), oldest=4)[1].tolist()
    (0.7, [1], [0])

    References
    ----------
    Ho et al., More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server, NIPS 2013, sections 2 and 3.
    """

    def __init__(self, dim: int, max_bytes: int = CACHE_BYTES) -> None:
        self._slots = RowSlots(dim, max_bytes)
        #: Keys that were looked up, and those of them whose rows were here.
        self.asked = self.found = 0

    def look_up(self, keys: Array, oldest: int) -> tuple[Array, Array]:
        """Rows asked for at clock `oldest` or later.

        Parameters
        ----------
        keys : ndarray of shape (n,), int64
        oldest : int

        Returns
        -------
        rows : ndarray of shape (n, dim), float32, a copy
            Those of `missing` keys are to be filled in.
        missing : ndarray of shape (m,), int64
            Places in `keys`, ascending.
        """
        slots = self._slots
        found, places = slots.find(keys)
        if slots.capacity:
            found &= slots.numbers_at(places) >= oldest
            rows = slots.rows.take(places, axis=0, mode="clip")  # of missing keys whatever is there: one pass, and no mask
        else:
            rows = np.empty((len(keys), slots.rows.shape[1]), np.float32)
        missing = np.flatnonzero(~found)
        self.asked += len(keys)
        self.found += len(keys) - len(missing)
        return rows, missing

    def keep(self, keys: Array, rows: Array, clock: int) -> None:
        """Rows (n, dim) of distinct keys that were asked for at `clock`, which never goes back, in place of what was there."""
        self._slots.keep(keys, rows, clock)


__all__ = ["CACHE_BYTES", "RowCache"]
