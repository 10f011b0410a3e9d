"""Function calls with random tables and arguments: a node answers, or refuses with an error of its own, and stays sound."""

from __future__ import annotations

import math
from typing import Any

import cloudpickle
import numpy as np
import pytest

from sparkps.errors import FunctionFailed, InvalidInput, ProtocolError, SparkPSError, UnknownTable
from sparkps.ps_nodes import functions
from sparkps.ps_nodes.tables.dense import DenseShards
from sparkps.ps_nodes.tables.index import KeyIndex
from sparkps.ps_nodes.tables.sparse import SparseShards
from sparkps.specs import TableSpec
from sparkps.wire.codec import decode, encode
from sparkps.wire.functions import BUILT_IN, spec_of
from sparkps.wire.messages.data import Call, Done, FunctionCall
from tests.unit.ps_nodes.tier import Tier

BUCKETS = range(100)

#: What a peer may put where an argument is expected.
STRANGE: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2,
    3,
    255,
    256,
    2**31,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
    0.0,
    -1.5,
    1e308,
    5e-324,
    math.nan,
    math.inf,
    "",
    "value",
    "magnitude",
    "1",
    b"\xff",
    [],
    [1.0],
    [1.0, 2.0],
    [math.nan],
    ["a", None],
    [1.0] * 300,
    {},
    {"k": 1},
]
NAMES = [*BUILT_IN, "harmless", "never_registered", "", "\x00"]
#: Arguments that are numbers.
NUMBERS = ("alpha", "value", "margin", "divisor", "keep", "weight", "rate", "first", "second", "epsilon", "decay")
ARGUMENTS = ["alpha", "alphas", "value", "k", "by", "left", "right", "tables", "coefficients", "x", "other", "margin", "shard", ""]
#: Tables of one index or shape are next to each other; 77 does not exist.
TABLES = [1, 2, 3, 4, 5, 6, 7, 77, 0, -1, 2**63]


def tables() -> dict[int, Any]:
    """Three sparse tables of one index, one of another dim and one of another index; two dense ones of different shapes."""
    made = Tier("sparse", [100]).nodes[0]
    wide = SparseShards(TableSpec("wide", "sparse", 3, table=4), made[1].index)
    made[1].index.attach(wide)
    other = KeyIndex(BUCKETS)
    apart = SparseShards(TableSpec("apart", "sparse", 2, table=5), other)
    other.attach(apart)
    flat = DenseShards(TableSpec("flat", "dense", 1, "float32", (777,), table=6), BUCKETS)
    small = DenseShards(TableSpec("small", "dense", 1, "float64", (5,), table=7), BUCKETS)
    return {**made, 4: wide, 5: apart, 6: flat, 7: small}


def random_call(rng: np.random.Generator) -> FunctionCall:
    """A right call with a few things wrong, or none."""
    name = str(rng.choice(NAMES))
    spec = spec_of(name)
    counts = {argument: int(rng.integers(0, 4)) for argument in spec.table_lists}
    right: dict[str, Any] = dict.fromkeys(NUMBERS, 0.5)
    right |= {"k": 3, "by": "value", "column": 1, "coefficients": [0.5] * counts.get("tables", 0), "alphas": [0.5, 2.0]}
    args: dict[str, Any] = {**counts, **{argument: right[argument] for argument in spec.plain}}
    used = rng.choice(TABLES[:3], 1 + len(spec.tables) + sum(counts.values())).tolist()
    for _ in range(int(rng.integers(0, 3))):
        match int(rng.integers(0, 5)):
            case 0:
                used = rng.choice(np.array(TABLES, object), int(rng.integers(0, 6))).tolist()
            case 1:
                used = used[:-1] if rng.random() < 0.5 else [*used, 1]
            case 2 if args:
                args[str(rng.choice(list(args)))] = STRANGE[int(rng.integers(len(STRANGE)))]
            case 3 if args:
                args.pop(str(rng.choice(list(args))))
            case _:
                args[str(rng.choice(ARGUMENTS))] = STRANGE[int(rng.integers(len(STRANGE)))]
    return FunctionCall(name, used, args)


def contents(made: dict[int, Any]) -> dict[int, bytes]:
    return {number: b"".join(table.rows_of(b).tobytes() for b in BUCKETS) for number, table in made.items()}


def answer(calls: list[FunctionCall], made: dict[int, Any]) -> Any:
    """The node's arrays, or its error."""
    sent, _ = decode(encode(Call(1, calls)))  # only what the wire lets through reaches a node
    try:
        with np.errstate(all="ignore"):
            return functions.run(sent.calls, made, BUCKETS)
    except SparkPSError as error:
        return error


def test_random_calls_are_answered_or_refused_and_change_what_they_name() -> None:
    functions.register("harmless", cloudpickle.dumps(lambda shard, **args: len(shard.keys)))
    rng, made = np.random.default_rng(20), tables()
    before, answered = contents(made), 0
    for _ in range(1500):
        calls = [random_call(rng) for _ in range(int(rng.choice([0, 1, 1, 1, 2])))]
        result = answer(calls, made)
        written: set[int] = set()
        if isinstance(result, SparkPSError):
            assert isinstance(result, (InvalidInput, UnknownTable, ProtocolError, FunctionFailed)), result
            assert len(result.message) < 2000
        else:
            answered += 1
            assert len(result) == sum(1 + spec_of(call.function).arrays for call in calls)
            encode(Done(1), result)
            written = {call.tables[0] for call in calls if spec_of(call.function).writes}
        after = contents(made)
        assert {number for number in made if after[number] != before[number]} <= written
        before = after
    assert 300 < answered < 1200
    for index in (made[1].index, made[5].index):
        index.validate()


class Strange:
    """What cannot even be looked at."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise SystemExit("not an array")


SENT: list[Any] = [
    0,
    1.5,
    True,
    np.float32(2),
    np.float16(2),
    np.int8(3),
    np.array([1, 2], np.uint16),
    np.array([1.0], ">f8"),
    np.uint64(7),
    np.arange(6).reshape(2, 3)[:, ::2],
    [1, 2],
    [[1.0], [2.0]],
    float("nan"),
]
REFUSED: list[Any] = [
    2**70,
    "text",
    b"bytes",
    object(),
    Strange(),
    [1, [2, 3]],
    {"a": 1},
    1j,
    np.datetime64("2026-01-01"),
    np.zeros(2, "i4,f8"),
    np.array(["a"]),
    np.array([None, 1], object),
    np.zeros((1,) * 8),
    np.broadcast_to(0.0, (10**6, 10**6)),
    lambda: 1,
]


def returned(result: Any) -> Any:
    functions._users["returns"] = lambda shard: result
    return answer([FunctionCall("returns", [1], {"tables": 0})], tables())


@pytest.mark.parametrize("result", SENT, ids=repr)
def test_numbers_and_arrays_that_a_user_function_returns_are_sent(result: Any) -> None:
    _, (buckets, partials) = decode(encode(Done(1), returned(result)))
    assert buckets.tolist() == list(BUCKETS)
    assert np.array_equal(partials, np.stack([np.asarray(result)] * len(BUCKETS)), equal_nan=True)


@pytest.mark.parametrize("result", REFUSED, ids=lambda value: type(value).__name__)
def test_anything_else_is_an_error_that_names_the_function(result: Any) -> None:
    error = returned(result)
    assert isinstance(error, FunctionFailed)
    assert "'returns'" in error.message
    assert (error.function, error.table, error.bucket) == ("returns", "a", 0)
