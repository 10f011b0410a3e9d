"""Whether a tier admits this process, found out before anything is asked of it: a peer without the secret is hung up on without a word."""

from __future__ import annotations

import contextlib
import socket as net
import struct
import time
from typing import Any
from urllib.parse import urlsplit

import zmq

from sparkps.errors import NodeUnreachable, NotAdmitted
from sparkps.secret import TierSecret
from sparkps.sockets import connect

#: A peer that was hung up on so often, for so many seconds, was not admitted; a process that is about to end hangs up once.
HUNG_UP_ON, FOR_SECONDS = 2, 0.15

#: Seconds that a connection has to connect which says nothing.
SILENT_WITHIN = 0.3

#: The peer has said so, or speaks another protocol: it wants keys, or has none.
_TOLD = (zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | _TOLD[0] | _TOLD[1]


class Handshakes:
    """What comes of the handshakes with one peer. Pure: time is an argument (seconds, monotonic).

    Examples
    --------
    >>> seen = Handshakes()
    >>> [seen.take(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, now) for now in (0.0, 0.1, 0.2, 0.3)]
    [None, None, False, False]
    """

    def __init__(self) -> None:
        self._failures = 0
        self._first = 0.0

    def take(self, event: int, now: float) -> bool | None:
        """Whether this process is admitted; None: that is not known yet."""
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            return True
        if event in _TOLD:
            return False
        self._first = self._first if self._failures else now
        self._failures += 1
        return False if self._failures >= HUNG_UP_ON and now - self._first >= FOR_SECONDS else None


class _SilentConnection:
    """A connection on which nothing is said: a peer hangs up on it at once where it takes no more of this host, and for no other reason.

    Where a secret is asked for, the peer waits for it for seconds.
    """

    def __init__(self, endpoint: str) -> None:
        target = urlsplit(endpoint)
        self._connection: net.socket | None = None
        with contextlib.suppress(OSError):
            self._connection = net.create_connection((str(target.hostname), target.port or 0), SILENT_WITHIN)
            self._connection.setblocking(False)

    def was_hung_up_on(self) -> bool:
        """Whether the peer has ended it, or has never taken it."""
        try:
            while self._connection is not None:
                if not self._connection.recv(4096):
                    return True
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()


class _Causes:
    """Finds out why handshakes with a peer fail: by the secret, or before that could be shown.

    The silent connection counts for the peer as well, and may be the one that is too many: handshakes must fail beside it, to see what
    becomes of it, and then without it.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._seen = Handshakes()
        self._silent: _SilentConnection | None = None
        #: Whether a silent connection was let be.
        self._lets_be = False
        #: How often one was hung up on.
        self.hung_up = 0

    def take(self, event: int, now: float) -> bool | None:
        """As `Handshakes.take`, of the secret alone."""
        admitted = self._seen.take(event, now)
        if admitted is None and self._silent is None and not self._lets_be:
            self._silent = _SilentConnection(self._endpoint)
        if admitted is not False or event in _TOLD or self._lets_be:
            return admitted
        self._lets_be = self._silent is not None and not self._silent.was_hung_up_on()
        self.hung_up += not self._lets_be
        self.close()
        self._seen = Handshakes()
        return None

    def close(self) -> None:
        if self._silent is not None:
            self._silent.close()
            self._silent = None


def check_admitted(endpoint: str, secret: TierSecret | None, seconds: float = 5.0) -> None:
    """Shake hands with the coordinator of a tier, and hang up.

    Parameters
    ----------
    endpoint : str
        ``tcp://host:port`` of the coordinator.
    secret : TierSecret or None
    seconds : float
        In which it must be done, where somebody listens; whoever is not admitted is told so within one.

    Raises
    ------
    NotAdmitted
        The tier has another secret.
    NodeUnreachable
        Nobody listens there, or nobody of our kind, or it has as many connections of this host as it takes.
    """
    context: zmq.Context[Any] = zmq.Context.instance()
    deadline, seen = time.monotonic() + seconds, _Causes(endpoint)
    with context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 100)
        monitor = socket.get_monitor_socket(_EVENTS)
        try:
            connect(socket, endpoint, secret)
            while (left := deadline - time.monotonic()) > 0:
                if not monitor.poll(int(left * 1000) + 1):
                    break
                (event,) = struct.unpack_from("=H", monitor.recv_multipart()[0])
                admitted = seen.take(event, time.monotonic())
                if admitted:
                    return
                if admitted is False:
                    raise NotAdmitted(
                        f"Whoever uses the tier at {endpoint} must have its secret. "
                        + ("This process has none" if secret is None else "That of this process is another one")
                        + ": it was hung up on. Give the secret file that was written when the tier was started.",
                        endpoint=endpoint,
                    )
        except zmq.ZMQError as error:
            raise NodeUnreachable(f"The coordinator must be reachable at {endpoint}. It is not: {error}.", endpoint=endpoint) from None
        finally:
            seen.close()
            socket.disable_monitor()
            monitor.close(0)
    if seen.hung_up:
        raise NodeUnreachable(
            f"The coordinator must take connections at {endpoint}. For {seconds:g} s it has hung up before this process could show its"
            " secret: it has as many connections of this host as it takes, or as many new ones (`spark.sparkps.maxPeerConnections`,"
            " `maxPeerHandshakes` of the tier), or is about to end. Or a proxy listens there for nobody.",
            endpoint=endpoint,
        )
    raise NodeUnreachable(
        f"The coordinator must be reachable at {endpoint}. It is not within {seconds:g} s: nobody listens there, or it runs behind a"
        " firewall. Has the tier been stopped (`sparkps tier status`)?",
        endpoint=endpoint,
    )


__all__ = ["check_admitted"]
