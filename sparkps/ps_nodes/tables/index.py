"""The key index of a table group: from keys to slots, bucket by bucket.

Slots of a bucket are 0, 1, ... in order of insertion, and a key keeps its slot for ever. Every table of the group has one
row per slot. Kernels find and insert under the bucket's lock word; Python makes room before.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import InvalidInput, ProtocolError, TierError
from sparkps.kernels import lookup
from sparkps.kernels.layout import CAPACITY, COUNT, ENTRIES, ENTRY
from sparkps.ps_nodes.tables.buffers import GrowthSeries, allocate, pointer_table
from sparkps.ps_nodes.tables.changes import KeyVersions
from sparkps.ps_nodes.tables.growth import Growth
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.buckets import buckets_in, mask_of
from sparkps.wire.hashing import MAX_CAPACITY, buckets_of

if TYPE_CHECKING:
    from sparkps.ps_nodes.tables.sparse import SparseShards

#: Runs of keys of one bucket each: buckets int32 (r,), ascending, and offsets int64 (r + 1,).
Runs = tuple[NDArray[np.int32], NDArray[np.int64]]

#: At most this share of an index is in use.
_LOAD = 0.75

_CAPACITIES = GrowthSeries(16, 1.5)

#: Bytes of a key in a full index.
_KEY_BYTES = int(4 * ENTRY / _LOAD)

_NO_LAWS = np.zeros((0, 8), np.int64), np.zeros((0, 8), np.float64)

#: What a bucket has that is not here: one empty place, so that a look-up ends.
_NO_ENTRIES = np.full(ENTRY, -1, np.int32)


def no_bits() -> NDArray[np.uint8]:
    """No bucket, for `KeyIndex.runs`."""
    return np.zeros(NUM_BUCKETS // 8, np.uint8)


def _laws_of(tables: Sequence[SparseShards]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    if not tables:
        return _NO_LAWS
    return np.concatenate([t.law[0] for t in tables]), np.concatenate([t.law[1] for t in tables])


class KeyIndex:
    """Keys of the buckets that this node holds, and the tables that share them. Thread-safe.

    Parameters
    ----------
    buckets : sequence of int
        The buckets that the node holds at first.
    growth : Growth, optional
        Told how arrays grow, the tables' as well.
    """

    def __init__(self, buckets: Sequence[int] | NDArray[np.int32], growth: Growth | None = None) -> None:
        self.growth = Growth() if growth is None else growth
        #: By bucket: keys of accepted writes that are not here yet. Owner: the lock of `growth`.
        self.promised = np.zeros(NUM_BUCKETS, np.int64)
        #: Bytes of one key, and of its rows in all tables.
        self.key_bytes = _KEY_BYTES
        #: The buckets that are here, as bits.
        self.held = 0
        #: Pointer table (`kernels.layout`). Owner of a row: the bucket's lock word, which is in it.
        self.heads = pointer_table()
        #: `held` as the kernels read it.
        self._owned = np.zeros(NUM_BUCKETS, np.uint8)
        #: How often keys of some bucket got other slots, or none: by a bucket that came or went. Owner: `_inserting`.
        self.moves = 0
        #: By bucket: `moves` after the last time that it was among them.
        self._moved_at = np.zeros(NUM_BUCKETS, np.int64)
        #: Held by whoever inserts, attaches or detaches; finding and updating go on meanwhile.
        self._inserting = threading.Lock()
        #: Number of insertions so far; owner: `_inserting`.
        self._version = 0
        self._entries = [np.empty(0, np.int32)] * NUM_BUCKETS
        self._tables: list[SparseShards] = []
        #: Of the keys of each bucket; None: nobody asks.
        self._versions: KeyVersions | None = None
        #: The laws of all tables, one row each.
        self._laws = _NO_LAWS
        self.hold(mask_of(np.asarray(buckets, np.int32)))

    # ---- buckets that come and go ----------------------------------------------------------------------------------

    def hold(self, buckets: int) -> None:
        """These buckets are here from now on, without keys; those that are here already stay as they are."""
        with self._inserting:
            for bucket in buckets_in(buckets & ~self.held):
                self._empty(bucket, 0)
                for table in self._tables:
                    table.begin(bucket)
                self._owned[bucket] = 1
            self.held |= buckets

    def let_go(self, buckets: int) -> None:
        """These buckets are not here any more: their keys are refused. `free` must follow when nobody reads them."""
        with self._inserting:
            self.held &= ~buckets
            for bucket in buckets_in(buckets):
                self._owned[bucket] = 0
                self._note_move(bucket)

    def free(self, buckets: int) -> None:
        """Give back the memory of buckets that are not here, in the tables as well."""
        with self._inserting:
            for bucket in buckets_in(buckets & ~self.held):
                self._put_entries(bucket, _NO_ENTRIES)
                for table in self._tables:
                    table.free_bucket(bucket)

    def replace(self, bucket: int, keys: NDArray[np.int64], begun: Collection[SparseShards]) -> None:
        """A bucket that is here gets these keys, in slot order, in place of those that it has.

        Every table of the group gets room for their rows, and those in `begun` their first rows. The caller keeps all others from
        the bucket; keys of other buckets may be inserted meanwhile.

        Raises
        ------
        ProtocolError
            A key comes twice, or belongs into another bucket.
        """
        if (buckets_of(keys) != bucket).any() or len(np.unique(keys)) != len(keys):
            raise ProtocolError(f"The keys of bucket {bucket} must hash to it and come once.", bucket=bucket)
        slots = np.full(len(keys), -1, np.int32)
        where = np.array([bucket], np.int32), np.array([0, len(keys)], np.int64)
        with self._inserting:
            self._empty(bucket, len(keys))
            for table in self._tables:
                table.begin(bucket)
                if len(keys) > int(table.room(where[0])[0]):
                    table.make_room(bucket, len(keys))
            lookup.insert(self.heads, keys, *where, slots, *_laws_of([each for each in self._tables if each in begun]))

    def _empty(self, bucket: int, need: int) -> None:
        """A bucket without keys that has places for `need`."""
        capacity = self._capacity(bucket, need)
        entries = allocate(capacity * ENTRY, np.int32, capacity * ENTRY)
        entries[ENTRY - 1 :: ENTRY] = -1
        self._put_entries(bucket, entries)
        self._note_move(bucket)

    def _put_entries(self, bucket: int, entries: NDArray[np.int32]) -> None:
        where = np.array([bucket], np.int32)
        lookup.lock_buckets(self.heads, where)
        try:
            self.heads[bucket, ENTRIES] = entries.ctypes.data
            self.heads[bucket, CAPACITY] = len(entries) // ENTRY
            self.heads[bucket, COUNT] = 0
        finally:
            lookup.unlock_buckets(self.heads, where)
        self._entries[bucket] = entries

    def _note_move(self, bucket: int) -> None:
        if self._versions is not None:
            self._versions.changed[bucket] = True
        self._version += 1
        self._moved_at[bucket] = self.moves + 1
        self.moves += 1  # last: who sees it sees the bucket, too

    def moved_since(self, moves: int, buckets: NDArray[np.int32]) -> bool:
        """Whether keys of one of `buckets` may have got other slots since `moves` was what it was."""
        return bool((self._moved_at[buckets] > moves).any())

    # ---- tables ----------------------------------------------------------------------------------------------------

    def attach(self, table: SparseShards) -> None:
        """Give `table` a row for every key, now and from now on; a second call does nothing."""
        with self._inserting:
            if table in self._tables:
                return
            counts = self.heads[:, COUNT] * self._owned
            for bucket in np.flatnonzero(counts).tolist():
                table.make_room(bucket, int(counts[bucket]))
                lookup.begin_bucket(self.heads, bucket, *table.law)
            self._set_tables([*self._tables, table])

    def detach(self, table: SparseShards) -> None:
        """Take `table` out of the group; a second call does nothing."""
        with self._inserting:
            self._set_tables([each for each in self._tables if each is not table])

    def _set_tables(self, tables: list[SparseShards]) -> None:
        self._tables = tables
        self._laws = _laws_of(tables)
        self.key_bytes = _KEY_BYTES + sum(table.key_bytes for table in tables)

    # ---- keys ------------------------------------------------------------------------------------------------------

    def runs(self, keys: NDArray[np.int64], bits: NDArray[np.uint8] | None = None) -> Runs:
        """Where each bucket's keys are.

        Parameters
        ----------
        keys : ndarray of shape (n,), int64, C-contiguous
        bits : ndarray of shape (NUM_BUCKETS / 8,), uint8, of zeros, optional
            Gets the bits of the buckets, as `wire.buckets` orders them.

        Returns
        -------
        buckets : ndarray of shape (r,), int32
        offsets : ndarray of shape (r + 1,), int64
            Keys of ``buckets[i]`` are ``keys[offsets[i]:offsets[i + 1]]``.

        Raises
        ------
        InvalidInput
            The keys are not grouped by ascending buckets of this node.
        """
        buckets = np.empty(NUM_BUCKETS, np.int32)
        offsets = np.empty(NUM_BUCKETS + 1, np.int64)
        count = lookup.split_runs(keys, self._owned, buckets, offsets, no_bits() if bits is None else bits)
        if count < 0:
            key = int(keys[-1 - count])
            raise InvalidInput(
                f"Keys must be grouped by ascending buckets of the node that they are sent to. Got key {key} at {-1 - count}.",
                key=key,
            )
        return buckets[:count], offsets[: count + 1]

    def find(self, keys: NDArray[np.int64], runs: Runs) -> NDArray[np.int32]:
        """Slots of keys, -1 for a key that has none: ndarray of shape (n,), int32."""
        slots = np.empty(len(keys), np.int32)
        lookup.find(self.heads, keys, runs[0], runs[1], slots)
        return slots

    def look_up(self, keys: NDArray[np.int64], runs: Runs) -> tuple[NDArray[np.int32], NDArray[np.int64] | None]:
        """Slots as `find` gives them, and how many keys of each run have none: int64 (r,); None: every key has one."""
        slots = np.empty(len(keys), np.int32)
        if not lookup.find(self.heads, keys, runs[0], runs[1], slots):
            return slots, None
        return slots, np.add.reduceat((slots < 0).astype(np.int64), runs[1][:-1])

    def resolve(self, keys: NDArray[np.int64], runs: Runs) -> NDArray[np.int32]:
        """Slots of keys; a key that has none gets the next one, and its first row in every table of the group."""
        slots = np.empty(len(keys), np.int32)
        before = self._version
        if lookup.find(self.heads, keys, runs[0], runs[1], slots):
            with self._inserting:
                if self._version != before:
                    lookup.find(self.heads, keys, runs[0], runs[1], slots)
                self._insert(keys, runs, slots)
        return slots

    def _insert(self, keys: NDArray[np.int64], runs: Runs, slots: NDArray[np.int32]) -> None:
        buckets, offsets = runs
        if not self._owned[buckets].all():
            raise TierError(f"Keys must be of buckets that the node holds. Got a write to some of {buckets.tolist()}.")
        missing = np.add.reduceat((slots < 0).astype(np.int64), offsets[:-1])
        need = self.heads[buckets, COUNT] + missing
        for i in np.flatnonzero(need > (self.heads[buckets, CAPACITY] * _LOAD).astype(np.int64)).tolist():
            self._rehash(int(buckets[i]), int(need[i]))
        for table in self._tables:
            for i in np.flatnonzero((need > table.room(buckets)) & (missing > 0)).tolist():
                table.make_room(int(buckets[i]), int(need[i]))
        self._version += 1
        lookup.insert(self.heads, keys, buckets, offsets, slots, *self._laws)

    def _rehash(self, bucket: int, need: int) -> None:
        capacity = self._capacity(bucket, need)
        entries = allocate(capacity * ENTRY, np.int32, capacity * ENTRY)
        lookup.rehash(self.heads, bucket, entries.ctypes.data, capacity)
        before, self._entries[bucket] = self._entries[bucket], entries
        self.growth.grew(entries.nbytes - before.nbytes)

    @staticmethod
    def _capacity(bucket: int, need: int) -> int:
        capacity = _CAPACITIES.at_least(bucket, (need + 1) / _LOAD)
        if capacity >= MAX_CAPACITY:
            raise TierError(
                f"A bucket must hold fewer than {int(MAX_CAPACITY * _LOAD)} keys. Got {need}; spread the tier over more nodes.",
                bucket=bucket,
            )
        return capacity

    # ---- what there is ---------------------------------------------------------------------------------------------

    def counts(self) -> NDArray[np.int64]:
        """Keys of each of the 256 buckets: ndarray of shape (256,), int64, a copy."""
        return self.heads[:, COUNT] * self._owned

    def watch(self) -> KeyVersions:
        """Versions of the keys of each bucket, kept from now on."""
        if self._versions is None:
            self._versions = KeyVersions()
        return self._versions

    def keys_of(self, bucket: int) -> NDArray[np.int64]:
        """Keys of a bucket in slot order: ndarray of shape (count,), int64."""
        keys = np.empty(int(self.heads[bucket, COUNT]), np.int64)
        lookup.list_keys(self.heads, bucket, keys)
        return keys

    def nbytes(self) -> int:
        """Bytes of the index, without the tables."""
        return self.heads.nbytes + int(self.heads[:, CAPACITY].sum()) * ENTRY * self._entries[0].itemsize

    def to_come(self, more: NDArray[np.int64]) -> tuple[int, int]:
        """What arrays of keys and rows will grow by when all promised keys are in, and so many more of each bucket.

        Parameters
        ----------
        more : ndarray of shape (256,), int64

        Returns
        -------
        int
            Bytes that they will have more than now.
        int
            Bytes of the largest of those that will be replaced: it stays until its successor is filled.
        """
        need = self.heads[:, COUNT] + self.promised + more
        room = self.heads[:, CAPACITY]
        grows = (need > self.heads[:, COUNT]) & (need > (room * _LOAD).astype(np.int64))
        grown = np.where(grows, _CAPACITIES.all_at_least((need + 1) / _LOAD) - room, 0) * (4 * ENTRY)
        replaced = [int((grows * room).max()) * 4 * ENTRY]
        for table in list(self._tables):
            planes, largest = table.to_come(need)
            grown = grown + planes
            replaced.append(largest)
        return int(grown.sum()), max(replaced)

    def validate(self) -> None:
        """Checks what must hold of every bucket; for tests."""
        assert mask_of(np.flatnonzero(self._owned).astype(np.int32)) == self.held
        for bucket in buckets_in(self.held):
            head, entries = self.heads[bucket], self._entries[bucket]
            slots = entries[ENTRY - 1 :: ENTRY]
            assert head[ENTRIES] == entries.ctypes.data
            assert head[CAPACITY] == len(slots)
            assert head[COUNT] <= _LOAD * head[CAPACITY]
            assert np.array_equal(np.sort(slots[slots >= 0]), np.arange(head[COUNT]))
            for table in self._tables:
                table.validate(bucket, int(head[COUNT]))
