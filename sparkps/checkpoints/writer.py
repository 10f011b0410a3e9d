"""A node's part of a checkpoint: buckets go into files of a bounded size, written behind the caller's back.

Segments are collected until they are one file's worth. A file is handed over whole, so that it can be written again under another
name when that fails, and looked at before a manifest names it. While one file is written the next is filled; no more are held.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec

from sparkps.checkpoints.files import Buffer, Files, LocalFiles, open_files
from sparkps.checkpoints.format import (
    LOGICAL,
    BucketRecord,
    TableRecord,
    encode_changes,
    encode_index,
    encode_logical,
    encode_table,
    index_segment,
    table_segment,
)
from sparkps.checkpoints.manifest import DataFile, Manifest, Segment, folder_of, segment_of_changes
from sparkps.checkpoints.patience import PATIENCE, Patience, PatientFiles, checksum
from sparkps.checkpoints.plan import NodeFiles, Unchanged
from sparkps.errors import CheckpointError
from sparkps.specs import TableSpec

#: Bytes from which on a file is written.
FILE_BYTES = 16 << 20


@dataclass
class _File:
    """A file that is being filled."""

    name: str
    nbytes: int = 0
    #: As they will be in the manifest, but for the number of the file and, until it is written, the checksum.
    segments: list[Segment] = field(default_factory=list)
    #: Chunks of each segment; none when it is written.
    chunks: list[list[Buffer]] = field(default_factory=list)

    def add(self, segment: Segment, chunks: list[Buffer]) -> None:
        """Put a segment behind the others."""
        length = sum(memoryview(chunk).nbytes for chunk in chunks)
        self.segments.append(_with(segment, offset=self.nbytes, length=length))
        self.chunks.append(chunks)
        self.nbytes += length

    def sign(self) -> None:
        """Give segments their checksums."""
        self.segments = [_with(one, crc32=checksum(*some)) for one, some in zip(self.segments, self.chunks, strict=True)]


class BucketWriter:
    """Writes buckets of a node for one checkpoint. Not thread-safe: one thread puts.

    Parameters
    ----------
    url : str or Files
    checkpoint : str
        Its id.
    node : int
    tables : sequence of TableSpec
        All tables of the checkpoint.
    base : Manifest, optional
        An older checkpoint of the same tier, from which what has not changed is taken over.
    file_bytes : int
        A file is written when it has that many. Up to `threads` + 1 files are in memory.
    threads : int
        Files on their way at a time: some are signed while the disk takes others. Object stores like more.
    read_back : bool, optional
        Compare what was written with what is read, not the size alone. By default so but for a local directory, where what is read
        comes from memory and says nothing of the disk. Restoring compares all bytes in any case.
    compression : str
        "zstd", or empty for none.
    patience : Patience, optional

    Examples
    --------
    >>> import tempfile
    >>> writer = BucketWriter(tempfile.mkdtemp(), "00000001-3f2a9c01", 0, [])
    >>> writer.put(BucketRecord(0, logical_header={"low": 3}))
    >>> [(segment.name, segment.bucket) for segment in writer.finish().segments]
    [('logical', 0)]
    """

    def __init__(
        self,
        url: str | Files,
        checkpoint: str,
        node: int,
        tables: Sequence[TableSpec],
        *,
        base: Manifest | None = None,
        file_bytes: int = FILE_BYTES,
        threads: int = 3,
        read_back: bool | None = None,
        compression: str = "",
        patience: Patience = PATIENCE,
    ) -> None:
        files = open_files(url) if isinstance(url, str) else url
        self._files = PatientFiles(files, patience)
        # The token: a node that was thought dead may write beside its successor.
        self._prefix = f"{folder_of(checkpoint)}/{node}-{secrets.token_hex(4)}"
        self._node = node
        self._specs = {spec.table: spec for spec in tables}
        self._unchanged = Unchanged(base)
        self._base = base
        self._file_bytes = file_bytes
        self._read_back = not isinstance(files, LocalFiles) if read_back is None else read_back
        self._compression = compression
        self._pool = ThreadPoolExecutor(threads, "sparkps-checkpoint")
        self._threads = threads
        #: Files on their way, oldest first.
        self._flight: deque[Future[tuple[str, _File]]] = deque()
        self._made = 0
        self._counting = threading.Lock()
        #: By file; any thread appends.
        self._spent: list[float] = []
        self._put = self._written = 0
        self._current = self._next_file()
        self._done: list[tuple[str, _File]] = []
        #: By bucket and name.
        self._kept: dict[tuple[int, str], Segment] = {}
        #: Those over which changes may be put.
        self._under: dict[tuple[int, str], Segment] = {}
        self._empty: list[Segment] = []

    def __enter__(self) -> BucketWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- buckets -----------------------------------------------------------------------------------------------------------

    def keep(self, bucket: int, versions: Mapping[str, int], since: Mapping[str, int] | None = None) -> frozenset[str]:
        """Take over what has not changed; names of the segments of the bucket that must be put.

        Parameters
        ----------
        bucket : int
        versions, since : mapping of str to int
            See `Unchanged.split`. The same versions go to `put`.
        """
        split = self._unchanged.split(bucket, versions, since)
        self._kept.update({(bucket, segment.name): segment for segment in split.kept})
        self._under.update({(bucket, name): segment for name, segment in split.under.items()})
        return split.written

    def put(self, record: BucketRecord, versions: Mapping[str, int] | None = None) -> None:
        """Write what `record` holds but for what was kept.

        Nothing is copied: the arrays must stay as they are until `finish` has returned. This waits while the files before are written.

        Raises
        ------
        CheckpointError
            The record does not fit the tables, or a file could not be written.
        """
        for segment, chunks in self._encoded(record, versions or {}):
            if chunks:
                before = self._current.nbytes
                self._current.add(segment, chunks)
                self._put += self._current.nbytes - before
            else:
                self._empty.append(segment)
        if self._current.nbytes >= self._file_bytes:
            self._send()

    def _encoded(self, record: BucketRecord, known: Mapping[str, int]) -> Iterator[tuple[Segment, list[Buffer]]]:
        """Segments of a record with their chunks."""
        bucket = record.bucket
        for index, keys in record.indexes.items():
            name = index_segment(index)
            if (bucket, name) not in self._kept:
                yield Segment(name, bucket, rows=len(keys), version=known.get(name, 0)), encode_index(keys, self._compression)
        for index, keys in record.more_keys.items():
            found = self._over(index_segment(index), bucket, known)
            yield _with(found, rows=len(keys)), encode_index(keys, self._compression)
        for table, part in record.tables.items():
            name = table_segment(table)
            if (bucket, name) not in self._kept:
                chunks = encode_table(self._spec(table), part, self._compression)
                yield _of_rows(Segment(name, bucket, version=known.get(name, 0)), part), chunks
        for table, change in record.changes.items():
            chunks = encode_changes(self._spec(table), change, self._compression)
            yield _of_rows(self._over(table_segment(table), bucket, known), change.rows), chunks
        if (record.logical_header is not None or record.logical_arrays) and (bucket, LOGICAL) not in self._kept:
            chunks = encode_logical(record.logical_header, record.logical_arrays)
            yield Segment(LOGICAL, bucket, version=known.get(LOGICAL, 0)), chunks

    def _spec(self, table: int) -> TableSpec:
        if table not in self._specs:
            raise CheckpointError(
                f"A record must hold tables of its checkpoint: {sorted(self._specs)}. Got {table} instead.", table=table
            )
        return self._specs[table]

    def _over(self, name: str, bucket: int, known: Mapping[str, int]) -> Segment:
        """A segment of changes over one of the older checkpoint, which is taken over."""
        under = self._under.get((bucket, name))
        if under is None:
            raise CheckpointError(
                f"Changes must lie over a segment of the older checkpoint that `keep` has found. Got those of {name!r} in bucket {bucket}."
            )
        self._kept[bucket, name] = under
        return Segment(segment_of_changes(name), bucket, version=known.get(name, 0))

    # ---- files -------------------------------------------------------------------------------------------------------------

    def _next_file(self) -> _File:
        self._made += 1
        return _File(f"{self._prefix}-{self._made}.data")

    def _send(self) -> None:
        if len(self._flight) > self._threads - 1:
            self._done.append(self._flight.popleft().result())
        self._flight.append(self._pool.submit(self._write, self._current))
        self._current = self._next_file()

    @property
    def held(self) -> int:
        """Bytes that were put and are not written yet."""
        return self._put - self._written

    @property
    def spent(self) -> float:
        """Seconds of processors' time that its own threads have taken for files that are written."""
        return sum(self._spent)

    def _write(self, file: _File) -> tuple[str, _File]:
        began = time.thread_time()
        file.sign()
        signed = time.thread_time()
        self._spent.append(signed - began)
        expected = [(segment.length, segment.crc32) for segment in file.segments]
        chunks = [chunk for some in file.chunks for chunk in some]
        name = self._files.write(file.name, chunks, expected if self._read_back else ())
        file.chunks = []
        with self._counting:
            self._written += file.nbytes
        self._spent.append(time.thread_time() - signed)
        return name, file

    def finish(self) -> NodeFiles:
        """Write what is left, and say what the manifest has to name.

        Raises
        ------
        CheckpointError
            A file could not be written.
        """
        if self._current.nbytes:
            self._send()
        while self._flight:
            self._done.append(self._flight.popleft().result())
        self.close()
        files = [DataFile(name, file.nbytes) for name, file in self._done]
        segments = [_with(segment, file=number) for number, (_, file) in enumerate(self._done) for segment in file.segments]
        written = sum(file.nbytes for file in files)
        older, kept = self._taken_over(len(files))
        return NodeFiles(self._node, (*files, *older), (*segments, *self._empty, *kept), written)

    def _taken_over(self, first: int) -> tuple[list[DataFile], list[Segment]]:
        """Older files that are rested on, and the segments in them; the files are numbered from `first` on."""
        kept = self._kept.values()
        used = sorted({segment.file for segment in kept if segment.file >= 0})
        place = {file: first + number for number, file in enumerate(used)}
        older = [self._base.files[file] for file in used] if self._base else []
        return older, [_with(segment, file=place.get(segment.file, -1)) for segment in kept]

    def close(self) -> None:
        """Stop; files that are not in a manifest go later. Any number of times."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _of_rows(segment: Segment, part: TableRecord) -> Segment:
    return _with(segment, rows=len(part.planes[0]), step=part.step, planes=len(part.planes))


def _with(segment: Segment, **fields: int) -> Segment:
    return msgspec.structs.replace(segment, **fields)


__all__ = ["FILE_BYTES", "BucketWriter"]
