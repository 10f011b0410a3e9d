"""The rows of one rank as chunks in CSR form, in memory up to a budget and in a file beyond it.

A chunk that does not fit is written to a file without a name (it goes with the process, however that ends) as one Arrow
record batch, and read back whole at every pass: a window of known size, never a mapped file, whose pages would count as
resident.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparkps.spill import SpilledBatches

Array = NDArray[Any]

#: Key of the intercept in a model's tables; features have keys from 0, further parameters from -2 downwards.
INTERCEPT_KEY = -1

_NO_NUMBERS = np.empty(0, np.float64)
_NO_IDS = np.empty(0, np.int32)


def parameter_keys(scalars: int) -> Array:
    """Keys of the intercept and of further parameters that belong to no feature, int64 (1 + scalars,).

    Examples
    --------
    >>> parameter_keys(2).tolist()
    [-1, -2, -3]
    """
    return INTERCEPT_KEY - np.arange(1 + scalars, dtype=np.int64)


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows. Row r has the entries ``ids[indptr[r]:indptr[r + 1]]``."""

    #: float64 (n,).
    labels: Array
    #: float64 (n,), or empty where all weights are 1.
    weights: Array
    #: int32 (n + 1,), from 0.
    indptr: Array
    #: int32 (nonzeros,): positions in `Store.keys`.
    ids: Array
    #: float32 or float64 (nonzeros,), or empty where all are 1.
    values: Array
    #: float64 (n,): what is added to a row's margin; empty where there is nothing.
    offsets: Array = field(default_factory=lambda: _NO_NUMBERS)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(part.nbytes for part in (self.labels, self.weights, self.indptr, self.ids, self.values, self.offsets))

    def rows(self, start: int, stop: int) -> Chunk:
        """Rows [start, stop)."""
        first, last = self.indptr[start], self.indptr[stop]
        return Chunk(
            self.labels[start:stop],
            self.weights[start:stop],
            np.ascontiguousarray(self.indptr[start : stop + 1] - first),
            self.ids[first:last],
            self.values[first:last],
            self.offsets[start:stop],
        )

    @classmethod
    def join(cls, parts: list[Chunk]) -> Chunk:
        """The rows of `parts`, one after the other."""
        if len(parts) == 1:
            return parts[0]
        lengths = [len(part) for part in parts]
        bases = np.cumsum([0, *(len(part.ids) for part in parts)])
        indptr = np.concatenate([[0], *(part.indptr[1:] + base for part, base in zip(parts, bases, strict=False))])
        return cls(
            np.concatenate([part.labels for part in parts]),
            _join_optional([part.weights for part in parts], lengths),
            indptr.astype(np.int32),
            np.concatenate([part.ids for part in parts]),
            _join_optional([part.values for part in parts], [len(part.ids) for part in parts]),
            _join_optional([part.offsets for part in parts], lengths, 0.0),
        )


def _join_optional(parts: list[Array], lengths: list[int], default: float = 1.0) -> Array:
    """Concatenation of arrays of which an empty one stands for `default` throughout."""
    if not any(len(part) for part in parts):
        return parts[0]
    dtype = np.result_type(*(part.dtype for part in parts if len(part)))
    return np.concatenate(
        [
            part.astype(dtype, copy=False) if len(part) else np.full(n, default, dtype)
            for part, n in zip(parts, lengths, strict=True)
        ]
    )


class Spill:
    """Chunks in a file without a name.

    Parameters
    ----------
    scratch : str
        Directory of the file, made if it does not exist. Empty: the system's temporary directory.
    """

    def __init__(self, scratch: str = "") -> None:
        self._batches = SpilledBatches(scratch)
        weakref.finalize(self, self._batches.close)

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self._batches.nbytes

    def append(self, chunk: Chunk) -> None:
        """Write a chunk behind the others."""
        self._batches.append(_to_arrow(chunk))

    def __getitem__(self, position: int) -> Chunk:
        return _from_arrow(self._batches[position])

    def close(self) -> None:
        """Remove the file."""
        self._batches.close()


