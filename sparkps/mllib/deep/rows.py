"""Embeddings of a fitted model: at the driver where they are few, else on the tier; and where scoring gets them from."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.frames import read_buckets
from sparkps.client.tables import SparseTable
from sparkps.mllib.coefficients import LOCAL_BYTES
from sparkps.mllib.data.hot_rows import hot_rows_of
from sparkps.mllib.data.keys import KeyMap
from sparkps.mllib.tables import drop_quietly
from sparkps.nn.local import distinct, first_rows
from sparkps.nn.tables import EmbeddingTable
from sparkps.specs import NUM_BUCKETS

Array = NDArray[Any]

#: Buckets that the driver reads at a time.
_BUCKETS_AT_ONCE = 32

#: Buckets that are counted to say about how large a table is.
_COUNTED = 4


class LocalTable:
    """The rows of a table, here. Picklable.

    Parameters
    ----------
    table : EmbeddingTable
    keys : ndarray of shape (n,), int64
        Distinct.
    rows : ndarray of shape (n, dim), float32
        In the order of `keys`.

    Examples
    --------
    >>> held = LocalTable(EmbeddingTable("t", 1, ("f",)), np.array([5, 3]), np.array([[0.5], [0.3]], np.float32))
    >>> held.keys.tolist(), held.look_up(np.array([3])).round(1).tolist()
    ([3, 5], [[0.30000001192092896]])
    >>> held
    LocalTable('t', rows=2, dim=1)
    """

    def __init__(self, table: EmbeddingTable, keys: Array, rows: Array) -> None:
        order = np.argsort(keys, kind="stable")
        self.table, self.keys, self.rows = table, keys[order], rows[order]
        self._map: KeyMap | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}

    def __repr__(self) -> str:
        return f"LocalTable({self.table.name!r}, rows={len(self.keys)}, dim={self.table.dim})"

    def look_up(self, keys: Array) -> Array:
        """Rows of distinct keys, float32 (n, dim); those of keys that were never learned are as they would begin."""
        if self._map is None:
            self._map = KeyMap.of(self.keys)
        places = self._map.find(keys)
        missing = np.flatnonzero(places < 0)
        found: Array = self.rows[places] if len(self.rows) else np.empty((len(keys), self.table.dim), np.float32)
        if len(missing):
            found[missing] = first_rows(self.table, keys[missing])
        return found

    def pieces(self) -> Iterator[tuple[Array, Array]]:
        """All keys and rows."""
        if len(self.keys):
            yield self.keys, self.rows


class TierTable:
    """The rows of a table on the tier, dropped there when nobody refers to them any more. Picklable.

    Parameters
    ----------
    table : EmbeddingTable
    held : SparseTable
    owned : bool
        Whether this object drops it.
    """

    def __init__(self, table: EmbeddingTable, held: SparseTable, *, owned: bool = True) -> None:
        self.table, self.held = table, held
        if owned:
            weakref.finalize(self, drop_quietly, held).atexit = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _borrow, (self.table, self.held)

    def look_up(self, keys: Array) -> Array:
        """As `LocalTable.look_up`; only rows that this process has not from before are pulled."""
        if not len(keys):
            return np.empty((0, self.table.dim), np.float32)
        return hot_rows_of(self.held, self.table.dim).look_up(keys, self.held.pull).astype(np.float32)

    def pieces(self) -> Iterator[tuple[Array, Array]]:
        """All keys and rows, in pieces."""
        return pieces_of(self.held)

    def rows_about(self) -> int:
        """About how many rows it has: keys are hashed to buckets, of which a few are counted."""
        return sum(len(keys) for keys, _ in read_buckets(self.held, range(_COUNTED))) * NUM_BUCKETS // _COUNTED


def _borrow(table: EmbeddingTable, held: SparseTable) -> TierTable:
    return TierTable(table, held, owned=False)


HeldTable = LocalTable | TierTable


def pieces_of(table: SparseTable) -> Iterator[tuple[Array, Array]]:
    """All keys and rows of a table on the tier, in pieces."""
    for first in range(0, NUM_BUCKETS, _BUCKETS_AT_ONCE):
        yield from read_buckets(table, range(first, min(first + _BUCKETS_AT_ONCE, NUM_BUCKETS)))


def collected(table: EmbeddingTable, held: SparseTable, limit: int = LOCAL_BYTES) -> HeldTable:
    """The rows of a table: at the driver if keys and rows fit in `limit` bytes, else a handle.

    The table is the caller's to drop if they came to the driver.
    """
    keys, rows, size = [np.empty(0, np.int64)], [np.empty((0, table.dim), np.float32)], 0
    for more, values in pieces_of(held):
        size += more.nbytes + values.nbytes
        if size > limit:
            return TierTable(table, held)
        keys.append(more)
        rows.append(values)
    return LocalTable(table, np.concatenate(keys), np.concatenate(rows))


class HeldRows:
    """A `RowSource` of the tables of a fitted model."""

    def __init__(self, tables: Mapping[str, HeldTable]) -> None:
        self.tables = tables

    def distinct(self, keys: Array) -> tuple[Array, Array]:
        """See `RowSource`."""
        return distinct(keys)

    def pull(self, wanted: Mapping[str, Array]) -> dict[str, Array]:
        """See `RowSource`."""
        return {name: self.tables[name].look_up(keys) for name, keys in wanted.items()}


__all__ = ["HeldRows", "HeldTable", "LocalTable", "TierTable", "collected", "pieces_of"]
