"""What changes the coordinator's state, as the journal keeps it: requests that were carried out, answers of nodes, decisions by time.

Replayed in their order, on an empty `tier.Tier`, they lead to the same state and to the same commands. So whatever the outcome of an
event depends on must be in the events: time is in each of them, and what only heartbeats, renewals and questions tell is not
used but by decisions that have an event of their own (`Died`, `Late`, `Weighed` ...). A lease is renewed without an event: a rank that
was given away would have been given away without the renewal, too.
"""

from __future__ import annotations

import msgspec


class JournalEvent(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Something that happened."""

    #: When it did (seconds, monotonic).
    now: float
    #: Number of the next command then: commands without an event, such as for a report, have numbers, too.
    command: int


class Started(JournalEvent, frozen=True):
    """A coordinator process has begun, the first one or a later one."""

    pid: int


class Taken(JournalEvent, frozen=True):
    """A request was carried out, or begun; or a node has carried out a command."""

    #: Routing id of its connection.
    sender: bytes
    #: The message, encoded.
    frames: list[bytes]


class Died(JournalEvent, frozen=True):
    """A node was silent for too long."""

    node: int
    reason: str


class CutOff(JournalEvent, frozen=True):
    """A primary cannot reach nodes that hold copies of its buckets."""

    primary: int
    silent: list[int]


class Late(JournalEvent, frozen=True):
    """Commands were not answered in time."""

    numbers: list[int]


class Unheard(JournalEvent, frozen=True):
    """Groups of which nobody was heard for too long are ended."""

    groups: list[int]


class ScalingLate(JournalEvent, frozen=True):
    """The change of the number of nodes was not done in time."""


class Woke(JournalEvent, frozen=True):
    """A pause of the plan is over."""


class Weighed(JournalEvent, frozen=True):
    """The load of the nodes was found skewed: each bucket has a weight from now on, by which leads are balanced."""

    weights: list[int]
    reason: str


class Expired(JournalEvent, frozen=True):
    """Nobody has used these tables for too long: they are dropped."""

    tables: list[int]


class Recovered(JournalEvent, frozen=True):
    """A coordinator that was started again has replayed all that is before this, and gone on."""


class Snapshot(JournalEvent, frozen=True):
    """Nothing: all that has happened before, as what the coordinator knew then (see `snapshot`)."""

    parts: bytes


AnyEvent = Snapshot | Started | Taken | Died | CutOff | Late | Unheard | ScalingLate | Woke | Weighed | Expired | Recovered

_decoder = msgspec.msgpack.Decoder(AnyEvent)


def to_bytes(event: JournalEvent) -> bytes:
    """An event as the journal keeps it."""
    return msgspec.msgpack.encode(event)


def from_bytes(raw: bytes) -> AnyEvent:
    """The event that `to_bytes` has encoded."""
    event: AnyEvent = _decoder.decode(raw)
    return event


__all__ = [
    "AnyEvent",
    "CutOff",
    "Died",
    "Expired",
    "JournalEvent",
    "Late",
    "Recovered",
    "ScalingLate",
    "Snapshot",
    "Started",
    "Taken",
    "Unheard",
    "Weighed",
    "Woke",
    "from_bytes",
    "to_bytes",
]
