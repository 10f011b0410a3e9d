"""How much a header may hold, counted in its bytes before a single value is made of them.

msgspec makes whatever the bytes say: 4 MB of empty lists are 330 MB of objects, a dict with chosen int keys takes time
quadratic in their number, and values nested a few hundred deep can be read but never be written again. So `check_values`
walks over the msgpack first: its time grows with the number of values and not with the size of texts and blobs (a worker's
state, a pickled function), and it ends at `MAX_VALUES`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sparkps.errors import ProtocolError

#: Most values in one header: every number, text, list, dict, key counts as one. A report of a group of
#: `specs.MAX_RANKS` ranks, each with `messages.control.MAX_PROGRESS` values of progress, fits.
MAX_VALUES = 1 << 20
#: Most lists and dicts inside each other.
MAX_DEPTH = 32
#: Most keys of dicts, in one header, that are no text: their hashes can be chosen so that they collide.
MAX_OTHER_KEYS = 1024
#: A header of so few bytes cannot hold much; it is walked only where its message may nest values deeply.
SMALL_BYTES = 1 << 14


def _sizes() -> tuple[int, ...]:
    """For each first byte of a msgpack value: the bytes of the whole value if they are fixed, else 0."""
    sizes = [0] * 256
    sizes[0x00:0x80] = [1] * 0x80  # positive fixint
    sizes[0xA0:0xC0] = range(1, 33)  # fixstr
    sizes[0xE0:0x100] = [1] * 0x20  # negative fixint
    sizes[0xC0:0xC4] = [1] * 4  # nil, never used, false, true
    sizes[0xCA:0xD4] = [5, 9, 2, 3, 5, 9, 2, 3, 5, 9]  # float 32 and 64, uint and int of 8 to 64 bits
    sizes[0xD4:0xD9] = [3, 4, 6, 10, 18]  # fixext
    return tuple(sizes)


_SIZES = _sizes()
#: First byte of a value whose length follows -> bytes of that length, and bytes between it and the contents.
_PREFIXED = {
    **dict(zip(range(0xC4, 0xC7), ((1, 0), (2, 0), (4, 0)), strict=True)),  # bin
    **dict(zip(range(0xC7, 0xCA), ((1, 1), (2, 1), (4, 1)), strict=True)),  # ext
    **dict(zip(range(0xD9, 0xDC), ((1, 0), (2, 0), (4, 0)), strict=True)),  # str
}
#: All bytes that begin no container.
_NO_CONTAINERS = bytes(first for first in range(256) if not (0x80 <= first < 0xA0 or 0xDC <= first < 0xE0))
#: First byte of a container whose length follows -> bytes of that length, and values per element.
_CONTAINERS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


def check_values(data: Any) -> None:
    """Refuses a msgpack value that holds too much.

    Parameters
    ----------
    data : bytes or memoryview of bytes
        One value. That it is whole is for the decoder to say: what is cut off ends the walk.

    Raises
    ------
    ProtocolError
        More than `MAX_VALUES` values, deeper than `MAX_DEPTH`, or more than `MAX_OTHER_KEYS` keys that are no text.
    """
    place, end = 0, len(data)
    #: Values that the bytes so far speak of, and keys among them that are no text.
    values, others = 1, 0
    #: Values still to come in the innermost container, and whether it is a dict; `outer` has those around it.
    left, in_dict = 1, False
    outer: list[tuple[int, bool]] = []
    while place < end:
        while not left:
            if not outer:
                return
            left, in_dict = outer.pop()
        first = data[place]
        if in_dict and not left & 1 and not (0xA0 <= first < 0xC0 or 0xD9 <= first < 0xDC):
            others += 1
            if others > MAX_OTHER_KEYS:
                raise _refused(values, len(outer), others)
        left -= 1
        size = _SIZES[first]
        if size:
            place += size
            continue
        place, inside, opens_dict = _open(data, place, first)
        if inside:
            values += inside
            outer.append((left, in_dict))
            left, in_dict = inside, opens_dict
            if values > MAX_VALUES or len(outer) > MAX_DEPTH:
                raise _refused(values, len(outer), others)


def check_depth(data: Any) -> None:
    """The same for at most `SMALL_BYTES`, and quick where so few bytes could begin a container that none lies deep."""
    if len(bytes(data).translate(None, _NO_CONTAINERS)) > MAX_DEPTH:
        check_values(data)


def _open(data: Any, place: int, first: int) -> tuple[int, int, bool]:
    """Past the head of a container, or all of a value of that many bytes: the place, values inside, whether a dict."""
    if first < 0xA0:
        inside = first & 0x0F
        return (place + 1, inside, False) if first >= 0x90 else (place + 1, 2 * inside, True)
    if first in _CONTAINERS:
        width, each = _CONTAINERS[first]
        inside = int.from_bytes(data[place + 1 : place + 1 + width], "big")
        return place + 1 + width, each * inside, each == 2
    width, between = _PREFIXED[first]
    return place + 1 + width + between + int.from_bytes(data[place + 1 : place + 1 + width], "big"), 0, False


def _refused(values: int, depth: int, others: int) -> ProtocolError:
    return ProtocolError(
        f"A message must hold at most {MAX_VALUES} values, {MAX_DEPTH} lists or dicts inside each other, and {MAX_OTHER_KEYS} keys of"
        f" dicts that are no text. Got {values}, {depth} and {others} or more: send arrays as arrays, and less at a time."
    )


def holds_anything(message: type[msgspec.Struct]) -> bool:
    """Whether a field of the message, or of a value in it, is of any type at all."""
    return any(_is_open(field.type) for field in msgspec.structs.fields(message))


def _is_open(kind: Any) -> bool:
    if kind is Any:
        return True
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return holds_anything(kind)
    return any(_is_open(part) for part in getattr(kind, "__args__", ()))


__all__ = ["MAX_DEPTH", "MAX_OTHER_KEYS", "MAX_VALUES", "SMALL_BYTES", "check_depth", "check_values", "holds_anything"]
