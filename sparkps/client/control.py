"""Requests to the coordinator: from the driver, and from every worker. Thread-safe."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any, Self

import msgspec
import zmq

from sparkps.client.presence import Peer, Presence, may_return, why_gone
from sparkps.errors import DeadlineExceeded, NodeUnreachable, ProtocolError, from_wire
from sparkps.secret import TierSecret, secret_of
from sparkps.sockets import connect
from sparkps.wire.codec import decode, encode
from sparkps.wire.messages import control as c
from sparkps.wire.messages.control.answers import ANSWERS

#: A request without an answer is sent again after so many seconds, then after twice as many, up to the second number.
RETRY_FIRST, RETRY_MAX = 1.0, 8.0

#: An answer that was on its way when the coordinator ended has so long to come (seconds).
LAST_WORDS = 0.1

#: A coordinator that has ended may be started again within so many seconds.
RETURN_PATIENCE = 5.0


class _Connection:
    """One DEALER; used by one thread at a time, for one request at a time."""

    def __init__(self, endpoint: str, secret: TierSecret | None, tier_id: str) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        # Requests queue up for a peer that is there, and for no other: so `unreachable` can be told from `silent`.
        self.socket.setsockopt(zmq.IMMEDIATE, 1)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        self.socket.setsockopt(zmq.ROUTING_ID, c.routing_id(tier_id))
        connect(self.socket, endpoint, secret)
        self.seq = 0

    def send(self, frames: list[Any]) -> bool:
        """Whether a request went out: not without a peer."""
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self) -> Any:
        """The next reply, if there is one now.

        Raises
        ------
        ProtocolError
            The coordinator speaks another version.
        """
        try:
            return decode(self.socket.recv_multipart(zmq.NOBLOCK, copy=False))[0]
        except zmq.Again:
            return None
        except ProtocolError as error:
            if "version" in error.attributes:
                raise
            return None

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
    secret : TierSecret, optional
        Of the tier, where it asks for one.
    tier_id : str
        Of the tier: another one that is at the endpoint by then refuses all but the question how it is. "": any is meant.

    Notes
    -----
    A request is sent again, under the same number, while no answer comes; the coordinator carries it out once. A coordinator whose
    process is gone refuses connections, which is looked at when a request starts and every half second: `NodeUnreachable`
    comes then, at once if none can take its place, and `DeadlineExceeded` where a process is there and silent. One that is started
    again is found by itself, and gets what is under way again.
    """

    #: By process, endpoint and id of the tier.
    _kept: dict[tuple[int, str, str], ControlClient] = {}

    def __init__(self, endpoint: str, timeout: float = 30.0, secret: TierSecret | None = None, tier_id: str = "") -> None:
        self.endpoint = endpoint
        self.tier_id = tier_id
        self.secret = secret
        self.timeout = timeout
        # Connections that no thread is using. Appending and popping is atomic: no lock that a signal handler could find taken.
        self._idle: deque[_Connection] = deque()
        self._pid = os.getpid()

    @classmethod
    def of(cls, address: c.TierAddress) -> ControlClient:
        """This process's client of a tier."""
        key, secret = (os.getpid(), address.coordinator, address.tier_id), secret_of(address)
        found = cls._kept.get(key)
        if found is not None and found.secret == secret:
            return found
        made = cls(address.coordinator, address.control_timeout, secret, address.tier_id)
        if found is None:
            return cls._kept.setdefault(key, made)
        cls._kept[key] = made  # this process has its secret by now
        found.close()
        return made

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
        with self.ask(message, timeout) as inquiry:
            while (answer := inquiry.answer()) is None:
                inquiry.wait()
            return answer

    def ask(self, message: Any, timeout: float | None = None) -> Inquiry:
        """As `request`, without waiting; nothing is sent before the first `Inquiry.answer`."""
        return Inquiry(self, message, self.timeout if timeout is None else timeout)

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
            return _Connection(self.endpoint, self.secret, self.tier_id)

    def _give_back(self, connection: _Connection) -> None:
        self._idle.append(connection)


