"""Hostile frames by seed: random bytes, messages with one field exchanged, valid ones out of order, and multipart of up to 1,000 frames.

Fields are found by the types of the messages, so that a new message, or a new field of one, is attacked without a word here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import inspect as mi

from sparkps.wire import codec
from sparkps.wire.codec import encode
from sparkps.wire.messages.base import WIRE_VERSION, Message
from sparkps.wire.messages.data import Request
from sparkps.wire.messages.log import LogEntry

PREFIX = codec.MAGIC + bytes([WIRE_VERSION])

#: Most frames of one message.
MOST_FRAMES = 1000

#: Values at which indexes, sizes, counts, times and names go wrong, by the type that a field has.
NUMBERS: tuple[int, ...] = (
    -1, 0, 1, 2, 7, 255, 256, 4096, 65_536, (1 << 31) - 1, 1 << 31, 1 << 40, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1,
    -2, -3, -(1 << 31), -(1 << 63),
)  # fmt: skip
TIMES = (0.0, -1.0, 1e-300, 1e308, float("inf"), float("-inf"), float("nan"))
LONG = "x" * 100_000
TEXTS = ("", "\x00", "a\x00b", "../../etc", LONG, "\U0001f600" * 50, "{}{0}%s%n", "-1")
BLOBS = (b"", b"\x00", b"\xff" * 32, b"\xff" * 33, b"x" * 100_000)
#: Maps with keys that no map of a message has, though one of plain values may.
KEYED = ({1: 3}, {1: {"uses": 1}}, {b"1": 3}, {"9" * 5000: {"uses": 1}}, {"9" * 5000: 3}, {-1.5: {}}, {None: 3})
#: What no field but one of any type takes, or takes with other contents.
ODD = (None, True, [], {}, {"a": 1}, [[[[[[[[]]]]]]]], [None] * 3, "x", b"x", 0.5, -1)


class Field(NamedTuple):
    """A field of a message, or of a value in it."""

    #: Name of the class that it is a field of, and its own.
    owner: str
    name: str
    #: Where it is in the message as msgpack has it.
    path: tuple[Any, ...]
    #: What it is now.
    value: Any


def raw_of(message: Message) -> Any:
    """A message as plain lists and dicts."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(message), strict=False)


def fields_of(message: Message) -> list[Field]:
    """All fields of a message and of the values in it; of a list, those of its first element."""
    return list(_fields(mi.type_info(type(message)), raw_of(message), ()))


def _fields(kind: mi.Type, value: Any, path: tuple[Any, ...]) -> Iterator[Field]:
    if isinstance(kind, mi.UnionType):
        kind = _meant(kind, value)
    if isinstance(kind, (mi.StructType, mi.DataclassType)):
        is_array = isinstance(kind, mi.StructType) and kind.array_like
        first = int(is_array and kind.tag is not None)  # type: ignore[union-attr]
        for number, field in enumerate(kind.fields):
            key: Any = first + number if is_array else field.encode_name
            if is_array or key in value:
                yield Field(kind.cls.__name__, field.name, (*path, key), value[key])
                yield from _fields(field.type, value[key], (*path, key))
    elif isinstance(kind, (mi.ListType, mi.VarTupleType)) and value:
        yield from _fields(kind.item_type, value[0], (*path, 0))
    elif isinstance(kind, mi.DictType) and value:
        key = next(iter(value))
        yield from _fields(kind.value_type, value[key], (*path, key))


def _meant(kind: mi.UnionType, value: Any) -> mi.Type:
    """The one of several types that a value has."""
    parts = [part for part in kind.types if not isinstance(part, mi.NoneType)]
    if isinstance(value, dict) and "type" in value:
        return next((part for part in parts if isinstance(part, mi.StructType) and part.tag == value["type"]), parts[0])
    return parts[0] if value is not None else mi.NoneType()


