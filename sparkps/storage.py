"""Writing to disks that may be full, read-only or gone: asked beforehand, and told by name when it fails."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
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
        write_all(file.fileno(), b"\0" * size, 0)


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


def write_all(descriptor: int, data: Any, offset: int) -> None:
    """Write all of `data` at `offset`, or raise what the system says."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


__all__ = ["cannot_keep", "reason", "set_aside", "why_unwritable", "write_all"]
