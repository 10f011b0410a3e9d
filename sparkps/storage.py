"""Writing to disks that may be full, read-only or gone: asked beforehand, and told by name when it fails."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

from sparkps.errors import GroupError

#: What a file system says that cannot set room aside.
_CANNOT_RESERVE = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)


def why_unwritable(directory: str | os.PathLike[str], size: int) -> str:
    """Why `size` bytes cannot be written to a file in `directory`; empty if they can be. Leaves nothing behind.

    Examples
    --------
    >>> why_unwritable("/dev/null", 1)
    'Not a directory'
    """
    try:
        with tempfile.TemporaryFile(prefix="sparkps-room-", dir=directory, buffering=0) as file:
            set_aside(file, size)
    except OSError as error:
        return reason(error)
    return ""


def set_aside(file: IO[bytes], size: int) -> None:
    """Take room for `size` bytes, or raise the OSError that writing them would raise."""
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            raise
        _write_all(file.fileno(), b"\0" * size, 0)


def reason(error: BaseException) -> str:
    """What the system said, without number and path."""
    return getattr(error, "strerror", None) or str(error)


def cannot_keep(what: str, directory: str, error: BaseException | str, needs: str, setting: str) -> GroupError:
    """The error for rows that a directory does not take, or does not give back.

    Parameters
    ----------
    what : str
        The rows, as the start of a sentence.
    directory : str
    error : BaseException or str
        What happened.
    needs : str
        What the directory must have room for.
    setting : str
        What to set.
    """
    said = error if isinstance(error, str) else reason(error)
    return GroupError(
        f"{what} must be written to, and read from, a directory with room for {needs}. Got {said!r} in {directory!r}"
        f"{_free(directory)}. Free space there, or set {setting} to another directory.",
        directory=directory,
        key=setting.strip("`").split("`")[0],
    )


def _free(directory: str) -> str:
    """What is left on the disk, where that can be told."""
    with contextlib.suppress(OSError):
        return f", where {shutil.disk_usage(directory).free:,} bytes are free"
    return ""


class SpillFile:
    """Bytes in a file without a name: it goes with the process, however that ends.

    Parameters
    ----------
    directory : str
        Made if it does not exist. Empty: the system's temporary directory.
    """

    def __init__(self, directory: str = "") -> None:
        self._directory = directory
        self._file: IO[bytes] | None = None
        #: Bytes of all that was appended.
        self.size = 0

    def append(self, data: Any) -> int:
        """Write `data`, all of it or, for whoever reads, nothing; its offset.

        Parameters
        ----------
        data : buffer

        Raises
        ------
        GroupError
            It cannot be written.
        """
        view = memoryview(data).cast("B")
        try:
            file = self._opened()
            _write_all(file.fileno(), view, self.size)
        except OSError as error:
            raise self._error(error, view.nbytes) from None
        offset = self.size
        self.size += view.nbytes
        return offset

    def read(self, offset: int, length: int) -> bytearray:
        """Exactly `length` bytes at `offset`."""
        assert self._file is not None, "something was appended"
        data = bytearray(length)
        view = memoryview(data)
        try:
            while view:
                got = os.preadv(self._file.fileno(), [view], offset)
                if not got:
                    raise OSError(errno.EIO, "The end of the file comes too early")
                view, offset = view[got:], offset + got
        except OSError as error:
            raise self._error(error, 0) from None
        return data

    def close(self) -> None:
        """Give the room back; any number of times."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            if self._directory:
                Path(self._directory).mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(prefix="sparkps-rows-", dir=self._directory or None, buffering=0)  # noqa: SIM115 - closed by close()
        return self._file

    def _error(self, error: OSError, more: int) -> GroupError:
        needs = f"the rows of a worker beyond `spark.sparkps.workerMemoryBudget`: {self.size:,} bytes so far, {more:,} more now"
        setting = "`spark.sparkps.localDir`" if self._directory else "`spark.sparkps.localDir` or TMPDIR"
        return cannot_keep("Rows that do not fit in memory", self._directory or _temporary(), error, needs, setting)


def _temporary() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:
        return "the system's temporary directory"


def _write_all(descriptor: int, data: Any, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


__all__ = ["SpillFile", "cannot_keep", "reason", "set_aside", "why_unwritable"]
