"""What a header may hold: refused before it is made, in time that grows with the frame and not faster."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from sparkps.errors import ProtocolError, UnsendableValue
from sparkps.specs import MAX_RANKS
from sparkps.wire import codec, limits
from sparkps.wire.codec import decode, encode, request_of, sequence_of
from sparkps.wire.limits import MAX_DEPTH, MAX_OTHER_KEYS, MAX_VALUES, SMALL_BYTES, check_values
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from sparkps.wire.messages.base import WIRE_VERSION

PREFIX = codec.MAGIC + bytes([WIRE_VERSION])
LARGEST_EXTENT = (1 << 64) - 1


def packed(message: Any, arrays: Any = (), *numbers: Any) -> bytes:
    return PREFIX + msgspec.msgpack.encode([message, arrays, *numbers])


def report(value: Any) -> bytes:
    """Frame 0 of a message that may hold anything."""
    return packed([m.StatusReport.__struct_config__.tag, 1, {"a": value}])


def report_of(raw: bytes) -> bytes:
    """The same with a value that is msgpack already."""
    return PREFIX + b"\x92\x93" + bytes([m.StatusReport.__struct_config__.tag]) + b"\x01\x81\xa1a" + raw + b"\x90"


def survives(header: bytes, *frames: Any) -> bool:
    """Whether `decode` takes the frames; anything but a ProtocolError goes through."""
    try:
        decode([header, *frames])
    except ProtocolError:
        return False
    return True


def extents(number: int) -> bytes:
    return packed([33, 1], [[1, [LARGEST_EXTENT] * number]])


# ---- time --------------------------------------------------------------------------------------------------------------

HOSTILE: dict[str, Callable[[int], bytes]] = {
    "extents": extents,
    "arrays": lambda n: packed([33, 1], [[1, [LARGEST_EXTENT] * 8]] * (n // 8)),
    "lists": lambda n: report([[]] * n),
    "dicts": lambda n: report([{1: 1}] * n),
    "int keys": lambda n: report({k << 20: 0 for k in range(n)}),
    "float keys": lambda n: report({float(k): 0 for k in range(n)}),
    "text keys": lambda n: report({f"key{k}": 0 for k in range(n)}),
    "nesting": lambda n: report_of(b"\x91" * n + b"\x90"),
    "nested dicts": lambda n: report_of(b"\x81\x01" * n + b"\x90"),
    "nested keys": lambda n: report_of(b"\x81" * n + b"\x90"),
    "texts": lambda n: report(["ab"] * n),
    "placement": lambda n: packed([m.WrongEpoch.__struct_config__.tag, 1, 1, [[]] * n]),
    "operations": lambda n: packed([2, 1, [[0, 1]] * n]),
    "tables": lambda n: packed([120, 1, 0, "t", 1, [], [{"name": "w", "kind": "sparse", "dim": 1}] * n, [], [], {}]),
    "extents of a table": lambda n: packed(
        [99, 1, {"name": "w", "kind": "dense", "dim": 1, "shape": [(1 << 63) - 1] * n}]
    ),
    "text that is wrong": lambda n: packed([99, 1, {"name": "w", "kind": "k" * n, "dim": 1}]),
}


def seconds(header: bytes, frames: tuple[bytes, ...]) -> float:
    """The least of some measurements of this process's own time."""
    taken = []
    for _ in range(3):
        began = time.process_time()
        survives(header, *frames)
        taken.append(time.process_time() - began)
    return min(taken)


@pytest.mark.parametrize("kind", HOSTILE)
def test_decoding_takes_time_linear_in_the_size(kind: str) -> None:
    """Sixteen times the size: linear takes 16 times as long, quadratic 256 times."""
    small, large = HOSTILE[kind](8_000), HOSTILE[kind](128_000)
    assert seconds(large, (b"",)) < 64 * max(seconds(small, (b"",)), 1e-2)


@pytest.mark.parametrize("number", [9, 300, 1000])
def test_a_shape_that_no_array_has_is_a_protocol_error(number: int) -> None:
    with pytest.raises(ProtocolError, match="of length <= 8"):
        decode([extents(number), b""])


# ---- memory, and processes that died --------------------------------------------------------------------------------------

RECEIVER = """
import resource, sys
import msgspec
from sparkps.errors import ProtocolError
from sparkps.wire.codec import decode
from tests.unit.wire.test_limits import HOSTILE, extents

pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (256 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for header in [extents(300), *(make(2_000_000) for name, make in HOSTILE.items() if name in sys.argv[1:])]:
    try:
        decode([header, b""])
    except ProtocolError:
        pass
print("alive")
"""


@pytest.mark.parametrize("kinds", [[], ["lists", "nesting"], ["placement"]], ids=["a few extents", "a report", "a placement"])
def test_a_receiver_lives_on_within_bounded_memory(kinds: list[str]) -> None:
    command = [sys.executable, "-c", RECEIVER, *kinds]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout == "alive\n", done.stderr[-2000:]


# ---- what is counted ---------------------------------------------------------------------------------------------------


def nested(depth: int, innermost: Any = 1) -> Any:
    for _ in range(depth):
        innermost = [innermost]
    return innermost


#: [header [message [... report {a: value}]]]: three lists or dicts around a value of a report, the header's own included.
AROUND = 3