def _to_arrow(chunk: Chunk) -> pa.RecordBatch:
    offsets = pa.array(chunk.indptr)
    columns = {"label": pa.array(chunk.labels), "ids": pa.ListArray.from_arrays(offsets, pa.array(chunk.ids))}
    if len(chunk.weights):
        columns["weight"] = pa.array(chunk.weights)
    if len(chunk.offsets):
        columns["offset"] = pa.array(chunk.offsets)
    if len(chunk.values):
        columns["values"] = pa.ListArray.from_arrays(offsets, pa.array(chunk.values))
    return pa.RecordBatch.from_pydict(columns)


def _from_arrow(batch: pa.RecordBatch) -> Chunk:
    names = set(batch.schema.names)
    ids = batch.column("ids")
    weights, offsets = (batch.column(name).to_numpy() if name in names else _NO_NUMBERS for name in ("weight", "offset"))
    values = batch.column("values").values.to_numpy() if "values" in names else np.empty(0, np.float32)
    return Chunk(batch.column("label").to_numpy(), weights, ids.offsets.to_numpy(), ids.values.to_numpy(), values, offsets)


@dataclass
class Store:
    """All rows of one rank; iterate over its chunks any number of times.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from sparkps.mllib.data.ingest import ingest
    >>> from sparkps.mllib.data.rows import Columns, RowReader
    >>> batch = pa.RecordBatch.from_pydict({"label": [1.0, 0.0], "features": [[0.0, 2.0], [1.0, 3.0]]})
    >>> store = ingest([batch], RowReader(Columns("label", "features")))
    >>> len(store), store.keys.tolist(), [chunk.ids.tolist() for chunk in store]
    (2, [1, 0, -1], [[0, 1, 0]])
    """

    #: int64 (n,): key of each local number, in the order of the tier; those of the parameters are among them.
    keys: Array
    #: int64 (1 + scalars,): local numbers of the intercept and of further parameters without a feature.
    parameters: Array
    #: Chunks in memory, then those in the file.
    chunks: list[Chunk]
    spill: Spill
    #: Rows of each chunk.
    lengths: list[int]
    #: Number of features as the rows tell it: the vectors' size, or the largest index + 1.
    num_features: int
    #: Rows that were left out.
    skipped: int
    #: Length of the vectors; 0 where only indices are known.
    width: int = 0
    #: int32 (n,): number of the raw column that each key came from, -1 for those of the parameters; empty: not asked for, or there are
    #: no raw columns. A key of several columns (folded ones can meet) has the lowest of their numbers.
    fields: Array = field(default_factory=lambda: _NO_IDS)
    #: Rows that are set aside to measure on, with the same `keys` and numbers; None: no column says which.
    validation: Store | None = None
    #: The last chunk read from the file, and its position.
    _window: tuple[int, Chunk] | None = None

    def __len__(self) -> int:
        return sum(self.lengths)

    def __iter__(self) -> Iterator[Chunk]:
        for position in range(len(self.lengths)):
            yield self.chunk(position)
        self._window = None

    @property
    def is_spilled(self) -> bool:
        """Whether a pass reads a file."""
        return len(self.spill) > 0

    def chunk(self, position: int) -> Chunk:
        """Chunk number `position`."""
        if position < len(self.chunks):
            return self.chunks[position]
        if self._window is None or self._window[0] != position:
            self._window = None
            self._window = position, self.spill[position - len(self.chunks)]
        return self._window[1]

    def rows(self, start: int, stop: int) -> Chunk:
        """Rows [start, stop), copied only where they cross chunks."""
        parts: list[Chunk] = []
        first = 0
        for position, length in enumerate(self.lengths):
            last = first + length
            if first < stop and last > start:
                parts.append(self.chunk(position).rows(max(start - first, 0), min(stop, last) - first))
            first = last
        return Chunk.join(parts) if parts else _no_rows()

    def add_features(self, count: int) -> None:
        """Have features 0 to `count` - 1 among the keys, also those that no row has."""
        self.keys = np.append(self.keys, np.setdiff1d(np.arange(count), self.keys))
        if self.validation is not None:
            self.validation.keys = self.keys

    def close(self) -> None:
        """Drop the rows."""
        self.chunks.clear()
        self.spill.close()
        if self.validation is not None:
            self.validation.close()


def _no_rows() -> Chunk:
    return Chunk(np.empty(0), np.empty(0), np.zeros(1, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))


__all__ = ["INTERCEPT_KEY", "Chunk", "Spill", "Store", "parameter_keys"]
