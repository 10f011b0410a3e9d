"""What may happen to a tier in which state: one table. Pure data, and one look-up.

A tier's life::

    starting ──every node has its buckets──> ready <──buckets are lost, restored──> degraded
        └───────────────────────────────────────┴─────────stop────────────┴───> stopping ──nodes have exited──> stopped

An event is a message, by its class, or one of `Own`. Where it may not happen, the table says why, as a `Refusal`; `core.Core.refusal`
puts that into words with the facts of the moment.
"""

from __future__ import annotations

from enum import Enum, StrEnum

from sparkps.wire.messages import control as c


class TierState(StrEnum):
    """Where a tier is in its life; what `PSContext.status()` has as ``state``."""

    #: Not all nodes have joined, or not all of them know their buckets.
    STARTING = "starting"
    #: Every bucket is on a node that is alive.
    READY = "ready"
    #: The last copies of some buckets are gone: what is left can be read and written. Or a checkpoint was not restored to its end:
    #: nothing can. Nothing new can be made, until a checkpoint is restored.
    DEGRADED = "degraded"
    #: Nodes were told to exit.
    STOPPING = "stopping"
    #: Nothing is left to do but to exit.
    STOPPED = "stopped"


class Own(Enum):
    """Events that are no messages."""

    PLACED = "every node has its buckets"
    LOST = "the last copy of a bucket is gone"
    WHOLE = "what was lost is restored"
    STOP = "the coordinator itself is told to stop"
    STOPPED = "every node has exited, or has had the time to"


class Refusal(Enum):
    """Why an event may not happen."""

    STARTING = "not all nodes have joined"
    LOST = "buckets are lost"
    STOPPING = "the tier is being stopped"
    NOT_STARTING = "the tier has started before"
    NOT_STOPPING = "nobody has told the tier to stop"


Event = type[c.ControlMessage] | Own
Outcome = TierState | Refusal

_STATES = tuple(TierState)
#: Happens in any state, and changes none.
_ANYWHERE: tuple[Outcome, ...] = _STATES
#: What needs all nodes: it makes something on each of them.
_MAKES = (Refusal.STARTING, TierState.READY, Refusal.LOST, Refusal.STOPPING, Refusal.STOPPING)
#: What is about tables and groups that were made before: what is left of a degraded tier can be used, and tidied up.
_USES = (Refusal.STARTING, TierState.READY, TierState.DEGRADED, Refusal.STOPPING, Refusal.STOPPING)

S, R = TierState, Refusal

_ROWS: dict[Event, tuple[Outcome, ...]] = {
    # event              starting        ready           degraded        stopping    stopped
    c.NodeHello:       (S.STARTING,     S.READY,        S.DEGRADED,     R.STOPPING, R.STOPPING),
    c.NodeGone:         _ANYWHERE,
    c.Heartbeat:        _ANYWHERE,
    c.CommandDone:      _ANYWHERE,
    Own.PLACED:        (S.READY,        R.NOT_STARTING, R.NOT_STARTING, S.STOPPING, S.STOPPED),
    Own.LOST:          (S.STARTING,     S.DEGRADED,     S.DEGRADED,     S.STOPPING, S.STOPPED),
    Own.WHOLE:         (R.STARTING,     S.READY,        S.READY,        S.STOPPING, S.STOPPED),
    c.Attach:          (S.STARTING,     S.READY,        S.DEGRADED,     R.STOPPING, R.STOPPING),
    c.CreateTable:      _MAKES,
    c.FindTable:        _USES,
    c.DropTable:        _USES,
    c.RegisterFunction: _MAKES,
    c.AdmitGroup:       _MAKES,
    c.EndGroup:         _USES,
    c.Lease:            _USES,
    c.Renew:            _USES,
    c.Meet:             _USES,
    c.ReleaseRank:      _USES,
    c.FinishRank:       _USES,
    c.FailRank:         _USES,
    c.GroupState:       _USES,
    c.ScaleTier:        _USES,
    c.DrainNode:        _USES,
    c.TakeCheckpoint:   _MAKES,
    c.CheckpointTaken:  _USES,
    c.RestoreCheckpoint: _USES,
    c.GiveToken:        _USES,
    c.FindDueTokens:    _ANYWHERE,
    c.TierStatus:       _ANYWHERE,
    c.LogLines:         _ANYWHERE,
    c.FetchLog:         _ANYWHERE,
    c.AskToStop:        _ANYWHERE,
    c.CloseTier:        _USES,
    c.StopTier:        (S.STOPPING,     S.STOPPING,     S.STOPPING,     S.STOPPING, S.STOPPED),
    Own.STOP:          (S.STOPPING,     S.STOPPING,     S.STOPPING,     S.STOPPING, S.STOPPED),
    Own.STOPPED:       (R.NOT_STOPPING, R.NOT_STOPPING, R.NOT_STOPPING, S.STOPPED,  S.STOPPED),
}  # fmt: skip

#: Event -> state -> the state that follows, or why it may not happen.
TRANSITIONS: dict[Event, dict[TierState, Outcome]] = {
    event: dict(zip(_STATES, row, strict=True)) for event, row in _ROWS.items()
}

__all__ = ["TRANSITIONS", "Event", "Outcome", "Own", "Refusal", "TierState"]