@pytest.mark.parametrize("filler", ["", "x" * SMALL_BYTES], ids=["small", "large"])
def test_depth_is_bounded_alike_in_small_and_large_headers(filler: str) -> None:
    deepest = MAX_DEPTH - AROUND
    (back, _) = decode(encode(m.StatusReport(1, {"a": nested(deepest, filler)})))
    assert back.report == {"a": nested(deepest, filler)}
    with pytest.raises(UnsendableValue, match="inside each other"):
        encode(m.StatusReport(1, {"a": nested(deepest + 1, filler)}))
    with pytest.raises(ProtocolError, match="inside each other"):
        decode([report(nested(deepest + 1, filler))])


def test_keys_that_are_no_text_are_bounded() -> None:
    few, many = ({"a": dict.fromkeys(range(n), 0)} for n in (MAX_OTHER_KEYS, MAX_OTHER_KEYS * 8))
    assert decode(encode(m.StatusReport(1, few)))[0].report == few
    with pytest.raises(UnsendableValue, match="no text"):
        encode(m.StatusReport(1, many))
    texts = {"a": {str(k): 0 for k in range(MAX_OTHER_KEYS * 8)}}
    assert decode(encode(m.StatusReport(1, texts)))[0].report == texts


def test_values_are_bounded() -> None:
    with pytest.raises(UnsendableValue, match=f"at most {MAX_VALUES} values"):
        encode(m.StatusReport(1, {"a": [0] * MAX_VALUES}))
    with pytest.raises(ProtocolError, match=f"at most {MAX_VALUES} values"):
        decode([report_of(b"\xdd" + MAX_VALUES.to_bytes(4, "big") + b"\x90" * MAX_VALUES)])


def test_states_and_functions_of_many_bytes_go_through() -> None:
    blob = np.random.default_rng(7).bytes(8 << 20) + b"\x90" * (8 << 20)
    for message in (m.Tick(m.Member(1, 0, 1, 0), blob), c.RegisterFunction(1, "f", blob)):
        assert decode(encode(message))[0] == message


def test_the_report_of_the_largest_group_goes_through() -> None:
    texts = {f"{n:02}": "x" * (c.MAX_PROGRESS_BYTES // c.MAX_PROGRESS - 6) for n in range(c.MAX_PROGRESS)}
    counters = {"clock": 1 << 40, "waited_seconds": 0.123456, **texts}
    ranks = [c.RankReport(rank, "finished", 1 << 40, 1 << 20, counters) for rank in range(MAX_RANKS)]
    message = c.GroupReport(1, 1, "running", None, True, ranks)
    assert decode(encode(message))[0] == message


def reference(value: Any) -> int:
    """Number of values in a plain value, itself included."""
    if isinstance(value, dict):
        return 1 + sum(reference(part) for item in value.items() for part in item)
    return 1 + sum(map(reference, value)) if isinstance(value, list) else 1


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, 127, 128, 255, 256, 65535, 65536, 1 << 32, LARGEST_EXTENT, -1, -32, -33, -129, -32769,
        -(1 << 31) - 1, -(1 << 63), 0.5, "", "a" * 31, "a" * 32, "a" * 255, "a" * 256, "a" * 65536, b"", b"a" * 255,
        b"a" * 256, b"a" * 65536, [], [1] * 15, [1] * 16, [1] * 65536, {}, {"a": 1}, {str(k): [k, {"b": b"c"}] for k in range(16)},
        {str(k): -k for k in range(65536)}, *(msgspec.msgpack.Ext(5, b"x" * n) for n in (1, 2, 4, 8, 16, 3, 256, 65536)),
    ],
    ids=lambda value: f"{type(value).__name__}",
)  # fmt: skip
def test_every_kind_of_value_is_walked_to_its_end(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One value more than allowed behind it is seen; so the walk found where it ends."""
    number = reference(value)
    data = msgspec.msgpack.encode([value, [1, 2, 3]])
    monkeypatch.setattr(limits, "MAX_VALUES", number + 5)
    check_values(data)
    monkeypatch.setattr(limits, "MAX_VALUES", number + 4)
    with pytest.raises(ProtocolError):
        check_values(data)


# ---- who sent what is refused -----------------------------------------------------------------------------------------------


def test_the_number_of_a_refused_request_is_known() -> None:
    momentum = {"type": "Momentum", "learning_rate": 0.1, "nesterov": "yes"}
    create = packed([65, 7, {"name": "w", "kind": "sparse", "dim": 1, "optimizer": momentum}])
    assert not survives(create)
    assert sequence_of([create]) == 7
    step = packed([2, "epoch", []], [], 1 << 60, 9, 8)
    assert not survives(step)
    assert request_of([step]) == (1 << 60, 9)
    assert request_of([packed([2, 1, [[]]], [], 1 << 60, 9, 8)]) == (1 << 60, 9)


@pytest.mark.parametrize(
    "header",
    [
        b"", PREFIX, b"GET /", packed(5), packed([65]), packed([65, "one"]), packed([65, -1]), packed([2, 1]),
        packed([2, 1, []], [], 5, "nine"), report_of(b"\x91" * 10**5),
    ],
)  # fmt: skip
def test_a_number_that_cannot_be_known_is_0(header: bytes) -> None:
    assert sequence_of([header]) == 0
    assert sequence_of([]) == 0
