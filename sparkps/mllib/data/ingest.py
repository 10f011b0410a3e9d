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
        self._offsets: list[Array] = []
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
            and (len(rows.offsets) > 0) == (len(self._offsets[0]) > 0)
        )

    def append(self, rows: Rows) -> Array:
        """Take the rows in; returns where the numbers of their keys go."""
        begin, end = self.entries, self.entries + len(rows.indices)
        if len(self._values):
            self._values[begin:end] = rows.values
        self._labels.append(np.array(rows.labels))  # views of Spark's own batch
        self._weights.append(np.array(rows.weights))
        self._offsets.append(np.array(rows.offsets))
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
            np.concatenate(self._offsets),
        )


class _Room:
    """Bytes of memory that are left for chunks."""

    def __init__(self, budget: int) -> None:
        self._left = budget

    def take(self, nbytes: int) -> bool:
        """Whether there is room for so many; then they are taken."""
        fits = nbytes <= self._left
        self._left -= nbytes if fits else 0
        return fits


class _Builder:
    """Collects rows into chunks and puts these into memory or into the file."""

    def __init__(self, room: _Room, scratch: str, chunk_entries: int) -> None:
        self._room = room
        self._chunk_entries = chunk_entries
        self._open: _OpenChunk | None = None
        self.chunks: list[Chunk] = []
        self.spill = Spill(scratch)
        self.lengths: list[int] = []

    def add(self, rows: Rows, numbers: KeyMap) -> Array:
        """Take rows in and number their keys; the numbers."""
        if not len(rows.labels):
            return np.empty(0, np.int32)
        if self._open is None or not self._open.takes(rows):
            self.flush()
            self._open = _OpenChunk(rows, max(self._chunk_entries, len(rows.indices)))
        ids = numbers.number(rows.indices, self._open.append(rows))
        if self._open.entries + self._open.rows >= self._chunk_entries:
            self.flush()
        return ids

    def flush(self) -> None:
        """The chunk that is being filled is complete."""
        if self._open is None:
            return
        chunk, self._open = self._open.close(), None
        self.lengths.append(len(chunk))
        if not len(self.spill) and self._room.take(chunk.nbytes):
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


class _Fields:
    """The lowest number of a raw column that each key came from."""

    _UNKNOWN = np.iinfo(np.int32).max

    def __init__(self) -> None:
        self._lowest = np.full(1024, self._UNKNOWN, np.int32)

    def note(self, ids: Array, entry_fields: Array, count: int) -> None:
        """Entries with keys of numbers `ids`, of `count` keys so far, came from these columns."""
        if len(self._lowest) < count:
            grown = np.full(2 * count, self._UNKNOWN, np.int32)
            grown[: len(self._lowest)] = self._lowest
            self._lowest = grown
        kernels.lowest_fields(ids, entry_fields, self._lowest)

    def of(self, count: int) -> Array:
        """int32 (count,): of each key, -1 where no entry has it."""
        found = np.full(count, -1, np.int32)
        known = self._lowest[:count]
        found[: len(known)] = np.where(known == self._UNKNOWN, -1, known)
        return found


def as_they_come(keys: Array) -> tuple[Array, Array | None]:
    """The `Order` that leaves keys in order of appearance."""
    return keys, None


class _Ingest:
    """The rows of a rank while they are read: those to train on and those set aside, their keys in one numbering."""

    def __init__(self, reader: RowReader, budget: int, scratch: str, chunk_entries: int, scalars: int) -> None:
        self.reader = reader
        self._scratch = scratch
        entries, room = min(chunk_entries, max(1024, budget // 64)), _Room(budget)
        self._rows = _Builder(room, scratch, entries)
        self._validation = _Builder(room, scratch, entries) if reader.columns.validation else None
        self._numbers = KeyMap()
        self._fields = _Fields() if reader.fields else None
        self._parameters = parameter_keys(scalars)
        self._width = self._skipped = 0

    def take(self, batch: pa.RecordBatch) -> None:
        """Read a batch."""
        rows = self.reader.read(batch)
        self._width, self._skipped = max(self._width, rows.width), self._skipped + rows.skipped
        if self._validation is None or not rows.validation.any():
            self._add(rows, self._rows)
            return
        self._add(rows.where(~rows.validation), self._rows)
        self._add(rows.where(rows.validation), self._validation)

    def _add(self, rows: Rows, builder: _Builder) -> None:
        ids = builder.add(rows, self._numbers)
        if self._fields is not None and len(rows.fields):
            self._fields.note(ids, rows.fields, len(self._numbers))

    def finish(self, order: Order) -> Store:
        """All rows."""
        builders = [each for each in (self._rows, self._validation) if each is not None]
        for builder in builders:
            builder.flush()
        num_features = self._num_features()
        parameters = self._numbers.number(self._parameters).astype(np.int64)
        keys, place = order(np.array(self._numbers.keys))
        fields = self._fields.of(len(keys)) if self._fields is not None else np.empty(0, np.int32)
        if place is not None:
            for builder in builders:
                builder.renumber(place, self._scratch)
            parameters = place[parameters].astype(np.int64)
            fields = _moved(fields, place)

        def store(builder: _Builder, validation: Store | None, skipped: int) -> Store:
            return Store(
                keys, parameters, builder.chunks, builder.spill, builder.lengths, num_features, skipped, self._width, fields, validation
            )  # fmt: skip

        aside = store(self._validation, None, 0) if self._validation is not None else None
        return store(self._rows, aside, self._skipped)

    def _num_features(self) -> int:
        known = self.reader.num_features or self._width
        return known or (int(self._numbers.keys.max()) + 1 if len(self._numbers) else 0)


def _moved(values: Array, place: Array) -> Array:
    """``found[place[i]] = values[i]``; of none, none."""
    if not len(values):
        return values
    found = np.empty_like(values)
    found[place] = values
    return found


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
        Bytes of rows to keep in memory, those set aside included; the others go to a file in `scratch`.
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
    reading = _Ingest(reader, budget, scratch, chunk_entries, scalars)
    for batch in batches:
        reading.take(batch)
    return reading.finish(order)


__all__ = ["CHUNK_ENTRIES", "Order", "as_they_come", "ingest"]
