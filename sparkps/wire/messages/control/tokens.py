"""Messages that carry delegation tokens of HDFS: from the driver, which obtains them, to the nodes, which use them."""

from __future__ import annotations

import msgspec

from sparkps.wire.messages.base import ControlMessage


class NodeToken(msgspec.Struct, frozen=True, array_like=True):
    """A token, and whose it is. A secret: only its service is shown."""

    #: Host and port, or name service, of the URLs that it is for.
    service: str
    #: As URLs have it.
    text: str
    #: Web servers of its NameNodes, where it is renewed.
    addresses: list[str]
    #: It was issued for this tier, which so may renew it; another renews it, or nobody.
    is_ours: bool = True

    def __repr__(self) -> str:
        return f"NodeToken({self.service!r})"


# ---- driver -> coordinator --------------------------------------------------------------------------------------------


class GiveToken(ControlMessage, frozen=True, tag=87):
    """Nodes shall use this token, in place of any older one of its service, and it is renewed from now on.

    Answer: `Accepted`, when they have it.
    """

    seq: int
    token: NodeToken


class FindDueTokens(ControlMessage, frozen=True, tag=88):
    """Asks which tokens come to their end and cannot be renewed. Answer: `DueTokens`."""

    seq: int


# ---- coordinator -> driver --------------------------------------------------------------------------------------------


class DueTokens(ControlMessage, frozen=True, tag=111):
    """Services that need a new token soon."""

    seq: int
    services: list[str]


# ---- coordinator -> node ----------------------------------------------------------------------------------------------


class TakeTokens(ControlMessage, frozen=True, tag=95):
    """Command: use these tokens, each in place of any older one of its service."""

    seq: int
    tokens: list[NodeToken]


__all__ = ["DueTokens", "FindDueTokens", "GiveToken", "NodeToken", "TakeTokens"]