def values_for(value: Any) -> list[Any]:
    """What to put in the place of a value."""
    if isinstance(value, bool):
        like: list[Any] = [not value, *NUMBERS[:4]]
    elif isinstance(value, int):
        like = [*NUMBERS, value + 1, value - 1, *TIMES]
    elif isinstance(value, float):
        like = [*TIMES, *NUMBERS]
    elif isinstance(value, str):
        like = [*TEXTS]
    elif isinstance(value, bytes):
        like = [*BLOBS, value[:-1], value + b"\x01"]
    elif isinstance(value, list):
        some = value[:1] or [0]
        like = [[], value[:-1], value + some, some * 300, some * 5000, [NUMBERS[-4]], [-1], [1 << 40], [[]], [LONG], list(reversed(value))]
    elif isinstance(value, dict):
        key, one = next(iter(value.items()), ("a", 0))
        like = [{}, {**value, LONG: one}, {**value, "": -1}, {key: -1}, {key: LONG}, {key: {}}, {f"k{n}": n for n in range(300)}]
        like += [{**value, name: odd} for name in list(value)[:8] for odd in (*ODD, *TIMES[-3:], LONG, *KEYED)]
        like += [{**value, wrong: one} for wrong in (1, b"a", "9" * 5000)]
    else:
        like = [*NUMBERS, *TEXTS[:4], *BLOBS[:3]]
    return [*like, *ODD]


def with_value(raw: Any, path: Sequence[Any], value: Any) -> Any:
    """A copy of plain lists and dicts with one part exchanged."""
    if not path:
        return value
    key, *rest = path
    if isinstance(raw, dict):
        return {**raw, key: with_value(raw[key], rest, value)}
    return [with_value(part, rest, value) if place == key else part for place, part in enumerate(raw)]


def frames_of(raw: Any, arrays: Sequence[Any], numbers: tuple[Any, ...] = ()) -> list[bytes] | None:
    """What goes on the wire for plain lists and dicts; None: msgpack does not carry them."""
    layout = [(codec._CODES[array.dtype], array.shape) for array in arrays]
    try:
        header = PREFIX + msgspec.msgpack.encode([raw, layout, *numbers])
    except (OverflowError, ValueError, TypeError):
        return None
    return [header, *(np.ascontiguousarray(array).tobytes() for array in arrays)]


def mutations(message: Message, arrays: Sequence[Any] = (), numbers: tuple[Any, ...] = ()) -> Iterator[tuple[Field, Any, list[bytes]]]:
    """Every field of a message with every hostile value, field by field: the field, the value, the frames."""
    raw = raw_of(message)
    for field in fields_of(message):
        for value in values_for(field.value):
            frames = frames_of(with_value(raw, field.path, value), arrays, numbers)
            if frames is not None:
                yield field, value, frames


def odd_arrays(arrays: Sequence[Any]) -> Iterator[list[Any]]:
    """Arrays of a message: one less, one more, others of another type, shape or order, and with values that are out of bounds."""
    listed = list(arrays)
    yield listed[:-1]
    yield [*listed, np.zeros(1)]
    yield [*listed] * 3 + [np.zeros(0, np.int64)] * 200
    for place, array in enumerate(listed):
        for other in (
            array[:0], array[:-1], np.concatenate([array, array]), array[::-1], array.astype(np.int32), array.astype(np.float64),
            array.reshape(-1), array.reshape(1, -1), array.reshape(-1, 1, 1), np.array(7, array.dtype), array.view(np.uint8),
            np.full_like(array, -1), np.full_like(array, 127), np.zeros((0, 3), array.dtype),
            np.full(array.shape, np.iinfo(array.dtype).max if array.dtype.kind == "i" else np.nan, array.dtype),
        ):  # fmt: skip
            yield [*listed[:place], np.ascontiguousarray(other), *listed[place + 1 :]]


class Specimen(NamedTuple):
    """A message as it is sent in good faith, with its arrays."""

    message: Message
    arrays: tuple[Any, ...] = ()


