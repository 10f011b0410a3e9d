"""Frames from a hostile peer, by seed: refused with `ProtocolError` or taken, in bounded time and memory, and nothing else."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from sparkps.errors import ProtocolError, SparkPSError, from_wire, to_wire
from sparkps.specs import GroupSpec, TableSpec, check_group_spec, check_spec
from sparkps.wire import codec
from sparkps.wire.codec import REGISTRY, decode, encode, sequence_of
from sparkps.wire.messages.base import WIRE_VERSION
from sparkps.wire.messages.data import Failed, Request
from sparkps.wire.placement import check_placement
from tests.harness.instances import instances

PREFIX = codec.MAGIC + bytes([WIRE_VERSION])

#: Seconds that one frame of `LARGEST` bytes may take, on a machine that has other things to do, and what it may leave in memory
#: for each of its bytes: an empty list takes one byte on the wire and 80 in memory.
PATIENCE, LARGEST, BYTES_PER_BYTE = 2.0, 1 << 16, 100

#: Numbers at which sizes, signs and widths go wrong.
NUMBERS = [0, 1, 2, 7, 255, 256, 4095, 65536, 1 << 20, 1 << 31, 1 << 32, (1 << 53) + 1, 1 << 62, (1 << 63) - 1, 1 << 63]
NUMBERS += [(1 << 64) - 1, *(-number for number in NUMBERS if number <= 1 << 63)]
#: Lists, dicts, texts and numbers in their shortest and largest forms.
PIECES = [b"\x90", b"\x91", b"\x80", b"\x81\x01", b"\x81", b"\xa0", b"\x93\x01\x02\x03", b"\xcf" + b"\xff" * 8]
PIECES += [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 50]
KEYS: list[Any] = ["name", "dim", "shape", "type", "kind", "a", *NUMBERS]
ODD: list[Any] = [None, True, False, "", "w", "sparse", "\x00", b"", b"x" * 100, 0.5, float("nan"), float("inf"), -0.0]


def anything(rng: random.Random, depth: int = 0) -> Any:
    """A value that msgpack carries."""
    kind = rng.randrange(8)
    if kind < 4:
        return rng.choice(NUMBERS)
    if kind < 6 or depth > 4:
        return rng.choice(ODD)
    size = rng.choice([0, 1, 2, 3, 9, 40])
    if kind == 6:
        return [anything(rng, depth + 1) for _ in range(size)]
    return {rng.choice(KEYS): anything(rng, depth + 1) for _ in range(size)}


def changed(value: Any, rng: random.Random) -> Any:
    """`value` with one part of it, at any depth, exchanged."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        return {**value, key: changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        if rng.random() < 0.1:
            return value + [value[place]] * rng.choice([1, 100, 1000])
        return [*value[:place], changed(value[place], rng), *value[place + 1 :]]
    return anything(rng, 2)


