"""One zmq connection to one node. Owner: the session's lock."""

from __future__ import annotations

from typing import Any

import zmq

from sparkps import sockets
from sparkps.secret import TierSecret

#: Arrays of at least this many bytes are sent without a copy; below, a copy is cheaper than the bookkeeping.
ZERO_COPY_BYTES = 1 << 16


class ZmqChannel:
    """A DEALER connected to a node's ROUTER; see `network.Channel`.

    Parameters
    ----------
    context : zmq.Context
    endpoint : str
        ``ipc://...`` or ``tcp://...``.
    secret : TierSecret, optional
        Of the tier, where it asks for one.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, secret: TierSecret | None = None) -> None:
        self.endpoint = endpoint
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        # Credits bound what is in flight; the socket's own limits would only drop or block.
        self.socket.setsockopt(zmq.SNDHWM, 0)
        self.socket.setsockopt(zmq.RCVHWM, 0)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        self.socket.copy_threshold = ZERO_COPY_BYTES
        sockets.connect(self.socket, endpoint, secret)

    def send(self, frames: list[Any]) -> None:
        """Send one message; never blocks."""
        sockets.send(self.socket, frames, sockets.AT_ONCE)

    def receive(self) -> list[zmq.Frame] | None:
        """The next message, or None if there is none now."""
        try:
            return sockets.receive(self.socket, sockets.AT_ONCE)
        except zmq.Again:
            return None

    def close(self, linger: int) -> None:
        """Close the connection; what is not sent within `linger` milliseconds is dropped."""
        self.socket.close(linger)
