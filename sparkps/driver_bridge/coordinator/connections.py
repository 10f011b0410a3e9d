"""The latest request of every connection, with its answer: so that one that comes again is carried out once. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sparkps.wire.messages import control as c

#: A connection that was silent for so long (seconds) is forgotten.
FORGET_AFTER = 900.0


@dataclass
class Connection:
    """One connection. It has one request at a time, so the latest one is all that can come again."""

    #: Number of its latest request; > 0 once there was one. Requests of lower numbers are late repetitions that nobody waits for.
    seq: int
    #: The answer to that; None while the request is under way.
    reply: c.ControlMessage | None
    #: When a request came last, new or not.
    heard_at: float


class Connections:
    """All connections that were heard of lately, by routing id. Owner: the coordinator's thread."""

    def __init__(self) -> None:
        self._by_sender: dict[bytes, Connection] = {}

    def __contains__(self, sender: bytes) -> bool:
        return sender in self._by_sender

    def begin(self, sender: bytes, seq: int, now: float) -> bool:
        """A request has come; whether it is a new one, to be carried out."""
        connection = self._by_sender.setdefault(sender, Connection(0, None, now))
        connection.heard_at = now
        if seq <= connection.seq:
            return False
        connection.seq, connection.reply = seq, None
        return True

    def answer(self, sender: bytes, seq: int) -> c.ControlMessage | None:
        """The answer to a request that has come again; None: it is under way, or nobody waits for it any more."""
        connection = self._by_sender[sender]
        return connection.reply if connection.seq == seq else None

    def keep(self, sender: bytes, reply: Any) -> None:
        """A request was answered. One whose sender has gone on to the next one is not kept."""
        connection = self._by_sender.get(sender)
        if connection is not None and connection.seq == reply.seq:
            connection.reply = reply

    def forget(self, now: float) -> None:
        """Drop connections that were silent for `FORGET_AFTER`."""
        for sender, connection in list(self._by_sender.items()):
            if now - connection.heard_at > FORGET_AFTER:
                del self._by_sender[sender]

    def hear_all(self, now: float) -> None:
        """Nobody's silence began before `now`."""
        for connection in self._by_sender.values():
            connection.heard_at = now

    def shift(self, seconds: float) -> None:
        """So much time counts for nobody: the coordinator itself did not run."""
        for connection in self._by_sender.values():
            connection.heard_at += seconds


__all__ = ["FORGET_AFTER", "Connection", "Connections"]
