"""A tier that is made larger or smaller while work goes on: how many nodes there shall be, and which of them shall go."""

from __future__ import annotations

import logging
import math

from sparkps.config import MOST_NODES
from sparkps.driver_bridge.coordinator.core import Core, Handlers, ScalingRequest, refused
from sparkps.driver_bridge.coordinator.states import TierState
from sparkps.errors import DeadlineExceeded, InvalidInput, TierError
from sparkps.wire.messages import control as c

log = logging.getLogger(__name__)

#: Seconds that a node which is not needed any more has to answer `StopNode`.
STOP_LIMIT = 5.0

_MOVING = (TierState.READY, TierState.DEGRADED)


def scale(core: Core, sender: bytes, message: c.ScaleTier) -> None:
    """There shall be so many nodes: the youngest go, or the tier waits for others."""
    number = message.num_nodes
    if not core.settings.replication <= number <= MOST_NODES:
        raise InvalidInput(
            f"`num_nodes` must be between `replication`, {core.settings.replication}, and {MOST_NODES}. Got {number} instead.",
            num_nodes=number,
        )
    _begin(core, f"Scaling to {number} nodes", sender, message.seq, message.seconds)
    core.wanted_nodes = number
    core.draining |= set(_members(core)[number:])
    core.moves.members_changed(f"the tier is scaled to {number} nodes")


def drain(core: Core, sender: bytes, message: c.DrainNode) -> None:
    """A node shall go."""
    node, members = message.node, _members(core)
    if node not in members:
        raise InvalidInput(f"A node that is drained must be up. Got node {node}; those that are: {members}.", node=node)
    if len(members) <= core.settings.replication:
        raise InvalidInput(
            f"`replication` ({core.settings.replication}) nodes must remain when one is drained. There are {len(members)}: start"
            " another one first (`ps.scale`).",
            node=node,
        )
    _begin(core, f"Draining node {node}", sender, message.seq, message.seconds)
    core.wanted_nodes = max(core.settings.replication, core.wanted_nodes - 1)
    core.draining.add(node)
    core.moves.members_changed(f"node {node} is drained")


def _members(core: Core) -> list[int]:
    """Nodes that are up and shall stay, the oldest first."""
    return [node for node in core.nodes.up() if node not in core.draining]


def _begin(core: Core, what: str, sender: bytes, seq: int, seconds: float) -> None:
    if core.scaling is not None:
        raise TierError(f"Only one change of the number of nodes may be under way. {core.scaling.what} is: wait until it is done.")
    if not (math.isfinite(seconds) and seconds > 0):
        raise InvalidInput(f"A time limit must be a positive number of seconds. Got {seconds} instead.")
    core.scaling = ScalingRequest(what, sender, seq, seconds, core.clock.now + seconds)
    log.info("%s", what)


def go_on(core: Core) -> None:
    """Let nodes go that hold nothing any more, and answer what is done; called after every event."""
    if core.state not in _MOVING or not core.moves.is_done or not core.placing.is_settled(core.nodes.up()):
        return
    for node in sorted(core.draining):
        _let_go(core, node)
    if core.scaling is not None and not core.leaving and len(core.nodes.up()) == core.wanted_nodes:
        log.info("%s is done", core.scaling.what)
        core.reply(core.scaling.sender, c.Accepted(core.scaling.seq))
        core.scaling = None


def _let_go(core: Core, node: int) -> None:
    """A node that holds nothing is told to stop; no bucket, and no command, waits for it any more."""
    if any(node in row for row in core.nodes.placement):
        return
    core.draining.discard(node)
    core.leaving.add(node)
    core.nodes.leave(node)
    core.placing.gone(node)
    core.commands.node_gone(node, None)
    log.info("node %d holds nothing any more: it is told to stop", node)

    def stopped(cause: c.Cause | None, _: object) -> None:
        core.leaving.discard(node)

    core.command(f"Stopping node {node}", c.StopNode, stopped, STOP_LIMIT, [node])


def give_up(core: Core) -> None:
    """A request whose time is over is told how far it has come."""
    scaling = core.scaling
    if scaling is None:
        return
    core.scaling = None
    late = DeadlineExceeded(
        f"{scaling.what} must be done within {scaling.limit:g} s. {_how_far(core)}. What was begun goes on: `ps.status()` shows it.",
        nodes=core.nodes.up(),
    )
    core.reply(scaling.sender, refused(scaling.seq, late))


def _how_far(core: Core) -> str:
    up, held = len(core.nodes.up()), core.nodes.copies()
    still = [f"node {node} still has {held[node]} buckets" for node in sorted(core.draining)]
    failure = [f"the last failure: {core.moves.failure}"] if core.moves.failure else []
    return "; ".join([f"{up} nodes are up, {core.wanted_nodes} shall be", *still, *failure])


HANDLERS: Handlers = {
    c.ScaleTier: scale,
    c.DrainNode: drain,
}

__all__ = ["HANDLERS", "give_up", "go_on"]
