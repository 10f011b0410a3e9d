"""A user's arguments for a table, checked. Pure."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any, get_args

from sparkps.errors import InvalidInput
from sparkps.initializers import Initializer
from sparkps.optim import Optimizer
from sparkps.plain import shown
from sparkps.specs import LARGEST_DIM, LARGEST_SIZE, MOST_EXTENTS, TableSpec, check_spec, check_table_name

DTYPES = ("float32", "float64")
STORAGES = ("float32", "float16", "bfloat16")


def sparse_spec(
    name: str, dim: int, dtype: Any, init: Initializer, optimizer: Optimizer, seed: int, group: str, storage: str | None = None
) -> TableSpec:
    """The specification of a sparse table.

    Raises
    ------
    InvalidInput
        An argument that no table can have.
    """
    check_table_name(name)
    if group:
        check_table_name(group)
    dim = _whole(name, "dim", dim, 1, LARGEST_DIM)
    dtype = _dtype(name, dtype)
    return check_spec(
        TableSpec(
            name, "sparse", dim, dtype, (), *_rules(name, init, optimizer), _seed(name, seed), group,
            storage=_storage(name, dtype, storage),
        )
    )  # fmt: skip


def dense_spec(
    name: str, shape: int | Sequence[int], dtype: Any, init: Initializer, optimizer: Optimizer, seed: int
) -> TableSpec:
    """The specification of a dense table.

    Raises
    ------
    InvalidInput
        An argument that no table can have.
    """
    check_table_name(name)
    whole = isinstance(shape, int) or not hasattr(shape, "__iter__")
    extents = (shape,) if whole else tuple(itertools.islice(shape, MOST_EXTENTS + 1))  # type: ignore[arg-type]
    checked = tuple(_whole(name, "shape", extent, 1, LARGEST_SIZE) for extent in extents)
    if not checked:
        raise InvalidInput(f"The `shape` of table {name!r} must have at least one extent. Got {shown(shape)}.", table=name)
    return check_spec(
        TableSpec(name, "dense", 1, _dtype(name, dtype), checked, *_rules(name, init, optimizer), _seed(name, seed))
    )


def _whole(table: str, argument: str, value: Any, low: int, high: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if isinstance(value, bool) or not low <= number <= high:
        raise InvalidInput(
            f"The `{argument}` of table {table!r} must be an int in [{low}, {high}]. Got {shown(value)} instead.",
            table=table,
        )
    return number


def _seed(table: str, seed: Any) -> int:
    return _whole(table, "seed", seed, -(1 << 63), (1 << 63) - 1)


def _dtype(table: str, dtype: Any) -> Any:
    # A string, a numpy dtype or a numpy scalar type: all of them know their name.
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", None) or getattr(dtype, "__name__", None)
    if name not in DTYPES:
        raise InvalidInput(
            f"The `dtype` of table {table!r} must be one of {DTYPES}. Got {shown(dtype)} instead.", table=table
        )
    return name


def _storage(table: str, dtype: str, storage: Any) -> Any:
    if storage is None or (isinstance(storage, str) and storage == dtype):
        return ""
    if storage not in STORAGES or dtype != "float32":
        raise InvalidInput(
            f"The `storage` of table {table!r} must be one of {STORAGES} where its `dtype` is float32, else that. Got {shown(storage)} for"
            f" {dtype} instead.",
            table=table,
        )
    return storage


def _rules(table: str, init: Any, optimizer: Any) -> tuple[Initializer, Optimizer]:
    for argument, value, kinds in (("init", init, Initializer), ("optimizer", optimizer, Optimizer)):
        if not isinstance(value, get_args(kinds)):
            names = ", ".join(kind.__name__ for kind in get_args(kinds))
            raise InvalidInput(
                f"The `{argument}` of table {table!r} must be one of {names}. Got {shown(value)} instead.", table=table
            )
    return init, optimizer


__all__ = ["dense_spec", "sparse_spec"]
