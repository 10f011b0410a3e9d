"""The tier's own life: clients attach to it, ask how it is, and stop it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sparkps.driver_bridge.coordinator.core import Core, Handlers, refused
from sparkps.driver_bridge.coordinator.states import Own, Refusal, TierState
from sparkps.errors import TierError
from sparkps.wire.messages import control as c

#: Seconds that nodes have to answer `ReportNow`; later the last heartbeat's report does.
REPORT_LIMIT = 1.0
#: Seconds that nodes have to answer `StopNode`.
STOP_LIMIT = 2.0


def attach(core: Core, sender: bytes, message: c.Attach) -> c.ControlMessage | None:
    """Tell a client where the nodes are, as soon as all have joined."""
    if message.tier_id and message.tier_id != core.tier_id:
        raise TierError(
            f"A table handle must belong to the running tier, {core.tier_id!r}. It belongs to {message.tier_id!r}, which has stopped."
        )
    if core.state is TierState.STARTING:
        core.attaching.append((sender, message))
        return None
    return _attached(core, message)


def _attached(core: Core, message: c.Attach) -> c.Attached:
    nodes = core.nodes
    return c.Attached(message.seq, core.tier_id, nodes.epoch, nodes.placement, nodes.infos(), core.settings.client)


def answer_attaching(core: Core) -> None:
    """All nodes have joined."""
    waiting, core.attaching = core.attaching, []
    for sender, message in waiting:
        core.reply(sender, _attached(core, message))


def status(core: Core, sender: bytes, message: c.TierStatus) -> c.ControlMessage | None:
    """The tier's status, with what nodes report now where they can be asked."""
    if not message.fresh or core.state not in (TierState.READY, TierState.DEGRADED):
        return c.TierReport(message.seq, core.report())

    def reported(_: c.Cause | None, reports: dict[int, dict[str, Any]]) -> None:
        for node, report in reports.items():
            core.nodes.heartbeat(node, report, core.clock.now)
        core.reply(sender, c.TierReport(message.seq, core.report()))

    core.command("Reporting", c.ReportNow, reported, REPORT_LIMIT)
    return None


def stop(core: Core, sender: bytes, message: c.StopTier) -> None:
    """Stop the tier because its driver says so."""
    stop_nodes(core, lambda: core.reply(sender, c.Accepted(message.seq)))


def stop_nodes(core: Core, then: Callable[[], None]) -> None:
    """Tell the nodes to exit; the tier has stopped when they have answered, or have not in time."""
    waiting, core.attaching = core.attaching, []
    for sender, message in waiting:
        core.reply(sender, refused(message.seq, core.refusal(Refusal.STOPPING)))

    def stopped(_: c.Cause | None, reports: dict[int, dict[str, Any]]) -> None:
        for node in core.nodes.up():
            core.nodes.leave(node)
        then()
        core.enter(Own.STOPPED)

    core.command("Stopping the tier", c.StopNode, stopped, STOP_LIMIT)


HANDLERS: Handlers = {
    c.Attach: attach,
    c.TierStatus: status,
    c.StopTier: stop,
}

__all__ = ["HANDLERS", "answer_attaching", "stop_nodes"]
