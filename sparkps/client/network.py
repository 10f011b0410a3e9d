"""What a transport needs of the world: time, connections, and a way to wait. The real one, over zmq, is at the end.

All that a session does depends on these three alone, so that a simulated network can drive it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, Protocol

import zmq

from sparkps import sockets
from sparkps.client.channel import ZmqChannel
from sparkps.secret import TierSecret


class Channel(Protocol):
    """One connection to one node. Messages arrive in order, or not at all. Nothing blocks."""

    def send(self, frames: list[Any]) -> None:
        """Send one message."""

    def receive(self) -> list[Any] | None:
        """The next message, or None if there is none now."""

    def close(self, linger: int) -> None:
        """Close the connection; what is not sent within `linger` milliseconds is dropped."""


class Network(Protocol):
    """Where a transport finds its nodes."""

    def now(self) -> float:
        """Seconds, monotonic."""

    def connect(self, endpoint: str) -> Channel:
        """A new connection; whether anybody is there shows later."""

    def wait(self, channels: Sequence[Any], seconds: float, patience: float = 0.0) -> None:
        """Return when one of `channels` is readable, or after `seconds`; the first `patience` seconds of them without sleeping."""


class ZmqNetwork:
    """The network as it is.

    Parameters
    ----------
    secret : TierSecret, optional
        Of the tier, where it asks for one.
    """

    def __init__(self, secret: TierSecret | None = None) -> None:
        self._secret = secret
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()

    def now(self) -> float:
        """Seconds, monotonic."""
        return time.monotonic()

    def connect(self, endpoint: str) -> ZmqChannel:
        """A DEALER; libzmq connects it in the background."""
        return ZmqChannel(self._context, endpoint, self._secret)

    def wait(self, channels: Sequence[ZmqChannel], seconds: float, patience: float = 0.0) -> None:
        """See `Network.wait`."""
        if not channels:
            time.sleep(seconds)
            return
        found = [channel.socket for channel in channels]
        if not (patience > 0.0 and sockets.spin(found, min(patience, seconds))):
            zmq.zmq_poll([(socket, zmq.POLLIN) for socket in found], math.ceil(seconds * 1000))


__all__ = ["Channel", "Network", "ZmqNetwork"]