class Hostile:
    """Frames by seed, made of specimens.

    Parameters
    ----------
    seed : int
    specimens : sequence of Specimen
    numbers : callable
        Session, number and acknowledged number for the next request, as a peer with a session would give them.
    spoil : callable
        Makes frames harmless that might do in good faith what is not to be done, such as a write to a table that is compared.
    """

    def __init__(
        self,
        seed: int,
        specimens: Sequence[Specimen],
        numbers: Callable[[random.Random], tuple[int, int, int]] = lambda rng: (1, 1, 0),
        spoil: Callable[[list[bytes]], list[bytes]] = lambda frames: frames,
    ) -> None:
        self._rng = random.Random(f"hostile {seed}")
        self._specimens = [(each, raw_of(each.message), fields_of(each.message)) for each in specimens]
        self._numbers = numbers
        self._spoil = spoil
        #: How many of each kind were made.
        self.made: dict[str, int] = {}

    def __iter__(self) -> Iterator[list[bytes]]:
        kinds: list[Callable[[], list[bytes]]] = [self._noise, self._mutated, self._mutated, self._mutated, self._valid, self._many]
        weights = [2, 6, 6, 6, 4, 1]
        while True:
            make = self._rng.choices(kinds, weights)[0]
            frames = make()
            self.made[make.__name__] = self.made.get(make.__name__, 0) + 1
            yield self._spoil(frames)

    def _noise(self) -> list[bytes]:
        rng = self._rng
        body = rng.randbytes(rng.choice([0, 1, 3, 30, 300]))
        head = rng.choice([PREFIX, PREFIX, PREFIX + b"\x92\x94" + bytes([rng.randrange(128)]), b"", b"SPS\xff"])
        return [head + body, *(rng.randbytes(rng.choice([0, 1, 8, 64])) for _ in range(rng.randrange(4)))]

    def _framed(self, specimen: Specimen, raw: Any, arrays: Sequence[Any]) -> list[bytes]:
        rng = self._rng
        numbers: tuple[Any, ...] = ()
        if isinstance(specimen.message, (Request, LogEntry)):
            numbers = self._numbers(rng)
            if rng.random() < 0.05:
                numbers = tuple(rng.choice([*NUMBERS, *ODD, each]) for each in numbers)
        return frames_of(raw, arrays, numbers) or self._noise()

    def _mutated(self) -> list[bytes]:
        rng = self._rng
        specimen, raw, fields = rng.choice(self._specimens)
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            if fields:
                field = rng.choice(fields)
                try:
                    values = values_for(field.value)
                    if rng.random() < 0.8:  # most of them of the field's type: others end at the codec
                        values = [each for each in values if type(each) is type(field.value)] or values
                    raw = with_value(raw, field.path, rng.choice(values))
                except (KeyError, TypeError, IndexError):  # what it was a part of is another value by now
                    continue
        arrays: Sequence[Any] = specimen.arrays
        if arrays and rng.random() < 0.4:
            arrays = rng.choice(list(odd_arrays(arrays)))
        return self._framed(specimen, raw, arrays)

    def _valid(self) -> list[bytes]:
        """Out of its order, as all of them are."""
        specimen, raw, _ = self._rng.choice(self._specimens)
        return self._framed(specimen, raw, specimen.arrays)

    def _many(self) -> list[bytes]:
        rng = self._rng
        specimen, raw, _ = rng.choice(self._specimens)
        count = rng.randrange(1, MOST_FRAMES)
        if rng.random() < 0.5:
            return [*self._framed(specimen, raw, specimen.arrays)[:1], *([b"x" * rng.choice([0, 1, 8])] * count)][:MOST_FRAMES]
        return self._framed(specimen, raw, [np.arange(rng.choice([0, 1, 3]))] * (count - 1))


def sent(message: Message, arrays: Sequence[Any] = (), numbers: tuple[int, int, int] | None = None) -> list[bytes]:
    """A message in good faith as bytes."""
    return [memoryview(frame).tobytes() for frame in encode(message, arrays, numbers)]
