"""Staged input: an ordinary, retryable Spark job writes one set of Arrow files per rank before the training stage starts.

Every task attempt writes to a directory of its own and returns what it wrote, so only files of successful attempts are
read. Files are Arrow IPC streams, read batch by batch and never mapped.
"""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from py4j.protocol import Py4JError

from sparkps.arrow import bytes_column, int_column, numbers
from sparkps.driver_bridge.input.scan import RANK_COLUMN, order_by_content, schema_of
from sparkps.driver_bridge.input.staged_files import check_kept, make_root, open_input, open_output, remove, remove_all
from sparkps.driver_bridge.spark.application_files import application_directory
from sparkps.driver_bridge.spark.master import Master
from sparkps.errors import ConfigError, GroupError
from sparkps.storage import cannot_keep, reason

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

log = logging.getLogger(__name__)

#: Rows that a staging task holds before it writes them, in bytes, all ranks together.
BUFFER_BYTES = 32 << 20

#: Rows per record batch in a file, about: what Spark itself hands to Python at once.
BATCH_ROWS = 10_000

#: Start of our errors about them.
_STAGED = "Staged rows"

_LISTING = {"part": "int", "rank": "int", "path": "string", "rows": "bigint", "bytes": "bigint"}


@dataclass(frozen=True)
class StagedFile:
    """One file of one rank."""

    #: Partition of the staging job that wrote it.
    part: int
    path: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class StagedInput:
    """Where the rows of every rank are. Picklable."""

    root: str
    schema: pa.Schema
    #: Files of each rank, in the order in which they are read.
    files: tuple[tuple[StagedFile, ...], ...]

    @property
    def is_local(self) -> bool:
        """Whether the files are on a disk of this host, or a mounted one."""
        return "://" not in self.root

    @property
    def rereadable(self) -> bool:
        """A local file that is read twice costs nothing but the page cache."""
        return self.is_local

    def read(self, rank: int) -> Iterator[pa.RecordBatch]:
        """Rows of `rank`, one record batch at a time.

        Raises
        ------
        GroupError
            A file is not there any more, or not as it was written.
        """
        for file in self.files[rank]:
            rows = 0
            try:
                with open_input(file.path) as stream, pa.ipc.open_stream(stream) as reader:
                    for batch in reader:
                        rows += batch.num_rows
                        yield batch
            except (OSError, pa.ArrowException) as error:
                raise _unkept(self.root, error, file.bytes) from None
            if rows != file.rows:  # a stream that ends between two batches is a stream
                raise _unkept(self.root, f"{file.rows} rows were written and {rows} are left", file.bytes)

    def rows(self, rank: int) -> int:
        """Number of rows of `rank`."""
        return sum(file.rows for file in self.files[rank])

    def remove(self) -> None:
        """Remove all files, if they are still there; what cannot be removed is logged."""
        try:
            remove_all(self.root)
        except FileNotFoundError:
            pass
        except (OSError, ConfigError) as error:
            log.warning("staged rows stay behind in %s: %s", self.root, error)


def staging_root(spark: Any, staging_dir: str, scratch: str) -> str:
    """A new, empty directory for the files of one group, that every executor reaches.

    Parameters
    ----------
    spark : SparkSession
    staging_dir : str
        ``spark.sparkps.stagingDir``: a path that every machine sees, or a URL. Empty: on one host `scratch`, on YARN the
        application's own directory.
    scratch : str
        A directory of the driver's machine. Empty: Spark's own, which goes with the application.

    Raises
    ------
    ConfigError
        No directory is set on a cluster, or it cannot be written; names the setting.
    """
    context = spark.sparkContext
    staging_dir = staging_dir or application_directory(spark)
    if not staging_dir and not Master(context.master).on_this_host:
        raise ConfigError(
            "This input must be staged, and on a cluster the files must go where every executor can read them. Set"
            f" `spark.sparkps.stagingDir` to a URL (hdfs://..., s3://...) or a shared path. Got none on master {context.master!r}.",
            key="spark.sparkps.stagingDir",
        )
    key = "spark.sparkps.stagingDir" if staging_dir or not scratch else "spark.sparkps.localDir"
    parent = staging_dir or scratch or context._temp_dir
    try:
        if "://" in staging_dir:
            root = f"{staging_dir.rstrip('/')}/sparkps-{context.applicationId}-{_random_name()}"
            make_root(root)
            return root
        Path(parent).mkdir(parents=True, exist_ok=True)
        return tempfile.mkdtemp(prefix="sparkps-staging-", dir=parent)
    except OSError as error:
        raise ConfigError(
            f"The directory for staged rows must be one that can be written. Got {error} for {parent!r}; set `{key}` to another one.",
            key=key,
            directory=parent,
        ) from None


