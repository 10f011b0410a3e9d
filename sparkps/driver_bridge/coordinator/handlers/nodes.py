"""Nodes that join, are placed, answer commands, and die."""

from __future__ import annotations

import logging

from sparkps.driver_bridge.coordinator.core import Core, Handlers, node_lost
from sparkps.driver_bridge.coordinator.handlers import groups, lifecycle
from sparkps.driver_bridge.coordinator.node_registry import described
from sparkps.driver_bridge.coordinator.states import Own, TierState
from sparkps.wire.messages import control as c

log = logging.getLogger(__name__)


def hello(core: Core, sender: bytes, message: c.NodeHello) -> None:
    """A node joins; with the last one, the buckets are placed."""
    info = core.nodes.join(message.endpoint, message.host, message.pid, core.clock.now)
    core.node_at[info.node] = sender
    log.info("%s joined", described(info))
    welcome = c.Welcome(
        message.seq,
        info.node,
        core.tier_id,
        0,
        [],
        list(core.catalog.tables.values()),
        list(core.catalog.functions.items()),
        [group.spec for group in core.groups.running.values()],
        core.settings.node,
    )
    core.reply(sender, welcome)
    if core.nodes.epoch:
        placing = (core.nodes.epoch, core.nodes.placement, core.nodes.infos())
        core.command("Placing buckets", lambda seq: c.SetPlacement(seq, *placing), lambda cause, _: _placed(core, cause))


def _placed(core: Core, cause: c.Cause | None) -> None:
    """Nodes know their buckets, unless one could not be told: then the tier never starts."""
    if cause is not None:
        log.error("the tier is not complete: %s", cause)
        return
    core.enter(Own.PLACED)
    if core.state is not TierState.READY:
        return  # it was told to stop meanwhile
    if core.nodes.lost():  # after it had answered, and before the last one did
        core.enter(Own.NODE_DIED)
    lifecycle.answer_attaching(core)


def heartbeat(core: Core, sender: bytes, message: c.Heartbeat) -> None:
    """A node is alive, and is told whether it counts."""
    known = core.nodes.heartbeat(message.node, message.report, core.clock.now)
    core.send(sender, c.Alive(message.seq, known))


def command_done(core: Core, sender: bytes, message: c.CommandDone) -> None:
    """A node has carried out a command, or could not."""
    core.commands.answered(message)


def gone(core: Core, sender: bytes, message: c.NodeGone) -> c.ControlMessage:
    """The launcher has seen a node exit."""
    info = core.nodes.gone(message.endpoint, message.reason)
    if info is not None:
        died(core, info)
    return c.Accepted(message.seq)


def expire(core: Core) -> None:
    """Nodes that were silent for too long are dead."""
    for info in core.nodes.expire(core.clock.now):
        died(core, info)


def died(core: Core, info: c.NodeInfo) -> None:
    """A dead node's buckets are lost: what waits for it fails now, and so does every group."""
    is_stopping = core.state in (TierState.STOPPING, TierState.STOPPED)
    if not is_stopping:
        log.error("%s is dead: %s", described(info), info.reason)
    cause = c.Cause.of(node_lost(info))
    core.enter(Own.NODE_DIED)
    core.commands.node_gone(info.node, cause)
    if not is_stopping and core.nodes.lost():
        groups.fail_all(core, cause)


HANDLERS: Handlers = {
    c.NodeHello: hello,
    c.NodeGone: gone,
    c.Heartbeat: heartbeat,
    c.CommandDone: command_done,
}

__all__ = ["HANDLERS", "died", "expire"]
