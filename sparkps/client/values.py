"""What a call accepts as keys and values; everything else is refused before anything is sent."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparkps.errors import InvalidInput, NonFiniteValues
from sparkps.specs import TableSpec

_INT64_MAX = np.iinfo(np.int64).max


def check_keys(spec: TableSpec, keys: ArrayLike) -> NDArray[np.int64]:
    """`keys` as a contiguous int64 (n,) array.

    Raises
    ------
    InvalidInput
        Not integers, not one-dimensional, or beyond int64.
    """
    given = np.asarray(keys)
    if given.size == 0 and given.dtype == np.float64 and not isinstance(keys, np.ndarray):
        given = given.astype(np.int64)  # an empty list has no type of its own
    if given.ndim != 1:
        raise InvalidInput(
            f"The keys of table {spec.name!r} must be one-dimensional, (n,). Got shape {given.shape} instead.",
            table=spec.name,
        )
    if given.dtype.kind not in "iu":
        raise InvalidInput(
            f"The keys of table {spec.name!r} must be integers (int64). Got dtype {given.dtype} instead: convert them, or hash"
            " them to 64 bits.",
            table=spec.name,
            dtype=str(given.dtype),
        )
    if given.dtype == np.uint64 and given.size and given.max() > _INT64_MAX:
        raise InvalidInput(
            f"The keys of table {spec.name!r} must be at most 2**63 - 1. Got {given.max()} instead: use `keys.view('int64')`.",
            table=spec.name,
            key=int(given.max()),
        )
    return np.ascontiguousarray(given, np.int64)


def check_values(spec: TableSpec, values: ArrayLike, what: str, keys: NDArray[np.int64]) -> NDArray[Any]:
    """`values` as a contiguous (n, dim) array of the table's dtype; (n,) is taken where dim is 1.

    Raises
    ------
    InvalidInput
        Not real numbers, or of another shape.
    NonFiniteValues
        NaN or infinity; names the first such key.
    """
    rows = _real(spec, values, what)
    count = len(keys)
    if rows.shape != (count, spec.dim) and not (rows.shape == (count,) and spec.dim == 1):
        raise InvalidInput(
            f"The {what} of table {spec.name!r} must have shape ({count}, {spec.dim}): one row of {spec.dim} for each of {count} keys."
            f" Got shape {rows.shape} instead.",
            table=spec.name,
            shape=str(rows.shape),
        )
    rows = rows.reshape(count, spec.dim)
    bad = first_non_finite(rows)
    if bad >= 0:
        row, column = divmod(bad, spec.dim)
        raise NonFiniteValues(
            f"The {what} of table {spec.name!r} must be finite. Got {rows[row, column]} for key {keys[row]} (row {row}, column {column}).",
            table=spec.name,
            key=int(keys[row]),
        )
    return rows


def check_sums(spec: TableSpec, sums: NDArray[Any], what: str, keys: NDArray[np.int64]) -> None:
    """Raise if what was given for one key more than once comes to infinity.

    Raises
    ------
    NonFiniteValues
        Names the key.
    """
    bad = first_non_finite(sums)
    if bad >= 0:
        key = int(keys[bad // spec.dim])
        raise NonFiniteValues(
            f"The {what} of table {spec.name!r} must have finite sums in {spec.dtype}. Those of key {key}, which was given more than"
            " once, come to infinity.",
            table=spec.name,
            key=key,
        )


def check_elements(spec: TableSpec, values: ArrayLike, what: str) -> NDArray[Any]:
    """`values` of a dense table, flat, of its dtype; raises as `check_values`."""
    elements = _real(spec, values, what)
    if elements.shape != spec.shape:
        raise InvalidInput(
            f"The {what} of table {spec.name!r} must have the table's shape {spec.shape}. Got {elements.shape} instead.",
            table=spec.name,
            shape=str(elements.shape),
        )
    flat = elements.reshape(-1)
    bad = first_non_finite(flat)
    if bad >= 0:
        where = tuple(int(i) for i in np.unravel_index(bad, spec.shape))
        raise NonFiniteValues(
            f"The {what} of table {spec.name!r} must be finite. Got {flat[bad]} at {where}.",
            table=spec.name,
            key=str(where),
        )
    return flat


def _real(spec: TableSpec, values: ArrayLike, what: str) -> NDArray[Any]:
    try:
        given = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise InvalidInput(
            f"The {what} of table {spec.name!r} must be an array of numbers. Got what is none: {error}", table=spec.name
        ) from error
    if given.dtype.kind not in "fiu":
        raise InvalidInput(
            f"The {what} of table {spec.name!r} must be real numbers ({spec.dtype}). Got dtype {given.dtype} instead.",
            table=spec.name,
            dtype=str(given.dtype),
        )
    if given.dtype == spec.dtype:
        return np.ascontiguousarray(given)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused by name
        return np.ascontiguousarray(given, spec.dtype)


def first_non_finite(values: NDArray[Any]) -> int:
    """Flat index of the first NaN or infinity; -1 if there is none."""
    if "numba" not in sys.modules:  # loading it takes longer than to look at any values (see `plain_movement`)
        found = np.flatnonzero(~np.isfinite(values.reshape(-1)))
        return int(found[0]) if len(found) else -1
    from sparkps.kernels.rows import all_finite

    if all_finite.of(values.dtype)(values.reshape(1, -1)):
        return -1
    return int(np.flatnonzero(~np.isfinite(values.reshape(-1)))[0])