def stage(df: DataFrame, num_workers: int, root: str, schema: pa.Schema, *, deterministic: bool) -> StagedInput:
    """Write the rows of `df` to files under `root`, in one Spark job, balanced over ranks or placed by content.

    When it fails `root` is removed, with what attempts left there that Spark killed before they could clear up.

    Parameters
    ----------
    df : DataFrame
    num_workers : int
    root : str
        From `staging_root`.
    schema : pyarrow.Schema
        Of the rows.
    deterministic : bool
        Whether rank and order are a function of the rows alone (see `scan.order_by_content`).

    Raises
    ------
    GroupError
        The directory is full, or cannot be written.
    """
    try:
        return _staged(df, num_workers, root, schema, deterministic=deterministic)
    except BaseException:
        StagedInput(root, schema, ()).remove()
        raise


def _staged(df: DataFrame, num_workers: int, root: str, schema: pa.Schema, *, deterministic: bool) -> StagedInput:
    from pyspark.errors import PySparkException

    source = order_by_content(df, num_workers) if deterministic else df
    writer = _Writer(root, num_workers, deterministic)
    try:
        listing = source.mapInArrow(writer, schema_of(_LISTING)).collect()
    except (PySparkException, Py4JError) as error:
        named = _quoted(str(error))
        if named is None:
            raise
        raise GroupError(named, key="spark.sparkps.stagingDir", directory=root) from error
    files: list[list[StagedFile]] = [[] for _ in range(num_workers)]
    for row in sorted(listing, key=lambda row: (row.rank, row.part)):
        files[row.rank].append(StagedFile(row.part, row.path, row.rows, row.bytes))
    if deterministic and any(len(of_rank) > 1 for of_rank in files):
        raise GroupError(
            "deterministic=True needs the rows of a rank in one partition. Spark split them; set `spark.sql.adaptive.enabled` to false."
        )
    log.info("staged %d rows for %d workers in %s", sum(row.rows for row in listing), num_workers, root)
    return StagedInput(root, schema, tuple(tuple(of_rank) for of_rank in files))


