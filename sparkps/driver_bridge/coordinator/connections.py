"""The latest request of every connection, with its answer: so that one that comes again is carried out once. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from sparkps.wire.messages import control as c

#: A connection that was silent for so long (seconds) is forgotten.
FORGET_AFTER = 900.0

#: Connections that are remembered: beyond that, those that were silent longest are forgotten.
MOST_CONNECTIONS = 1 << 16

#: Answers to questions that may be large are not kept: a question that comes again is asked again.
_ASKED_ANEW = (c.Attached, c.Met, c.GroupReport, c.TierReport, c.LogFetched)


@dataclass
class Connection:
    """One connection. It has one request at a time, so the latest one is all that can come again."""

    #: Number of its latest request that is under way, or whose answer is kept. Lower ones are late repetitions that nobody waits for.
    seq: int
    #: The answer to that; None while the request is under way.
    reply: c.ControlMessage | None
    #: When a request came last, new or not.
    heard_at: float


class Connections:
    """All connections that were heard of lately, by routing id. Owner: the coordinator's thread."""

    def __init__(self) -> None:
        #: Those heard of longest ago first.
        self._by_sender: OrderedDict[bytes, Connection] = OrderedDict()

    def __contains__(self, sender: bytes) -> bool:
        return sender in self._by_sender

    def begin(self, sender: bytes, seq: int, now: float) -> bool:
        """A request has come; whether it is a new one, to be carried out."""
        connection = self._by_sender.setdefault(sender, Connection(0, None, now))
        connection.heard_at = now
        self._by_sender.move_to_end(sender)
        if len(self._by_sender) > MOST_CONNECTIONS:
            self._by_sender.popitem(last=False)
        if seq <= connection.seq:
            return False
        connection.seq, connection.reply = seq, None
        return True

    def answer(self, sender: bytes, seq: int) -> c.ControlMessage | None:
        """The answer to a request that has come again; None: it is under way, or nobody waits for it any more."""
        connection = self._by_sender[sender]
        return connection.reply if connection.seq == seq else None

    def __len__(self) -> int:
        return len(self._by_sender)

    def keep(self, sender: bytes, reply: Any) -> None:
        """A request was answered. One whose sender has gone on to the next one is not kept."""
        connection = self._by_sender.get(sender)
        if connection is not None and connection.seq == reply.seq:
            if isinstance(reply, _ASKED_ANEW):
                connection.seq -= 1
            else:
                connection.reply = reply

    def forget(self, now: float) -> None:
        """Drop connections that were silent for `FORGET_AFTER`."""
        while self._by_sender:
            sender, oldest = next(iter(self._by_sender.items()))
            if now - oldest.heard_at <= FORGET_AFTER:
                return
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
