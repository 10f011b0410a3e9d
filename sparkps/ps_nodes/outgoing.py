"""Answers on their way out, and a bound on how many of them wait for a client that does not read."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

import zmq

from sparkps import sockets

log = logging.getLogger(__name__)

#: Bytes of large answers that may wait for one client, and for all clients together, before further ones are dropped. A client
#: that reads has no more under way than its credits.
MOST_BYTES, MOST_BYTES_OF_ALL = 256 << 20, 2 << 30


class Unsent:
    """Sends answers, and knows which of the large ones still lie in memory. Owner: the thread of the socket.

    An answer that is dropped is as good as lost on its way: a client that still wants it asks again.

    Parameters
    ----------
    socket : zmq.Socket
        A ROUTER.
    large : int
        Frames of at least so many bytes are sent from where they lie.
    """

    def __init__(self, socket: sockets.Socket, large: int) -> None:
        self._socket = socket
        self._large = large
        #: By connection: large answers in the order in which they were sent, with their bytes.
        self._waiting: dict[bytes, deque[tuple[zmq.MessageTracker, int]]] = {}
        #: Bytes by connection, and of all.
        self._bytes: dict[bytes, int] = {}
        self.total = 0
        #: Bytes of all beyond which large answers are dropped.
        self.most = MOST_BYTES_OF_ALL
        #: Answers that were dropped.
        self.dropped = 0

    def send(self, identity: bytes, frames: list[Any]) -> None:
        """Send an answer to the connection of that routing id."""
        nbytes = sum(frame.nbytes for frame in frames[1:]) if len(frames) > 1 else 0
        if nbytes < self._large:
            sockets.send(self._socket, [identity, *frames])
            return
        self._prune()
        if self._bytes.get(identity, 0) > MOST_BYTES or self.total > self.most:
            self.dropped += 1
            return
        tracker = sockets.send_tracked(self._socket, [identity, *frames], self._large)
        if tracker is not None:
            self._waiting.setdefault(identity, deque()).append((tracker, nbytes))
            self._bytes[identity] = self._bytes.get(identity, 0) + nbytes
            self.total += nbytes

    def _prune(self) -> None:
        """Forget what has been sent."""
        for identity, waiting in list(self._waiting.items()):
            while waiting and waiting[0][0].done:
                self._bytes[identity] -= waiting[0][1]
                self.total -= waiting.popleft()[1]
            if not waiting:
                del self._waiting[identity], self._bytes[identity]
