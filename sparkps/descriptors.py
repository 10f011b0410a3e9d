"""File descriptors of a process that answers many connections: as many as the system gives, and a way to live with too few.

A connection costs its acceptor one descriptor. Where none is left, libzmq ends the process if it listens at an ipc endpoint, and
spins if it listens at a tcp one. `ConnectionCap` stops taking connections before that. Not by unbinding: in libzmq a listener owns
the connections that it took, and they end with it.

Nor does libzmq look at a message of a handshake before it has all of it, which may be as large as the largest message: the cap hangs up
on who sends more than a handshake has.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import socket as net
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import zmq

from sparkps.peer_limits import MOST_UNFINISHED, PeerLimits
from sparkps.sockets import HANDSHAKE_MS

log = logging.getLogger(__name__)

#: Descriptors that are kept free, for files and for connections that come before the door is shut: a quarter of all, within the
#: outer bounds; where they are few, up to half of them. libzmq takes at most 2,000 connections more than were seen here, and then
#: waits until they are.
FEW_RESERVE, MOST_RESERVE = 256, 4096

#: Connections that wait at an ipc endpoint to be taken; to more the kernel says at once that they must try again.
BACKLOG = 4

#: Milliseconds between two looks while no connection comes, and while there are handshakes.
_LOOK_MS, _HANDSHAKE_LOOK_MS = 500, 20

#: Bytes that may come of a peer before it has shown that it has the secret. A handshake of CURVE has less than 1,000, and nobody goes on
#: before it has got the last part of it from here, which the first byte that follows acknowledges.
MOST_HANDSHAKE_BYTES = 1 << 14

#: Bytes that this side has sent, at least, when a handshake of CURVE has ended well: greeting (64), WELCOME (170), READY (54 and more).
#: Before that they are the first two, and an ERROR of 12. libzmq tells that a handshake has ended, but not whose.
_FINISHED_BYTES = 280

#: Of Linux: bytes of a TCP connection that its peer has acknowledged, and that were received, in what the system tells of it.
_TCP_INFO = struct.Struct("=120xQQ")



def raise_limit() -> int:
    """Let this process have as many descriptors as its hard limit allows; the number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _limit()


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


def open_descriptors() -> int:
    """Number of descriptors that this process has open."""
    # Since Linux 6.2 the directory says so itself; to read 100,000 entries takes 30 ms.
    opened = Path("/proc/self/fd")
    return opened.stat().st_size or sum(1 for _ in opened.iterdir())


