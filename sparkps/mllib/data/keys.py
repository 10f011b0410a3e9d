"""Numbering of feature keys: int64 keys become local int32 numbers, by a hash that grows.

Sorting 39 M keys to find the distinct ones takes 17 to 20 s; this takes about 1.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.data import kernels

#: Entries of a new map; a power of two.
_FIRST_CAPACITY = 1 << 12


class KeyMap:
    """Distinct int64 keys, numbered from 0 in order of first appearance.

    Examples
    --------
    >>> keys = KeyMap()
    >>> keys.number(np.array([30, -7, 30])).tolist()
    [0, 1, 0]
    >>> keys.keys.tolist(), keys.find(np.array([-7, 8])).tolist()
    ([30, -7], [1, -1])
    """

    def __init__(self, capacity: int = _FIRST_CAPACITY) -> None:
        #: (capacity, 2): key and number; number -1 is an empty entry. At most half of them are taken.
        self._entries = _empty_entries(capacity)
        #: Key of each number; the first `_count` are in use.
        self._distinct = np.empty(capacity // 2, np.int64)
        self._count = 0

    @classmethod
    def of(cls, keys: NDArray[np.int64]) -> KeyMap:
        """The map in which ``keys[i]``, all distinct, has number i."""
        made = cls(max(_FIRST_CAPACITY, 1 << (2 * len(keys)).bit_length()))
        made._distinct[: len(keys)] = keys
        made._count = len(keys)
        kernels.rehash(made.keys, made._entries)
        return made

    def __len__(self) -> int:
        return self._count

    @property
    def keys(self) -> NDArray[np.int64]:
        """int64 (n,): the key of each number, a view."""
        return self._distinct[: self._count]

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._entries.nbytes + self._distinct.nbytes

    def number(self, keys: NDArray[np.int64], out: NDArray[np.int32] | None = None) -> NDArray[np.int32]:
        """int32 (n,): numbers of `keys`, into `out` if given; new ones are given to those not seen before."""
        ids = np.empty(len(keys), np.int32) if out is None else out
        position = 0
        while True:
            position, self._count = kernels.number_keys(keys, position, self._entries, self._distinct, self._count, ids)
            if position == len(keys):
                return ids
            self._grow()

    def find(self, keys: NDArray[np.int64]) -> NDArray[np.int32]:
        """int32 (n,): numbers of `keys`, -1 for those that have none."""
        ids = np.empty(len(keys), np.int32)
        kernels.find_keys(keys, self._entries, ids)
        return ids

    def _grow(self) -> None:
        capacity = 2 * len(self._entries)
        distinct = np.empty(capacity // 2, np.int64)
        distinct[: self._count] = self.keys
        self._distinct = distinct
        self._entries = _empty_entries(capacity)
        kernels.rehash(self.keys, self._entries)


def _empty_entries(capacity: int) -> NDArray[Any]:
    entries = np.empty((capacity, 2), np.int64)
    entries[:, 1] = -1
    return entries


__all__ = ["KeyMap"]
