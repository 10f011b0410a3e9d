"""The one codec: a message and its arrays, to frames and back.

::

    frame 0      b"SPS", one version byte, msgpack([message, [[dtype code, shape], ...]])
                 of a request to a node: msgpack([message, [[dtype code, shape], ...], session, seq, acked])
    frame 1..n   the arrays, C-contiguous, little-endian, as they lie in memory

Arrays are never copied: `encode` gives them to the transport as they are, `decode` returns read-only views of the received
frames (only a frame that the transport left misaligned, a small one, is copied). The messages are those that `messages.base` has
registered; anything else, from whomever it comes, is a `ProtocolError`.

No other exception leaves this module. Both directions take time linear in the size of the frames, and what a header holds is
bounded before anything is made of it (see `limits`).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sparkps.errors import ProtocolError, UnsendableValue
from sparkps.plain import text_of
from sparkps.wire.limits import SMALL_BYTES, check_depth, check_values, holds_anything
from sparkps.wire.messages import control, data, log  # noqa: F401 - their messages enter the register
from sparkps.wire.messages.base import TAGS, WIRE_VERSION, Message, registered

#: First bytes of every frame 0; the version byte follows.
MAGIC = b"SPS"
#: Bytes of frame 0 ahead of the msgpack part.
PREFIX_BYTES = len(MAGIC) + 1
#: Most frames of one message, the header included.
MAX_FRAMES = 4096
#: Most bytes of frame 0 (it may carry a worker's state or a pickled function).
MAX_HEADER_BYTES = 64 << 20
#: Most bytes of one array.
MAX_ARRAY_BYTES = 1 << 30
#: Most dimensions of one array.
MAX_DIMENSIONS = 8

#: dtype of each code on the wire; codes are never given a new meaning.
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<i4"),
    2: np.dtype("<i8"),
    3: np.dtype("u1"),
    4: np.dtype("<f4"),
    5: np.dtype("<f8"),
    6: np.dtype("<f2"),
    7: np.dtype("<u2"),
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}

#: Every message class, by tag.
REGISTRY = registered()
_KNOWN = frozenset(REGISTRY)
#: Those that carry values of any type, which a small header can nest deeply.
_OPEN = frozenset(cls for cls in REGISTRY if holds_anything(cls))
_ANY_MESSAGE: Any = functools.reduce(operator.or_, REGISTRY)

_PREFIX = MAGIC + bytes([WIRE_VERSION])

#: Session, seq and acked of a request to a node; see `messages.data`.
Numbers = tuple[int, int, int]

#: What a received frame may be: bytes, a buffer, or an object with a ``buffer`` attribute, such as a ``zmq.Frame``.
Received = Any


_Shape = Annotated[tuple[int, ...], msgspec.Meta(max_length=MAX_DIMENSIONS)]
_Layout = Annotated[list[tuple[int, _Shape]], msgspec.Meta(max_length=MAX_FRAMES - 1)]


class _Header(msgspec.Struct, frozen=True, array_like=True):
    """The msgpack part of frame 0."""

    message: _ANY_MESSAGE
    #: dtype code and shape of each array. msgspec checks the lengths before it makes anything.
    arrays: _Layout = []
    #: Of a request to a node; else 0.
    session: int = 0
    seq: int = 0
    acked: int = 0


class _Bare(msgspec.Struct, frozen=True, array_like=True):
    """The same without numbers, as it is sent."""

    message: Any
    arrays: list[tuple[int, tuple[int, ...]]]


def _plain(value: Any) -> Any:
    """A numpy scalar as the Python number it stands for."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not a plain value")


class _Begun(msgspec.Struct, array_like=True):
    """The first fields of any message; those after them are skipped unread."""

    tag: int
    first: Any = 0


class _NumberedHeader(msgspec.Struct, array_like=True):
    """Of a header, what says which request it is."""

    message: _Begun
    arrays: Any = None
    session: Any = 0
    seq: Any = 0


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_plain)
_DECODER = msgspec.msgpack.Decoder(_Header)
_NUMBERED = msgspec.msgpack.Decoder(_NumberedHeader)


