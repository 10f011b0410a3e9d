"""Plain Parquet files as input: every rank decodes its own rows, without the detour through the JVM.

Spark decodes a Parquet file into rows, encodes these as Arrow and sends them through a socket: 3 core-seconds for 1 M rows of 39
non-zeros, and more while the JVM is young. pyarrow makes the same Arrow from the same file in 0.6. What may be read so is
decided by `parquet_plan`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sparkps.errors import InvalidInput

#: Bytes of one record batch, about, and its most rows: small enough to be taken in while they are in the processor's cache.
_BATCH_BYTES, _BATCH_ROWS = 4 << 20, 8192

#: Bytes that are read of a column at once.
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class RowGroup:
    """One row group of a file."""

    path: str
    number: int
    rows: int
    #: Bytes of all its columns, decompressed.
    nbytes: int


@dataclass(frozen=True)
class RowRange:
    """Rows [start, stop) of a row group."""

    group: RowGroup
    start: int
    stop: int


@dataclass(frozen=True)
class ParquetInput:
    """Which rows of which files every rank reads. Picklable.

    Attributes
    ----------
    schema : pyarrow.Schema
        Of the record batches.
    columns : tuple of str
        Column of the files for each field of the schema.
    pieces : tuple
        Of each rank, in the order in which they are read.
    """

    schema: pa.Schema
    columns: tuple[str, ...]
    pieces: tuple[tuple[RowRange, ...], ...]

    #: Decoding costs too much to be done at every pass.
    rereadable = False

    def read(self, rank: int) -> Iterator[pa.RecordBatch]:
        """Rows of `rank`, one record batch at a time."""
        for piece in self.pieces[rank]:
            yield from self._read_piece(piece)

    def _read_piece(self, piece: RowRange) -> Iterator[pa.RecordBatch]:
        import pyarrow.parquet as pq

        group = piece.group
        size = max(1, min(_BATCH_ROWS, _BATCH_BYTES * group.rows // max(1, group.nbytes)))
        with pq.ParquetFile(group.path, buffer_size=_BUFFER_BYTES) as file:
            _check_unchanged(file.metadata, group)
            columns = list(dict.fromkeys(self.columns))
            end = 0
            for batch in file.iter_batches(size, row_groups=[group.number], columns=columns, use_threads=False):
                begin, end = end, end + batch.num_rows
                first, last = max(begin, piece.start), min(end, piece.stop)
                if first < last:
                    yield self._as_promised(batch.slice(first - begin, last - first))
                if end >= piece.stop:
                    return

    def _as_promised(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with the schema's columns in the schema's types."""
        arrays = []
        for field, name in zip(self.schema, self.columns, strict=True):
            array = batch.column(batch.schema.get_field_index(name))
            # `safe`: Spark, too, rounds a long that a double cannot hold.
            arrays.append(array if array.type == field.type else array.cast(field.type, safe=False))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def remove(self) -> None:
        """Nothing: the files are the user's."""


def _check_unchanged(footer: Any, group: RowGroup) -> None:
    """Refuse a file that was written anew since its rows were shared out: ranks would miss rows, or read some twice."""
    held = footer.row_group(group.number).num_rows if group.number < footer.num_row_groups else 0
    if held != group.rows:
        raise InvalidInput(
            f"A Parquet file must stay as it is until its rows are read. Row group {group.number} of {group.path!r} had {group.rows}"
            f" rows, and now has {held}: read the DataFrame again.",
            path=group.path,
        )


def share_out(groups: Sequence[RowGroup], num_workers: int) -> tuple[tuple[RowRange, ...], ...]:
    """The same number of rows for every rank (one more or less), in the order of the row groups.

    A row group that two ranks share is decoded by both.

    Examples
    --------
    >>> groups = [RowGroup("a", 0, 4, 0), RowGroup("b", 0, 2, 0)]
    >>> [[(p.group.path, p.start, p.stop) for p in pieces] for pieces in share_out(groups, 2)]
    [[('a', 0, 3)], [('a', 3, 4), ('b', 0, 2)]]
    """
    ends = np.cumsum([0, *(group.rows for group in groups)]).tolist()
    borders = [ends[-1] * rank // num_workers for rank in range(num_workers + 1)]
    return tuple(
        tuple(
            RowRange(group, max(first, begin) - begin, min(last, end) - begin)
            for group, (begin, end) in zip(groups, itertools.pairwise(ends), strict=True)
            if max(first, begin) < min(last, end)
        )
        for first, last in itertools.pairwise(borders)
    )


def row_groups(path: str) -> tuple[list[RowGroup], pa.Schema]:
    """The row groups of a local file, and the Arrow schema of its columns.

    Raises
    ------
    OSError, pyarrow.ArrowException
        It is no Parquet file that can be read.
    """
    import pyarrow.parquet as pq

    footer = pq.read_metadata(path)
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    found = [RowGroup(path, number, group.num_rows, group.total_byte_size) for number, group in enumerate(groups)]
    return found, footer.schema.to_arrow_schema()


__all__ = ["ParquetInput", "RowGroup", "RowRange", "row_groups", "share_out"]
