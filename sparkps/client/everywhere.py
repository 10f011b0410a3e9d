"""One request to all nodes of a placement: ticks, takeovers, settles, questions to every node.

It goes out in *rounds*, at most one for each placement: when a newer one is known, it goes to all nodes of that again, and what is
still on its way of the round before counts no more. So what it gives are the answers of all nodes of one placement, and none
newer was known when the last of them came. Nodes take repetitions.

Pure: no socket and no clock inside.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sparkps.client.futures import Future
from sparkps.client.pieces import Again, Piece, Sink
from sparkps.client.routing import Routing
from sparkps.wire.messages import data as m
from sparkps.wire.messages.base import DataMessage


class Everywhere:
    """One request to all nodes, until those of one placement have answered.

    Parameters
    ----------
    future : Future
        Told once, of the end of it all.
    message : Request
        Each round sends it with the epoch of its placement, if it has one.
    sink : callable
        Called with each answer, when all are there.
    deadline : float
        When it is given up (seconds, the shell's clock).
    """

    def __init__(self, future: Future[Any], message: m.Request, sink: Sink, deadline: float) -> None:
        self.future = future
        self.deadline = deadline
        #: It was done, or failed.
        self.over = False
        #: Of the placement of the last round; -1: there was none yet.
        self.epoch = -1
        #: Nodes whose answer is missing in the last round.
        self.missing: set[int] = set()
        self._message = message
        self._sink = sink
        self._round: Round | None = None
        self._answers: list[tuple[Any, list[Any]]] = []

    def needs(self, newest: Routing) -> set[int]:
        """Nodes that have to answer: those of the newest placement, but for what they have said in its round."""
        return self.missing if newest.epoch <= self.epoch else set(newest.nodes)

    def begin(self, routing: Routing) -> list[Piece]:
        """The requests of a new round; answers of the one before do not count any more."""
        assert not self.over, "to do it once more could undo what came after it"
        assert routing.epoch > self.epoch, "one round for each placement"
        self.epoch, self.missing, self._answers = routing.epoch, set(routing.nodes), []
        message = self._message
        if hasattr(message, "epoch"):
            message = msgspec.structs.replace(message, epoch=routing.epoch)
        self._round = Round(self)
        return [self._round.piece(node, message) for node in routing.nodes]

    def is_current(self, of: Round) -> bool:
        """Whether somebody waits for the answers of a round."""
        return self._round is of and not self.over

    def take(self, node: int, message: Any, arrays: list[Any]) -> None:
        """A node has answered, in the last round."""
        self.missing.discard(node)
        self._answers.append((message, arrays))
        if not self.missing:
            for each in self._answers:
                self._sink(*each)
            self.over = True
            self.future.arrived()

    def fail(self, error: BaseException) -> None:
        """It cannot be done any more."""
        if not self.over:
            self.over = True
            self.future.fail(error)


class Round:
    """One round of an `Everywhere`: what its pieces belong to."""

    __slots__ = ("_all", "what")

    def __init__(self, everywhere: Everywhere) -> None:
        self._all = everywhere
        self.what = everywhere.future.what

    @property
    def whole(self) -> Future[Any]:
        """The call; see `pieces.Asker`."""
        return self._all.future

    def expect(self) -> None:
        """Which answers are missing is known."""

    def arrived(self) -> None:
        """See `Everywhere.take`."""

    def fail(self, error: BaseException) -> None:
        """A node will not answer, or has said that it cannot be done."""
        if self._all.is_current(self):
            self._all.fail(error)

    def piece(self, node: int, message: m.Request) -> Piece:
        """The request to one node."""

        def take(answer: Any, arrays: list[Any]) -> None:
            if self._all.is_current(self):
                self._all.take(node, answer, arrays)

        return Piece(self, node, message, [], take, again=self._again(node, message))

    def _again(self, node: int, message: m.Request) -> Again:
        def again(refusal: DataMessage, newest: Routing) -> list[Piece]:
            # A newer placement has a round of its own.
            lags = newest.epoch <= self._all.epoch and node in newest.nodes
            return [self.piece(node, message)] if lags and self._all.is_current(self) else []

        return again


__all__ = ["Everywhere", "Round"]
