"""A node's heartbeats while its I/O thread is busy: loading a kernel or making a large table takes longer than a deadline may be.

They go out on a thread and a connection of their own, as long as the I/O thread has been seen not too long ago: a node whose I/O thread
never comes back is silent, and replaced.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable

import zmq

from sparkps.secret import TierSecret
from sparkps.sockets import connect
from sparkps.wire.codec import encode
from sparkps.wire.messages import control as c

#: Seconds after which an I/O thread that has not been seen counts as stuck.
STUCK_AFTER = 60.0


class Pulse:
    """Sends heartbeats without figures.

    Parameters
    ----------
    context : zmq.Context
    coordinator : str
        Its endpoint.
    seen_at : callable
        When the I/O thread was last seen (seconds, monotonic).
    secret : TierSecret, optional
        Of the tier, where it asks for one.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        coordinator: str,
        seen_at: Callable[[], float],
        secret: TierSecret | None = None,
    ) -> None:
        self._secret = secret
        self._context = context
        self._coordinator = coordinator
        self._seen_at = seen_at
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, node: int, interval: float) -> None:
        """The node is a member; a second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, args=(node, interval), name="sparkps-pulse", daemon=True)
            self._thread.start()

    def _beat(self, node: int, interval: float) -> None:
        socket = self._context.socket(zmq.DEALER)
        try:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.ROUTING_ID, b"\x02" + secrets.token_bytes(c.ROUTING_ID_BYTES - 1))
            connect(socket, self._coordinator, self._secret)
            frames = encode(c.Heartbeat(0, node))
            while not self._stopping.wait(interval):
                if time.monotonic() - self._seen_at() < STUCK_AFTER:
                    with contextlib.suppress(zmq.Again):  # nobody listens: there is no sense in filling a queue
                        socket.send_multipart(frames, zmq.NOBLOCK)
                with contextlib.suppress(zmq.Again):  # what is answered, the other connection hears, too
                    while True:
                        socket.recv_multipart(zmq.NOBLOCK)
        finally:
            socket.close()

    def close(self) -> None:
        """End."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()


__all__ = ["Pulse"]