class Inquiry:
    """A request to the coordinator that is under way; made by `ControlClient.ask`. To be closed.

    Parameters
    ----------
    client : ControlClient
    message : ControlMessage
    limit : float
        Seconds.
    """

    def __init__(self, client: ControlClient, message: Any, limit: float) -> None:
        self._client = client
        self._message = message
        self._limit = limit
        self._deadline = time.monotonic() + limit
        self._presence = Presence(client.endpoint)
        self._connection: _Connection | None = None
        self._frames: list[Any] = []
        self._sent = False
        self._answered = False
        #: When it is sent again, and how long after that once more (seconds).
        self._again, self._pause = 0.0, RETRY_FIRST
        #: Since when the coordinator seems gone, and when it is given up.
        self._gone_at = self._given_up = float("inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self) -> Any:
        """The answer, or None if it has not come yet. Never blocks.

        Raises
        ------
        SparkPSError
            As `ControlClient.request`.
        """
        reply = self._received()
        if reply is not None:
            self._answered = True
            if isinstance(reply, c.Refused):
                raise from_wire(reply.error, reply.message, dict(reply.attributes))
            if not isinstance(reply, ANSWERS[type(self._message)]):
                raise ProtocolError(
                    f"The coordinator must answer a {type(self._message).__name__} with"
                    f" {' or '.join(kind.__name__ for kind in ANSWERS[type(self._message)])}. Got {type(reply).__name__} instead."
                )
            return reply
        now = time.monotonic()
        self._check(now)
        if now >= self._again:
            try:
                self._send(now)
            except zmq.ZMQError as error:
                raise self._unreachable(str(error)) from error
        return None

    def wait(self) -> None:
        """Wait until `answer` may say more."""
        if self._connection is None:
            return
        now = time.monotonic()
        until = min(self._deadline, self._presence.next_look, self._given_up)
        events = zmq.POLLIN
        if now >= self._again:
            events |= zmq.POLLOUT  # there is no peer yet
        else:
            until = min(until, self._again)
        self._connection.socket.poll(max(0, int((until - now) * 1000) + 1), events)

    def close(self) -> None:
        """Done with it; an answer that still comes is not heard."""
        self._presence.close()
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._answered:
            self._client._give_back(connection)
        else:
            connection.close()  # an answer may still come, and must not meet the next request

    def _received(self) -> Any:
        while self._connection is not None and self._sent:
            reply = self._connection.receive()
            if reply is None or getattr(reply, "seq", 0) == self._connection.seq:
                return reply
        return None

    def _check(self, now: float) -> None:
        """Raise if there is nobody to answer, or no time left."""
        peer = self._presence.look(now)
        if peer is Peer.GONE:
            patience = RETURN_PATIENCE if may_return(self._client.endpoint) else LAST_WORDS if self._sent else 0.0
            self._gone_at = min(self._gone_at, now)
            self._given_up = self._gone_at + patience
            if now >= self._given_up:
                raise self._unreachable(why_gone(self._client.endpoint))
        else:
            if self._gone_at < now:  # another process, which has not heard of the request
                self._again, self._pause = now, RETRY_FIRST
            self._given_up = self._gone_at = float("inf")
        if now >= self._deadline:
            if self._sent or peer is Peer.THERE:
                raise self._late()
            raise self._unreachable(f"no connection within {self._limit:g} s")

    def _send(self, now: float) -> None:
        """Send it, or send it again; without a peer it waits until one is there."""
        if self._connection is None:
            self._connection = self._client._take()
            self._connection.seq += 1
            self._frames = encode(msgspec.structs.replace(self._message, seq=self._connection.seq))
        if self._connection.send(self._frames):
            self._sent = True
            self._again, self._pause = now + self._pause, min(2 * self._pause, RETRY_MAX)

    def _unreachable(self, why: str) -> NodeUnreachable:
        endpoint = self._client.endpoint
        return NodeUnreachable(
            f"The coordinator must be reachable at {endpoint}. It is not: {why}. Is the PSContext still running?",
            endpoint=endpoint,
        )

    def _late(self) -> DeadlineExceeded:
        endpoint, name = self._client.endpoint, type(self._message).__name__
        return DeadlineExceeded(
            f"The coordinator at {endpoint} must answer {name} within {self._limit:g} s. It has not, though its process is there: it is"
            " stopped, or has too much to do (`spark.sparkps.controlTimeout`).",
            endpoint=endpoint,
        )


__all__ = ["ControlClient", "Inquiry"]
