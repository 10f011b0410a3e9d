"""File descriptors of a process that answers many connections: as many as the system gives, and a way to live with too few.

A connection costs its acceptor one descriptor. Where none is left, libzmq ends the process if it listens at an ipc endpoint, and
spins if it listens at a tcp one. `ConnectionCap` stops taking connections before that. Not by unbinding: in libzmq a listener owns
the connections that it took, and they end with it.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import zmq

log = logging.getLogger(__name__)

#: Descriptors that are kept free, for files and for connections that come before the door is shut: a quarter of all, within the
#: outer bounds; where they are few, up to half of them. libzmq takes at most 2,000 connections more than were seen here, and then
#: waits until they are.
FEW_RESERVE, MOST_RESERVE = 256, 4096

#: Connections that wait at an ipc endpoint to be taken; to more the kernel says at once that they must try again.
BACKLOG = 4

#: Milliseconds between two looks while no connection comes.
_LOOK_MS = 500


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
    """

    def __init__(self, socket: zmq.Socket[Any], endpoint: str, reserve: int | None = None) -> None:
        self.endpoint = endpoint
        self.limit = _limit()
        self.reserve = _reserve(self.limit) if reserve is None else reserve
        self._socket = socket
        is_ipc = endpoint.startswith("ipc://")
        self._door: _Door = _IpcDoor(Path(endpoint[6:])) if is_ipc else _TcpDoor(endpoint)
        self._is_shut = False
        self._ended = threading.Event()
        #: At least so many descriptors are free, less those of connections that have come since they were counted.
        self._free = self.limit - open_descriptors()
        self._monitor = socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_ACCEPT_FAILED)
        self._thread = threading.Thread(target=self._watch, name="sparkps-connections", daemon=True)
        self._thread.start()

    @property
    def is_shut(self) -> bool:
        """Whether no new connection is taken now."""
        return self._is_shut

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
                self._take(self._events() if self._monitor.poll(_LOOK_MS) else [])
            except Exception:  # libzmq waits for whoever does not read what it tells, so this must not end
                log.exception("the connections of %s are not watched", self.endpoint)
                self._ended.wait(_LOOK_MS / 1000)

    def _events(self) -> list[int]:
        """What has happened."""
        events = []
        with contextlib.suppress(zmq.Again):
            while True:
                described, *_ = self._monitor.recv_multipart(zmq.NOBLOCK)
                events.append(struct.unpack_from("=H", described)[0])
        return events

    def _take(self, events: list[int]) -> None:
        self._free -= len(events)
        if zmq.EVENT_ACCEPT_FAILED in events:
            self._free = 0
        if self._is_shut or self._free < self.reserve:
            self._free = self.limit - open_descriptors()
        # It takes more to open the door than to leave it open, or it would never come to rest.
        if not self._is_shut and self._free < self.reserve:
            self._shut()
        elif self._is_shut and self._free >= 1.5 * self.reserve:
            self._door.open()
            self._is_shut = False
            log.info("new connections are taken again at %s", self.endpoint)

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
            descriptor = os.dup(int(entry.name))
            kept.callback(os.close, descriptor)
            found = net.socket(fileno=descriptor)
            kept.pop_all()
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