def encode(message: Message, arrays: Sequence[NDArray[Any]] = (), numbers: Numbers | None = None) -> list[Any]:
    """The frames of a message.

    Parameters
    ----------
    message : Message
        Of a class in `REGISTRY`.
    arrays : sequence of ndarray
        int32, int64, uint8, float16, float32 or float64, in the order that the message's docstring gives.
    numbers : tuple of int, optional
        Of a request to a node.

    Returns
    -------
    list of bytes and ndarray
        The header, then the arrays themselves (copied only if they are not C-contiguous): they must not change until the
        transport has sent them.

    Raises
    ------
    ProtocolError
        A class outside the registry, or more than the limits of this module and of `limits`. As its subclass `UnsendableValue`,
        which is an `InvalidInput`, too: a value that msgpack does not carry, or an array of another dtype. No other exception.

    Examples
    --------
    >>> from sparkps.wire.messages.data import Done
    >>> frames = encode(Done(seq=7), [np.arange(3)])
    >>> decode(frames)
    (Done(seq=7), [array([0, 1, 2])])
    """
    if type(message) not in _KNOWN:
        raise ProtocolError(
            f"A message must be of a class in the registry of sparkps.wire. Got {type(message).__name__} instead."
        )
    frames: list[Any] = [b""]
    layout = []
    for array in arrays:
        code = _CODES.get(array.dtype) if isinstance(array, np.ndarray) else None
        if code is None:
            raise _refused_array(array)
        if array.nbytes > MAX_ARRAY_BYTES or array.ndim > MAX_DIMENSIONS:
            raise ProtocolError(
                f"An array on the wire must have at most {MAX_ARRAY_BYTES} bytes and {MAX_DIMENSIONS} dimensions."
                f" Got {array.nbytes} bytes and {array.ndim} dimensions instead: send it in chunks."
            )
        if not array.flags.c_contiguous:
            array = np.ascontiguousarray(array)
        layout.append((code, array.shape))
        frames.append(array)
    frames[0] = _encode_header(message, layout, numbers)
    return frames


def _encode_header(message: Message, layout: list[tuple[int, tuple[int, ...]]], numbers: Numbers | None) -> bytes:
    """Frame 0; refuses at the sender what every receiver would refuse."""
    try:
        if numbers is None:
            header = _PREFIX + _ENCODER.encode(_Bare(message, layout))
        else:
            session, seq, acked = numbers
            header = _PREFIX + _ENCODER.encode(_Header(message, layout, session, seq, acked))
    except Exception as error:  # a value of the user's may raise anything when it is looked at
        raise UnsendableValue(
            f"The fields of a {type(message).__name__} must be plain values (None, bool, 64-bit int, float, str, bytes, list, dict)."
            f" Got one that is not: {text_of(error)}"
        ) from error
    if len(layout) >= MAX_FRAMES or len(header) > MAX_HEADER_BYTES:
        raise ProtocolError(
            f"A message must have at most {MAX_FRAMES} frames and {MAX_HEADER_BYTES} bytes of header."
            f" Got {len(layout) + 1} frames and {len(header)} bytes in a {type(message).__name__} instead."
        )
    try:
        if len(header) > SMALL_BYTES:
            check_values(memoryview(header)[PREFIX_BYTES:])
        elif type(message) in _OPEN:
            check_depth(header[PREFIX_BYTES:])
    except ProtocolError as error:  # not the peer's fault here, but that of who gave the values
        raise UnsendableValue(f"{type(message).__name__}: {error.message}") from None
    return header


def _refused_array(array: Any) -> UnsendableValue:
    names = ", ".join(known.name for known in DTYPES.values())
    got = array.dtype.str if isinstance(array, np.ndarray) else type(array).__name__
    return UnsendableValue(
        f"An array on the wire must be little-endian and one of {names}. Got {got!r} instead.", dtype=got
    )


def decode(frames: Sequence[Received]) -> tuple[Any, list[NDArray[Any]]]:
    """The message and the arrays in `frames`.

    Parameters
    ----------
    frames : sequence of bytes, buffers or zmq.Frame
        As they came from the transport, without its own routing frames.

    Returns
    -------
    message : Message
        Of a class in `REGISTRY`.
    arrays : list of ndarray
        Read-only views; each keeps its frame alive.

    Raises
    ------
    ProtocolError
        Whatever is wrong with the frames; no other exception leaves this function.
    """
    _, message, arrays = decode_request(frames)
    return message, arrays


def decode_request(frames: Sequence[Received]) -> tuple[Numbers, Any, list[NDArray[Any]]]:
    """The same with the numbers of a request before it: session, seq and acked, all 0 of what is no request to a node."""
    if not 0 < len(frames) <= MAX_FRAMES:
        raise ProtocolError(
            f"A message must have between 1 and {MAX_FRAMES} frames. Got {len(frames)} instead.", frames=len(frames)
        )
    header = _decode_header(frames[0])
    if len(header.arrays) != len(frames) - 1:
        raise ProtocolError(
            f"A message must have one frame for each of the {len(header.arrays)} arrays in its header. Got {len(frames) - 1} instead.",
            message_type=type(header.message).__name__,
        )
    arrays = [_view(code, shape, frame) for (code, shape), frame in zip(header.arrays, frames[1:], strict=True)]
    return (header.session, header.seq, header.acked), header.message, arrays


