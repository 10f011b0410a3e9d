"""From Arrow batches to a rank's `Store`: rows are checked, keys numbered, and both written straight into chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparkps.mllib.data import kernels
from sparkps.mllib.data.keys import KeyMap
from sparkps.mllib.data.rows import RowReader, Rows
from sparkps.mllib.data.store import Chunk, Spill, Store, parameter_keys

Array = NDArray[Any]

#: Entries of a chunk, about.
CHUNK_ENTRIES = 4 << 20

#: Puts distinct keys in the order of the tier: keys -> (keys in that order, place of each key, or None for as it is).
Order = Callable[[Array], tuple[Array, Array | None]]


class _OpenChunk:
    """A chunk that is being filled. Entries go where they stay: copying them once more would cost as much as decoding them."""

    def __init__(self, first: Rows, capacity: int) -> None:
        self._ids = np.empty(capacity, np.int32)
        self._values = np.empty(capacity if len(first.values) else 0, first.values.dtype)
        self._labels: list[Array] = []
        self._weights: list[Array] = []
        self._indptr: list[Array] = [np.zeros(1, np.int32)]
        #: Rows and entries so far.
        self.rows = self.entries = 0

    def takes(self, rows: Rows) -> bool:
        """Whether the rows fit in, and have the same kind of values and weights."""
        return (
            self.entries + len(rows.indices) <= len(self._ids)
            and (len(rows.values) > 0) == (len(self._values) > 0)
            and (not len(rows.values) or rows.values.dtype == self._values.dtype)
            and (len(rows.weights) > 0) == (len(self._weights[0]) > 0)
        )

    def append(self, rows: Rows) -> Array:
        """Take the rows in; returns where the numbers of their keys go."""
        begin, end = self.entries, self.entries + len(rows.indices)
        if len(self._values):
            self._values[begin:end] = rows.values
        self._labels.append(np.array(rows.labels))  # views of Spark's own batch
        self._weights.append(np.array(rows.weights))
        self._indptr.append(rows.indptr[1:] + np.int32(begin))
        self.rows, self.entries = self.rows + len(rows.labels), end
        return self._ids[begin:end]

    def close(self) -> Chunk:
        """The chunk."""
        return Chunk(
            np.concatenate(self._labels),
            np.concatenate(self._weights),
            np.concatenate(self._indptr),
            self._ids[: self.entries],
            self._values[: self.entries] if len(self._values) else self._values,
        )


class _Builder:
    """Collects rows into chunks and puts these into memory or into the file."""

    def __init__(self, budget: int, scratch: str, chunk_entries: int) -> None:
        self._budget = budget
        self._chunk_entries = min(chunk_entries, max(1024, budget // 64))
        self._open: _OpenChunk | None = None
        self.chunks: list[Chunk] = []
        self.spill = Spill(scratch)
        self.lengths: list[int] = []

    def add(self, rows: Rows, numbers: KeyMap) -> None:
        """Take rows in and number their keys."""
        if not len(rows.labels):
            return
        if self._open is None or not self._open.takes(rows):
            self.flush()
            self._open = _OpenChunk(rows, max(self._chunk_entries, len(rows.indices)))
        numbers.number(rows.indices, self._open.append(rows))
        if self._open.entries + self._open.rows >= self._chunk_entries:
            self.flush()

    def flush(self) -> None:
        """The chunk that is being filled is complete."""
        if self._open is None:
            return
        chunk, self._open = self._open.close(), None
        self.lengths.append(len(chunk))
        if not len(self.spill) and chunk.nbytes <= self._budget:
            self._budget -= chunk.nbytes
            self.chunks.append(chunk)
        else:
            self.spill.append(chunk)

    def renumber(self, place: Array, scratch: str) -> None:
        """Give every id its place in the tier's order."""
        for chunk in self.chunks:
            kernels.renumber(chunk.ids, place)
        if len(self.spill):
            old, self.spill = self.spill, Spill(scratch)
            for position in range(len(old)):
                chunk = old[position]
                self.spill.append(replace(chunk, ids=place[chunk.ids]))
            old.close()


def as_they_come(keys: Array) -> tuple[Array, Array | None]:
    """The `Order` that leaves keys in order of appearance."""
    return keys, None


def ingest(
    batches: Iterable[pa.RecordBatch],
    reader: RowReader,
    order: Order = as_they_come,
    *,
    budget: int = 1 << 40,
    scratch: str = "",
    chunk_entries: int = CHUNK_ENTRIES,
    scalars: int = 0,
) -> Store:
    """Read all rows of a rank, once.

    Parameters
    ----------
    batches : iterable of pyarrow.RecordBatch
        With the columns of ``reader.columns.names``.
    reader : RowReader
    order : callable
        Of the keys in the store.
    budget : int
        Bytes of rows to keep in memory; the others go to a file in `scratch`.
    scratch : str
        A directory; empty: the system's temporary one.
    chunk_entries : int
        Entries of one chunk, about.
    scalars : int
        Parameters of the objective, besides the intercept, that belong to no feature.

    Raises
    ------
    InvalidInput
        A row is wrong, and the reader does not skip it.
    """
    numbers = KeyMap()
    builder = _Builder(budget, scratch, chunk_entries)
    width = skipped = 0
    for batch in batches:
        rows = reader.read(batch)
        builder.add(rows, numbers)
        width, skipped = max(width, rows.width), skipped + rows.skipped
    builder.flush()
    num_features = width or (int(numbers.keys.max()) + 1 if len(numbers) else 0)
    parameters = numbers.number(parameter_keys(scalars)).astype(np.int64)
    keys, place = order(np.array(numbers.keys))
    if place is not None:
        builder.renumber(place, scratch)
        parameters = place[parameters].astype(np.int64)
    return Store(
        keys, parameters, builder.chunks, builder.spill, builder.lengths, num_features, skipped, width
    )


__all__ = ["CHUNK_ENTRIES", "Order", "as_they_come", "ingest"]
