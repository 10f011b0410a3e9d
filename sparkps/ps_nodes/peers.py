"""Connections of a node to others, to which it ships what they copy."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import zmq

from sparkps import sockets
from sparkps.secret import TierSecret

log = logging.getLogger(__name__)

#: Frames of at least so many bytes are sent from where they lie.
ZERO_COPY_BYTES = 1 << 16


class Peers:
    """A DEALER to each node that copies something. Owner: the I/O thread.

    Parameters
    ----------
    context : zmq.Context
    secret : TierSecret, optional
        Of the tier, where it asks for one.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], secret: TierSecret | None = None) -> None:
        self._secret = secret
        self._context = context
        self._sockets: dict[int, zmq.Socket[bytes]] = {}

    def send(self, node: int, endpoint: str, frames: list[Any]) -> None:
        """Send one message to a node; never blocks."""
        socket = self._sockets.get(node)
        if socket is None:
            socket = self._sockets[node] = self._context.socket(zmq.DEALER)
            socket.setsockopt(zmq.LINGER, 0)
            # Logs bound what is under way; the socket's own limits would only drop or block.
            socket.setsockopt(zmq.SNDHWM, 0)
            socket.setsockopt(zmq.RECONNECT_IVL, 50)
            socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
            socket.copy_threshold = ZERO_COPY_BYTES
            sockets.connect(socket, endpoint, self._secret)
        sockets.send(socket, frames, sockets.AT_ONCE)

    def forget(self, node: int) -> None:
        """The node is gone."""
        socket = self._sockets.pop(node, None)
        if socket is not None:
            socket.close(0)

    def readable(self) -> Iterator[tuple[int, list[Any]]]:
        """What other nodes have answered, message by message."""
        for node, socket in list(self._sockets.items()):
            while True:
                try:
                    yield node, sockets.receive(socket, sockets.AT_ONCE)
                except zmq.Again:
                    break

    @property
    def sockets(self) -> list[zmq.Socket[bytes]]:
        """All of them, to be waited for."""
        return list(self._sockets.values())

    def close(self) -> None:
        """Close all connections."""
        for node in list(self._sockets):
            self.forget(node)
