"""The coordinator's journal: a file that is appended to, which outlives the process that writes it.

Each record is its length and its checksum (4 bytes each, little endian), then its bytes. A record that is torn, as by a process that
is killed while it writes, ends the journal: what followed was never answered. What was written is in the system's cache when `append`
returns, and so is safe from the end of the process; nothing is forced to disk, since a host that goes down takes the nodes with it.

When it has become long, records that say the same more shortly take the place of all of it: in another file, which is renamed when it
is whole. So there is one or the other at any moment.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from pathlib import Path

log = logging.getLogger(__name__)

_HEAD = struct.Struct("<II")

#: Bytes above which a journal is to be replaced; it must also be `GROWTH` times as long as the last time that it was.
LONG, GROWTH = 8 << 20, 2


class Journal:
    """A journal that is open for writing. Owner: the coordinator's thread.

    Parameters
    ----------
    path : Path
        Created, or continued behind its last whole record.

    Raises
    ------
    OSError
        It cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        raw = path.read_bytes() if path.exists() else b""
        #: What was there, in order; emptied by whoever has read it.
        self.records, length = split(raw)
        if length < len(raw):
            log.warning("the last %d bytes of the journal are no record, and are dropped", len(raw) - length)
            os.truncate(path, length)
        #: None after a failure: from then on nothing is journaled.
        self._file: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        #: Bytes of it, and those from which on it is to be replaced.
        self._size, self._due = length, LONG
        self._next.unlink(missing_ok=True)

    @property
    def _next(self) -> Path:
        """What takes its place, until that is whole."""
        return self.path.with_name(self.path.name + ".next")

    @property
    def is_due(self) -> bool:
        """Whether it has become long: it is to be replaced when there is something shorter to say."""
        return self._file is not None and self._size > self._due

    def append(self, records: list[bytes]) -> None:
        """Write records. A journal that cannot be written is removed: nobody must go on from one with a gap."""
        if self._file is None or not records:
            return
        raw = _joined(records)
        try:
            _write_all(self._file, raw)
            self._size += len(raw)
        except OSError as error:
            log.error("the journal cannot be written: %s. A coordinator that ends now is not started again.", error)
            self.close()
            self.path.unlink(missing_ok=True)

    def replace(self, records: list[bytes]) -> None:
        """Let records take the place of all that there is. Where that fails the journal stays as it is, and goes on."""
        if self._file is None:
            return
        raw, file = _joined(records), -1
        try:
            file = os.open(self._next, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            _write_all(file, raw)
            os.fsync(file)  # some file systems keep a name before the bytes
            self._next.replace(self.path)
        except OSError as error:
            log.warning("the journal of %d bytes cannot be made shorter: %s", self._size, error)
            self._due = GROWTH * self._size
            if file >= 0:
                os.close(file)
            return
        log.info("the journal of %d bytes is now one of %d", self._size, len(raw))
        os.close(self._file)
        self._file, self._size, self._due = file, len(raw), max(LONG, GROWTH * len(raw))

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _joined(records: list[bytes]) -> bytes:
    return b"".join(_HEAD.pack(len(record), zlib.crc32(record)) + record for record in records)


def _write_all(file: int, raw: bytes) -> None:
    view = memoryview(raw)
    while view:
        view = view[os.write(file, view) :]


def split(raw: bytes) -> tuple[list[bytes], int]:
    """The whole records at the beginning of `raw`, and how many bytes they take.

    Examples
    --------
    >>> split(b"")
    ([], 0)
    """
    records, place = [], 0
    while place + _HEAD.size <= len(raw):
        length, checksum = _HEAD.unpack_from(raw, place)
        record = raw[place + _HEAD.size : place + _HEAD.size + length]
        if len(record) < length or zlib.crc32(record) != checksum:
            break
        records.append(record)
        place += _HEAD.size + length
    return records, place


__all__ = ["Journal", "split"]
