"""Whatever a user's code puts into an error or a report is made fit for a message, and nothing raises on the way."""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
import pytest

from sparkps.errors import (
    DeadlineExceeded,
    FunctionFailed,
    InvalidInput,
    ProtocolError,
    SparkPSError,
    TierError,
    UnknownTable,
    UnsendableValue,
    from_wire,
    to_wire,
)
from sparkps.plain import DEEPEST, LONGEST_TEXT, MOST_TEXT, MOST_VALUES, cut, fit, shown, text_of
from sparkps.wire.codec import decode, encode
from sparkps.wire.messages.control import Cause, FailRank, Refused
from sparkps.wire.messages.data import Failed

LONE = "part-\udcff.csv"  # how Python names a file whose name is not UTF-8

#: No error may take more of a message than this.
FIT_BYTES = 8 * (LONGEST_TEXT + MOST_TEXT)


class Level(enum.IntEnum):
    HIGH = 3


class Mute(Exception):
    """Nothing can be said of it."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__

    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class Leaves(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class NoText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class LoudText(str):
    def __len__(self) -> int:
        raise RuntimeError("no length")

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError("no bytes")

    def __str__(self) -> str:
        return self


class Forgetful(SparkPSError):
    def __init__(self) -> None:
        """Does not call its base."""


class Demanding(SparkPSError):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}", one=one)


class BrokenAttributes(SparkPSError):
    attributes = property(lambda self: 1 / 0, lambda self, value: None)  # type: ignore[assignment]


class BrokenList(list):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        raise RuntimeError("no elements")


class EndlessList(list):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        while True:
            yield "x" * 100


def itself() -> list[Any]:
    made: list[Any] = [1]
    made.append(made)
    return made


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def with_attributes(attributes: Any) -> SparkPSError:
    error = TierError("as told")
    error.attributes = attributes
    return error


ATTRIBUTES: dict[str, Any] = {
    "text that is not UTF-8": LONE,
    "80 MB": "x" * 80_000_000,
    "80 MB of bytes": b"x" * 80_000_000,
    "large int": 2**70,
    "larger than can be spelt": 1 << 200_000,
    "negative": -(1 << 63) - 1,
    "not a number": float("nan"),
    "enum": Level.HIGH,
    "numpy scalars": [np.float32(0.5), np.int64(3), np.bool_(True), np.str_("a"), np.longdouble(1)],
    "array": np.arange(6).reshape(2, 3),
    "large array": np.zeros(10_000_000),
    "bytes": b"\xff\x00",
    "itself": itself(),
    "deep": nested(100_000),
    "wide": list(range(1_000_000)),
    "bushy": [["ab"] * 100] * 100,
    "set": {1},
    "keys": {1: 2, (3, 4): 5, LONE: 6, None: 7, "1": 8},
    "mute": Mute(),
    "leaves": Leaves(),
    "class": SparkPSError,
    "loud": LoudText("abc"),
    "broken": BrokenList([1]),
    "endless": EndlessList([1]),
    "infinite dict": dict.fromkeys(range(5000), "y" * 1000),
}

ERRORS: dict[str, BaseException] = {
    "text that is not UTF-8": FileNotFoundError(2, "No such file", LONE),
    "80 MB": ValueError("x" * 80_000_000),
    "80 MB that are not UTF-8": ValueError("\udcff" * 5_000_000),
    "80 MB of ours": InvalidInput("x" * 80_000_000, table="w"),
    "no text": Mute(),
    "leaves": Leaves(),
    "wrong text": NoText(),
    "wrong message": SparkPSError(5),  # type: ignore[arg-type]
    "loud": SparkPSError(LoudText("abc")),
    "forgetful": Forgetful(),
    "broken attributes": BrokenAttributes("text"),
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "group": BaseExceptionGroup("several", [ValueError(LONE), KeyboardInterrupt()]),
    "itself": RecursionError(itself()),
    "attributes that are none": with_attributes(None),
    "attributes that are no names": with_attributes({1: 1, LONE: 2, "message": 3, "self": 4, (5,): 6, "1": 7}),
    **{f"attribute: {name}": FunctionFailed("as told", value=value) for name, value in ATTRIBUTES.items()},
}


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_can_be_sent_and_raised_at_the_other_end(name: str) -> None:
    described = to_wire(ERRORS[name])
    for message in (Failed(1, *described), Refused(1, *described), FailRank(1, 1, 0, 0, Cause.of(ERRORS[name]))):
        frames = encode(message)
        assert len(frames[0]) < FIT_BYTES
        (back, _) = decode(frames)
        assert back == message or "nan" in repr(message)
    error = from_wire(*described)
    assert type(error).__name__ == described[0] or isinstance(error, TierError)
    assert str(error) == described[1]
    again = to_wire(error)
    assert again[1:] == described[1:] or "nan" in repr(described), "what is fit stays as it is"


def test_long_text_is_cut_in_the_middle() -> None:
    _, message, _ = to_wire(ValueError("the beginning" + "x" * 80_000_000 + "the end"))
    assert len(message) <= LONGEST_TEXT
    assert message.startswith("ValueError: the beginning")
    assert message.endswith("the end")
    assert "characters left out" in message


def test_text_that_is_not_utf8_can_still_be_read() -> None:
    assert to_wire(OSError(LONE)) == ("TierError", r"OSError: part-\udcff.csv", {})
    assert cut("grün 😀") == "grün 😀"


def test_what_cannot_be_had_is_said_in_words() -> None:
    assert to_wire(Mute())[1] == "Mute: <Mute, whose text cannot be had: RuntimeError>"
    assert text_of(Leaves()) == "<Leaves, whose text cannot be had: SystemExit>"
    assert shown(1 << 200_000).startswith("<int, which cannot be shown: ValueError")


def test_plain_values_stay_as_they_are() -> None:
    plain = {"table": "w", "rank": 3, "clock": -1, "loss": 0.5, "ok": True, "none": None, "missing": [1, 2], "in": {"a": b"b"}}
    error = UnknownTable("no table", **plain)
    assert to_wire(error) == ("UnknownTable", "no table", plain)
    assert type(from_wire(*to_wire(error))) is UnknownTable


def test_other_values_become_the_plain_ones_they_stand_for() -> None:
    fitted = fit({"s": np.float32(0.5), "a": np.arange(3), "t": (1, 2), "e": Level.HIGH, "u": (1 << 64) - 1, "big": 1 << 64})
    assert fitted == {"s": 0.5, "a": [0, 1, 2], "t": [1, 2], "e": 3, "u": (1 << 64) - 1, "big": str(1 << 64)}
    assert type(fitted["e"]) is int


def test_depth_and_number_are_bounded() -> None:
    value, depth = fit(nested(1000)), 0
    while isinstance(value, list):
        value, depth = value[0], depth + 1
    assert (value, depth) == ("<list>", DEEPEST)
    assert len(fit(list(range(1_000_000)))) <= MOST_VALUES
    assert sum(map(len, fit(["x" * 1000] * 1000))) <= MOST_TEXT + 4 * MOST_VALUES


def test_attributes_may_have_any_name() -> None:
    error = from_wire("TierError", "text", {"message": 1, "self": 2, "args": 3, "attributes": 4})
    assert str(error) == "text"
    assert error.attributes == {"message": 1, "self": 2, "args": 3, "attributes": 4}
    assert SparkPSError("text", message=1, self=2).attributes == {"message": 1, "self": 2}


def test_a_class_of_the_users_that_wants_other_arguments_comes_back() -> None:
    error = from_wire(*to_wire(Demanding(1, 2)))
    assert (type(error), str(error), error.one) == (Demanding, "1 and 2", 1)


def test_a_class_of_the_users_takes_no_name_of_ours() -> None:
    made = type("DeadlineExceeded", (SparkPSError,), {})
    assert type(from_wire("DeadlineExceeded", "late", {})) is DeadlineExceeded
    assert made is not DeadlineExceeded


def test_a_value_that_cannot_be_sent_is_both_kinds_of_error() -> None:
    assert issubclass(UnsendableValue, ProtocolError)
    assert issubclass(UnsendableValue, InvalidInput)
