"""Delegation tokens: the driver brings them, nodes use them, and `renewing` sees that they live on."""

from __future__ import annotations

from typing import Any

from sparkps.driver_bridge.coordinator.core import Core, Handlers
from sparkps.errors import InvalidInput
from sparkps.plain import shown
from sparkps.wire.messages import control as c

#: Most characters of a token and of what it says besides, addresses of a service, and services of a tier.
LONGEST_TOKEN, MOST_ADDRESSES, MOST_SERVICES = 1 << 16, 64, 256


def give(core: Core, sender: bytes, message: c.GiveToken) -> None:
    """Nodes that are up get a token now, and others when they join."""
    token = message.token
    texts = (token.service, token.text, *token.addresses)
    if not token.service or max(map(len, texts)) > LONGEST_TOKEN or len(token.addresses) > MOST_ADDRESSES:
        raise InvalidInput(
            f"A delegation token must have a service, at most {MOST_ADDRESSES} addresses, and {LONGEST_TOKEN} characters in each. Got"
            f" {shown(token.service)} with {len(token.addresses)} addresses."
        )
    if token.service not in core.tokens and len(core.tokens) >= MOST_SERVICES:
        raise InvalidInput(f"A tier must have tokens of at most {MOST_SERVICES} services. Got one more, {shown(token.service)}.")
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
