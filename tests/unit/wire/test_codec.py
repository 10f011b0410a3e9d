"""Round trips over the whole registry; whatever is wrong with frames is a ProtocolError and nothing else."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sparkps.errors import InvalidInput, ProtocolError, UnsendableValue
from sparkps.wire import codec
from sparkps.wire.codec import DTYPES, MAX_DIMENSIONS, MAX_FRAMES, REGISTRY, decode, decode_request, encode
from sparkps.wire.messages import base
from sparkps.wire.messages.base import WIRE_VERSION, Message, registered
from sparkps.wire.messages.data import Call, Done, FunctionCall, Member, Op, OpCode, Step
from tests.harness.instances import instances, with_messages

ARRAYS = st.lists(
    st.sampled_from(list(DTYPES.values())).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    ),
    max_size=4,
)
quickly = settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
thoroughly = settings(quickly, max_examples=300)


def sent(frames: list[Any]) -> list[bytes]:
    """The frames as they arrive."""
    return [bytes(memoryview(frame).tobytes()) for frame in frames]


def step() -> tuple[Step, list[np.ndarray]]:
    """An ordinary request: a push of three rows."""
    message = Step(1, [Op(OpCode.PUSH, 3)], Member(1, 2, 1, 5))
    return message, [np.array([4, 5, -6]), np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 2)]


def packed(message: Any, arrays: Any, *numbers: Any) -> bytes:
    """A frame 0 with anything in it."""
    return codec.MAGIC + bytes([WIRE_VERSION]) + msgspec.msgpack.encode([message, arrays, *numbers])


# ---- what must come through --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", REGISTRY, ids=lambda cls: cls.__name__)
def test_every_message_comes_back_as_it_was(cls: type[Message]) -> None:
    @quickly
    @given(instances(cls), ARRAYS)
    def check(message: Message, arrays: list[np.ndarray]) -> None:
        back, views = decode(sent(encode(message, arrays)))
        assert type(back) is cls
        assert back == message
        assert len(views) == len(arrays)
        for view, array in zip(views, arrays, strict=True):
            assert view.dtype == array.dtype
            assert view.shape == array.shape
            assert view.tobytes() == array.tobytes()
            assert not view.flags.writeable

    check()


def test_the_numbers_of_a_request_come_back_beside_it() -> None:
    message, arrays = step()
    numbers = (1 << 62, 7, 6)
    back, came, views = decode_request(sent(encode(message, arrays, numbers)))
    assert (back, came) == (numbers, message)
    assert [view.tobytes() for view in views] == [array.tobytes() for array in arrays]
    assert decode_request(sent(encode(message)))[0] == (0, 0, 0)


@pytest.mark.parametrize("number", ["seven", -1.5, None, [7]])
@pytest.mark.parametrize("place", range(3))
def test_numbers_that_are_none_are_refused(place: int, number: Any) -> None:
    numbers = [1, 2, 3]
    numbers[place] = number
    with pytest.raises(ProtocolError, match="msgpack form"):
        decode([packed([9], [], *numbers)])


def test_a_message_has_a_tag_of_its_own_and_of_its_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    assert registered() == REGISTRY
    known = list(base._defined)
    for plane, tag in ((base.DataMessage, 2), (base.DataMessage, 64), (base.ControlMessage, 63), (Message, 60), (base.DataMessage, "x")):
        monkeypatch.setattr(base, "_defined", list(known))
        msgspec.defstruct("Another", [("seq", int)], bases=(plane,), tag=tag)
        with pytest.raises(AssertionError, match="tag"):
            registered()
    monkeypatch.setattr(base, "_defined", list(known))
    another = msgspec.defstruct("Another", [("seq", int)], bases=(base.DataMessage,), tag=60)
    assert set(registered()) - set(REGISTRY) == {another}


def test_arrays_are_not_copied() -> None:
    message, arrays = step()
    frames = encode(message, arrays)
    assert frames[1] is arrays[0]
    assert frames[2] is arrays[1]
    raw = sent(frames)
    _, (keys, _) = decode(raw)
    assert np.shares_memory(keys, np.frombuffer(raw[1], np.int64))


def test_frames_of_the_transport_are_taken_as_they_are() -> None:
    message, arrays = step()
    back, views = decode([zmq.Frame(part) for part in sent(encode(message, arrays))])
    assert back == message
    np.testing.assert_array_equal(views[1], arrays[1])


def test_a_misaligned_frame_gives_an_aligned_array() -> None:
    message, arrays = step()
    header, *parts = sent(encode(message, arrays))
    shifted = [memoryview(b"x" + part)[1:] for part in parts]
    _, views = decode([header, *shifted])
    assert all(view.flags.aligned for view in views)
    np.testing.assert_array_equal(views[0], arrays[0])


def test_an_array_with_strides_is_sent_in_order() -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    _, (view,) = decode(sent(encode(Done(1), [array[:, ::2]])))
    np.testing.assert_array_equal(view, array[:, ::2])


def test_numpy_scalars_in_arguments_become_numbers() -> None:
    message = Call(1, [FunctionCall("axpy", [1, 2], {"alpha": np.float32(0.5), "k": np.int64(3)})])
    back, _ = decode(sent(encode(message)))
    assert back.calls[0].args == {"alpha": 0.5, "k": 3}


# ---- what the sender refuses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "complex64", ">i8", "uint64", "U3", "object"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(InvalidInput, match="one of int32, int64, uint8, float32, float64, float16"):
        encode(Done(1), [np.zeros(2, dtype)])


@pytest.mark.parametrize("value", [1 << 64, object(), {1, 2j}], ids=["large int", "object", "set"])
def test_values_that_msgpack_does_not_carry_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="plain values"):
        encode(Call(1, [FunctionCall("f", [1], {"x": value})]))


def test_a_class_outside_the_registry_is_refused() -> None:
    with pytest.raises(ProtocolError, match="in the registry"):
        encode(Message())


def test_too_much_is_refused_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProtocolError, match="frames"):
        encode(Done(1), [np.zeros(1, np.uint8)] * MAX_FRAMES)
    with pytest.raises(ProtocolError, match="dimensions"):
        encode(Done(1), [np.zeros((1,) * (MAX_DIMENSIONS + 1))])
    monkeypatch.setattr(codec, "MAX_ARRAY_BYTES", 15)
    with pytest.raises(ProtocolError, match="send it in chunks"):
        encode(Done(1), [np.zeros(2)])


class Secretive(np.int64):
    """The encoder asks numpy's scalars for their number."""

    def item(self, *_: Any) -> Any:
        raise LookupError("\udcff" * 1000)


