"""The rows of one rank, as a train function sees them: record batches that can be read again and again within a budget.

What Spark hands to a task comes once. The first pass keeps it: in memory up to a budget, beyond it in a file without a name
(it goes with the process, however that ends), written and read one record batch at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pyarrow as pa

from sparkps.errors import InputFailed, InvalidInput
from sparkps.plain import name_of, text_of
from sparkps.specs import GroupSpec
from sparkps.spill import SpilledBatches


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
        Directory of the file for the rest, made if it does not exist. Empty: the system's temporary directory.
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
        self._record = _Record(budget, scratch)
        #: Guards `_record`, `_rest` and `_broken`: a train function may iterate in two threads.
        self._lock = threading.Lock()
        #: Rows that the source has not given yet; None before the first pass.
        self._rest: Iterator[pa.RecordBatch] | None = None
        #: What ended the first pass early. A later pass ends with it, too: what was kept so far must not pass for all rows.
        self._broken: Exception | None = None
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
            if self._broken is not None:
                raise self._broken
            try:
                return self._next()
            except Exception as error:
                self._broken = error
                raise

    def _next(self) -> pa.RecordBatch | None:
        """Take a batch from the source, and keep it."""
        if self._rest is None:
            self._rest = self._source()
        for batch in self._rest:
            if batch.num_rows:
                self._record.append(batch)
                return batch
        return None


class _Record:
    """Batches kept in memory up to a budget, then in a file. Owner: the lock of `Batches`."""

    def __init__(self, budget: int, scratch: str) -> None:
        #: Bytes of the budget that are left, >= 0.
        self._room = budget
        self._in_memory: list[pa.RecordBatch] = []
        #: All batches from the first one on that did not fit.
        self._in_file = SpilledBatches(scratch)

    @property
    def spilled(self) -> int:
        """Bytes in the file."""
        return self._in_file.nbytes

    def __len__(self) -> int:
        return len(self._in_memory) + len(self._in_file)

    def __getitem__(self, position: int) -> pa.RecordBatch:
        if position < len(self._in_memory):
            return self._in_memory[position]
        return self._in_file[position - len(self._in_memory)]

    def append(self, batch: pa.RecordBatch) -> None:
        if not len(self._in_file) and batch.nbytes <= self._room:
            self._room -= batch.nbytes
            self._in_memory.append(batch)
            return
        self._in_file.append(batch)

    def close(self) -> None:
        self._in_memory.clear()
        self._in_file.close()


def rows_of_spark(rows: Iterator[pa.RecordBatch], rank: int, group: GroupSpec) -> Iterator[pa.RecordBatch]:
    """The rows that Spark hands to the rank's task. Where its own plan fails they just end, within a batch."""
    try:
        yield from rows
    except Exception as error:
        raise InputFailed(
            f"The rows of rank {rank} of worker group {group.name!r} must be readable to their end. Spark gave up before:"
            f" {name_of(error)}: {text_of(error)}",
            rank=rank,
            group=group.name,
        ) from error


def input_failure(error: BaseException | None) -> InputFailed | None:
    """What broke the input, if `error` is that or came of it."""
    seen: set[int] = set()  # an exception can be its own cause
    while error is not None and id(error) not in seen:
        if isinstance(error, InputFailed):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


__all__ = ["Batches", "input_failure", "rows_of_spark"]
