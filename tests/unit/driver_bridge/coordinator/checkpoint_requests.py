"""What drivers ask of a coordinator about checkpoints, and what they are told."""


from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparkps.specs import TableSpec
from sparkps.wire.messages import control as c
from tests.unit.driver_bridge.coordinator.members import Members

DRIVER, OTHER = b"driver", b"other"


def take(world: Members, sender: bytes = DRIVER) -> int:
    world.ask(sender, c.TakeCheckpoint(0, "/x", "00000001-00000000"))
    return world._seq


def restore(world: Members, tables: Sequence[TableSpec] = ()) -> int:
    world.ask(DRIVER, c.RestoreCheckpoint(0, "/x", "00000001-00000000", list(tables)))
    return world._seq


def answer(world: Members, number: int, sender: bytes = DRIVER) -> Any:
    """The answer, raised where it is a refusal."""
    found = world.replies.get((sender, number))
    if isinstance(found, c.Refused):
        raise c.Cause(found.error, found.message, found.attributes).exception()
    return found


def heard(world: Members, kind: type) -> list[Any]:
    return [message for member in world.members for message in member.heard if isinstance(message, kind)]
