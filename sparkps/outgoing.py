"""Messages on their way out, and a bound on how many of them wait for a peer that does not read.

Of a large message the library tells when it is out of this process's memory. Small ones are only counted: each time that those for one
peer have become `PROBE_BYTES` together, the next one is sent so that the library tells, and with it go all that were sent before. So is the
first one to a peer of which nothing is counted.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq

from sparkps import sockets

log = logging.getLogger(__name__)

#: Bytes of messages that may wait for one peer, and for all together, before further ones are dropped. A client that reads has no more
#: under way than its credits.
MOST_BYTES, MOST_BYTES_OF_ALL = 256 << 20, 2 << 30

#: Bytes of small messages to one peer that are known as one; and what a message takes besides its frames (about).
PROBE_BYTES, MESSAGE_BYTES = 1 << 20, 256
#: Connections whose small messages are counted, and the part of the bound of all that these may make up: most of them were read long ago,
#: which nobody tells. Beyond either, those to which nothing was sent for longest are forgotten.
MOST_COUNTED, SMALL_SHARE = 1 << 14, 8
#: The part of the bound of all that one connection may have; and so many times that bound may wait for others before large answers to those
#: who read are dropped, too.
OWN_SHARE, READERS_SHARE = 4, 2


class Unsent:
    """Sends messages, and knows how many bytes of them still lie in memory. Owner: the thread of the socket.

    An answer that is dropped is as good as lost on its way: a client that still wants it asks again.

    Parameters
    ----------
    socket : zmq.Socket
        A ROUTER.
    large : int
        Frames of at least so many bytes are sent from where they lie.
    must_arrive : callable, optional
        Of the routing id of a connection: whether what goes there must not be dropped, because nobody would ask for it again.
    """

    def __init__(self, socket: sockets.Socket, large: int, must_arrive: Callable[[bytes], bool] = lambda identity: False) -> None:
        self._socket = socket
        self._large = large
        self._must_arrive = must_arrive
        #: By connection: bytes of small messages since the last one of which it will be known when it is out, and of all; the connection
        #: to which nothing was sent for longest first.
        self._small: dict[bytes, int] = {}
        self._small_bytes = 0
        #: By connection: messages of which that is known, in the order in which they were sent, with their bytes and those before them.
        self._waiting: dict[bytes, deque[tuple[zmq.MessageTracker, int]]] = {}
        #: Their bytes by connection, and of all.
        self._bytes: dict[bytes, int] = {}
        self._waiting_bytes = 0
        #: Bytes of all beyond which answers are dropped: large ones, and all to who has not read others.
        self.most = MOST_BYTES_OF_ALL
        #: Answers that were dropped.
        self.dropped = 0

    @property
    def total(self) -> int:
        """Bytes that may lie in memory: those of which it is not known that they are out."""
        return self._waiting_bytes + self._small_bytes

    def report(self) -> dict[str, int]:
        """``unsent_bytes`` and ``unsent_dropped``, as a status has them."""
        return {"unsent_bytes": self.total, "unsent_dropped": self.dropped}

    def send(self, identity: bytes, frames: list[Any]) -> None:
        """Send an answer to the connection of that routing id."""
        nbytes = sum(frame.nbytes for frame in frames[1:]) if len(frames) > 1 else 0
        more = nbytes + MESSAGE_BYTES + len(frames[0])
        is_small = nbytes < self._large
        small = self._small.pop(identity, None)  # and in again: the last one is the newest
        if is_small and small is not None and small + more < PROBE_BYTES and self.total <= self.most:
            self._count(identity, small, more)
            sockets.send(self._socket, [identity, *frames])
            return
        self._prune()
        if self._is_too_much(identity, is_small) and not self._must_arrive(identity):
            self.dropped += 1
            if small is not None:
                self._small[identity] = small
            return
        if is_small:
            tracker: zmq.MessageTracker | None = self._probe(identity, frames)
        else:
            tracker = sockets.send_tracked(self._socket, [identity, *frames], self._large)
        known = small or 0
        if tracker is None:  # all of its frames are small
            self._count(identity, known, more)
            return
        self._small_bytes -= known
        self._waiting.setdefault(identity, deque())
        self._wait(identity, tracker, known + more)
        self._count(identity, 0, 0)

    def _is_too_much(self, identity: bytes, is_small: bool) -> bool:
        """Whether too much waits, for this connection or for all. Whoever has read all gets more for longer than those who do not read."""
        if self._bytes.get(identity, 0) > min(MOST_BYTES, self.most // OWN_SHARE):
            return True
        if identity not in self._bytes:
            return not is_small and self.total > READERS_SHARE * self.most
        return self.total > self.most

    def _count(self, identity: bytes, known: int, more: int) -> None:
        """So many more bytes of small messages."""
        self._small[identity] = known + more
        self._small_bytes += more
        most = max(self.most // SMALL_SHARE, PROBE_BYTES)
        while self._small_bytes > most or len(self._small) > MOST_COUNTED:
            oldest = next(iter(self._small))
            nbytes = self._small.pop(oldest)
            self._small_bytes -= nbytes
            # Who has not read what was sent before has not read this.
            if nbytes and oldest in self._waiting:
                self._wait(oldest, self._waiting[oldest][-1][0], nbytes)

    def _wait(self, identity: bytes, tracker: zmq.MessageTracker, nbytes: int) -> None:
        self._waiting[identity].append((tracker, nbytes))
        self._bytes[identity] = self._bytes.get(identity, 0) + nbytes
        self._waiting_bytes += nbytes

    def _probe(self, identity: bytes, frames: list[Any]) -> zmq.MessageTracker:
        """Send a small message from where it lies, and know when it is out."""
        view = memoryview(frames[-1])
        view = view.cast("B") if view.nbytes else memoryview(b"")  # what is empty cannot be cast
        last = zmq.Frame(view.toreadonly(), track=True, copy=False, copy_threshold=0)
        sockets.send(self._socket, [identity, *frames[:-1], last])
        tracker: zmq.MessageTracker = last.tracker
        return tracker

    def _prune(self) -> None:
        """Forget what has been sent."""
        for identity, waiting in list(self._waiting.items()):
            while waiting and waiting[0][0].done:
                self._bytes[identity] -= waiting[0][1]
                self._waiting_bytes -= waiting.popleft()[1]
            if not waiting:
                del self._waiting[identity], self._bytes[identity]
