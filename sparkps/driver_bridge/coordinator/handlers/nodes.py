"""Nodes that join, are placed, answer commands, and die."""

from __future__ import annotations

import logging

from msgspec.structs import replace

from sparkps.driver_bridge.coordinator.core import Core, Handlers, node_lost, nothing
from sparkps.driver_bridge.coordinator.handlers import moving
from sparkps.driver_bridge.coordinator.node_registry import described
from sparkps.driver_bridge.coordinator.states import TierState
from sparkps.wire.messages import control as c

log = logging.getLogger(__name__)


def hello(core: Core, sender: bytes, message: c.NodeHello) -> None:
    """A node joins: with the last one of a tier that starts the buckets are placed, a later one gets some by a plan."""
    had_placement = core.nodes.epoch > 0
    info = core.nodes.join(message.endpoint, message.host, message.pid, core.clock.now, message.job, message.attempt)
    core.node_at[info.node] = sender
    log.info("%s joined", described(info))
    core.reply(sender, _welcome(core, message.seq, info.node, had_placement))
    if had_placement:
        core.placing.joined(info.node)
        core.moves.members_changed(f"node {info.node} has joined")
        _tell_of_failures(core, info.node)
    elif core.nodes.epoch:
        core.placing.change(core.nodes.epoch, core.nodes.placement)
        moving.tell(core)


def _welcome(core: Core, seq: int, node: int, is_placed: bool) -> c.Welcome:
    return c.Welcome(
        seq,
        node,
        core.tier_id,
        core.nodes.epoch if is_placed else 0,
        core.nodes.placement if is_placed else [],
        list(core.catalog.tables.values()),
        list(core.catalog.functions.items()),
        [group.spec for group in core.groups.running.values()],
        core.settings.node,
        core.nodes.infos(),
        core.settings.log_level,
        list(core.tokens.values()),
    )


def _tell_of_failures(core: Core, node: int) -> None:
    """Groups that have failed are open at a node that joins: it is told that they have."""
    for number, group in core.groups.running.items():
        if group.cause is not None:
            failed = c.FailGroup(0, number, group.cause)
            core.command("Failing a group", lambda seq, failed=failed: replace(failed, seq=seq), nothing, nodes=[node])  # type: ignore[misc]


def heartbeat(core: Core, sender: bytes, message: c.Heartbeat) -> None:
    """A node is alive, and is told whether it counts."""
    is_its_own = core.node_at.get(message.node) == sender  # one without figures comes on another connection of the node (`Pulse`)
    core.send(sender, c.Alive(message.seq, core.heard(message.node, message.report if is_its_own else {})))


def command_done(core: Core, sender: bytes, message: c.CommandDone) -> None:
    """A node has carried out a command, or could not."""
    if core.node_at.get(message.node) != sender:
        core.garbage += 1
        return
    core.commands.answered(message)


def gone(core: Core, sender: bytes, message: c.NodeGone) -> c.ControlMessage:
    """The launcher has seen a node exit."""
    info = core.nodes.at(message.endpoint, message.attempt)
    if info is not None:
        died(core, info.node, message.reason)
    return c.Accepted(message.seq)


def died(core: Core, node: int, reason: str) -> None:
    """A node is dead: others lead what it led. What waits for it goes on without it, or fails where its buckets are lost."""
    is_stopping = core.state in (TierState.STOPPING, TierState.STOPPED)
    info = moving.fail_over(core, node, reason)
    if not is_stopping:
        log.error("%s is dead: %s", described(info), reason)
    is_lost = is_stopping or info in core.nodes.lost()
    core.commands.node_gone(node, c.Cause.of(node_lost(info)) if is_lost else None)


HANDLERS: Handlers = {
    c.NodeHello: hello,
    c.NodeGone: gone,
    c.Heartbeat: heartbeat,
    c.CommandDone: command_done,
}

__all__ = ["HANDLERS", "died"]
