"""What all messages are, and the register that they enter themselves into."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

#: Version of all messages; a peer with another one is refused.
WIRE_VERSION = 5

#: Tags of each plane: one number space, in which a tag is never given a new meaning.
TAGS = {"data": range(1, 64), "control": range(64, 128)}


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Base of all messages. A subclass with a tag is a message, and known to a codec that is imported after it."""

    #: "data" or "control".
    plane: ClassVar[str] = ""

    def __init_subclass__(cls, **config: Any) -> None:
        super().__init_subclass__(**config)
        _defined.append(cls)


#: All subclasses. msgspec gives them their tags after they have entered.
_defined: list[type[Message]] = []


class DataMessage(Message, frozen=True, array_like=True):
    """Base of the messages between clients and nodes."""

    plane: ClassVar[str] = "data"


class ControlMessage(Message, frozen=True, array_like=True):
    """Base of the messages to and from the coordinator."""

    plane: ClassVar[str] = "control"


def registered() -> tuple[type[Message], ...]:
    """All messages that were defined so far, by tag; asserts that each has a tag of its own, and of its plane."""
    found: dict[int, type[Message]] = {}
    for cls in _defined:
        tag = cls.__struct_config__.tag
        if tag is None:
            continue  # a base
        assert isinstance(tag, int), f"the tag of {cls.__name__} is a number, not {tag!r}"
        assert tag in TAGS.get(cls.plane, ()), f"tag {tag} of {cls.__name__} is one of the {cls.plane or 'planeless'} messages'"
        assert tag not in found, f"tag {tag} is that of {found[tag].__name__} and of {cls.__name__}"
        found[tag] = cls
    return tuple(found[tag] for tag in sorted(found))