def holding_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    ["part-\udcff", holding_itself(), 1 << 200_000, np.complex64(1), np.longdouble(1), {"\udcff": 1}, Secretive(1), {object(): 1}],
    ids=["text", "itself", "long int", "complex", "longdouble", "key", "scalar", "object as key"],
)
def test_no_value_of_a_users_raises_anything_else(value: Any) -> None:
    with pytest.raises(UnsendableValue, match="plain values") as caught:
        encode(Call(1, [FunctionCall("f", [1], {"x": value})]))
    assert isinstance(caught.value, InvalidInput)
    assert isinstance(caught.value, ProtocolError)
    assert len(str(caught.value)) < 20_000


def test_an_array_that_is_too_large_is_refused_before_it_is_copied() -> None:
    endless = np.broadcast_to(np.zeros(1), (1 << 40,))
    with pytest.raises(ProtocolError, match="send it in chunks"):
        encode(Done(1), [endless])


@pytest.mark.parametrize("array", [None, 5, [1, 2], np.float64(1)])
def test_what_is_no_array_is_refused(array: Any) -> None:
    with pytest.raises(UnsendableValue, match="one of int32"):
        encode(Done(1), [array])


# ---- what the receiver refuses -----------------------------------------------------------------------------------------

HEADER, KEYS, VALUES = sent(encode(*step(), (1 << 60, 7, 6)))
NEGATIVE_RATE = {"name": "w", "kind": "sparse", "dim": 1, "optimizer": {"type": "SGD", "learning_rate": -1.0}}

