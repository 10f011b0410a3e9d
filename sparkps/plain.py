"""Values of users made fit for a message: text that UTF-8 carries, plain values of bounded size and depth.

Errors and reports hold whatever a user's code put into them: the name of a file that nobody can decode, a tensor, a list that
holds itself, an object whose ``__str__`` raises. Nothing here raises, whatever it is given: what cannot be kept is cut, or
replaced by words that say so. What is fit stays as it is, so that an error may be handed on any number of times.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from typing import Any

#: Most characters of one text; of a longer one beginning and end are kept.
LONGEST_TEXT = 16_384
#: Most characters of a name: of a class, of an attribute.
LONGEST_NAME = 200
#: Of all attributes of one error together: most values, and most characters and bytes.
MOST_VALUES, MOST_TEXT = 1024, 65_536
#: Lists and dicts inside each other.
DEEPEST = 6
#: Ints that msgpack carries: from, and up to but not including.
INT_RANGE = (-(1 << 63), 1 << 64)

_LEFT_OUT = " [... {} characters left out ...] "
#: A text is not cut to fewer characters than this: the words that say so need them.
_SHORTEST = 80
_MORE = "..."


def text_of(value: Any, limit: int = LONGEST_TEXT) -> str:
    """``str(value)``, fit for a message; if that raises, words that say so.

    Examples
    --------
    >>> text_of(ValueError("a" * 1000), 80)
    'aaaaaaaaaaaaaaaaaaa [... 962 characters left out ...] aaaaaaaaaaaaaaaaaaa'
    """
    try:
        return cut(str(value), limit)
    except BaseException as failure:  # a user's __str__ may raise anything, SystemExit included
        return f"<{name_of(value)}, whose text cannot be had: {name_of(failure)}>"


def shown(value: Any, limit: int = LONGEST_NAME) -> str:
    """``repr(value)`` for a message that says what was got, as `text_of`."""
    try:
        return cut(repr(value), limit)
    except BaseException as failure:  # a user's __repr__ may raise anything; so does an int of more than 4,300 digits
        return f"<{name_of(value)}, which cannot be shown: {name_of(failure)}>"


def name_of(value: Any) -> str:
    """Name of the class of `value`."""
    try:
        return cut(type(value).__name__, LONGEST_NAME)
    except BaseException:  # a metaclass may raise anything
        return "object"


def cut(text: str, limit: int = LONGEST_TEXT) -> str:
    """`text` as a plain str of at most `limit` characters, beginning and end kept, lone surrogates spelt out.

    Examples
    --------
    >>> cut("part-\\udcff.csv")
    'part-\\\\udcff.csv'
    """
    text = _shortened("".join([text]), limit)  # joined: a subclass of str could have methods of its own
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        text = _shortened(text.encode("utf-8", "backslashreplace").decode(), limit)
    return text


def _shortened(text: str, limit: int) -> str:
    if len(text) <= max(limit, _SHORTEST):
        return text
    half = (max(limit, _SHORTEST) - len(_LEFT_OUT) - 8) // 2
    return text[:half] + _LEFT_OUT.format(len(text) - 2 * half) + text[-half:]


@dataclass
class _Room:
    """What may still be taken."""

    values: int = MOST_VALUES
    text: int = MOST_TEXT


def fit(value: Any) -> Any:
    """`value` as None, bool, 64-bit int, float, str, bytes, or a list or dict (with text for keys) of such.

    Tuples and sets become lists, arrays and tensors of few elements as well; anything else becomes its text.

    Examples
    --------
    >>> fit({"rows": (1, 2.5, 2**70), 3: None})
    {'rows': [1, 2.5, '1180591620717411303424'], '3': None}
    """
    return _fit(value, _Room(), 0)


def fit_attributes(attributes: Any) -> dict[str, Any]:
    """The attributes of an error, fit for a message: no names but text, each once."""
    fitted = fit(attributes)
    return fitted if isinstance(fitted, dict) else {}


def _fit(value: Any, room: _Room, depth: int) -> Any:
    room.values -= 1
    try:
        return _known(value, room, depth)
    except BaseException:  # a user's object may raise anything, whatever it is asked
        return f"<{name_of(value)}, whose value cannot be had>"


def _known(value: Any, room: _Room, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, room)
    if isinstance(value, int):
        number = int.__add__(value, 0)  # of a subclass (an IntEnum) the int itself
        return number if INT_RANGE[0] <= number < INT_RANGE[1] else _text(_digits(number), room)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, (bytes, bytearray)):
        return _bytes(value, room)
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        return _container(value, room, depth)
    if _is_small_array(value):
        return _fit(value.tolist(), room, depth + 1) if depth <= DEEPEST else _text(str(value), room)
    return _text(str(value), room)


def _text(text: str, room: _Room) -> str:
    if room.text <= 0:
        return _MORE
    text = cut(text, min(LONGEST_TEXT, room.text))
    room.text -= len(text)
    return text


def _digits(number: int) -> str:
    # Python refuses to spell out ints of more than 4,300 digits.
    return str(number) if number.bit_length() <= 4096 else f"<int of {number.bit_length()} bits>"


def _bytes(value: bytes | bytearray, room: _Room) -> bytes:
    kept = bytes(value[: max(0, min(LONGEST_TEXT, room.text))])
    room.text -= len(kept)
    return kept


def _container(value: Any, room: _Room, depth: int) -> Any:
    if depth >= DEEPEST:
        return f"<{name_of(value)}>"
    most = max(0, room.values)
    if isinstance(value, dict):
        return _dict(value, most, room, depth)
    fitted = [_fit(each, room, depth + 1) for each in itertools.islice(iter(value), most) if room.values > 0]
    return fitted if len(fitted) == len(value) else [*fitted, _MORE]


def _dict(value: dict[Any, Any], most: int, room: _Room, depth: int) -> dict[str, Any]:
    fitted: dict[str, Any] = {}
    for key, each in itertools.islice(dict.items(value), most):
        if room.values <= 0 or room.text <= 0:
            break
        name = text_of(key, LONGEST_NAME)
        room.text -= len(name)
        if name not in fitted:
            fitted[name] = _fit(each, room, depth + 1)
    return fitted


def _is_small_array(value: Any) -> bool:
    """Whether `value` is a numpy scalar or array, or one of their kind, that is worth writing out."""
    size = getattr(value, "size", None)
    return hasattr(type(value), "tolist") and isinstance(size, int) and size <= MOST_VALUES


def is_text(path: str) -> bool:
    """Whether a path is the same in UTF-8, as messages and zmq write it, as the system has it; names are bytes, and may be any."""
    try:
        return path.encode() == os.fsencode(path)
    except UnicodeEncodeError:
        return False


__all__ = ["DEEPEST", "INT_RANGE", "LONGEST_NAME", "LONGEST_TEXT", "cut", "fit", "fit_attributes", "is_text", "name_of", "shown", "text_of"]
