"""Arrow batches of labelled rows, checked and brought into one sparse form.

Features may be pyspark.ml vectors (struct<type, size, indices, values>, dense and sparse ones mixed), array<double> or
array<float>, or struct<indices: array<bigint>, values: array<float>>. Rows that are wrong are refused with their column,
content and rank, or left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparkps.driver_bridge.columns import numbers, valid
from sparkps.errors import InvalidInput
from sparkps.mllib.data import kernels
from sparkps.mllib.data.labels import FiniteLabels, LabelRule

Array = NDArray[Any]

#: A limit that no index reaches.
NO_LIMIT = np.iinfo(np.int64).max

#: What helps with any wrong row.
_ADVICE = "Correct the row, or set handleInvalid='skip' to leave such rows out."

_NO_WEIGHTS = np.empty(0, np.float64)
_NO_VALUES = np.empty(0, np.float32)


@dataclass(frozen=True)
class Columns:
    """Which columns hold what, and what rows must satisfy.

    Examples
    --------
    >>> Columns("label", "features").names
    ['label', 'features']
    """

    label: str
    features: str
    weight: str = ""
    #: Indices must be below; 0: no limit but what a vector's own size says.
    num_features: int = 0
    #: What happens with a row that is wrong.
    handle_invalid: Literal["error", "skip"] = "error"

    @property
    def names(self) -> list[str]:
        """The columns to read, in the order in which batches carry them."""
        return [name for name in (self.label, self.features, self.weight) if name]


@dataclass(frozen=True)
class Rows:
    """Sparse rows with their labels.

    Row r has the entries ``indices[indptr[r]:indptr[r + 1]]``.
    """

    #: float64 (n,).
    labels: Array
    #: float64 (n,), or empty where all weights are 1.
    weights: Array
    #: int32 (n + 1,).
    indptr: Array
    #: int64 (nonzeros,).
    indices: Array
    #: float64 or float32 (nonzeros,), or empty where all are 1.
    values: Array
    #: Length of the vectors they came from; 0 where only indices are known.
    width: int
    #: Rows that were left out.
    skipped: int = 0


@dataclass(frozen=True)
class Features:
    """One column of features, before its rows are checked."""

    indptr: Array
    indices: Array
    values: Array
    #: Code of each row (`kernels.OK` ...), int8.
    codes: Array
    width: int


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


def _numbers(column: pa.Array, dtype: Any) -> Array:
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


def _mark(codes: Array, rows: Array, code: int) -> None:
    """Gives `code` to the rows that have none yet."""
    codes[np.asarray(rows, bool) & (codes == kernels.OK)] = code


def _codes_of(column: pa.Array, *lists: _List) -> Array:
    codes = np.zeros(len(column), np.int8)
    if column.null_count:
        _mark(codes, ~valid(column), kernels.FEATURES_NULL)
    for each in lists:
        if each.elements.null_count:
            _mark(codes, each.rows_with_null(), kernels.ENTRY_NULL)
    return codes


def _read_vectors(column: pa.StructArray, width: int) -> Features:
    kinds, sizes = (_numbers(column.field(name), dtype) for name, dtype in (("type", np.int8), ("size", np.int32)))
    indices, values = _List.of(column.field("indices")), _List.of(column.field("values"))
    codes = _codes_of(column, values)
    entries = _numbers(values.elements, np.float64)
    lengths = np.where(kinds == 1, np.diff(values.offsets), sizes)
    _mark_sizes(codes, lengths, width)
    width = width or _first_length(lengths, codes)
    if not kinds.any() and np.array_equal(indices.offsets, values.offsets):
        return Features(values.offsets, _numbers(indices.elements, np.int64), entries, codes, width)
    indptr, out_indices, out_values = _room(len(column), len(entries))
    count = kernels.vectors_to_rows(
        kinds,
        indices.offsets,
        _numbers(indices.elements, np.int32),
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
    entries = _numbers(rows.elements, np.float64)
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
            _mark(codes, ~valid(column.field(name)), kernels.ENTRY_NULL)
    dtype = np.float32 if values.elements.type == pa.float32() else np.float64
    entries, keys = _numbers(values.elements, dtype), _numbers(indices.elements, np.int64)
    if np.array_equal(indices.offsets, values.offsets):
        return Features(values.offsets, keys, entries, codes, 0)
    lengths = np.diff(indices.offsets)
    fits = lengths == np.diff(values.offsets)
    _mark(codes, ~fits, kernels.LENGTHS_DIFFER)
    here, there = np.repeat(fits, lengths), np.repeat(fits, np.diff(values.offsets))
    indptr = np.concatenate(([0], np.cumsum(np.where(fits, lengths, 0)))).astype(np.int32)
    return Features(indptr, keys[here], entries[there], codes, 0)


def _mark_sizes(codes: Array, lengths: Array, width: int) -> None:
    width = width or _first_length(lengths, codes)
    _mark(codes, lengths != width, kernels.SIZE_DIFFERS)


def _first_length(lengths: Array, codes: Array) -> int:
    fine = np.flatnonzero(codes == kernels.OK)
    return int(lengths[fine[0]]) if len(fine) else 0


def _room(rows: int, entries: int) -> tuple[Array, Array, Array]:
    return np.empty(rows + 1, np.int32), np.empty(entries, np.int64), np.empty(entries, np.float64)


class RowReader:
    """Turns the record batches of one rank into `Rows`.

    Parameters
    ----------
    columns : Columns
    rank : int
        For messages.
    rule : LabelRule, optional
        What labels must be; None: finite.
    """

    def __init__(self, columns: Columns, rank: int = 0, rule: LabelRule | None = None) -> None:
        self.columns = columns
        self.rank = rank
        self.rule: LabelRule = rule or FiniteLabels()
        #: Length of this rank's vectors; 0 until one was seen, or where there are none.
        self.width = 0
        #: Rows seen, for messages.
        self._seen = 0

    def read(self, batch: pa.RecordBatch) -> Rows:
        """The rows of `batch`, whose columns are those of `Columns.names` in that order.

        Raises
        ------
        InvalidInput
            A row is wrong and ``handle_invalid`` is "error"; it names column, row and rank.
        """
        columns = self.columns
        features = read_features(batch.column(1), columns.features, self.width)
        labels, codes = self._labels(batch.column(0))
        weights = _NO_WEIGHTS
        if columns.weight:
            weights = _numbers(batch.column(2), np.float64)
            invalid = ~((weights >= 0) & np.isfinite(weights)) | ~valid(batch.column(2))
            _mark(codes, invalid, kernels.WEIGHT_INVALID)
        _mark_from(codes, features.codes)
        kernels.check_entries.of(features.values.dtype)(
            features.indptr, features.indices, features.values, columns.num_features or NO_LIMIT, codes
        )
        self.width = features.width
        skipped = int(np.count_nonzero(codes))
        if skipped and columns.handle_invalid == "error":
            raise self._refusal(batch, int(np.flatnonzero(codes)[0]), codes)
        rows = Rows(labels, weights, features.indptr, features.indices, features.values, features.width, skipped)
        self._seen += batch.num_rows
        return _with_plain_values(_keep(rows, codes == kernels.OK) if skipped else rows)

    def _labels(self, column: pa.Array) -> tuple[Array, Array]:
        labels = _numbers(column, np.float64)
        codes = np.zeros(len(labels), np.int8)
        if column.null_count:
            _mark(codes, ~valid(column), kernels.LABEL_NULL)
        _mark(codes, self.rule.wrong(labels), kernels.LABEL_WRONG)
        return labels, codes

    def _refusal(self, batch: pa.RecordBatch, row: int, codes: Array) -> InvalidInput:
        code = int(codes[row])
        name, must = self._describe(code)
        content = ", ".join(
            f"{field}={shortened(batch.column(i)[row].as_py())}" for i, field in enumerate(self.columns.names)
        )
        advice = self.rule.advice(batch.column(0)[row].as_py()) if code == kernels.LABEL_WRONG else ""
        return InvalidInput(
            f"Column {name!r}: {must}. Got the row {content} (row {self._seen + row} of rank {self.rank}). {advice or _ADVICE}",
            column=name,
            rank=self.rank,
            row=self._seen + row,
        )

    def _describe(self, code: int) -> tuple[str, str]:
        """Column, and what must hold."""
        columns = self.columns
        limit = f"numFeatures ({columns.num_features})" if columns.num_features else "2^63 - 1"
        return {
            kernels.LABEL_NULL: (columns.label, "a label must not be null"),
            kernels.LABEL_WRONG: (columns.label, self.rule.must),
            kernels.WEIGHT_INVALID: (columns.weight, "a weight must be a float in [0, inf)"),
            kernels.FEATURES_NULL: (columns.features, "features must not be null"),
            kernels.ENTRY_NULL: (columns.features, "indices and values must not be null"),
            kernels.LENGTHS_DIFFER: (columns.features, "indices and values must be of the same length"),
            kernels.NEGATIVE_INDEX: (columns.features, "an index must not be negative"),
            kernels.INDEX_TOO_LARGE: (columns.features, f"an index must be less than {limit}"),
            kernels.NOT_FINITE: (columns.features, "values must be finite"),
            kernels.SIZE_DIFFERS: (columns.features, f"all vectors must have the same size (the first has {self.width})"),
        }[code]


def _mark_from(codes: Array, others: Array) -> None:
    free = codes == kernels.OK
    codes[free] = others[free]


def shortened(value: Any, most: int = 120) -> str:
    """`value` for a message."""
    text = repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def _keep(rows: Rows, keep: Array) -> Rows:
    """The rows where `keep` is true."""
    count = int(np.count_nonzero(keep))
    indptr = np.empty(count + 1, np.int32)
    indices, values = np.empty(len(rows.indices), np.int64), np.empty(len(rows.values), rows.values.dtype)
    entries = kernels.keep_rows.of(values.dtype)(
        keep.astype(np.uint8), rows.indptr, rows.indices, rows.values, indptr, indices, values
    )
    weights = rows.weights[keep] if len(rows.weights) else rows.weights
    return Rows(rows.labels[keep], weights, indptr, indices[:entries], values[:entries], rows.width, rows.skipped)


def _with_plain_values(rows: Rows) -> Rows:
    """Values that are all 1 are left out; others become float32 where that loses nothing."""
    kind = kernels.value_kind.of(rows.values.dtype)(rows.values)
    values = (_NO_VALUES, rows.values.astype(np.float32, copy=False), rows.values)[kind]
    if len(rows.indices) == 0:
        values = _NO_VALUES
    return Rows(rows.labels, rows.weights, rows.indptr, rows.indices, values, rows.width, rows.skipped)


__all__ = ["NO_LIMIT", "Columns", "Features", "RowReader", "Rows", "read_features", "shortened"]