REFUSED: dict[str, tuple[list[Any], str]] = {
    "nothing": ([], "between 1 and"),
    "too many frames": ([HEADER, *[b""] * MAX_FRAMES], "between 1 and"),
    "empty header": ([b""], "must start with"),
    "garbage": ([b"GET / HTTP/1.1\r\n\r\n"], "not a sparkps process"),
    "other version": ([b"SPS\x63" + HEADER[4:], KEYS, VALUES], "Got version 99 instead"),
    "prefix alone": ([HEADER[:4]], "msgpack form"),
    "truncated header": ([HEADER[:-2], KEYS, VALUES], "msgpack form"),
    "bytes after the header": ([HEADER + b"\x00", KEYS, VALUES], "msgpack form"),
    "not a header": ([packed(1, 2)], "msgpack form"),
    "unknown tag": ([packed([63, 1], [])], "msgpack form"),
    "field of another type": ([packed([33, "seven"], [])], "msgpack form"),
    "settings that are not legal": ([packed([99, 1, NEGATIVE_RATE], [])], "msgpack form"),
    "missing frame": ([HEADER, KEYS], "one frame for each of the 2 arrays"),
    "frame too many": ([HEADER, KEYS, VALUES, b""], "one frame for each"),
    "truncated array": ([HEADER, KEYS[:-1], VALUES], "must fill its frame"),
    "long array": ([HEADER, KEYS + b"\x00" * 8, VALUES], "must fill its frame"),
    "unknown dtype code": ([packed([33, 1], [[77, [2]]]), b"\x00" * 8], "dtype code"),
    "negative code": ([packed([33, 1], [[-1, [2]]]), b"\x00" * 8], "dtype code"),
    "negative extent": ([packed([33, 1], [[1, [-1, -2]]]), b"\x00" * 8], "extent"),
    "extent past 64 bits": ([packed([33, 1], [[1, [(1 << 64) - 1, 0]]]), b""], "possible shape"),
    "huge extent": ([packed([33, 1], [[1, [1 << 62]]]), b""], "must fill its frame"),
    "huge empty shape": ([packed([33, 1], [[1, [0, 1 << 62, 1 << 62]]]), b""], "possible shape"),
    "too many dimensions": ([packed([33, 1], [[3, [1] * 9]]), b"\x00"], "of length <= 8"),
    "nesting": ([codec.MAGIC + bytes([WIRE_VERSION]) + b"\x91" * 100_000], "inside each other"),
    "length past the end": ([codec.MAGIC + bytes([WIRE_VERSION]) + b"\xdd\xff\xff\xff\xff"], "msgpack form"),
    "invalid text": ([codec.MAGIC + bytes([WIRE_VERSION]) + b"\x92\x93\x22\x01\xa1\xff\x90"], "msgpack form"),
    "no buffer": ([HEADER, 5, 6], "buffer of bytes"),
    "no buffer as header": ([object()], "buffer of bytes"),
}


def released() -> memoryview:
    view = memoryview(b"x" * 8)
    view.release()
    return view


REFUSED["released by its owner"] = ([packed([33, 1], [[2, [1]]]), released()], "buffer of bytes")
REFUSED["released as header"] = ([released()], "buffer of bytes")
REFUSED["not contiguous"] = ([packed([33, 1], [[2, [1]]]), memoryview(b"x" * 16)[::2]], "contiguous")
REFUSED["far too many dimensions"] = ([packed([33, 1], [[2, [(1 << 64) - 1] * 300]]), b""], "of length <= 8")


@pytest.mark.parametrize("name", REFUSED)
def test_bad_frames_are_refused_with_the_reason(name: str) -> None:
    frames, reason = REFUSED[name]
    with pytest.raises(ProtocolError, match=reason):
        decode(frames)


