"""The coordinator's journal: a file that is only appended to, which outlives the process that writes it.

Each record is its length and its checksum (4 bytes each, little endian), then its bytes. A record that is torn, as by a process that
is killed while it writes, ends the journal: what followed was never answered. What was written is in the system's cache when `append`
returns, and so is safe from the end of the process; nothing is forced to disk, since a host that goes down takes the nodes with it.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from pathlib import Path

log = logging.getLogger(__name__)

_HEAD = struct.Struct("<II")


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

    def append(self, records: list[bytes]) -> None:
        """Write records. A journal that cannot be written is removed: nobody must go on from one with a gap."""
        if self._file is None or not records:
            return
        raw = b"".join(_HEAD.pack(len(record), zlib.crc32(record)) + record for record in records)
        try:
            view = memoryview(raw)
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            log.error("the journal cannot be written: %s. A coordinator that ends now is not started again.", error)
            self.close()
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


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
