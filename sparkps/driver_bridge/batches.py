"""The rows of one rank, as a train function sees them: record batches that can be read again and again within a budget.

What Spark hands to a task comes once. The first pass keeps it: in memory up to a budget, beyond it in a file without a name
(it goes with the process, however that ends), written and read one record batch at a time.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import IO

import pyarrow as pa

from sparkps.errors import InvalidInput


class Batches:
    """Record batches of one rank; iterate over it any number of times.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of every batch; known for a rank without rows, too.
    source : callable
        Gives the rows: once, or, where `again`, at every call.
    again : bool
        Whether `source` can be called again at no cost. Then nothing is kept.
    budget : int
        Bytes of rows to keep in memory.
    scratch : str
        Directory of the file for the rest. Empty: the system's temporary directory.
    check : callable
        Called before each batch; raises if the rank must stop.

    Examples
    --------
    >>> batch = pa.RecordBatch.from_pydict({"x": [1, 2]})
    >>> batches = Batches(batch.schema, lambda: iter([batch]), again=False, budget=0)
    >>> [b.num_rows for _ in range(2) for b in batches]
    [2, 2]
    >>> batches.close()
    """

    def __init__(
        self,
        schema: pa.Schema,
        source: Callable[[], Iterator[pa.RecordBatch]],
        *,
        again: bool,
        budget: int,
        scratch: str = "",
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.schema = schema
        self._source = source
        self._again = again
        self._check = check
        self._record = _Record(schema, budget, scratch)
        #: Guards `_record` and `_rest`: a train function may iterate in two threads.
        self._lock = threading.Lock()
        #: Rows that the source has not given yet; None before the first pass.
        self._rest: Iterator[pa.RecordBatch] | None = None
        self._streamed = False

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        if self._again:
            yield from self._fresh()
            return
        if self._streamed:
            raise InvalidInput(
                "The rows of a rank can be read again only where the first pass keeps them. Got a pass after stream()."
            )
        position = 0
        while (batch := self._get(position)) is not None:
            self._check()
            yield batch
            position += 1

    def stream(self) -> Iterator[pa.RecordBatch]:
        """One pass that keeps nothing; where the rows come once, the only one."""
        if self._again or len(self._record) or self._rest is not None:
            yield from self
            return
        if self._streamed:
            raise InvalidInput(
                "The rows of a rank come once to stream(). Got a second pass; iterate over the batches themselves instead."
            )
        self._streamed = True
        yield from self._fresh()

    @property
    def spilled_bytes(self) -> int:
        """Bytes kept in a file, beyond the budget."""
        return self._record.spilled

    def close(self) -> None:
        """Drop what was kept."""
        self._record.close()

    def _fresh(self) -> Iterator[pa.RecordBatch]:
        for batch in self._source():
            self._check()
            if batch.num_rows:
                yield batch

    def _get(self, position: int) -> pa.RecordBatch | None:
        """The batch at `position`, taken from the source if it is the next one."""
        with self._lock:
            if position < len(self._record):
                return self._record[position]
            if self._rest is None:
                self._rest = self._source()
            for batch in self._rest:
                if batch.num_rows:
                    self._record.append(batch)
                    return batch
            return None


class _Record:
    """Batches kept in memory up to a budget, then in a file. Owner: the lock of `Batches`."""

    def __init__(self, schema: pa.Schema, budget: int, scratch: str) -> None:
        self._schema = schema
        self._room = budget
        self._scratch = scratch
        self._batches: list[pa.RecordBatch] = []
        #: (offset, length, schema) in the file of each batch past the budget.
        self._places: list[tuple[int, int, pa.Schema]] = []
        self._file: IO[bytes] | None = None
        self.spilled = 0

    def __len__(self) -> int:
        return len(self._batches) + len(self._places)

    def __getitem__(self, position: int) -> pa.RecordBatch:
        if position < len(self._batches):
            return self._batches[position]
        assert self._file is not None
        offset, length, schema = self._places[position - len(self._batches)]
        return pa.ipc.read_record_batch(pa.py_buffer(_read_at(self._file.fileno(), offset, length)), schema)

    def append(self, batch: pa.RecordBatch) -> None:
        if not self._places and batch.nbytes <= self._room:
            self._room -= batch.nbytes
            self._batches.append(batch)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="sparkps-rows-", dir=self._scratch or None, buffering=0)  # noqa: SIM115 - closed by close()
        data = batch.serialize()
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._places.append((self.spilled, data.size, batch.schema))
        self.spilled += data.size

    def close(self) -> None:
        self._batches.clear()
        self._places.clear()
        if self._file is not None:
            self._file.close()
            self._file = None


def _read_at(descriptor: int, offset: int, length: int) -> bytearray:
    """Exactly `length` bytes at `offset`."""
    data = bytearray(length)
    view = memoryview(data)
    while view:
        got = os.preadv(descriptor, [view], offset)
        if not got:
            raise OSError(f"{length} bytes of kept rows must be readable at {offset}. Got the end of the file.")
        view, offset = view[got:], offset + got
    return data


__all__ = ["Batches"]
