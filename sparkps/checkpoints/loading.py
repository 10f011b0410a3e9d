"""Buckets back from the files of a checkpoint: read in parallel, in order, a bounded number of bytes ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from sparkps.checkpoints.files import Buffer, Files, open_files
from sparkps.checkpoints.format import (
    LOGICAL,
    BucketRecord,
    TableRecord,
    changed,
    decode_changes,
    decode_index,
    decode_logical,
    decode_table,
    index_segment,
    table_segment,
)
from sparkps.checkpoints.manifest import Manifest, Segment, segment_under
from sparkps.checkpoints.patience import PATIENCE, Patience, PatientFiles, damaged
from sparkps.checkpoints.store import why_other
from sparkps.errors import CheckpointDamaged, InvalidInput
from sparkps.specs import TableSpec

#: Bytes that are read ahead of the caller.
AHEAD_BYTES = 256 << 20


def load(
    url: str | Files,
    manifest: Manifest,
    buckets: Iterable[int],
    *,
    names: Collection[str] | None = None,
    threads: int = 4,
    ahead_bytes: int = AHEAD_BYTES,
    patience: Patience = PATIENCE,
) -> Iterator[BucketRecord]:
    """Buckets of a checkpoint, in the order asked for; every byte is checked.

    Parameters
    ----------
    url : str or Files
    manifest : Manifest
    buckets : iterable of int
    names : collection of str, optional
        Segments to read, as `format` names them; by default all.
    threads : int
        Buckets read at a time.
    ahead_bytes : int
        No bucket is begun while more than that is read and not asked for.
    patience : Patience, optional

    Yields
    ------
    BucketRecord
        Its arrays cannot be written.

    Raises
    ------
    CheckpointDamaged
        A file is not what was written; the error names it.
    CheckpointError
        A file cannot be read.
    """
    reader = _Reader(PatientFiles(open_files(url) if isinstance(url, str) else url, patience), manifest, names)
    waiting = deque(buckets)
    flight: deque[tuple[int, Future[BucketRecord]]] = deque()
    pool = ThreadPoolExecutor(threads, "sparkps-restore")
    ahead = 0
    try:
        while waiting or flight:
            while waiting and (not flight or (ahead < ahead_bytes and len(flight) < 2 * threads)):
                bucket = waiting.popleft()
                nbytes = reader.nbytes(bucket)
                flight.append((nbytes, pool.submit(reader.record, bucket)))
                ahead += nbytes
            nbytes, first = flight.popleft()
            yield first.result()
            ahead -= nbytes
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class _Reader:
    """Reads single buckets; for any thread."""

    def __init__(self, files: PatientFiles, manifest: Manifest, names: Collection[str] | None) -> None:
        self._files = files
        self._manifest = manifest
        self._tables = {table_segment(spec.table): spec for spec in manifest.tables}
        self._indexes = {index_segment(spec.index): spec.index for spec in manifest.tables if spec.kind == "sparse"}
        self._names = names
        _ = manifest.by_bucket  # made once, before threads look at it

    def _segments(self, bucket: int) -> list[Segment]:
        found = self._manifest.by_bucket.get(bucket, [])
        return [each for each in found if self._names is None or segment_under(each.name) in self._names]

    def nbytes(self, bucket: int) -> int:
        """Bytes of a bucket in files."""
        return sum(segment.length for segment in self._segments(bucket))

    def record(self, bucket: int) -> BucketRecord:
        """Read, check and decode a bucket."""
        indexes: dict[int, Any] = {}
        tables: dict[int, TableRecord] = {}
        header: Any = None
        arrays: list[Any] = []
        # What lies over another segment comes after it: its name begins as that one's does.
        for segment, data in sorted(self._read(bucket), key=lambda each: each[0].name):
            name = segment_under(segment.name)
            try:
                if name in self._tables:
                    spec = self._tables[name]
                    tables[spec.table] = _table(spec, segment, data, tables.get(spec.table))
                elif name in self._indexes:
                    index, keys = self._indexes[name], decode_index(data, segment.rows)
                    indexes[index] = keys if name == segment.name else np.concatenate([indexes[index], keys])
                elif name == LOGICAL:
                    header, arrays = decode_logical(data)
            except CheckpointDamaged as error:  # its bytes are as they were written, but not by this format
                raise damaged(self._files.url, self._file(segment), error.why) from None
        return BucketRecord(bucket, indexes, tables, header, arrays)

    def _file(self, segment: Segment) -> str:
        return self._manifest.files[segment.file].name if segment.file >= 0 else ""

    def _read(self, bucket: int) -> Iterator[tuple[Segment, Buffer]]:
        """Segments of a bucket with their bytes; those side by side in a file are read at once."""
        for run in runs(self._segments(bucket)):
            if run[0].file < 0:
                yield run[0], b""
                continue
            first, length = run[0].offset, sum(segment.length for segment in run)
            data = memoryview(self._files.read_checked(self._file(run[0]), first, length, partial(_why_others, run)))
            for segment in run:
                yield segment, data[segment.offset - first :][: segment.length]


def _table(spec: TableSpec, segment: Segment, data: Buffer, under: TableRecord | None) -> TableRecord:
    """What a segment holds of a table, with what lies under it."""
    if under is None:
        return decode_table(spec, data, segment.rows, segment.step, segment.planes)
    return changed(under, decode_changes(spec, data, segment.rows, segment.step, segment.planes))


def runs(segments: Iterable[Segment]) -> list[list[Segment]]:
    """Segments in groups that lie one behind the other in a file; what has no bytes is alone."""
    found: list[list[Segment]] = []
    for segment in sorted(segments, key=lambda segment: (segment.file, segment.offset)):
        last = found[-1][-1] if found else None
        if last and segment.file == last.file >= 0 and segment.offset == last.offset + last.length:
            found[-1].append(segment)
        else:
            found.append([segment])
    return found


def _why_others(run: list[Segment], data: Buffer) -> str:
    view, first = memoryview(data), run[0].offset
    said = (why_other(segment, view[segment.offset - first :][: segment.length]) for segment in run)
    return next(filter(None, said), "")


def table_named(manifest: Manifest, name: str) -> TableSpec:
    """A table of a checkpoint; InvalidInput if it has none of that name."""
    for spec in manifest.tables:
        if spec.name == name:
            return spec
    raise InvalidInput(
        f"A table of checkpoint {manifest.id} must be one of {sorted(spec.name for spec in manifest.tables)}. Got {name!r} instead.",
        table=name,
    )


__all__ = ["AHEAD_BYTES", "load", "runs", "table_named"]
