"""Multipart messages on zmq sockets, with no more Python than needed: a small request spends most of its time here.

pyzmq's own ``send_multipart`` and ``recv_multipart`` check every part and ask the library after each; with flags as enums that
takes 6 us a message, and this 3.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence, Sized
from typing import TYPE_CHECKING, Any

import zmq

from sparkps.errors import ConfigError

if TYPE_CHECKING:
    from sparkps.secret import TierSecret

_READABLE, _MORE = int(zmq.POLLIN), int(zmq.SNDMORE)

#: For `send` and `receive`: raise `zmq.Again` instead of waiting.
AT_ONCE = int(zmq.NOBLOCK)

#: Seconds for which a processor that was given away comes back late: the work of our own threads is shorter, a time slice longer.
LONG_AWAY = 300e-6
#: Seconds without spinning after that: at first, and at most.
SHORTEST_REST, LONGEST_REST = 0.05, 2.0

Socket = zmq.Socket[Any]


#: Milliseconds in which a peer must have shown that it has the secret. Beside busy cores, with hundreds that begin together, a handshake
#: can take a second; what it may cost meanwhile is bounded otherwise (`descriptors.MOST_HANDSHAKE_BYTES`, `peer_limits.MOST_UNFINISHED`).
HANDSHAKE_MS = 5_000
#: A frame so many times as large as all frames of a message may be is no mistake of a client, which would be told of it: whoever begins
#: to send one is hung up on before there is memory for it.
FAR_TOO_LARGE = 2


def connect(socket: Socket, endpoint: str, secret: TierSecret | None) -> None:
    """Connect to an endpoint of a tier: at a TCP endpoint encrypted, and to nobody but a server that has the same secret (CURVE)."""
    if secret is not None and endpoint.startswith("tcp://"):
        socket.setsockopt(zmq.CURVE_SERVERKEY, secret.server.public)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, secret.client.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, secret.client.secret)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.connect(endpoint)


def bind(socket: Socket, endpoint: str, secret: TierSecret | None, max_message_bytes: int) -> str:
    """Listen at an endpoint, TCP with CURVE as in `connect`.

    Parameters
    ----------
    socket : zmq.Socket
    endpoint : str
        Port 0 is a free one, and of ``tcp://host:7100-7199`` the first that is free is taken.
    secret : TierSecret, optional
        Of the tier. Who is admitted is for an `admission.Admission` to say, which must be there before.
    max_message_bytes : int
        Of the largest message that is expected.

    Returns
    -------
    str
        The endpoint, with its port.

    Raises
    ------
    ConfigError
        No port of the range is free.
    """
    socket.setsockopt(zmq.MAXMSGSIZE, FAR_TOO_LARGE * max_message_bytes)
    if secret is not None and endpoint.startswith("tcp://"):
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, secret.server.secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, b"sparkps")
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    _bind_first(socket, endpoint)
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def _bind_first(socket: Socket, endpoint: str) -> None:
    """Listen at the first port that is free, of ``tcp://host:7100-7199``, or at the only one of ``tcp://host:7100``."""
    host, _, asked = endpoint.rpartition(":")
    first, _, last = asked.partition("-")
    last = last or first
    if not (endpoint.startswith("tcp://") and first.isdecimal() and last.isdecimal()):
        socket.bind(endpoint)
        return
    for port in range(int(first), int(last) + 1):
        try:
            socket.bind(f"{host}:{port}")
            return
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE:
                raise
    which = f"One of the ports {asked}" if first != last else f"Port {first}"
    raise ConfigError(
        f"{which} must be free on each host for each node there (`spark.sparkps.nodePorts`), and that of the coordinator on its own"
        f" (`spark.sparkps.coordinatorPort`). None is at {host}.",
        key="spark.sparkps.nodePorts",
    )


def send(socket: Socket, frames: Sequence[Any], flags: int = 0) -> None:
    """Send one message.

    Parameters
    ----------
    socket : zmq.Socket
    frames : sequence of bytes, ndarray or zmq.Frame
        From ``socket.copy_threshold`` bytes on a frame is sent from where it lies, and must not change before it is sent.
    flags : int
        0 or `AT_ONCE`.
    """
    more = flags | _MORE
    last = len(frames) - 1
    for i in range(last):
        socket.send(frames[i], more, False)
    socket.send(frames[last], flags, False)


def send_tracked(socket: Socket, frames: Sequence[Any], large: int) -> zmq.MessageTracker | None:
    """As `send`; tells when the last frame of at least `large` bytes is out of this process's memory. None: there is none."""
    last = len(frames) - 1
    heavy = max((i for i, frame in enumerate(frames) if getattr(frame, "nbytes", 0) >= large), default=-1)
    tracker = None
    for i, frame in enumerate(frames):
        tracked = i == heavy
        sent = socket.send(frame, _MORE if i < last else 0, False, tracked)
        tracker = sent if tracked else tracker
    return tracker


def receive(socket: Socket, flags: int = 0) -> list[zmq.Frame]:
    """The next message; its frames lie where the library received them.

    Raises
    ------
    zmq.Again
        There is none, and `flags` or the socket's time-out forbid to wait longer.
    """
    frame = socket.recv(flags, False)
    frames = [frame]
    while frame.more:
        frame = socket.recv(flags, False)
        frames.append(frame)
    return frames


def is_readable(socket: Socket) -> bool:
    """Whether a message is there."""
    return bool(zmq.zmq_poll([(socket, _READABLE)], 0))


class Crowd:
    """Whether others want the processors: what this process has seen of it. Any thread; a look that is out of date costs one wait.

    Whoever gives its processor away while others are waiting for one gets it back a time slice of some milliseconds later; whoever
    sleeps is woken at once. So nobody should spin beside busy processes, and only who spins can see whether there are any.
    """

    def __init__(self) -> None:
        #: Nobody spins until then.
        self.until = 0.0
        self._rest = SHORTEST_REST

    def met(self, now: float) -> None:
        """The processor was away: spin no more for a while, twice as long as the last time."""
        self.until = now + self._rest
        self._rest = min(2 * self._rest, LONGEST_REST)

    def gone(self) -> None:
        """Spinning has found its message."""
        self._rest = SHORTEST_REST


#: Of this process.
crowd = Crowd()


def spin(sockets: Sequence[Socket], seconds: float, unless: Sized = ()) -> bool:
    """Look for a message at any of `sockets` without sleeping, for at most `seconds` and while `unless` is empty; whether there is one.

    To be woken on a machine with nothing else to do takes as long as a small request does. Between two looks the processor goes to
    whoever else can use it; if it was away for long, all spinning of this process rests for a while (see `Crowd`).
    """
    now = time.perf_counter()
    if now < crowd.until:
        return False
    look = [(socket, _READABLE) for socket in sockets]
    until = now + seconds
    while not unless and now < until:
        if zmq.zmq_poll(look, 0):
            crowd.gone()
            return True
        looked = time.perf_counter()
        os.sched_yield()
        now = time.perf_counter()
        if now - looked > LONG_AWAY:
            crowd.met(now)
            return bool(zmq.zmq_poll(look, 0))
    return False


__all__ = ["AT_ONCE", "Crowd", "Socket", "bind", "connect", "is_readable", "receive", "send", "send_tracked", "spin"]
