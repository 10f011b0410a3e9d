"""A user's arguments for a table: what is taken, and what is refused by name."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from sparkps.driver_bridge.table_specs import dense_spec, sparse_spec
from sparkps.errors import InvalidInput
from sparkps.initializers import Uniform, Zeros
from sparkps.optim import SGD, Adam, Consensus
from sparkps.specs import TableSpec


def sparse(**given: Any) -> TableSpec:
    defaults = {
        "name": "w",
        "dim": 1,
        "dtype": "float32",
        "init": Zeros(),
        "optimizer": SGD(1.0),
        "seed": 0,
        "group": "",
    }
    return sparse_spec(**{**defaults, **given})


def dense(**given: Any) -> TableSpec:
    defaults = {"name": "w", "shape": 3, "dtype": "float32", "init": Zeros(), "optimizer": SGD(1.0), "seed": 0}
    return dense_spec(**{**defaults, **given})


def test_what_is_given_is_what_the_table_has() -> None:
    spec = sparse(dim=np.int64(3), dtype=np.float64, init=Uniform(-1, 1), optimizer=Adam(1e-3), seed=7, group="g")
    assert spec == TableSpec("w", "sparse", 3, "float64", (), Uniform(-1, 1), Adam(1e-3), 7, "g")


@pytest.mark.parametrize(("shape", "expected"), [(5, (5,)), ((2, 3), (2, 3)), ([4], (4,)), (np.int64(6), (6,))])
def test_shapes(shape: Any, expected: tuple[int, ...]) -> None:
    assert dense(shape=shape).shape == expected
    assert dense(dtype=np.dtype("float64")).dtype == "float64"


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("dim", 0),
        ("dim", 2.0),
        ("dim", True),
        ("dim", "3"),
        ("dtype", "int32"),
        ("dtype", None),
        ("init", "zeros"),
        ("optimizer", None),
        ("optimizer", SGD),
        ("seed", 0.5),
        ("seed", 1 << 63),
        ("storage", "int8"),
        ("storage", np.float16),
        ("storage", "float64"),
    ],
)
def test_sparse_arguments_are_refused_by_name(argument: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=rf"`{argument}` of table 'w' must be .* Got ") as caught:
        sparse(**{argument: value})
    assert caught.value.table == "w"


def test_rows_lie_as_the_dtype_says_or_in_16_bits() -> None:
    assert sparse(storage="float32") == sparse(storage=None) == sparse()
    assert sparse(dtype="float64", storage="float64") == sparse(dtype="float64")
    assert sparse(storage="bfloat16").stored == "bfloat16"
    assert sparse().stored == "float32"
    with pytest.raises(InvalidInput, match="`storage` of table 'w' must be .* its `dtype` is float32, .* 'bfloat16' for float64"):
        sparse(dtype="float64", storage="bfloat16")
    with pytest.raises(InvalidInput, match="`storage` of table 'w' must be .*Consensus"):
        sparse(dim=3, optimizer=Consensus(1.0), storage="float16")
    with pytest.raises(InvalidInput, match="`init` of table 'w' must be a law of values that float16 can hold"):
        sparse(init=Uniform(-1e5, 1e5), storage="float16")


@pytest.mark.parametrize("shape", [0, (), (2, 0), (2, -1), (1.5,), "3", None, (1 << 30, 1 << 30)])
def test_impossible_shapes_are_refused(shape: Any) -> None:
    with pytest.raises(InvalidInput, match="`shape` of table 'w' must"):
        dense(shape=shape)


@pytest.mark.parametrize("name", ["", "a b", "-a", "ä", 7, None])
def test_strange_names_are_refused(name: Any) -> None:
    with pytest.raises(InvalidInput, match="table name must start"):
        sparse(name=name)
    with pytest.raises(InvalidInput, match="table name must start"):
        dense(name=name)


@pytest.mark.parametrize("value", [10**5000, -1, 1 << 40], ids=["endless", "negative", "large"])
def test_ints_of_any_length_are_refused_by_name(value: int) -> None:
    with pytest.raises(InvalidInput, match="`dim` of table 'w' must"):
        sparse(dim=value)
    with pytest.raises(InvalidInput, match="`shape` of table 'w' must"):
        dense(shape=(2, value))


def test_a_shape_without_end_is_refused() -> None:
    with pytest.raises(InvalidInput, match="`shape` of table 'w' must be 1 to 32 extents"):
        dense(shape=itertools.repeat(1))


def test_first_values_that_the_dtype_cannot_hold_are_refused() -> None:
    with pytest.raises(InvalidInput, match="`init` of table 'w' must"):
        sparse(init=Uniform(0.0, 1e39))
    assert sparse(init=Uniform(0.0, 1e39), dtype="float64").init == Uniform(0.0, 1e39)
