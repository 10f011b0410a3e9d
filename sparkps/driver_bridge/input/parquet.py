"""Plain Parquet files as input: every rank decodes its own rows, without the detour through the JVM.

Spark decodes a Parquet file into rows, encodes these as Arrow and sends them through a socket: 3 core-seconds for 1 M rows of 39
non-zeros, and more while the JVM is young. pyarrow makes the same Arrow from the same file in 0.6. What may be read so is
decided by `parquet_plan`.

Files may be on any file system that Python opens (`filesystems.opening`). From a remote one all the columns of a row group are fetched
by few large reads that run side by side, before the first row of it is needed: each read costs a round trip or two.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

from sparkps.errors import ConfigError, InvalidInput
from sparkps.filesystems.opening import open_filesystem, path_of_uri
from sparkps.filesystems.webhdfs_http import LIMITS, Limits

#: Bytes of one record batch, about, and its most rows: small enough to be taken in while they are in the processor's cache.
_BATCH_BYTES, _BATCH_ROWS = 4 << 20, 8192

#: Bytes that are read of a column at once, from a local file.
_BUFFER_BYTES = 1 << 20

#: Footers that are read at once.
_AT_ONCE = 16


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
        sources = _Sources()
        for path, pieces in itertools.groupby(self.pieces[rank], key=lambda piece: piece.group.path):
            with _said_clearly(path), sources.open(path) as file:
                for piece in pieces:
                    yield from self._read_piece(file, piece)

    def _read_piece(self, file: Any, piece: RowRange) -> Iterator[pa.RecordBatch]:
        group = piece.group
        size = max(1, min(_BATCH_ROWS, _BATCH_BYTES * group.rows // max(1, group.nbytes)))
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


class _Sources:
    """Opens Parquet files, with one file system for all of a place.

    Parameters
    ----------
    limits : Limits, optional
        Of requests to an HDFS over HTTP.
    """

    def __init__(self, limits: Limits = LIMITS) -> None:
        self._limits = limits
        #: By scheme and host: a file system, and how it spells the root of that place.
        self._places: dict[str, tuple[Any, str]] = {}

    def open(self, path: str) -> Any:
        """A `pyarrow.parquet.ParquetFile` of a path or a URL."""
        import pyarrow.parquet as pq

        if "://" not in path:
            return pq.ParquetFile(path, buffer_size=_BUFFER_BYTES)
        place = urlsplit(path)
        key = f"{place.scheme}://{place.netloc}/"
        if key not in self._places:
            self._places[key] = open_filesystem(key, "A Parquet file", limits=self._limits)
        filesystem, root = self._places[key]
        return pq.ParquetFile(root.rstrip("/") + path_of_uri(path), filesystem=filesystem, pre_buffer=True)


@contextmanager
def _said_clearly(path: str) -> Iterator[None]:
    """Turns what file systems raise into what a user can do about it."""
    try:
        yield
    except (OSError, pa.ArrowException, ConfigError) as error:
        said = " ".join(str(error).split())
        raise InvalidInput(
            f"Every executor must be able to open the Parquet files that the driver has listed. Got {said!r} on {socket.gethostname()} for"
            f" {path!r}. Give executors what it needs (HADOOP_CONF_DIR, credentials, a mount), or set `spark.sparkps.parquetReader` to"
            " spark, so that Spark reads them.",
            path=path,
            key="spark.sparkps.parquetReader",
        ) from error


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


def row_groups(paths: Sequence[str], limits: Limits = LIMITS) -> list[tuple[list[RowGroup], pa.Schema]]:
    """The row groups of files, and the Arrow schemas of their columns.

    Parameters
    ----------
    paths : sequence of str
        Paths of this host, or URLs.
    limits : Limits, optional
        Of requests to an HDFS over HTTP.

    Raises
    ------
    OSError
        One is no Parquet file that can be read here; names it.
    """
    sources = _Sources(limits)
    first = [_footer(sources, path) for path in paths[:1]]  # where one cannot be opened, the others need not be tried
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return first + list(pool.map(lambda path: _footer(sources, path), paths[1:]))


def _footer(sources: _Sources, path: str) -> tuple[list[RowGroup], pa.Schema]:
    try:
        with sources.open(path) as file:
            groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
            found = [RowGroup(path, number, group.num_rows, group.total_byte_size) for number, group in enumerate(groups)]
            return found, file.schema_arrow
    except (OSError, pa.ArrowException, ConfigError) as error:
        raise OSError(f"{path}: {error}") from error


__all__ = ["ParquetInput", "RowGroup", "RowRange", "row_groups", "share_out"]
