"""The simulated tier with audits: every node is asked, again and again, whether its state machines are in order."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from sparkps.ps_nodes.service import Service
from sparkps.testing.simulation.coordinated import CoordinatedTier
from sparkps.testing.simulation.tier import SimulatedTier
from tests.harness.audit import RememberedSessions, check_at_rest, check_copies, check_forgotten, validate

#: How often a node looks after its timers where none can go off before the schedule ends (simulated seconds).
LOOK_RARELY = 5.0

#: After so many messages a node's state machines are asked whether their invariants hold.
VALIDATE_EVERY = 16


class Audited(SimulatedTier):
    """Nodes that are audited."""

    def made(self, service: Service) -> None:
        """Let the node remember its sessions for the audit."""
        service.state.sessions = RememberedSessions()

    def receiver(self, service: Service) -> Callable[[bytes, list[bytes]], None]:
        """Takes the messages of a node, and looks after it."""
        messages = count(1)

        def receive(identity: bytes, frames: list[bytes]) -> None:
            service.receive(identity, frames)
            if next(messages) % VALIDATE_EVERY == 0:
                validate(service, service.state.groups.values())

        return receive

    def check_at_rest(self) -> None:
        """Asserts that nothing is left in the nodes of what was asked of them; ends the simulation's time."""
        for service in self.living:
            check_at_rest(service, self.opened[service.state.node])
        for _ in ("sessions", "marks"):  # marks are kept for as long again as their session was
            self.clockwork.now += self.nodes[0].state.sessions.ttl + 1.0
            for service in self.living:
                service.look_around()
        for service in self.living:
            check_forgotten(service)


class Tier(Audited):
    """Nodes that are audited, and a coordinator that does as it is told."""


class ReplicatedTier(Audited, CoordinatedTier):
    """Nodes that are audited, and the real coordinator."""

    def check_at_rest(self) -> None:
        """Asserts that copies are what their primaries have, too."""
        for service in self.living:
            check_copies(service, self)
        super().check_at_rest()
