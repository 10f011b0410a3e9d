"""Whether a process still listens at an endpoint: a coordinator that is gone is told from one that is merely slow.

A stopped or busy process still accepts connections, since the kernel does that for it; only of one that is gone are they refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from enum import Enum
from pathlib import Path

from sparkps import lifeline

#: Seconds between two looks.
LOOK_EVERY = 0.5


class Peer(Enum):
    """What is known of an endpoint."""

    UNKNOWN = "nobody has answered yet"
    THERE = "a process accepts connections"
    GONE = "connections are refused"


def is_removed(endpoint: str) -> bool:
    """Whether the socket of a local endpoint is not in its directory any more, which goes with the tier when that is stopped.

    Examples
    --------
    >>> is_removed("ipc:///no/such/directory/node0"), is_removed("tcp://127.0.0.1:1")
    (True, False)
    """
    kind, _, where = endpoint.partition("://")
    return kind == "ipc" and not where.startswith("@") and not os.path.lexists(where)


def may_return(endpoint: str) -> bool:
    """Whether a process that has ended may be started again at an endpoint: there is a journal to go on from, or may be on another host."""
    kind, _, where = endpoint.partition("://")
    return kind == "tcp" or (kind == "ipc" and not where.startswith("@") and os.path.lexists(where + lifeline.JOURNAL))


def why_gone(endpoint: str) -> str:
    """What can be said of an endpoint at which nobody listens, as a clause."""
    if is_removed(endpoint):
        return (
            "nobody listens there. The PSContext was stopped, and its tables went with it, the coefficients of large models too; or it"
            " runs on another host"
        )
    return "nobody listens there. It has stopped, its process is gone, or it runs on another host"


class Presence:
    """Looks now and then at an endpoint, without blocking (but for the name of a host that must be resolved).

    Parameters
    ----------
    endpoint : str
        ``ipc://path`` or ``tcp://host:port``; others are never known.
    """

    def __init__(self, endpoint: str) -> None:
        self._kind, _, self._where = endpoint.partition("://")
        self.peer = Peer.UNKNOWN
        #: When to look again (seconds, the caller's clock).
        self.next_look = 0.0
        #: A connection that is being tried.
        self._trying: socket.socket | None = None

    def look(self, now: float) -> Peer:
        """What is known at time `now`."""
        if now >= self.next_look:
            self.next_look = now + LOOK_EVERY
            if self._kind == "ipc" and not self._where.startswith("@"):
                self.peer = Peer.THERE if lifeline.answers(Path(self._where)) else Peer.GONE
            elif self._kind == "tcp" and self._trying is None:
                self._try()
        if self._trying is not None:
            self._hear()
        return self.peer

    def _try(self) -> None:
        host, _, port = self._where.rpartition(":")
        with contextlib.suppress(OSError, ValueError):  # a name that cannot be resolved now says nothing
            family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
            self._trying = socket.socket(family, kind, protocol)
            self._trying.setblocking(False)
            self._heard(self._trying.connect_ex(address))

    def _hear(self) -> None:
        assert self._trying is not None
        if select.select([], [self._trying], [], 0)[1]:
            self._heard(self._trying.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _heard(self, code: int) -> None:
        if code == errno.EINPROGRESS:
            return
        if code in (0, errno.ECONNREFUSED):
            self.peer = Peer.GONE if code else Peer.THERE
        self.close()

    def close(self) -> None:
        """Give up the connection that is being tried."""
        if self._trying is not None:
            self._trying.close()
            self._trying = None


__all__ = ["LOOK_EVERY", "Peer", "Presence", "is_removed", "may_return", "why_gone"]
