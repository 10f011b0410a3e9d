"""Values that the messages of the control plane carry."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, Self

import msgspec

from sparkps.errors import SparkPSError, from_wire, to_wire
from sparkps.namespaces import full_name

#: Length of the routing id that every peer of the coordinator chooses: a byte that is not 0, what it is a peer of, random bytes.
ROUTING_ID_BYTES = 12

#: First byte of the routing id of a client, and the bytes after it that are from the id of the tier that it means.
_CLIENT, _TIER_BYTES = b"\x04", 4


def routing_id(tier_id: str = "") -> bytes:
    """A new routing id for a client of a tier; "" where the client takes whichever tier is there.

    Examples
    --------
    >>> is_for_another(routing_id("a"), "a"), is_for_another(routing_id("a"), "b"), is_for_another(routing_id(), "b")
    (False, True, False)
    """
    return _CLIENT + _mark(tier_id) + secrets.token_bytes(ROUTING_ID_BYTES - 1 - _TIER_BYTES)


def is_for_another(routing: bytes, tier_id: str) -> bool:
    """Whether a client means another tier, as one that was there before at the same endpoint."""
    meant = routing[1 : 1 + _TIER_BYTES]
    return routing[:1] == _CLIENT and len(routing) == ROUTING_ID_BYTES and meant not in (_mark(""), _mark(tier_id))


def _mark(tier_id: str) -> bytes:
    return hashlib.blake2b(tier_id.encode(), digest_size=_TIER_BYTES).digest() if tier_id else bytes(_TIER_BYTES)

#: Largest result that a rank may record with `FinishRank`, in bytes.
MAX_RECORDED_RESULT = 1 << 20

#: Most values of progress that a rank may report, and their bytes together, names included: so that the report of a group of
#: `specs.MAX_RANKS` ranks fits into one message.
MAX_PROGRESS, MAX_PROGRESS_BYTES = 24, 2048

#: Bytes that a worker may say at a meeting.
MAX_SAID = 4096


#: `Lease.attempt` of a driver that finishes the rank of a lost worker in its place, since its group goes on without it.
GIVES_UP = -3


class TierAddress(msgspec.Struct, frozen=True):
    """Where a tier is; table handles carry it. Holds no secret."""

    #: Random name of this tier, so that a handle never reaches another tier at the same endpoint.
    tier_id: str
    #: zmq endpoint of the coordinator.
    coordinator: str
    #: Deadline of a request to it, in every process (seconds; `config.Settings.control_timeout`).
    control_timeout: float = 30.0
    #: Only those who have the tier's secret are admitted (see `sparkps.secret`).
    is_secured: bool = False
    #: Whose names plain ones are, where several owners share the tier (see `sparkps.namespaces`); empty: it has no owners.
    owner: str = ""

    def full_name(self, name: str) -> str:
        """What a name of a table, of a table group or of a function means here."""
        return full_name(name, self.owner)


class Cause(msgspec.Struct, frozen=True, array_like=True):
    """An error of `sparkps.errors` on the wire."""

    error: str
    message: str
    attributes: dict[str, Any] = {}

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """The cause that describes `error`, fit to be sent. Never raises (see `errors.to_wire`)."""
        return cls(*to_wire(error))

    def exception(self) -> SparkPSError:
        """The error, ready to be raised."""
        return from_wire(self.error, self.message, dict(self.attributes))


class NodeInfo(msgspec.Struct, frozen=True, array_like=True):
    """One node as the coordinator sees it."""

    node: int
    endpoint: str
    host: str
    pid: int
    #: "up", "dead" (with `reason`) or "left" (told to stop).
    state: str = "up"
    reason: str = ""
    #: As in `NodeHello`.
    job: int = -1
    attempt: int = -1


class RankReport(msgspec.Struct, frozen=True, array_like=True):
    """One rank of a group as the coordinator sees it."""

    rank: int
    #: "vacant" (no attempt holds it), "leased", "finished", "lost" (the driver has finished it in place of a lost worker).
    state: str
    #: Attempt that holds or last held the rank; -1: none yet.
    attempt: int
    #: Incarnation of that attempt, from 1; 0: none yet.
    incarnation: int
    #: What the rank last sent with `Renew`: progress, plain values.
    counters: dict[str, Any] = {}
