"""All that a coordinator knows, as one record: a journal that begins with it needs nothing of what was before. Pure.

It is taken in a quiet moment, when nobody waits for anything: what is under way is known by what led to it alone, not by what is said
here. Moments between two commands are quiet, and so is a tier that trains.
"""

from __future__ import annotations

import pickle

from sparkps.driver_bridge.coordinator.core import Core
from sparkps.driver_bridge.coordinator.states import TierState

#: What is in it, by the names of `Core`. Objects that several of them share are shared again afterwards.
PARTS = (
    "processes",
    "state",
    "nodes",
    "node_at",
    "placing",
    "moves",
    "weights",
    "rebalance",
    "bereft",
    "wanted_nodes",
    "retiring",
    "draining",
    "last_checkpoint",
    "torn",
    "hollow",
    "is_closed",
    "refused_ends",
    "why_not_ended",
    "catalog",
    "groups",
    "tokens",
    "connections",
)
#: What is as in a new coordinator when the moment is quiet: something is under way there, or nodes are still to be told.
QUIET = ("scaling", "checkpointing", "unplaced", "lacking", "leaving", "is_restoring", "anew", "attaching", "closing")


def is_quiet(core: Core) -> bool:
    """Whether nothing is under way."""
    return (
        core.state in (TierState.READY, TierState.DEGRADED)
        and not core.commands.under_way
        and not any(getattr(core, name) for name in QUIET)
        and core.moves.is_done
        and core.placing.is_settled(core.nodes.up())
    )


def taken(core: Core) -> bytes:
    """What a coordinator knows; the moment must be quiet."""
    assert is_quiet(core)
    return pickle.dumps({name: getattr(core, name) for name in PARTS}, pickle.HIGHEST_PROTOCOL)


def put_back(core: Core, raw: bytes) -> None:
    """Know what another coordinator knew. The bytes must be one's own: they are unpickled."""
    for name, value in pickle.loads(raw).items():
        setattr(core, name, value)


__all__ = ["PARTS", "QUIET", "is_quiet", "put_back", "taken"]
