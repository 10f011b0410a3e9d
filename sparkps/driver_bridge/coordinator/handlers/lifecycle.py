"""The tier's own life: clients attach to it, ask how it is, and stop it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from sparkps.driver_bridge.coordinator.core import Core, Handlers, refused
from sparkps.driver_bridge.coordinator.handlers import moving
from sparkps.driver_bridge.coordinator.states import Own, Refusal, TierState
from sparkps.errors import TierError
from sparkps.plain import shown, text_of
from sparkps.wire.messages import control as c

log = logging.getLogger(__name__)

#: Seconds that nodes have to answer `ReportNow`; later the last heartbeat's report does.
REPORT_LIMIT = 1.0
#: Seconds that nodes have to answer `StopNode`.
STOP_LIMIT = 2.0


def attach(core: Core, sender: bytes, message: c.Attach) -> c.ControlMessage | None:
    """Tell a client where the nodes are, as soon as all have joined."""
    if message.tier_id and message.tier_id != core.tier_id:
        raise TierError(
            f"A table handle must belong to the running tier, {core.tier_id!r}. It belongs to {shown(message.tier_id)}, which has stopped."
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

    core.asking[sender] = message.seq
    if not core.asked:
        _ask_nodes(core)
    return None


def _ask_nodes(core: Core) -> None:
    """Have all nodes report, for all who ask: those who come meanwhile are the next."""
    core.asked, core.asking = core.asking, {}

    def reported(_: c.Cause | None, reports: dict[int, dict[str, Any]]) -> None:
        for node, report in reports.items():
            core.heard(node, report)
        asked, core.asked = core.asked, {}
        report = core.report()
        for sender, seq in asked.items():
            core.reply(sender, c.TierReport(seq, report))
        if core.asking:
            _ask_nodes(core)

    core.command("Reporting", c.ReportNow, reported, REPORT_LIMIT)


def ask_to_stop(core: Core, sender: bytes, message: c.AskToStop) -> c.ControlMessage:
    """Tell who has started the tier, by the status, that it shall end."""
    if not core.is_asked_to_stop:
        log.info("somebody asks for the end of the tier")
    core.is_asked_to_stop = True
    core.is_to_be_discarded = message.discard
    return c.Accepted(message.seq)


def close(core: Core, sender: bytes, message: c.CloseTier) -> None:
    """Let all requests for rows wait, or go on."""
    core.is_closed = not message.why
    if message.why:
        core.is_asked_to_stop = False
        core.refused_ends, core.why_not_ended = core.refused_ends + 1, text_of(message.why)
        log.warning("the tier goes on: %s", core.why_not_ended)
    core.closing.append((sender, message.seq))
    moving.publish(core, moving.with_copies([list(row) for row in core.nodes.placement], core.moves.interrupt()))


def go_on(core: Core) -> None:
    """Whoever has closed the tier, or opened it again, knows when all nodes know. Called after every event."""
    if core.closing and core.placing.is_settled(core.nodes.up()):
        waiting, core.closing = core.closing, []
        for sender, seq in waiting:
            core.reply(sender, c.Accepted(seq))


def check_open(core: Core) -> None:
    """Nothing may be made on a tier that is about to end: the last checkpoint would not have it.

    Raises
    ------
    TierError
    """
    if core.is_closed:
        raise TierError(
            "What is made on a tier must last. This one is about to end, and writes its last checkpoint: come when it is started again."
        )


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
    c.AskToStop: ask_to_stop,
    c.CloseTier: close,
    c.StopTier: stop,
}

__all__ = ["HANDLERS", "answer_attaching", "check_open", "go_on", "stop_nodes"]
