"""A local tier each of whose connections goes through a relay, so that nodes can be cut off from each other and from the rest.

::

    from sparkps.testing import relayed

    relayed.enable()
    with PSContext(spark, num_nodes=3, launch="relayed") as ps:
        tier = relayed.tier_of(ps)
        with tier.isolated(1):                  # node 1 runs, and nobody hears of it
            train()
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sparkps.config import Settings
from sparkps.driver_bridge.launchers import LAUNCHERS
from sparkps.driver_bridge.launchers.children import Child
from sparkps.driver_bridge.launchers.local import LocalTier
from sparkps.errors import InvalidInput
from sparkps.testing.relay import Relay
from sparkps.testing.relayed_node import BEHIND
from sparkps.wire.messages.control import TierStatus

_NODE, _RELAYED = "sparkps.ps_nodes", "sparkps.testing.relayed_node"


class RelayedTier(LocalTier):
    """A tier of child processes behind relays; use `launch`, or `PSContext(launch="relayed")` after `enable`.

    Attributes
    ----------
    to_node : dict of str to Relay
        By the node's name, "node0": what clients and other nodes send to it and get of it.
    to_coordinator : dict of str to Relay
        By the node's name: what it sends to the coordinator and gets of it.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.to_node: dict[str, Relay] = {}
        self.to_coordinator: dict[str, Relay] = {}

    def _child(self, name: str, command: list[str]) -> Child:
        if _NODE not in command:
            return super()._child(name, command)
        changed = [_RELAYED if word == _NODE else word for word in command]
        bind, coordinator = changed.index("--bind") + 1, changed.index("--coordinator") + 1
        self._close(name)
        self.to_node[name] = Relay(changed[bind] + BEHIND, changed[bind])
        self.to_coordinator[name] = Relay(changed[coordinator])
        changed[bind] += BEHIND
        changed[coordinator] = self.to_coordinator[name].endpoint
        return super()._child(name, changed)

    def stop(self) -> None:
        """End all processes, then the relays."""
        for relay in [*self.to_node.values(), *self.to_coordinator.values()]:
            relay.heal()
        super().stop()
        for name in list(self.to_node):
            self._close(name)

    def _close(self, name: str) -> None:
        for relays in (self.to_node, self.to_coordinator):
            if name in relays:
                relays.pop(name).close()

    def name_of(self, node: int) -> str:
        """The name of a node's process, "node0", by the node's id."""
        return self._find(node)[0]

    def isolate(self, node: int) -> None:
        """Cut a node off from clients, coordinator and all other nodes, until `rejoin`. It goes on running."""
        name, pid = self._find(node)
        self.to_node[name].cut()
        self.to_coordinator[name].cut()
        for other, relay in self.to_node.items():
            if other != name:
                relay.cut(pid=pid)

    def rejoin(self, node: int) -> None:
        """End what `isolate` has begun; a node that the tier took for dead meanwhile is told so then."""
        name, pid = self._find(node)
        self.to_node[name].heal()
        self.to_coordinator[name].heal()
        for relay in self.to_node.values():
            relay.heal(pid=pid)

    @contextmanager
    def isolated(self, node: int) -> Iterator[None]:
        """A node is cut off while the context lasts."""
        self.isolate(node)
        try:
            yield
        finally:
            self.rejoin(node)

    def _find(self, node: int) -> tuple[str, int]:
        """Name and process of a node."""
        nodes = self.control.request(TierStatus(0, fresh=False)).report["nodes"]
        found = [one for one in nodes if one["id"] == node]
        if not found:
            known = [one["id"] for one in nodes]
            raise InvalidInput(f"A node must be the id, an int, of one of the tier: {known}. Got {node!r} instead.", node=node)
        return str(found[0]["endpoint"]).rpartition("/")[2], int(found[0]["pid"])


def enable() -> None:
    """Let `PSContext(launch="relayed")` start such tiers, in this process."""
    LAUNCHERS["relayed"] = __name__


def tier_of(ps: Any) -> RelayedTier:
    """The tier of a PSContext that was started so."""
    tier = getattr(ps, "_tier", None)
    if not isinstance(tier, RelayedTier):
        raise InvalidInput(f"The tier must have been started with `launch='relayed'`. Got {type(tier).__name__} instead.")
    return tier


def launch(settings: Settings, spark: Any = None) -> RelayedTier:
    """Start a tier behind relays, and wait until it is ready.

    Parameters
    ----------
    settings : Settings
    spark : SparkSession, optional
        Not needed: nodes are no Spark tasks.
    """
    tier = RelayedTier(settings)
    tier.start()
    return tier


__all__ = ["RelayedTier", "enable", "launch", "tier_of"]
