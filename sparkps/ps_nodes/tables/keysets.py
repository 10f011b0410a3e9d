"""Keys of a request, or registered ones, and the slots that they resolve to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.ps_nodes.tables.index import KeyIndex, no_bits
from sparkps.wire.buckets import mask_of

#: (buckets int32 (r,), offsets int64 (r + 1,)): runs of keys of one bucket each.
Runs = tuple[NDArray[np.int32], NDArray[np.int64]]


class KeySetMissing(Exception):
    """A request names a key set, or a chunk of one, that the session has not registered here."""

    def __init__(self, keyset: int) -> None:
        super().__init__(keyset)
        self.keyset = keyset


class KeyChunk:
    """Keys grouped by bucket, and their slots as far as they are known.

    A key gets its slot at the first write and keeps it. A registered chunk that knows all slots lets its keys go. Two threads
    may use one chunk (a pull of its session while a clock closes): whoever finds slots finds the same ones.

    Parameters
    ----------
    index : KeyIndex
    keys : ndarray of shape (n,), int64
    registered : bool
        Whether the chunk will be used again.

    Raises
    ------
    InvalidInput
        The keys are not grouped by ascending buckets of this node.
    """

    __slots__ = ("_bits", "_mask", "index", "keys", "registered", "runs", "size", "slots")

    def __init__(
        self, index: KeyIndex, keys: NDArray[np.int64], *, registered: bool = False, runs: Runs | None = None
    ) -> None:
        self.index = index
        #: None: all slots are known.
        self.keys: NDArray[np.int64] | None = keys
        self.registered = registered
        self.size = len(keys)
        #: `mask`, as an array or, from the first time that it is asked for, as what it is.
        self._bits = no_bits()
        self._mask = -1 if runs is None else mask_of(runs[0])
        self.runs: Runs = index.runs(keys, self._bits) if runs is None else runs
        #: All slots, once they are known.
        self.slots: NDArray[np.int32] | None = None

    @property
    def mask(self) -> int:
        """The buckets of the keys, as bits."""
        if self._mask < 0:
            self._mask = int.from_bytes(self._bits.tobytes(), "little")
        return self._mask

    def for_reading(self) -> tuple[NDArray[np.int32], NDArray[np.int64] | None]:
        """Slots of the keys, -1 where a key has no row yet; and the keys, None if every key has one."""
        keys = self.keys
        if self.slots is not None:
            return self.slots, None
        assert keys is not None
        slots = self.index.find(keys, self.runs)
        if self.registered and (self.size == 0 or int(slots.min()) >= 0):
            self._settle(slots)
        return slots, keys

    def for_writing(self) -> NDArray[np.int32]:
        """Slots of the keys; those that have none get one, and an initial row in every table of the group."""
        keys = self.keys
        if self.slots is None:
            assert keys is not None
            self._settle(self.index.resolve(keys, self.runs))
        assert self.slots is not None
        return self.slots

    def _settle(self, slots: NDArray[np.int32]) -> None:
        self.slots = slots  # before the keys go: readers look at the slots last
        self.keys = None

    def only(self, kept: NDArray[np.bool_]) -> KeyChunk:
        """The chunk of those keys where `kept` is True."""
        counts = np.add.reduceat(kept.astype(np.int64), self.runs[1][:-1]) if self.size else np.zeros(0, np.int64)
        runs = self.runs[0][counts > 0], np.concatenate([[0], np.cumsum(counts[counts > 0])]).astype(np.int64)
        keys, slots = self.keys, self.slots
        some = keys[kept] if keys is not None else np.empty(int(kept.sum()), np.int64)
        part = KeyChunk(self.index, some, runs=runs)
        if slots is not None:
            part._settle(slots[kept])
        return part


class NodeKeySet:
    """One registered key set: its chunks by `Register.start`."""

    def __init__(self, index_id: int, total: int) -> None:
        self.index_id = index_id
        self.total = total
        self.chunks: dict[int, KeyChunk] = {}

    def add(self, start: int, chunk: KeyChunk) -> None:
        """One more chunk; a repeated one replaces itself."""
        self.chunks[start] = chunk

    def nbytes(self) -> int:
        """Bytes of keys and slots held."""
        arrays: list[Any] = [a for c in self.chunks.values() for a in (c.keys, c.slots) if a is not None]
        return sum(a.nbytes for a in arrays)
