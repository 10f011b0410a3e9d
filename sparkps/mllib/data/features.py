"""Columns of features, of every type that can hold them, as sparse rows.

Features may be pyspark.ml vectors (struct<type, size, indices, values>, dense and sparse ones mixed), array<double> or
array<float>, or struct<indices: array<bigint>, values: array<float>>.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparkps.arrow import numbers, valid
from sparkps.errors import InvalidInput
from sparkps.mllib.data import kernels

Array = NDArray[Any]


@dataclass(frozen=True)
class Features:
    """The features of rows, before these are checked. Row r has the entries ``indices[indptr[r]:indptr[r + 1]]``."""

    #: int32 (n + 1,).
    indptr: Array
    #: int64 (nonzeros,).
    indices: Array
    #: float64 or float32 (nonzeros,).
    values: Array
    #: Code of each row (`kernels.OK` ...), int8.
    codes: Array
    #: Length of the vectors they came from; 0 where only indices are known.
    width: int
    #: int32 (nonzeros,): number of the raw column that each entry came from; empty: not asked for, or there are none.
    fields: Array = field(default_factory=lambda: np.empty(0, np.int32))


def read_features(column: pa.Array, name: str, width: int = 0) -> Features:
    """The rows of a column of features, of whichever type.

    Parameters
    ----------
    column : pyarrow.Array
    name : str
        Of the column, for messages.
    width : int
        Length that all vectors must have; 0: that of the first.

    Raises
    ------
    InvalidInput
        The column's type is none of those that hold features.
    """
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    kind = column.type
    if pa.types.is_struct(kind):
        fields = {field.name for field in kind}
        if fields == {"type", "size", "indices", "values"}:
            return _read_vectors(column, width)
        if (
            {"indices", "values"} <= fields
            and _is_list(kind.field("indices").type)
            and _is_list(kind.field("values").type)
        ):
            return _read_pairs(column)
    elif _is_list(kind) and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        return _read_arrays(column, width)
    raise InvalidInput(
        f"Column {name!r} must hold features: a vector, array<double>, or struct<indices: array<bigint>, values: array<float>>. Got"
        f" {kind} instead.",
        column=name,
    )


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def numbers_of(column: pa.Array, dtype: Any) -> Array:
    """Elements of a numeric array; null ones become 0."""
    plain = pa.types.is_floating(column.type) or pa.types.is_signed_integer(column.type)
    if not plain:
        column = column.cast(pa.float64())
    values = np.ascontiguousarray(numbers(column), dtype)
    if column.null_count:
        values = np.where(valid(column), values, np.zeros(1, dtype))
    return values


@dataclass(frozen=True)
class _List:
    """A list column as offsets from 0 into one flat array."""

    offsets: Array
    elements: pa.Array

    @classmethod
    def of(cls, column: pa.Array) -> _List:
        if column.null_count and not len(column.values):
            return cls(np.zeros(len(column) + 1, np.int32), column.values)
        offsets = numbers(column.offsets)
        elements = column.values.slice(offsets[0], offsets[-1] - offsets[0])
        return cls(np.ascontiguousarray(offsets - offsets[0], np.int32), elements)

    def rows_with_null(self) -> Array:
        """bool (n,): whether any element of the row is null."""
        missing = np.concatenate(([0], np.cumsum(~valid(self.elements))))
        found: Array = missing[self.offsets[1:]] > missing[self.offsets[:-1]]
        return found


def mark(codes: Array, rows: Array, code: int) -> None:
    """Gives `code` to the rows that have none yet."""
    codes[np.asarray(rows, bool) & (codes == kernels.OK)] = code


def _codes_of(column: pa.Array, *lists: _List) -> Array:
    codes = np.zeros(len(column), np.int8)
    if column.null_count:
        mark(codes, ~valid(column), kernels.FEATURES_NULL)
    for each in lists:
        if each.elements.null_count:
            mark(codes, each.rows_with_null(), kernels.ENTRY_NULL)
    return codes


def _read_vectors(column: pa.StructArray, width: int) -> Features:
    kinds, sizes = (numbers_of(column.field(name), dtype) for name, dtype in (("type", np.int8), ("size", np.int32)))
    indices, values = _List.of(column.field("indices")), _List.of(column.field("values"))
    codes = _codes_of(column, values)
    entries = numbers_of(values.elements, np.float64)
    lengths = np.where(kinds == 1, np.diff(values.offsets), sizes)
    _mark_sizes(codes, lengths, width)
    width = width or _first_length(lengths, codes)
    if not kinds.any() and np.array_equal(indices.offsets, values.offsets):
        return Features(values.offsets, numbers_of(indices.elements, np.int64), entries, codes, width)
    indptr, out_indices, out_values = _room(len(column), len(entries))
    count = kernels.vectors_to_rows(
        kinds,
        indices.offsets,
        numbers_of(indices.elements, np.int32),
        values.offsets,
        entries,
        indptr,
        out_indices,
        out_values,
    )
    return Features(indptr, out_indices[:count], out_values[:count], codes, width)


def _read_arrays(column: pa.Array, width: int) -> Features:
    rows = _List.of(column)
    codes = _codes_of(column, rows)
    entries = numbers_of(rows.elements, np.float64)
    lengths = np.diff(rows.offsets)
    _mark_sizes(codes, lengths, width)
    kinds = np.ones(len(column), np.int8)
    indptr, indices, values = _room(len(column), len(entries))
    count = kernels.vectors_to_rows(
        kinds, rows.offsets, np.empty(0, np.int32), rows.offsets, entries, indptr, indices, values
    )
    return Features(indptr, indices[:count], values[:count], codes, width or _first_length(lengths, codes))


def _read_pairs(column: pa.StructArray) -> Features:
    indices, values = _List.of(column.field("indices")), _List.of(column.field("values"))
    codes = _codes_of(column, indices, values)
    for name in ("indices", "values"):
        if column.field(name).null_count:
            mark(codes, ~valid(column.field(name)), kernels.ENTRY_NULL)
    dtype = np.float32 if values.elements.type == pa.float32() else np.float64
    entries, keys = numbers_of(values.elements, dtype), numbers_of(indices.elements, np.int64)
    if np.array_equal(indices.offsets, values.offsets):
        return _merged(values.offsets, keys, entries, codes)
    lengths = np.diff(indices.offsets)
    fits = lengths == np.diff(values.offsets)
    mark(codes, ~fits, kernels.LENGTHS_DIFFER)
    here, there = np.repeat(fits, lengths), np.repeat(fits, np.diff(values.offsets))
    indptr = np.concatenate(([0], np.cumsum(np.where(fits, lengths, 0)))).astype(np.int32)
    return _merged(indptr, keys[here], entries[there], codes)


def _merged(indptr: Array, keys: Array, entries: Array, codes: Array) -> Features:
    """Rows in which no key comes twice: entries with the same one are added, as a margin adds them."""
    ascending = np.diff(keys) > 0
    starts = indptr[1:-1]
    ascending[starts[(starts > 0) & (starts < len(keys))] - 1] = True  # from one row to the next
    if ascending.all():
        return Features(indptr, keys, entries, codes, 0)
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    order = np.lexsort((keys, rows))
    ordered, of_rows = keys[order], rows[order]
    first = np.ones(len(order), bool)
    first[1:] = (ordered[1:] != ordered[:-1]) | (of_rows[1:] != of_rows[:-1])
    if first.all():
        return Features(indptr, keys, entries, codes, 0)
    begins = np.flatnonzero(first)
    counts = np.bincount(of_rows[begins], minlength=len(indptr) - 1)
    summed = np.add.reduceat(entries[order], begins)
    return Features(np.concatenate(([0], np.cumsum(counts))).astype(np.int32), ordered[begins], summed, codes, 0)


def _mark_sizes(codes: Array, lengths: Array, width: int) -> None:
    width = width or _first_length(lengths, codes)
    mark(codes, lengths != width, kernels.SIZE_DIFFERS)


def _first_length(lengths: Array, codes: Array) -> int:
    fine = np.flatnonzero(codes == kernels.OK)
    return int(lengths[fine[0]]) if len(fine) else 0


def _room(rows: int, entries: int) -> tuple[Array, Array, Array]:
    return np.empty(rows + 1, np.int32), np.empty(entries, np.int64), np.empty(entries, np.float64)


def shortened(value: Any, most: int = 120) -> str:
    """`value` for a message; a vector of Spark as Spark shows it."""
    text = _as_vector(value) or repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def _as_vector(value: Any) -> str:
    """A vector as its struct has it, written as a vector; empty if it is none."""
    if not isinstance(value, dict) or not {"type", "size", "indices", "values"} <= set(value) or value["values"] is None:
        return ""
    if value["type"] == 1:  # as `VectorUDT` has it
        return f"DenseVector({value['values']})"
    entries = ", ".join(f"{i}: {v}" for i, v in zip(value["indices"] or (), value["values"], strict=False))
    return f"SparseVector({value['size']}, {{{entries}}})"


__all__ = ["Features", "mark", "numbers_of", "read_features", "shortened"]