def _decode_header(frame: Received) -> _Header:
    buffer = _buffer_of(frame)
    if buffer[:PREFIX_BYTES] != _PREFIX:
        raise _refused_prefix(bytes(buffer[:PREFIX_BYTES]))
    if len(buffer) > MAX_HEADER_BYTES:
        raise ProtocolError(f"A header must have at most {MAX_HEADER_BYTES} bytes. Got {len(buffer)} instead.")
    body = buffer[PREFIX_BYTES:]
    small = len(buffer) <= SMALL_BYTES
    if not small:
        check_values(body)
    try:
        header = _DECODER.decode(body)
    except Exception as error:  # the peer's bytes choose which of msgspec's, Python's or a spec's own checks fails
        raise ProtocolError(
            f"A header must be the msgpack form of a message in the registry. Got one that is not: {text_of(error)}"
        ) from error
    if small and type(header.message) in _OPEN:
        check_depth(body)
    return header


def sequence_of(frames: Sequence[Received]) -> int:
    """``seq`` of a request that `decode` has refused, so that its sender can be told why; 0 if that cannot be known.

    Examples
    --------
    >>> sequence_of([MAGIC + bytes([WIRE_VERSION]) + msgspec.msgpack.encode([[65, 7, {"name": "w", "dim": "two"}], []])])
    7
    """
    return request_of(frames)[1]


def request_of(frames: Sequence[Received]) -> tuple[int, int]:
    """Session (0 in the control plane) and seq of a request that `decode` has refused; 0 and 0 if that cannot be known."""
    try:
        buffer = _buffer_of(frames[0])
        if len(buffer) > MAX_HEADER_BYTES or bytes(buffer[:PREFIX_BYTES]) != _PREFIX:
            return 0, 0
        body = buffer[PREFIX_BYTES:]
        check_values(body)
        header = _NUMBERED.decode(body)
    except Exception:  # whatever is wrong with them: `decode` has said so
        return 0, 0
    # Messages of the control plane begin with their seq; a request to a node has its numbers around it.
    control_plane = header.message.tag in TAGS["control"]
    session, seq = (0, header.message.first) if control_plane else (header.session, header.seq)
    numbered = isinstance(session, int) and isinstance(seq, int) and 0 < seq < 1 << 63
    return (session, seq) if numbered else (0, 0)


def _buffer_of(frame: Received) -> memoryview:
    """The bytes of a frame, flat."""
    try:
        view = memoryview(frame)
        return view if view.format == "B" and view.ndim == 1 and view.contiguous else view.cast("B")
    except Exception as error:  # no buffer, not contiguous, or released by its owner
        raise _refused_frame(frame, error) from error


def _refused_frame(frame: Received, error: Exception) -> ProtocolError:
    return ProtocolError(f"A frame must be a contiguous buffer of bytes. Got {type(frame).__name__} instead: {error}")


def _refused_prefix(prefix: bytes) -> ProtocolError:
    if len(prefix) == PREFIX_BYTES and prefix.startswith(MAGIC):
        return ProtocolError(
            f"The peer must speak version {WIRE_VERSION} of the sparkps protocol. Got version {prefix[-1]} instead:"
            " install one version of sparkps on the driver, the executors and the nodes.",
            version=prefix[-1],
        )
    return ProtocolError(
        f"A message must start with {_PREFIX!r}. Got {prefix!r} instead: the peer is not a sparkps process."
    )


def _view(code: int, shape: tuple[int, ...], frame: Received) -> NDArray[Any]:
    """The array in `frame`, if `code` and `shape` say exactly what it holds."""
    dtype = DTYPES.get(code)
    if dtype is None:
        raise ProtocolError(
            f"The dtype code of an array must be one of {sorted(DTYPES)}. Got {code} instead.", code=code
        )
    try:
        view = memoryview(frame)
    except Exception as error:  # no buffer, or released by its owner
        raise _refused_frame(frame, error) from error
    expected = dtype.itemsize
    for extent in shape:  # `MAX_DIMENSIONS` at most
        if extent < 0:
            raise ProtocolError(f"Every extent of an array must be >= 0. Got shape {shape} instead.", shape=str(shape))
        expected *= extent
    if expected != view.nbytes or expected > MAX_ARRAY_BYTES:
        raise ProtocolError(
            f"An array of {dtype.name} and shape {shape} must fill its frame, within {MAX_ARRAY_BYTES} bytes: {expected} bytes."
            f" Got a frame of {view.nbytes} bytes instead.",
            shape=str(shape),
        )
    try:
        array: NDArray[Any] = np.ndarray(shape, dtype, view)
    except Exception as error:
        raise ProtocolError(
            f"An array must have a possible shape and a contiguous frame. Got shape {shape}: {error}"
        ) from error
    if not array.flags.aligned:
        array = array.copy()
    array.setflags(write=False)
    return array
