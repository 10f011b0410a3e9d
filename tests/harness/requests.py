"""Requests to a node as tests make them: numbers and message together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from sparkps.wire.codec import decode_request, encode


@dataclass(frozen=True)
class Numbered:
    """A message with the numbers around it; its fields can be read here, too."""

    session: int
    seq: int
    acked: int
    message: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.message, name)

    def frames(self, arrays: Sequence[Any] = (), epoch: int = 1) -> list[Any]:
        """What goes on the wire; a message without an epoch gets one."""
        message = self.message
        if getattr(message, "epoch", None) == 0:
            message = msgspec.structs.replace(message, epoch=epoch)
        return encode(message, arrays, (self.session, self.seq, self.acked))


def arrived(frames: Sequence[Any]) -> tuple[Any, list[Any]]:
    """A message as it came, a request with its numbers, and the arrays."""
    numbers, message, arrays = decode_request(frames)
    return (Numbered(*numbers, message) if numbers[1] else message), arrays


def is_a(message: Any, kind: type[Any] | tuple[type[Any], ...]) -> bool:
    """`isinstance` of a message that may have numbers."""
    return isinstance(message.message if type(message) is Numbered else message, kind)