@pytest.fixture(scope="module")
def real() -> list[list[bytes]]:
    """Frames of messages of every class, each with two arrays."""
    made: list[list[bytes]] = []
    arrays = [np.arange(3), np.ones((3, 2), np.float32)]

    for cls in REGISTRY:

        @settings(
            max_examples=5,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(instances(cls))
        def collect(message: Any) -> None:
            numbers = (1 << 60, 7, 6) if isinstance(message, Request) else None
            made.append([bytes(memoryview(frame).tobytes()) for frame in encode(message, arrays, numbers)])

        collect()
    return made


def noise(real: list[list[bytes]], rng: random.Random) -> list[bytes]:
    """Random bytes, most of them behind a prefix that is right."""
    body = rng.randbytes(rng.choice([0, 1, 3, 30, 1000]))
    return [rng.choice([PREFIX, PREFIX, PREFIX + b"\x92\x94" + bytes([rng.randrange(128)]), b""]) + body, b"x" * 8]


def damaged(real: list[list[bytes]], rng: random.Random) -> list[bytes]:
    """Frames of a real message with some bytes exchanged, cut out or put in."""
    frames = list(rng.choice(real))
    place = rng.choice([0, 0, 0, rng.randrange(len(frames))])
    frame = bytearray(frames[place])
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(4, len(frame)) if len(frame) > 4 else 0
        frame[at : at + rng.randrange(3)] = rng.choice([rng.randbytes(rng.randrange(4)), *PIECES])
    frames[place] = bytes(frame)
    return frames


def hostile(real: list[list[bytes]], rng: random.Random) -> list[bytes]:
    """A real message whose fields, or the shapes of whose arrays, hold other values."""
    frames = rng.choice(real)
    header = msgspec.msgpack.decode(frames[0][4:])
    for _ in range(rng.randrange(1, 4)):
        part = rng.choice([0, 0, 0, 0, 1, 1, *range(2, len(header))])
        header[part] = changed(header[part], rng)
    return [PREFIX + msgspec.msgpack.encode(header), *frames[1:]]


def large(real: list[list[bytes]], rng: random.Random) -> list[bytes]:
    """A real message with one piece of msgpack repeated until it is large."""
    frame = rng.choice(real)[0]
    at = rng.randrange(5, len(frame))
    piece = rng.choice([*PIECES, rng.randbytes(5)])
    count = rng.randrange(LARGEST // len(piece))
    head = rng.choice([b"", b"\xdd" + count.to_bytes(4, "big"), b"\xdf" + (count // 2).to_bytes(4, "big")])
    return [frame[:at] + head + piece * count + frame[at:], b""]


#: Families of frames, and how many of each are sent for each seed.
FAMILIES: dict[Callable[..., list[bytes]], int] = {noise: 8000, damaged: 16000, hostile: 3000, large: 400}


def specifications(value: Any) -> Iterator[Any]:
    """Tables and groups that a message brings."""
    for field in getattr(value, "__struct_fields__", ()):
        yield from specifications(getattr(value, field))
    if isinstance(value, list):
        for part in value:
            yield from specifications(part)
    if isinstance(value, (TableSpec, GroupSpec)):
        yield value


def attempt(act: Callable[[], Any]) -> tuple[Any, SparkPSError | None]:
    """What comes of it, or the error of ours; anything else goes through."""
    try:
        return act(), None
    except SparkPSError as error:
        return None, error


def receive(frames: list[bytes]) -> bool:
    """What every receiver does first; whether it takes the frames."""
    taken, error = attempt(lambda: decode(frames))
    if error is not None:
        assert type(error) is ProtocolError
        assert len(str(error)) < 20_000
        assert encode(refusal(error)), "the peer can be told"
        assert sequence_of(frames) >= 0
        return False
    message, arrays = taken
    assert [array.nbytes for array in arrays] == [len(frame) for frame in frames[1:]]
    for spec in specifications(message):
        _, error = attempt(lambda spec=spec: (check_spec if isinstance(spec, TableSpec) else check_group_spec)(spec))
        assert error is None or len(str(error)) < 2_000
    if hasattr(message, "placement"):
        _, error = attempt(lambda: check_placement(message.placement, range(8)))
        assert error is None or len(str(error)) < 2_000
    if hasattr(message, "attributes"):
        assert encode(refusal(from_wire(message.error, message.message, message.attributes)))
    return True


def refusal(error: SparkPSError) -> Failed:
    return Failed(1, *to_wire(error))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_frames_of_a_hostile_peer(family: Callable[..., list[bytes]], seed: int, real: list[list[bytes]]) -> None:
    rng = random.Random(f"{family.__name__} {seed}")
    slowest, taken, refused = 0.0, 0, 0
    for _ in range(FAMILIES[family]):
        frames = family(real, rng)
        before = time.process_time()
        if receive(frames):
            taken += 1
        else:
            refused += 1
        slowest = max(slowest, time.process_time() - before)
    assert refused > 0
    assert taken > 0 or family in (noise, large)
    assert slowest < PATIENCE


def test_memory_that_frames_take_is_bounded_by_their_size(real: list[list[bytes]]) -> None:
    rng = random.Random("memory")
    tracemalloc.start()
    try:
        for _ in range(100):
            frames = large(real, rng)
            size = sum(map(len, frames))
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            receive(frames)
            assert tracemalloc.get_traced_memory()[1] - before < BYTES_PER_BYTE * size + (1 << 20)
    finally:
        tracemalloc.stop()
