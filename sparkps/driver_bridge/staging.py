"""Staged input: an ordinary, retryable Spark job writes one set of Arrow files per rank before the training stage starts.

Every task attempt writes to a directory of its own and returns what it wrote, so only files of successful attempts are
read. Files are Arrow IPC streams, read batch by batch and never mapped.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sparkps.driver_bridge.columns import bytes_column, int_column, numbers
from sparkps.driver_bridge.inputs import RANK_COLUMN, order_by_content
from sparkps.errors import ConfigError, GroupError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

log = logging.getLogger(__name__)

#: Rows that a staging task holds before it writes them, in bytes, all ranks together.
BUFFER_BYTES = 32 << 20

#: Rows per record batch in a file, about: what Spark itself hands to Python at once.
BATCH_ROWS = 10_000

_LISTING = "part int, rank int, path string, rows bigint, bytes bigint"


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
        """Rows of `rank`, one record batch at a time."""
        for file in self.files[rank]:
            with _open_input(file.path) as stream, pa.ipc.open_stream(stream) as reader:
                yield from reader

    def rows(self, rank: int) -> int:
        """Number of rows of `rank`."""
        return sum(file.rows for file in self.files[rank])

    def remove(self) -> None:
        """Remove all files; what cannot be removed is logged."""
        try:
            if self.is_local:
                shutil.rmtree(self.root)
            else:
                filesystem, path = _filesystem(self.root)
                filesystem.delete_dir(path)
        except OSError as error:
            log.warning("staged rows stay behind in %s: %s", self.root, error)


def staging_root(spark: Any, staging_dir: str, scratch: str) -> str:
    """A new, empty directory for the files of one group, that every executor reaches.

    Parameters
    ----------
    spark : SparkSession
    staging_dir : str
        ``spark.sparkps.stagingDir``: a path that every machine sees, or a URL. Empty: `scratch`, on one host only.
    scratch : str
        A directory of the driver's machine. Empty: Spark's own, which goes with the application.

    Raises
    ------
    ConfigError
        No directory is set on a cluster, or it cannot be written.
    """
    context = spark.sparkContext
    if not staging_dir and not context.master.startswith("local"):
        raise ConfigError(
            "This input must be staged, and on a cluster the files must go where every executor can read them. Set"
            f" `spark.sparkps.stagingDir` to a URL (hdfs://..., s3://...) or a shared path. Got none on master {context.master!r}.",
            key="spark.sparkps.stagingDir",
        )
    try:
        if "://" in staging_dir:
            root = f"{staging_dir.rstrip('/')}/sparkps-{context.applicationId}-{_random_name()}"
            filesystem, path = _filesystem(root)
            filesystem.create_dir(path)
            return root
        parent = Path(staging_dir or scratch or context._temp_dir)
        parent.mkdir(parents=True, exist_ok=True)
        return tempfile.mkdtemp(prefix="sparkps-staging-", dir=parent)
    except OSError as error:
        raise ConfigError(
            f"The directory for staged rows must be writable. Got {error}; set `spark.sparkps.stagingDir`.",
            key="spark.sparkps.stagingDir",
        ) from None


def stage(df: DataFrame, num_workers: int, root: str, schema: pa.Schema, *, deterministic: bool) -> StagedInput:
    """Write the rows of `df` to files under `root`, in one Spark job, balanced over ranks or placed by content.

    Parameters
    ----------
    df : DataFrame
    num_workers : int
    root : str
        From `staging_root`.
    schema : pyarrow.Schema
        Of the rows.
    deterministic : bool
        Whether rank and order are a function of the rows alone (see `inputs.order_by_content`).
    """
    source = order_by_content(df, num_workers) if deterministic else df
    writer = _Writer(root, num_workers, deterministic)
    listing = source.mapInArrow(writer, _LISTING).collect()
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
            yield files.finish()
        finally:
            files.close()

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
            writer = self._writer(rank, table.schema)
            writer.write_table(table, max_chunksize=BATCH_ROWS)
        self._waiting.clear()
        self._waiting_bytes = 0

    def _writer(self, rank: int, schema: pa.Schema) -> pa.RecordBatchStreamWriter:
        if rank not in self._streams:
            path = f"{self.directory}/rank-{rank}.arrows"
            stream = _open_output(path)
            self._streams[rank] = path, stream, pa.ipc.new_stream(stream, schema)
        return self._streams[rank][2]

    def finish(self) -> pa.RecordBatch:
        """Write what is left; the listing."""
        self._flush()
        ranks = sorted(self._streams)
        sizes = []
        for rank in ranks:
            _, stream, writer = self._streams[rank]
            writer.close()
            sizes.append(stream.tell())
            stream.close()
        columns = [
            int_column([self.part] * len(ranks), pa.int32()),
            int_column(ranks, pa.int32()),
            bytes_column([self._streams[rank][0].encode() for rank in ranks], pa.string()),
            int_column([self._rows[rank] for rank in ranks], pa.int64()),
            int_column(sizes, pa.int64()),
        ]
        return pa.RecordBatch.from_arrays(columns, ["part", "rank", "path", "rows", "bytes"])

    def close(self) -> None:
        """Close what a failure left open."""
        for _, stream, _writer in self._streams.values():
            if not stream.closed:
                stream.close()


def _filesystem(url: str) -> tuple[Any, str]:
    from pyarrow import fs

    try:
        filesystem, path = fs.FileSystem.from_uri(url)
    except (pa.ArrowInvalid, ValueError) as error:
        raise OSError(f"{url}: {error}") from None
    return filesystem, path


def _open_output(path: str) -> Any:
    if "://" in path:
        filesystem, inner = _filesystem(path)
        filesystem.create_dir(inner.rpartition("/")[0])
        return filesystem.open_output_stream(inner)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return pa.OSFile(path, "wb")


def _open_input(path: str) -> Any:
    if "://" in path:
        filesystem, inner = _filesystem(path)
        return filesystem.open_input_stream(inner)
    return pa.OSFile(path, "rb")


def _random_name() -> str:
    import secrets

    return secrets.token_hex(6)


__all__ = ["StagedFile", "StagedInput", "stage", "staging_root"]
