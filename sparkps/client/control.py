"""Requests to the coordinator: from the driver, and from every worker. Thread-safe."""

from __future__ import annotations

import os
import secrets
import time
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
import zmq

from sparkps.errors import DeadlineExceeded, NodeUnreachable, ProtocolError, from_wire
from sparkps.wire import control as c
from sparkps.wire.codec import decode, encode

#: A request without an answer is sent again after so many seconds, then after twice as many, up to the second number.
RETRY_FIRST, RETRY_MAX = 1.0, 8.0

#: Deadline of a request if nothing else is said (seconds).
TIMEOUT = 30.0


class _Connection:
    """One DEALER; used by one thread at a time, for one request at a time."""

    def __init__(self, endpoint: str) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        # Requests queue up for a peer that is there, and for no other: so `unreachable` can be told from `silent`.
        self.socket.setsockopt(zmq.IMMEDIATE, 1)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        self.socket.setsockopt(zmq.ROUTING_ID, b"\x01" + secrets.token_bytes(c.ROUTING_ID_BYTES - 1))
        self.socket.connect(endpoint)
        self.seq = 0

    def close(self) -> None:
        self.socket.close(linger=0)


class ControlClient:
    """Speaks to the coordinator of one tier; connects at the first request.

    Parameters
    ----------
    endpoint : str
        Of the coordinator.
    timeout : float
        Deadline of a request, in seconds, if nothing else is said.

    Notes
    -----
    A request is sent again, under the same number, while no answer comes; the coordinator carries it out once.
    """

    _by_endpoint: dict[tuple[int, str], ControlClient] = {}

    def __init__(self, endpoint: str, timeout: float = TIMEOUT) -> None:
        self.endpoint = endpoint
        self.timeout = timeout
        # Connections that no thread is using. Appending and popping is atomic: no lock that a signal handler could find taken.
        self._idle: deque[_Connection] = deque()
        self._pid = os.getpid()

    @classmethod
    def of(cls, address: c.TierAddress) -> ControlClient:
        """This process's client of a tier."""
        key = (os.getpid(), address.coordinator)
        return cls._by_endpoint.get(key) or cls._by_endpoint.setdefault(key, cls(address.coordinator))

    def request(self, message: Any, timeout: float | None = None) -> Any:
        """Send a request and wait for its answer.

        Parameters
        ----------
        message : ControlMessage
            Its ``seq`` is replaced.
        timeout : float, optional
            Seconds.

        Returns
        -------
        ControlMessage

        Raises
        ------
        NodeUnreachable
            Nobody listens at the coordinator's endpoint.
        DeadlineExceeded
            The coordinator has not answered in time.
        SparkPSError
            What the coordinator refused the request with.
        """
        limit = self.timeout if timeout is None else timeout
        connection = self._take()
        try:
            connection.seq += 1
            reply = self._exchange(connection, msgspec.structs.replace(message, seq=connection.seq), limit)
        except BaseException:
            connection.close()  # an answer may still come, and must not meet the next request
            raise
        self._idle.append(connection)
        if isinstance(reply, c.Refused):
            raise from_wire(reply.error, reply.message, dict(reply.attributes))
        return reply

    def close(self) -> None:
        """Close the connections that are not in use; a later request opens a new one."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> _Connection:
        if self._pid != os.getpid():  # a forked child must not touch its parent's sockets
            self._idle, self._pid = deque(), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            if self.endpoint.startswith("ipc://") and not Path(self.endpoint[6:]).exists():
                raise self._unreachable("it has stopped, or runs on another host") from None
            return _Connection(self.endpoint)

    def _exchange(self, connection: _Connection, message: Any, limit: float) -> Any:
        frames, name = encode(message), type(message).__name__
        deadline = time.monotonic() + limit
        again, pause = 0.0, RETRY_FIRST
        sent = False
        while True:
            now = time.monotonic()
            if now >= deadline:
                raise self._late(name, limit) if sent else self._unreachable(f"no connection within {limit:g} s")
            if now >= again:
                if not self._send(connection, frames, min(deadline, now + pause)):
                    continue
                sent = True
                again, pause = time.monotonic() + pause, min(2 * pause, RETRY_MAX)
            wait = max(0.0, min(deadline, again) - time.monotonic())
            if connection.socket.poll(int(wait * 1000) + 1, zmq.POLLIN):
                reply = self._receive(connection)
                if reply is not None and reply.seq == message.seq:
                    return reply

    def _send(self, connection: _Connection, frames: list[Any], until: float) -> bool:
        """Whether the request went out: without a peer it waits until one is there."""
        wait = max(0.0, until - time.monotonic())
        if not connection.socket.poll(int(wait * 1000) + 1, zmq.POLLOUT):
            return False
        try:
            connection.socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _receive(self, connection: _Connection) -> Any:
        try:
            return decode(connection.socket.recv_multipart(zmq.NOBLOCK, copy=False))[0]
        except (zmq.Again, ProtocolError):
            return None

    def _unreachable(self, why: str) -> NodeUnreachable:
        return NodeUnreachable(
            f"The coordinator must be reachable at {self.endpoint}. It is not: {why}. Is the PSContext still running?",
            endpoint=self.endpoint,
        )

    def _late(self, name: str, limit: float) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"The coordinator at {self.endpoint} must answer {name} within {limit:g} s. It has not"
            " (`spark.sparkps.controlTimeout`).",
            endpoint=self.endpoint,
        )


__all__ = ["ControlClient"]
