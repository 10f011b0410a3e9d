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
_ENDING = (TierState.STOPPING, TierState.STOPPED)


def scale(core: Core, sender: bytes, message: c.ScaleTier) -> None:
    """There shall be so many nodes: the youngest go (see `choose`), or the tier waits for others."""
    number = message.num_nodes
    if not core.settings.replication <= number <= MOST_NODES:
        raise InvalidInput(
            f"`num_nodes` must be between `replication`, {core.settings.replication}, and {MOST_NODES}. Got {number} instead.",
            num_nodes=number,
        )
    _begin(core, f"Scaling to {number} nodes", sender, message.seq, message.seconds)
    core.wanted_nodes = number
    core.moves.members_changed(f"the tier is scaled to {number} nodes")


def drain(core: Core, sender: bytes, message: c.DrainNode) -> None:
    """A node shall go."""
    node, going = message.node, core.going()
    members = [each for each in core.nodes.up() if each not in going]
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
    core.retiring.add(node)
    core.moves.members_changed(f"node {node} is drained")


def _begin(core: Core, what: str, sender: bytes, seq: int, seconds: float) -> None:
    if core.scaling is not None:
        raise TierError(f"Only one change of the number of nodes may be under way. {core.scaling.what} is: wait until it is done.")
    if not (math.isfinite(seconds) and seconds > 0):
        raise InvalidInput(f"A time limit must be a positive number of seconds. Got {seconds} instead.")
    core.scaling = ScalingRequest(what, sender, seq, seconds, core.clock.now + seconds)
    log.info("%s", what)


def choose(core: Core) -> None:
    """Which nodes stay, and which give up their buckets; called after every event, since nodes die and join whatever was asked.

    The oldest stay, so many as there shall be, without those that are to go. While these are too few for the copies that there shall
    be, as when one of them has died, nodes that are to go keep theirs until others have joined. What can change this (a request, a
    death, a node that joins) has told `core.moves` that it must plan anew.
    """
    if core.state in _ENDING:
        return
    up, number = core.nodes.up(), core.wanted_nodes
    staying = [node for node in up if node not in core.retiring][:number]
    staying += sorted(core.retiring)[: max(0, core.settings.replication - len(staying))]
    core.draining = set(up).difference(staying)


def go_on(core: Core) -> None:
    """Let nodes go that hold nothing any more, and answer what is done; called after every event."""
    if core.state not in _MOVING or not core.moves.is_done or not core.placing.is_settled(core.nodes.up()):
        return
    for node in sorted(core.draining):
        _let_go(core, node)
    is_as_wanted = len(core.nodes.up()) == core.wanted_nodes and not core.leaving and not core.going()
    if core.scaling is not None and is_as_wanted:
        log.info("%s is done", core.scaling.what)
        core.reply(core.scaling.sender, c.Accepted(core.scaling.seq))
        core.scaling = None


def _let_go(core: Core, node: int) -> None:
    """A node that holds nothing is told to stop; no bucket, and no command, waits for it any more."""
    if any(node in row for row in core.nodes.placement):
        return
    core.draining.discard(node)
    core.retiring.discard(node)
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
    still = [f"node {node} still has {held[node]} buckets" for node in core.going()]
    failure = [f"the last failure: {core.moves.failure.rstrip('.')}"] if core.moves.failure else []
    return "; ".join([f"{up} nodes are up, {core.wanted_nodes} shall be", *still, *failure])


HANDLERS: Handlers = {
    c.ScaleTier: scale,
    c.DrainNode: drain,
}

__all__ = ["HANDLERS", "choose", "give_up", "go_on"]
