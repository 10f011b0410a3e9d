"""Delegation tokens: the driver brings them, nodes use them, and `renewing` sees that they live on."""

from __future__ import annotations

from typing import Any

from sparkps.driver_bridge.coordinator.core import Core, Handlers
from sparkps.wire.messages import control as c


def give(core: Core, sender: bytes, message: c.GiveToken) -> None:
    """Nodes that are up get a token now, and others when they join."""
    token = message.token
    core.tokens[token.service] = token
    core.due_tokens.discard(token.service)

    def taken(cause: c.Cause | None, _: dict[int, dict[str, Any]]) -> None:
        core.accept(sender, message.seq, cause)

    core.command("Handing over a delegation token", lambda seq: c.TakeTokens(seq, [token]), taken)


def find_due(core: Core, sender: bytes, message: c.FindDueTokens) -> c.ControlMessage:
    """The driver asks whether nodes need a new token."""
    return c.DueTokens(message.seq, sorted(core.due_tokens))


HANDLERS: Handlers = {c.GiveToken: give, c.FindDueTokens: find_due}

__all__ = ["HANDLERS"]
