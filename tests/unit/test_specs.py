"""Specifications that no table and no group can have: refused by name, before anything is made of them, wherever they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from sparkps.errors import ConfigError, InvalidInput
from sparkps.initializers import Constant, He, Initializer, Normal, Uniform, Xavier
from sparkps.optim import SGD, Adam, Cosine, InverseSqrt, Momentum, Optimizer, Step
from sparkps.specs import (
    LARGEST_DIM,
    LARGEST_SIZE,
    MAX_RANKS,
    UNBOUNDED,
    GroupSpec,
    TableSpec,
    check_group_spec,
    check_spec,
)
from sparkps.wire.codec import decode, encode
from sparkps.wire.messages.control import CreateTable

SPARSE = TableSpec("w", "sparse", 2)
DENSE = TableSpec("w", "dense", 1, shape=(3, 4))
GROUP = GroupSpec(1, "run", 3, 2, 0)


@pytest.mark.parametrize(
    "spec",
    [
        SPARSE,
        DENSE,
        TableSpec("w", "sparse", LARGEST_DIM, "float64", init=He(), optimizer=Adam(0.1), seed=-1, group="g"),
        TableSpec("w", "dense", 1, "float64", (LARGEST_SIZE,), Normal(0.0, 1e300)),
    ],
)
def test_what_a_table_can_be_is_taken_as_it_is(spec: TableSpec) -> None:
    assert check_spec(spec) is spec


REFUSED: list[tuple[str, TableSpec, dict[str, Any]]] = [
    ("dim", SPARSE, {"dim": 0}),
    ("dim", SPARSE, {"dim": -1}),
    ("dim", SPARSE, {"dim": 1 << 40}),
    ("dim", SPARSE, {"dim": (1 << 64) - 1}),
    ("shape", SPARSE, {"shape": (3,)}),
    ("seed", SPARSE, {"seed": (1 << 64) - 1}),
    ("table", SPARSE, {"table": -1}),
    ("index", SPARSE, {"index": (1 << 64) - 1}),
    ("init", SPARSE, {"init": Constant(1e300)}),
    ("init", DENSE, {"init": Uniform(-1.7e308, 1.7e308), "dtype": "float64"}),
    ("init", SPARSE, {"init": Xavier(gain=1e308)}),
    ("dim", DENSE, {"dim": 2}),
    ("group", DENSE, {"group": "g"}),
    ("shape", DENSE, {"shape": ()}),
    ("shape", DENSE, {"shape": (0,)}),
    ("shape", DENSE, {"shape": (-2, -2)}),
    ("shape", DENSE, {"shape": (1 << 62,)}),
    ("shape", DENSE, {"shape": (1 << 30, 1 << 30)}),
    ("shape", DENSE, {"shape": (1,) * 1000}),
    ("shape", DENSE, {"shape": ((1 << 64) - 1,) * 500_000}),
]


@pytest.mark.parametrize(("field", "spec", "change"), REFUSED, ids=[f"{f}-{n}" for n, (f, _, _) in enumerate(REFUSED)])
def test_what_no_table_can_be_is_refused_by_name(field: str, spec: TableSpec, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=rf"`{field}` of table 'w' must be .* Got ") as caught:
        check_spec(msgspec.structs.replace(spec, **change))
    assert (caught.value.table, caught.value.field) == ("w", field)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("change", [{"name": "a b"}, {"name": "x" * 10_000}, {"name": "\udcff"}, {"group": "-"}])
def test_strange_names_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="A table name must start"):
        check_spec(msgspec.structs.replace(SPARSE, **change))


@pytest.mark.parametrize("change", [{}, {"num_ranks": 2}, {"staleness": UNBOUNDED}, {"staleness": 7}, {"name": "lauf 😀"}])
def test_what_a_group_can_be_is_taken_as_it_is(change: dict[str, Any]) -> None:
    spec = msgspec.structs.replace(GROUP, **change)
    assert check_group_spec(spec) is spec
    check_group_spec(msgspec.structs.replace(GROUP, num_ranks=MAX_RANKS, num_workers=MAX_RANKS - 1))


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("at least 1 worker", {"num_workers": 0}),
        ("at least 1 worker", {"num_workers": -5, "num_ranks": -4}),
        ("at most 1 rank more", {"num_ranks": 4}),
        ("at most 1 rank more", {"num_ranks": 1}),
        (r"with fewer workers \(`num_workers`\)", {"num_ranks": 5_000_000, "num_workers": 5_000_000}),
        ("at most 16384 ranks", {"num_ranks": MAX_RANKS + 1, "num_workers": MAX_RANKS}),
        ("staleness", {"staleness": -2}),
        ("staleness", {"staleness": 1 << 62}),
        ("name", {"name": ""}),
        ("name", {"name": "x" * 100_000}),
        ("name", {"name": "run-\udcff"}),
        ("id", {"group": 0}),
        ("id", {"group": (1 << 64) - 1}),
    ],
)
def test_what_no_group_can_be_is_refused_by_name(reason: str, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        check_group_spec(msgspec.structs.replace(GROUP, **change))
    assert len(str(caught.value)) < 1000


# ---- what an optimizer or an initializer takes, a message carries --------------------------------------------------------

HUGE = 10**5000


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("learning_rate", lambda: SGD(HUGE)),
        ("learning_rate", lambda: SGD(1 << 70)),
        ("learning_rate", lambda: SGD(float("nan"))),
        ("l1", lambda: SGD(0.1, l1=float("inf"))),
        ("nesterov", lambda: Momentum(0.1, nesterov="yes")),  # type: ignore[arg-type]
        ("nesterov", lambda: Momentum(0.1, nesterov=1)),  # type: ignore[arg-type]
        ("every", lambda: Step(1 << 70)),
        ("total", lambda: Cosine(HUGE)),
        ("warmup", lambda: InverseSqrt(warmup=1 << 70)),
        ("value", lambda: Constant(HUGE)),
        ("value", lambda: Constant("x" * 100_000)),  # type: ignore[arg-type]
        ("fan_in", lambda: Xavier(fan_in=2.5)),  # type: ignore[arg-type]
        ("fan_in", lambda: Xavier(fan_in=True)),
        ("fan_out", lambda: Xavier(fan_out=1 << 70)),
        ("fan_in", lambda: He(fan_in="3")),  # type: ignore[arg-type]
        ("fan_in", lambda: He(fan_in=0)),
    ],
)
def test_what_no_message_carries_is_refused_where_it_is_made(field: str, make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=rf"The `{field}` of .* must be .* Got ") as caught:
        make()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "part",
    [
        SGD(1),
        SGD(np.float64(0.5)),
        Momentum(0.1, nesterov=True),
        Adam(1e-3, schedule=Cosine(total=1 << 53)),
        Adam(1e-3, schedule=Step(3, factor=2)),
        Xavier(fan_in=3, fan_out=np.int64(4)),  # type: ignore[arg-type]
        He(fan_in=7),
        Uniform(0, 1),
        Normal(np.float64(0.5), 1),
    ],
)
def test_what_is_taken_comes_back_from_the_wire(part: Optimizer | Initializer) -> None:
    field = "optimizer" if isinstance(part, Optimizer) else "init"
    message = CreateTable(1, msgspec.structs.replace(SPARSE, **{field: part}))
    back, _ = decode([bytes(frame) for frame in encode(message)])
    assert back == message