class ConnectionCap:
    """Keeps a bound ROUTER from taking more connections than there are descriptors for; those that it has go on.

    A thread of its own counts connections as they come, since a burst of them takes all descriptors within milliseconds, and shuts
    and opens the door without asking libzmq. Whoever connects to a door that is shut tries again, as libzmq does, until it opens.

    Parameters
    ----------
    socket : zmq.Socket
        Bound; of the calling thread, which is to call `close`.
    endpoint : str
        Where it is bound.
    reserve : int, optional
        Descriptors to keep free.
    limits : PeerLimits, optional
        How many connections a host may have; for TCP endpoints: at others there is one host only.
    is_secured : bool
        Peers must show that they have a secret. Where they need not, they may send what they want before their handshake was looked at.

    Attributes
    ----------
    cut : int
        Connections that were hung up on because they sent more than a handshake has.
    """

    def __init__(
        self,
        socket: zmq.Socket[Any],
        endpoint: str,
        reserve: int | None = None,
        limits: PeerLimits | None = None,
        is_secured: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self.limit = _limit()
        self.reserve = _reserve(self.limit) if reserve is None else reserve
        self._socket = socket
        is_ipc = endpoint.startswith("ipc://")
        self._door: _Door = _IpcDoor(Path(endpoint[6:])) if is_ipc else _TcpDoor(endpoint)
        self._limits = None if is_ipc else limits
        self._port = 0 if is_ipc else int(endpoint.rpartition(":")[2])
        self.cut = 0
        #: Whose handshakes are watched: `limits`, or nobody's.
        self._watched = self._limits if is_secured else None
        self._next_handshake_look = 0.0
        self._next_warning = 0.0
        self._is_shut = False
        self._ended = threading.Event()
        #: At least so many descriptors are free, less those of connections that have come since they were counted.
        self._free = self.limit - open_descriptors()
        self._monitor = socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_ACCEPT_FAILED | zmq.EVENT_DISCONNECTED)
        self._thread = threading.Thread(target=self._watch, name="sparkps-connections", daemon=True)
        self._thread.start()

    @property
    def is_shut(self) -> bool:
        """Whether no new connection is taken now."""
        return self._is_shut

    def report(self) -> dict[str, int]:
        """``refused_connections`` and ``cut_handshakes``, as a status has them."""
        return {"refused_connections": 0 if self._limits is None else self._limits.refused, "cut_handshakes": self.cut}

    def close(self) -> None:
        """Stop watching, and leave the endpoint open. To be called before the socket is closed."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._socket.disable_monitor()
        self._thread.join(10)
        self._monitor.close(linger=0)
        if self._is_shut:
            self._door.open()
        self._door.leave()

    # ---- the thread ----------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._ended.is_set():
            try:
                watched = self._watched
                are_there = watched is not None and bool(watched.unfinished)
                self._take(self._events() if self._monitor.poll(_HANDSHAKE_LOOK_MS if are_there else _LOOK_MS) else [])
                if watched is not None and time.monotonic() >= self._next_handshake_look:
                    self._look_at_handshakes(watched)
                    self._next_handshake_look = time.monotonic() + _HANDSHAKE_LOOK_MS / 1000
            except Exception:  # libzmq waits for whoever does not read what it tells, so this must not end
                log.exception("the connections of %s are not watched", self.endpoint)
                self._ended.wait(_LOOK_MS / 1000)

    def _events(self) -> list[tuple[int, int]]:
        """What has happened: events, each with its descriptor."""
        events = []
        with contextlib.suppress(zmq.Again):
            while True:
                described, *_ = self._monitor.recv_multipart(zmq.NOBLOCK)
                events.append(struct.unpack_from("=Hi", described))
        return events

    def _take(self, events: list[tuple[int, int]]) -> None:
        self._free -= sum(event != zmq.EVENT_DISCONNECTED for event, _ in events)
        if any(event == zmq.EVENT_ACCEPT_FAILED for event, _ in events):
            self._free = 0
        if self._limits is not None:
            for event, descriptor in events:
                self._hold_to_limits(self._limits, event, descriptor)
        if self._is_shut or self._free < self.reserve:
            self._free = self.limit - open_descriptors()
        # It takes more to open the door than to leave it open, or it would never come to rest.
        if not self._is_shut and self._free < self.reserve:
            self._shut()
        elif self._is_shut and self._free >= 1.5 * self.reserve:
            self._door.open()
            self._is_shut = False
            log.info("new connections are taken again at %s", self.endpoint)

    def _hold_to_limits(self, limits: PeerLimits, event: int, descriptor: int) -> None:
        if event == zmq.EVENT_DISCONNECTED:
            limits.gone(descriptor)
        elif event == zmq.EVENT_ACCEPTED:
            # It may have ended by now, and its descriptor be another connection's, which then loses a handshake; never another file's.
            with contextlib.suppress(OSError), _another(descriptor) as connection:
                now, host = time.monotonic(), str(connection.getpeername()[0])
                if connection.getsockname()[1:2] == (self._port,) and not limits.accepted(descriptor, host, now):
                    connection.shutdown(net.SHUT_RDWR)
                    self._warn_of(limits, host, now)
            if self._watched is None:
                limits.finished(descriptor)

    def _look_at_handshakes(self, limits: PeerLimits) -> None:
        """See which have ended, and hang up on who has sent more than a handshake has."""
        limits.finish_old(time.monotonic() - 2 * HANDSHAKE_MS / 1000)  # of which the system does not tell
        for descriptor, host in list(limits.unfinished.items()):
            acknowledged, received = _told_by_tcp(descriptor)
            if acknowledged >= _FINISHED_BYTES:
                limits.finished(descriptor)
            elif received > MOST_HANDSHAKE_BYTES:
                with contextlib.suppress(OSError), _another(descriptor) as connection:
                    # The number may be another connection's by now, which the same is asked of, or that of one to another process.
                    acknowledged, received = _told_by_tcp(connection.fileno())
                    is_ours = connection.getsockname()[1:2] == (self._port,)
                    if is_ours and acknowledged < _FINISHED_BYTES and received > MOST_HANDSHAKE_BYTES:
                        # Reset where libzmq closes it: whoever sends more than is read would not hear of an orderly end.
                        connection.setsockopt(net.SOL_SOCKET, net.SO_LINGER, struct.pack("ii", 1, 0))
                        connection.shutdown(net.SHUT_RDWR)
                        limits.finished(descriptor)
                        self.cut += 1
                        self._warn_of_size(host)

    def _warn_of_size(self, host: str) -> None:
        now = time.monotonic()
        if now >= self._next_warning:
            self._next_warning = now + 10.0
            log.warning(
                "%s has sent more than %d bytes to %s without having shown that it has the secret; %d connections were hung up on for that"
                " so far",
                host,
                MOST_HANDSHAKE_BYTES,
                self.endpoint,
                self.cut,
            )

    def _warn_of(self, limits: PeerLimits, host: str, now: float) -> None:
        if now >= self._next_warning:
            self._next_warning = now + 10.0
            log.warning(
                "%s connects to %s more often than a host may: %d connections at a time, %d handshakes, %g new ones a second; %d were hung"
                " up on so far."
                " Raise `spark.sparkps.maxPeerConnections` or `spark.sparkps.maxPeerHandshakes` if they are ours.",
                host,
                self.endpoint,
                limits.most,
                MOST_UNFINISHED,
                limits.rate,
                limits.refused,
            )

    def _shut(self) -> None:
        self._door.shut()
        self._is_shut = True
        log.warning(
            "no new connection is taken at %s: %d of %d file descriptors are in use. Raise the limit (`ulimit -n`), or let fewer"
            " processes connect.",
            self.endpoint,
            self.limit - self._free,
            self.limit,
        )


def _another(descriptor: int) -> net.socket:
    """Another descriptor of a socket, which is the caller's to close.

    Raises
    ------
    OSError
        It is closed by now, or another file has its number.
    """
    copy = os.dup(descriptor)
    try:
        return net.socket(fileno=copy)
    except BaseException:
        os.close(copy)
        raise


def _told_by_tcp(descriptor: int) -> tuple[int, int]:
    """Bytes that the peer of a TCP connection has acknowledged, and that it has sent; 0 where it has ended, or the number is a file's."""
    try:
        connection = net.socket(net.AF_INET, net.SOCK_STREAM, 0, descriptor)  # without asking the system what it is: 1 us, not 5
    except OSError:
        return 0, 0
    try:
        told = connection.getsockopt(net.IPPROTO_TCP, net.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return 0, 0
    finally:
        connection.detach()
    if len(told) != _TCP_INFO.size:  # a system that does not count them
        return 0, 0
    acknowledged, received = _TCP_INFO.unpack(told)
    return acknowledged, received


def _reserve(limit: int) -> int:
    return min(max(limit // 4, min(limit // 2, FEW_RESERVE)), MOST_RESERVE)


class _Door(Protocol):
    """A place where connections are taken."""

    def shut(self) -> None:
        """Take no more."""

    def open(self) -> None:
        """Take them again."""

    def leave(self) -> None:
        """Let go of the endpoint."""


class _TcpDoor:
    """Lets the kernel drop whatever comes to the listening socket: peers try again, and connections that are there go on."""

    #: Of Linux, for setsockopt; and a filter of one instruction, which accepts nothing.
    _ATTACH, _DETACH, _NOTHING = 26, 27, struct.pack("HBBI", 0x06, 0, 0, 0)

    def __init__(self, endpoint: str) -> None:
        port = int(endpoint.rpartition(":")[2])
        self._listener = _listening_socket(lambda address: address[1:2] == (port,))

    def shut(self) -> None:
        program = ctypes.create_string_buffer(self._NOTHING)
        self._listener.setsockopt(net.SOL_SOCKET, self._ATTACH, struct.pack("HL", 1, ctypes.addressof(program)))

    def open(self) -> None:
        self._listener.setsockopt(net.SOL_SOCKET, self._DETACH, 0)

    def leave(self) -> None:
        self._listener.close()


def _listening_socket(is_ours: Callable[[Any], bool]) -> net.socket:
    """Another descriptor of the socket with which this process listens at an address: libzmq does not tell its own."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError), contextlib.ExitStack() as kept:  # not a socket, or closed by now
            found = _another(int(entry.name))
            kept.callback(found.close)
            if found.getsockopt(net.SOL_SOCKET, net.SO_ACCEPTCONN) and is_ours(found.getsockname()):
                kept.pop_all()
                return found
    raise ValueError("A cap is for a socket that is bound. Nobody listens there.")


class _IpcDoor:
    """Puts another socket in the place of the listening one, whose queue is full for ever.

    Whoever connects finds somebody who is there and busy, and tries again, as libzmq does; to unbind would look as if the process
    were gone. The listening socket keeps a second name meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._aside = path.with_name(path.name + ".listening")
        self._busy: tuple[net.socket, ...] = ()
        # Those that wait are taken after the door is shut, too.
        with _listening_socket(lambda address: address == os.fspath(path)) as listener:
            listener.listen(BACKLOG)

    def shut(self) -> None:
        full = self._path.with_name(self._path.name + ".full")
        listener, first = net.socket(net.AF_UNIX), net.socket(net.AF_UNIX)
        try:
            listener.bind(os.fspath(full))
            listener.listen(0)
            first.connect(os.fspath(full))
            os.link(self._path, self._aside)
            full.replace(self._path)
        except BaseException:
            listener.close()
            first.close()
            full.unlink(missing_ok=True)
            raise
        self._busy = listener, first

    def open(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # the whole directory is gone: the tier has ended
            self._aside.replace(self._path)
        for socket in self._busy:
            socket.close()
        self._busy = ()

    def leave(self) -> None:
        pass


__all__ = ["ConnectionCap", "open_descriptors", "raise_limit"]
