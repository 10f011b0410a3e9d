"""The connections by which a process group of Gloo speaks with others, and their end.

What waits in Gloo for a rank whose connections stay open, as those of a process that stands still do, waits for its whole time limit: a
group on CPUs cannot be aborted (`abort` of torch 2.15 does nothing there). It ends where a connection ends; so they are ended from here.
Gloo does not tell its sockets, so they are those that came to be while the group was formed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import Self


class FormedConnections:
    """TCP connections of this process at one of its addresses that come to be between the making of this object and `settle`.

    Parameters
    ----------
    host : str
        The address, as ``"127.0.0.1"``.

    Examples
    --------
    >>> formed = FormedConnections("127.0.0.1")
    >>> formed.settle().cut()                   # nothing was connected
    0
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._before = _sockets()
        #: By number of the descriptor, which inode it was of.
        self._formed: dict[int, int] = {}

    def settle(self) -> Self:
        """All of them are there now."""
        new = _sockets().items() - self._before.items()
        self._formed = {each: inode for each, inode in new if _is_connection(each, self._host)}
        return self

    def cut(self) -> int:
        """End those that are still there, which their owner sees as if the other side had ended them; how many. Any thread."""
        formed, self._formed = self._formed, {}
        return sum(_cut(each, inode) for each, inode in formed.items())


def _sockets() -> dict[int, int]:
    """Inodes of the open sockets, by descriptor."""
    found = {}
    for each in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):  # closed meanwhile
            status = os.fstat(int(each.name))
            if stat.S_ISSOCK(status.st_mode):
                found[int(each.name)] = status.st_ino
    return found


def _is_connection(descriptor: int, host: str) -> bool:
    """Whether it is a TCP connection, and no listening socket, at this address."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as found:
        is_tcp = found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM
        return is_tcp and not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and found.getsockname()[0] == host
    return False


def _cut(descriptor: int, inode: int) -> bool:
    """End a connection; False if it has ended, whatever has its descriptor now."""
    with contextlib.suppress(OSError):
        kept = os.dup(descriptor)
        with socket.socket(fileno=kept) as found:  # closed with it
            if os.fstat(kept).st_ino == inode:
                found.shutdown(socket.SHUT_RDWR)
                return True
    return False


__all__ = ["FormedConnections"]