class _Writer:
    """The function of a staging task: rows in, a listing of files out."""

    def __init__(self, root: str, num_workers: int, ranked: bool) -> None:
        self.root = root
        self.num_workers = num_workers
        #: Whether rows carry their rank; otherwise they are dealt out.
        self.ranked = ranked

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None, "runs in a Spark task"
        part = context.partitionId()
        directory = f"{self.root}/part-{part}-attempt-{context.taskAttemptId()}"
        files = _RankFiles(directory, part)
        try:
            split = self._by_rank if self.ranked else self._dealt
            for rank, rows in split(batches, part):
                files.add(rank, rows)
            listing = files.finish()
        except BaseException:
            files.discard()
            raise
        yield listing

    def _by_rank(self, batches: Iterator[pa.RecordBatch], _: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Runs of equal `RANK_COLUMN`; rows arrive sorted by it."""
        for batch in batches:
            at = batch.schema.get_field_index(RANK_COLUMN)
            ranks = numbers(batch.column(at))
            rows = batch.select([name for name in batch.schema.names if name != RANK_COLUMN])
            starts = np.flatnonzero(np.diff(ranks, prepend=-1))
            for start, stop in zip(starts, [*starts[1:], len(ranks)], strict=True):
                yield int(ranks[start]), rows.slice(int(start), int(stop - start))

    def _dealt(self, batches: Iterator[pa.RecordBatch], part: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Even shares: the ranks' row counts differ by one at most, and small partitions start at different ranks."""
        turn = part % self.num_workers
        for batch in batches:
            share, extra = divmod(batch.num_rows, self.num_workers)
            start = 0
            for i in range(self.num_workers):
                length = share + (i < extra)
                if length:
                    yield (turn + i) % self.num_workers, batch.slice(start, length)
                start += length
            turn = (turn + extra) % self.num_workers


class _RankFiles:
    """Files of one task attempt, one per rank, opened at a rank's first rows."""

    def __init__(self, directory: str, part: int) -> None:
        self.directory = directory
        self.part = part
        self._waiting: dict[int, list[pa.RecordBatch]] = {}
        self._waiting_bytes = 0
        self._streams: dict[int, tuple[str, Any, pa.RecordBatchStreamWriter]] = {}
        self._rows: dict[int, int] = {}

    def add(self, rank: int, rows: pa.RecordBatch) -> None:
        self._waiting.setdefault(rank, []).append(rows)
        self._waiting_bytes += rows.nbytes
        self._rows[rank] = self._rows.get(rank, 0) + rows.num_rows
        if self._waiting_bytes >= BUFFER_BYTES:
            self._flush()

    def _flush(self) -> None:
        for rank in sorted(self._waiting):
            table = pa.Table.from_batches(self._waiting[rank]).combine_chunks()
            try:
                writer = self._writer(rank, table.schema)
                writer.write_table(table, max_chunksize=BATCH_ROWS)
            except OSError as error:
                raise self._error(error) from None
        self._waiting.clear()
        self._waiting_bytes = 0

    def _writer(self, rank: int, schema: pa.Schema) -> pa.RecordBatchStreamWriter:
        if rank not in self._streams:
            path = f"{self.directory}/rank-{rank}.arrows"
            stream = open_output(path)
            self._streams[rank] = path, stream, pa.ipc.new_stream(stream, schema)
        return self._streams[rank][2]

    def finish(self) -> pa.RecordBatch:
        """Write what is left; the listing."""
        self._flush()
        ranks = sorted(self._streams)
        try:
            sizes = [self._finished(rank) for rank in ranks]
            check_kept(self.directory)
        except OSError as error:
            raise self._error(error) from None
        columns = [
            int_column([self.part] * len(ranks), pa.int32()),
            int_column(ranks, pa.int32()),
            bytes_column([self._streams[rank][0].encode() for rank in ranks], pa.string()),
            int_column([self._rows[rank] for rank in ranks], pa.int64()),
            int_column(sizes, pa.int64()),
        ]
        return pa.RecordBatch.from_arrays(columns, ["part", "rank", "path", "rows", "bytes"])

    def _finished(self, rank: int) -> int:
        """Close the file of a rank; its size."""
        _, stream, writer = self._streams[rank]
        writer.close()
        size: int = stream.tell()
        stream.close()
        return size

    def discard(self) -> None:
        """Close and remove what a failure left half-written."""
        for _, stream, _writer in self._streams.values():
            with contextlib.suppress(OSError):  # it fails as the write before it
                stream.close()
        with contextlib.suppress(OSError):
            remove(self.directory)

    def _error(self, error: OSError) -> GroupError:
        rows = sum(self._rows.values())
        return _unkept(self.directory.rpartition("/")[0], error, self._waiting_bytes, f"{rows:,} rows so far by this task, ")


def _unkept(root: str, error: BaseException | str, size: int, so_far: str = "") -> GroupError:
    """The error for staged rows that `root` does not take, or does not give back. One line: it must get through Spark."""
    said = error if isinstance(error, str) else _first_line(error)
    needs = f"all rows of the input, within reach of every executor ({so_far}{size:,} bytes now)"
    return cannot_keep(_STAGED, root, said, needs, "`spark.sparkps.stagingDir` (on one host `spark.sparkps.localDir`)")


def _first_line(error: BaseException) -> str:
    """What the system said."""
    return " ".join((reason(error).splitlines() or [type(error).__name__])[0].split())


def _quoted(text: str) -> str | None:
    """Our own error in what Spark says of a failed task: its name starts a line of the worker's traceback."""
    found = re.search(rf"GroupError: ({_STAGED} .*)", text)
    return found[1].rstrip("'\" ") if found is not None else None


def _random_name() -> str:
    import secrets

    return secrets.token_hex(6)


__all__ = ["StagedFile", "StagedInput", "stage", "staging_root"]
