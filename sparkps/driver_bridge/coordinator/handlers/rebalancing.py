"""Looks at the load of nodes, and buckets that get weights because of it."""

from __future__ import annotations

import logging

from sparkps.driver_bridge.coordinator.core import Core
from sparkps.driver_bridge.coordinator.rebalance import Decision
from sparkps.driver_bridge.coordinator.states import TierState

log = logging.getLogger(__name__)


def look(core: Core) -> Decision | None:
    """Look at the load if it is time to, and nothing else moves; what is decided is an event of its own (`events.Weighed`)."""
    if core.settings.rebalance != "auto" or not core.rebalance.is_due(core.clock.now):
        return None
    up = core.nodes.up()
    is_busy = core.scaling is not None or core.draining or not core.moves.is_done or not core.placing.is_settled(up)
    if core.state is not TierState.READY or is_busy or len(up) < 2:
        core.meter.reset()
        core.rebalance.reset()
        return None
    nodes = core.nodes
    if core.meter.epoch != nodes.epoch:
        core.rebalance.reset()
    load = core.meter.read(nodes.epoch, nodes.placement, nodes.nodes, up)
    if load is None:
        return None
    was_stuck = core.rebalance.stuck
    decision = core.rebalance.look(nodes.placement, up, load, core.clock.now)
    if core.rebalance.stuck and not was_stuck:
        log.warning("the load is skewed, and nothing is moved: %s", core.rebalance.stuck)
    return decision


def weighed(core: Core, weights: list[int], reason: str) -> None:
    """Buckets have these weights from now on: a plan balances leads by them."""
    log.info("buckets move, as %s", reason)
    core.weights = weights
    core.rebalance.decided(core.clock.now)
    core.moves.members_changed(reason)


__all__ = ["look", "weighed"]
