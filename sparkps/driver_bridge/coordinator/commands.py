"""Commands to the nodes: sent to all of them, done when all have answered. Pure: time is an argument (seconds, monotonic)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sparkps.errors import DeadlineExceeded
from sparkps.wire.messages.control import Cause, CommandDone, ControlMessage

log = logging.getLogger(__name__)

#: What follows a command: called with the first cause of a failure, or None, and the nodes' reports. If it raises without a cause, it is
#: called again with what it raised.
Then = Callable[[Cause | None, dict[int, dict[str, Any]]], None]


@dataclass
class Command:
    """One command under way."""

    what: str
    then: Then
    #: Seconds that the nodes have, for the message at the deadline.
    limit: float
    deadline: float
    #: Nodes that have not answered; never empty while the command is under way.
    waiting: set[int]
    #: What the nodes were sent; None before that.
    message: ControlMessage | None = None
    #: First failure.
    cause: Cause | None = None
    reports: dict[int, dict[str, Any]] = field(default_factory=dict)


class Commands:
    """Commands under way. Owner: the coordinator's thread."""

    def __init__(self) -> None:
        #: By id.
        self.under_way: dict[int, Command] = {}
        #: Id of the next one.
        self.next = 1

    def start(self, what: str, nodes: Iterable[int], then: Then, now: float, limit: float) -> int:
        """A new command's id, to be sent to `nodes`; without any it is done at once."""
        number, self.next = self.next, self.next + 1
        waiting = set(nodes)
        if waiting:
            self.under_way[number] = Command(what, then, limit, now + limit, waiting)
        else:
            then(None, {})
        return number

    def answered(self, done: CommandDone) -> None:
        """A node has answered."""
        command = self.under_way.get(done.seq)
        if command is None or done.node not in command.waiting:
            return
        if done.cause is not None and command.cause is None:
            command.cause = Cause.of(done.cause.exception())  # as large as a cause may be
        command.reports[done.node] = done.report
        self._without(done.seq, {done.node})

    def drop(self, number: int) -> None:
        """Nobody waits for a command any more: what was to follow it does not."""
        self.under_way.pop(number, None)

    def node_gone(self, node: int, cause: Cause | None) -> None:
        """A node will not answer any more: with a cause that is a failure, without one its commands go on without it."""
        for number, command in list(self.under_way.items()):
            if number in self.under_way and node in command.waiting:  # what follows one may drop another
                command.cause = command.cause or cause
                self._without(number, {node})

    def late(self, now: float) -> list[int]:
        """Commands whose deadline has passed."""
        return [number for number, command in self.under_way.items() if now >= command.deadline]

    def give_up(self, number: int) -> None:
        """End a command whose deadline has passed."""
        command = self.under_way.get(number)
        if command is None:
            return
        nodes = sorted(command.waiting)
        late = DeadlineExceeded(
            f"{command.what} must be done by every node within {command.limit:g} s. Nodes {nodes} have not answered.",
            nodes=nodes,
        )
        command.cause = command.cause or Cause.of(late)
        self._without(number, set(nodes))

    def of(self, node: int) -> list[ControlMessage]:
        """What a node was sent and has not answered, in order."""
        waiting = [command.message for _, command in sorted(self.under_way.items()) if node in command.waiting]
        return [message for message in waiting if message is not None]

    def renew(self, now: float) -> None:
        """Every command has all of its time again."""
        for command in self.under_way.values():
            command.deadline = now + command.limit

    def shift(self, seconds: float) -> None:
        """So much time counts for nobody: the coordinator itself did not run."""
        for command in self.under_way.values():
            command.deadline += seconds

    def _without(self, number: int, nodes: set[int]) -> None:
        command = self.under_way[number]
        command.waiting -= nodes
        if not command.waiting:
            del self.under_way[number]
            _go_on(command)


def _go_on(command: Command) -> None:
    """What follows a command; if that cannot go on with what the nodes have said, the command has failed, and it follows that."""
    try:
        command.then(command.cause, command.reports)
    except Exception as error:  # whoever waits for the end of the command would wait for ever
        log.exception("%s was done, and what follows has failed", command.what)
        if command.cause is not None:
            raise
        command.then(Cause.of(error), {})


__all__ = ["Command", "Commands", "Then"]
