"""The rows of one rank: in memory up to a budget, and in a file beyond it."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparkps.arrow import numbers
from sparkps.mllib.deep.examples import ExampleReader, Examples, Inputs
from sparkps.nn.features import Bags, Keys
from sparkps.spill import SpilledBatches

Array = NDArray[Any]

#: Bytes of a chunk in the file, about: the window that a pass over it holds.
CHUNK_BYTES = 32 << 20


class ExampleStore:
    """All rows of a rank, those to train on or those for validation: `add` them, then `seal` it.

    Parameters
    ----------
    budget : int
        Bytes of rows in memory.
    scratch : str
        Directory for the others; empty: the system's.

    Examples
    --------
    >>> rows = Examples(Inputs(Keys(("a",), np.arange(5)[:, None]), {}, np.zeros((5, 0), np.float32)), np.zeros((5, 1)))
    >>> store = ExampleStore(1 << 20)
    >>> store.add(rows); store.add(rows); store.seal()
    >>> len(store), store.rows(4, 6).inputs.categories.keys.ravel().tolist()
    (10, [4, 0])
    """

    def __init__(self, budget: int, scratch: str = "") -> None:
        self._budget = budget
        #: In memory; of them one at most, when sealed, where there is no file.
        self.chunks: list[Examples] = []
        self.spilled = SpilledBatches(scratch)
        #: Rows of each chunk, those of the file behind those in memory.
        self.lengths: list[int] = []
        self._open: list[Examples] = []
        #: The last chunk that was read from the file.
        self._window: tuple[int, Examples] | None = None
        weakref.finalize(self, self.spilled.close)

    def add(self, rows: Examples) -> None:
        """Take rows in."""
        if len(rows):
            self._open.append(rows)
        if sum(each.nbytes for each in self._open) >= CHUNK_BYTES:
            self._close_chunk()

    def seal(self) -> None:
        """There are no more rows."""
        self._close_chunk()
        if len(self.chunks) > 1 and not self.is_spilled:
            self.chunks = [Examples.join(self.chunks)]
            self.lengths = [len(self.chunks[0])]

    def _close_chunk(self) -> None:
        if not self._open:
            return
        chunk, self._open = Examples.join(self._open), []
        self.lengths.append(len(chunk))
        if not self.is_spilled and chunk.nbytes <= self._budget:
            self.chunks.append(chunk)
            self._budget -= chunk.nbytes
        else:
            self.spilled.append(_to_arrow(chunk))

    @property
    def labels(self) -> float:
        """Sum of all labels."""
        return float(sum(each.labels.sum() for each in self))

    def __len__(self) -> int:
        return sum(self.lengths)

    @property
    def is_spilled(self) -> bool:
        """Whether a pass reads a file."""
        return len(self.spilled) > 0

    @property
    def weight(self) -> float:
        """Sum of the weights of all rows."""
        return sum(chunk.weight for chunk in self)

    def __iter__(self) -> Iterator[Examples]:
        for place in range(len(self.lengths)):
            yield self._chunk(place)
        self._window = None

    def _chunk(self, place: int) -> Examples:
        if place < len(self.chunks):
            return self.chunks[place]
        if self._window is None or self._window[0] != place:
            self._window = None
            self._window = place, _from_arrow(self.spilled[place - len(self.chunks)])
        return self._window[1]

    def rows(self, start: int, stop: int) -> Examples:
        """Rows [start, stop), at least one."""
        parts, first = [], 0
        for place, length in enumerate(self.lengths):
            last = first + length
            if first < stop and last > start:
                inside = np.arange(max(start - first, 0), min(stop, last) - first)
                parts.append(self._chunk(place).take(inside))
            first = last
        return Examples.join(parts)

    def take(self, rows: Array) -> Examples:
        """Rows by their places; of a store that is not spilled, and not empty."""
        (chunk,) = self.chunks
        return chunk.take(rows)

    def close(self) -> None:
        """Drop the rows."""
        self.chunks.clear()
        self.spilled.close()


def ingest(batches: Iterable[pa.RecordBatch], reader: ExampleReader, budget: int, scratch: str) -> tuple[ExampleStore, ExampleStore]:
    """All rows of a rank: those to train on, and those for validation, which may take a quarter of the budget."""
    for_aside = budget // 4 if reader.columns.validation else 0
    stores = ExampleStore(budget - for_aside, scratch), ExampleStore(for_aside, scratch)
    for batch in batches:
        for store, rows in zip(stores, reader.read(batch), strict=True):
            store.add(rows)
    for store in stores:
        store.seal()
    return stores


def _to_arrow(rows: Examples) -> pa.RecordBatch:
    inputs, count = rows.inputs, len(rows)
    columns: dict[str, Any] = {
        "categories": _fixed(inputs.categories.keys),
        "numeric": _fixed(inputs.numeric),
        "labels": _fixed(rows.labels),
        "weights": _fixed(rows.weights.reshape(count, -1) if len(rows.weights) else np.empty((count, 0))),
    }
    for name, bags in inputs.bags.items():
        offsets = pa.array(bags.offsets)
        columns[f"keys.{name}"] = pa.LargeListArray.from_arrays(offsets, pa.array(bags.keys))
        if bags.weights is not None:
            columns[f"weights.{name}"] = pa.LargeListArray.from_arrays(offsets, pa.array(bags.weights))
    metadata = {f"names.{i}": name for i, name in enumerate(inputs.categories.names)}
    batch = pa.RecordBatch.from_pydict(columns)
    return batch.replace_schema_metadata(metadata)


def _fixed(values: Array) -> pa.Array:
    """(n, k) as one array of n lists of k."""
    count, width = values.shape
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.LargeListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int64) * width), flat)


def _matrix(column: pa.Array) -> Array:
    return np.asarray(numbers(column.values)).reshape(len(column), -1) if len(column.values) else np.empty((len(column), 0))


def _from_arrow(batch: pa.RecordBatch) -> Examples:
    metadata = {key.decode(): value.decode() for key, value in (batch.schema.metadata or {}).items()}
    names = tuple(metadata[f"names.{i}"] for i in range(len(metadata)))
    bags = {}
    for column in batch.schema.names:
        if column.startswith("keys."):
            name, found = column.removeprefix("keys."), batch.column(column)
            weights = batch.column(f"weights.{name}").values.to_numpy() if f"weights.{name}" in batch.schema.names else None
            bags[name] = Bags(name, found.values.to_numpy(), found.offsets.to_numpy(), weights)
    categories = Keys(names, _matrix(batch.column("categories")).astype(np.int64, copy=False))
    weights = _matrix(batch.column("weights")).reshape(-1)
    inputs = Inputs(categories, bags, _matrix(batch.column("numeric")).astype(np.float32, copy=False))
    return Examples(inputs, _matrix(batch.column("labels")), weights)


__all__ = ["CHUNK_BYTES", "ExampleStore", "ingest"]
