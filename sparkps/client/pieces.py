"""A piece of a call: one request to one node, and what becomes of it when the node refuses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sparkps.client.futures import Future
from sparkps.client.routing import Routing
from sparkps.wire.messages import data as m
from sparkps.wire.messages.base import DataMessage

#: Called with the message and the arrays of an answer.
Sink = Callable[[Any, list[Any]], None]

#: Called with a refusal (`WrongEpoch`, `UnknownKeySet`) and the newest placement: the pieces to send in place of this one.
Again = Callable[[DataMessage, Routing], "list[Piece]"]


class Asker(Protocol):
    """Who is told of a piece's answer, and of its failure: the future of its call, or a part of one."""

    what: str

    @property
    def whole(self) -> Future[Any]:
        """The call that the piece belongs to."""

    def expect(self) -> None:
        """The piece was sent."""

    def arrived(self) -> None:
        """Its answer is here, or others were sent in its place."""

    def fail(self, error: BaseException) -> None:
        """It will not be carried out."""


def ignore(message: Any, arrays: list[Any]) -> None:
    """For answers that say nothing but that it was done."""


class Piece:
    """One request that is to be made.

    Parameters
    ----------
    future : Future or Asker
        The call that it belongs to: told of the answer, and of a failure.
    node : int
    message : Request
        The transport gives it its numbers, each time that it is sent as a new request.
    arrays : list of ndarray
    sink : callable
        Takes the answer.
    up, down : int
        Bytes of the request, and of its answer: one that has any is a pull.
    write : bool
        Whether it changes rows: writes keep the order of their calls at every shard, also where a node refuses some.
    lasting : bool
        Of a write of a rank: shards know it again for as long as its group lives.
    place : tuple of int
        Number of the call within the session, and of the piece within the call.
    again : callable, optional
        Without it a refusal is a failure. May be called more than once.
    """

    __slots__ = ("again", "arrays", "down", "future", "lasting", "message", "node", "place", "sink", "up", "write")

    def __init__(
        self,
        future: Asker,
        node: int,
        message: m.Request,
        arrays: list[Any],
        sink: Sink = ignore,
        *,
        up: int = 0,
        down: int = 0,
        write: bool = False,
        lasting: bool = False,
        place: tuple[int, int] = (0, 0),
        again: Again | None = None,
    ) -> None:
        self.future = future
        self.node = node
        self.message = message
        self.arrays = arrays
        self.sink = sink
        self.up = up
        self.down = down
        self.write = write
        self.lasting = lasting
        self.place = place
        self.again = again

    @property
    def epoch(self) -> int:
        """Of the placement that it was made by; 0: it fits any."""
        return getattr(self.message, "epoch", 0)

    @property
    def what(self) -> str:
        """What it is, for messages to people."""
        return self.future.what

    def fail(self, error: BaseException) -> None:
        """It will not be carried out."""
        self.future.fail(error)


__all__ = ["Again", "Asker", "Piece", "Sink", "ignore"]
