"""A directory of this user alone for what the processes beside the driver need: sockets, logs, the coordinator's journal."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from pathlib import Path

from sparkps.errors import ConfigError
from sparkps.plain import is_text
from sparkps.storage import why_unwritable

log = logging.getLogger(__name__)

#: Longest path of a Unix socket on Linux is 107 bytes; a name in the directory takes some of them.
LONGEST_DIRECTORY = 90
#: Bytes that the directory of sockets and logs must have room for.
ROOM_FOR_LOGS = 1 << 20


def socket_directory() -> Path:
    """A new directory of this user alone for sockets and logs, with a path that Unix sockets and messages take.

    Raises
    ------
    ConfigError
        No temporary directory will do.
    """
    refused: list[str] = []
    for parent in _temporary_directories():
        why = _unfit_for_sockets(parent)
        if not why:
            directory = Path(tempfile.mkdtemp(prefix="sparkps-", dir=parent))
            if refused:
                log.warning("sockets and logs of the tier are in %s: %s", directory, "; ".join(refused))
            return directory
        refused.append(f"{parent!r} will not do, {why}")
    raise ConfigError(
        f"The tier must have a temporary directory with a short path, and room for {ROOM_FOR_LOGS} bytes of sockets and logs."
        f" Got none: {'; '.join(refused)}. Set TMPDIR to one, or free space there."
    )


def _temporary_directories() -> list[str]:
    """The system's temporary directory, and the one that every system has."""
    named = "/tmp"
    with contextlib.suppress(OSError):  # nothing can be written in any directory that it knows
        named = tempfile.gettempdir()
    return list(dict.fromkeys([named, "/tmp"]))


def _unfit_for_sockets(parent: str) -> str:
    """Why sockets and logs cannot be in a directory; empty if they can."""
    if not is_text(parent):
        return "its name is not UTF-8, in which addresses travel"
    if len(os.fsencode(parent)) + len("/sparkps-12345678") > LONGEST_DIRECTORY:
        return f"its path is too long for sockets (longer than {LONGEST_DIRECTORY} bytes)"
    return why_unwritable(parent, ROOM_FOR_LOGS)


__all__ = ["socket_directory"]
