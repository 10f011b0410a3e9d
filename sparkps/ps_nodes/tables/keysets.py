"""Keys of a request, or registered ones, and the slots that they resolve to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import InvalidInput, TierError
from sparkps.ps_nodes.tables.growth import Promise
from sparkps.ps_nodes.tables.index import KeyIndex, no_bits
from sparkps.wire.buckets import bits_of, mask_of

#: What a registered chunk takes besides keys and slots (bytes, about), and a key with its slot.
CHUNK_BYTES, KEY_BYTES = 4096, 12

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
    among : int, optional
        The buckets that the keys may be of, as bits; by default all that the node holds.
    keep_keys : bool
        Whether the keys are kept when their slots are known: they go on to other nodes.

    Raises
    ------
    InvalidInput
        The keys are not grouped by ascending buckets among those.
    """

    __slots__ = ("_bits", "_mask", "_moves", "index", "keep_keys", "keys", "promise", "registered", "runs", "size", "slots")

    def __init__(
        self,
        index: KeyIndex,
        keys: NDArray[np.int64],
        *,
        registered: bool = False,
        runs: Runs | None = None,
        among: int = -1,
        keep_keys: bool = False,
    ) -> None:
        self.index = index
        #: None: all slots are known.
        self.keys: NDArray[np.int64] | None = keys
        self.keep_keys = keep_keys
        self.registered = registered
        #: `KeyIndex.moves` when the chunk was made, or its slots were last found to hold.
        self._moves = index.moves
        self.size = len(keys)
        #: `mask`, as an array or, from the first time that it is asked for, as what it is.
        self._bits = no_bits()
        self._mask = -1 if runs is None else mask_of(runs[0])
        self.runs: Runs = index.runs(keys, self._bits) if runs is None else runs
        #: Room for keys that may be new, until all slots are known.
        self.promise: Promise | None = None
        #: All slots, once they are known.
        self.slots: NDArray[np.int32] | None = None
        if among != -1 and self.mask & ~among:
            key = int(keys[self._first_outside(among)])
            raise InvalidInput(
                f"Keys must be of buckets of which the node that they are sent to is the primary. Got key {key}.", key=key
            )

    def _first_outside(self, among: int) -> int:
        buckets, offsets = self.runs
        return int(offsets[np.flatnonzero(~bits_of(among)[buckets])[0]])

    @property
    def room(self) -> int:
        """Bytes that it takes at most where it is registered."""
        return room_of(self.size)

    @property
    def mask(self) -> int:
        """The buckets of the keys, as bits."""
        if self._mask < 0:
            self._mask = int.from_bytes(self._bits.tobytes(), "little")
        return self._mask

    def for_reading(self) -> tuple[NDArray[np.int32], NDArray[np.int64] | None]:
        """Slots of the keys, -1 where a key has no row yet; and the keys, None if every key has one."""
        keys, slots = self.keys, self.slots
        if slots is not None and self._hold():
            return slots, None
        keys, moves = self._known(keys), self.index.moves
        slots = self.index.find(keys, self.runs)
        if self.registered and (self.size == 0 or int(slots.min()) >= 0):
            self._settle(slots, moves)
        return slots, keys

    def for_writing(self) -> NDArray[np.int32]:
        """Slots of the keys; those that have none get one, and an initial row in every table of the group."""
        keys, slots = self.keys, self.slots
        if slots is None or not self._hold():
            moves = self.index.moves
            slots = self.index.resolve(self._known(keys), self.runs)
            self._settle(slots, moves)
        return slots

    def new_keys(self) -> NDArray[np.int64] | None:
        """How many keys of each run have no slot yet: ndarray of shape (r,), int64; None: every key has one."""
        if self.slots is not None and self._hold():
            return None
        moves = self.index.moves
        slots, missing = self.index.look_up(self._known(self.keys), self.runs)
        if missing is None:  # they need not be looked up again
            self._moves = moves
            self.slots = slots
        return missing

    def announce(self) -> None:
        """They may all be new, and will have rows: that counts from now on, if it did not before."""
        if self.slots is None and self.promise is None:
            self.promise = self.index.growth.promise(self.index, self.runs, self.size, 0, in_any_case=True)

    @property
    def is_usable(self) -> bool:
        """Whether the slots of all keys are known or can be found: not where keys were let go and a bucket of theirs has moved."""
        return self.keys is not None or self._hold()

    def _hold(self) -> bool:
        """Whether known slots are still those of the keys: no bucket of theirs has come or gone."""
        moves = self.index.moves
        if self._moves == moves:
            return True
        if self.index.moved_since(self._moves, self.runs[0]):
            return False
        self._moves = moves
        return True

    def shipped_keys(self) -> NDArray[np.int64]:
        """The keys, also if only their slots are known: ndarray of shape (n,), int64."""
        keys, slots = self.keys, self.slots
        if keys is not None:
            return keys
        assert slots is not None
        keys, (buckets, offsets) = np.empty(self.size, np.int64), self.runs
        for bucket, begin, end in zip(buckets.tolist(), offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            keys[begin:end] = self.index.keys_of(bucket)[slots[begin:end]]
        return keys

    def _known(self, keys: NDArray[np.int64] | None) -> NDArray[np.int64]:
        if keys is None:
            raise TierError("The buckets of a registered key set must stay while it is used. They have moved; send it again.")
        return keys

    def _settle(self, slots: NDArray[np.int32], moves: int) -> None:
        self.slots = slots  # before the keys go: readers look at the slots last
        self._moves = moves
        self.promise = None
        if not self.keep_keys:
            self.keys = None

    def only(self, kept: NDArray[np.bool_]) -> KeyChunk:
        """The chunk of those keys where `kept` is True."""
        counts = np.add.reduceat(kept.astype(np.int64), self.runs[1][:-1]) if self.size else np.zeros(0, np.int64)
        runs = self.runs[0][counts > 0], np.concatenate([[0], np.cumsum(counts[counts > 0])]).astype(np.int64)
        keys, slots = self.keys, self.slots
        some = keys[kept] if keys is not None else np.empty(int(kept.sum()), np.int64)
        part = KeyChunk(self.index, some, runs=runs, keep_keys=keys is not None and self.keep_keys)
        part.promise = self.promise
        if slots is not None:
            part._settle(slots[kept], self._moves)
        return part


def room_of(keys: int) -> int:
    """Bytes that a registered chunk of so many keys takes at most."""
    return CHUNK_BYTES + KEY_BYTES * keys


class NodeKeySet:
    """One registered key set: its chunks by `Register.start`."""

    def __init__(self, index_id: int, total: int) -> None:
        self.index_id = index_id
        self.total = total
        self.chunks: dict[int, KeyChunk] = {}
        #: Bytes that its chunks take at most.
        self.room = 0

    def add(self, start: int, chunk: KeyChunk) -> int:
        """One more chunk; a repeated one replaces itself. Returns by how much `room` has grown."""
        before, replaced = self.room, self.chunks.get(start)
        self.chunks[start] = chunk
        self.room += chunk.room - (0 if replaced is None else replaced.room)
        return self.room - before

    def nbytes(self) -> int:
        """Bytes of keys and slots held."""
        arrays: list[Any] = [a for c in self.chunks.values() for a in (c.keys, c.slots) if a is not None]
        return sum(a.nbytes for a in arrays)