def test_oversized_frames_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_HEADER_BYTES", 40)
    with pytest.raises(ProtocolError, match="header must have at most 40"):
        decode([HEADER + b"\x00" * 40, KEYS, VALUES])
    monkeypatch.undo()
    monkeypatch.setattr(codec, "MAX_ARRAY_BYTES", 23)
    with pytest.raises(ProtocolError, match="within 23 bytes"):
        decode([HEADER, KEYS, VALUES])


def survives(frames: list[bytes]) -> bool:
    """Whether `decode` takes the frames; anything but a ProtocolError goes through."""
    try:
        decode(frames)
    except ProtocolError:
        return False
    return True


def check_survival(frames: list[bytes]) -> None:
    """Frames that may be taken or refused, the arrays of a message that is taken being within its frames."""
    try:
        _, arrays = decode(frames)
    except ProtocolError:
        return
    assert [array.nbytes for array in arrays] == [len(frame) for frame in frames[1:]]


@thoroughly
@given(st.lists(st.binary(max_size=64), max_size=5), st.booleans())
def test_noise_is_refused_or_taken_but_never_worse(frames: list[bytes], prefixed: bool) -> None:
    if prefixed and frames:
        frames[0] = HEADER[:4] + frames[0]
        check_survival(frames)
    else:
        assert not survives([b"?" + frame for frame in frames])


@thoroughly
@given(st.sampled_from(REGISTRY), st.recursive(st.integers() | st.text(max_size=3) | st.none(), st.lists), ARRAYS)
def test_headers_of_any_structure_are_refused_or_taken(cls: type[Message], body: Any, arrays: list[np.ndarray]) -> None:
    fields = body if isinstance(body, list) else [body]
    fields = [part for part in fields if not isinstance(part, int) or -(1 << 63) <= part < 1 << 63]
    try:
        header = packed([cls.__struct_config__.tag, *fields], [[1, [1]]] * len(arrays))
    except OverflowError:
        return
    check_survival([header, *(array.tobytes() for array in arrays)])


@thoroughly
@given(with_messages(REGISTRY), ARRAYS, st.randoms(use_true_random=False))
def test_every_message_cut_or_flipped_is_refused_or_taken(
    message: Message, arrays: list[np.ndarray], rng: random.Random
) -> None:
    frames = sent(encode(message, arrays))
    for _ in range(10):
        check_survival(mutated(frames, rng))


def test_every_truncation_and_every_flipped_bit_of_a_step() -> None:
    taken = 0
    for place in range(len(HEADER)):
        assert not survives([HEADER[:place], KEYS, VALUES])
        for bit in range(8):
            flipped = bytearray(HEADER)
            flipped[place] ^= 1 << bit
            taken += survives([bytes(flipped), KEYS, VALUES])
    assert taken < len(HEADER) * 8  # numbers in fields may have changed; the codec is no checksum


@pytest.mark.parametrize("seed", range(10))
def test_seeded_damage_is_refused_or_taken(seed: int) -> None:
    rng = random.Random(seed)
    frames = [HEADER, KEYS, VALUES]
    refused = sum(not survives(mutated(frames, rng)) for _ in range(500))
    assert refused > 0


def mutated(frames: list[bytes], rng: random.Random) -> list[bytes]:
    """The frames with one kind of damage."""
    frames = list(frames)
    place = rng.randrange(len(frames))
    frame = bytearray(frames[place])
    kind = rng.choice(["cut", "flip", "insert", "drop", "repeat", "swap"])
    if kind == "cut":
        del frame[rng.randrange(len(frame) + 1) :]
    elif kind == "flip" and frame:
        frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
    elif kind == "insert":
        at = rng.randrange(len(frame) + 1)
        frame[at:at] = rng.randbytes(rng.randrange(1, 9))
    frames[place] = bytes(frame)
    if kind == "drop":
        del frames[place]
    elif kind == "repeat":
        frames.insert(place, frames[place])
    elif kind == "swap":
        rng.shuffle(frames)
    return frames
