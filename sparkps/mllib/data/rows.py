"""Arrow batches of labelled rows, checked and brought into one sparse form.

Rows that are wrong are refused with their column, content and rank, or left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparkps.arrow import valid
from sparkps.errors import InvalidInput
from sparkps.mllib.data import kernels
from sparkps.mllib.data.features import mark, numbers_of, shortened
from sparkps.mllib.data.labels import FiniteLabels, LabelRule
from sparkps.mllib.data.sources import FeatureSource, RawColumns, VectorColumn

Array = NDArray[Any]

#: A limit that no index reaches.
NO_LIMIT = np.iinfo(np.int64).max

#: What helps with any wrong row.
_ADVICE = "Correct the row, or set handleInvalid='skip' to leave such rows out."

_NO_WEIGHTS = np.empty(0, np.float64)
_NO_VALUES = np.empty(0, np.float32)
_NO_FLAGS = np.empty(0, bool)
_NO_FIELDS = np.empty(0, np.int32)


@dataclass(frozen=True)
class Columns:
    """Which columns hold what, and what rows must satisfy.

    Examples
    --------
    >>> Columns("label", "features", offset="exposure").names
    ['label', 'features', 'exposure']
    """

    label: str
    features: str
    weight: str = ""
    #: Indices must be below; 0: no limit but what a vector's own size says.
    num_features: int = 0
    #: What happens with a row that is wrong.
    handle_invalid: Literal["error", "skip"] = "error"
    #: What is added to a row's margin.
    offset: str = ""
    #: Whether a row is set aside to measure on.
    validation: str = ""
    #: Where features come from in place of `features`.
    raw: RawColumns | None = None
    #: What labels are taken less: sums of squares do not see how labels vary that are all far from 0.
    origin: float = 0.0

    @property
    def source(self) -> FeatureSource:
        """Where features come from."""
        return self.raw or VectorColumn(self.features)

    @property
    def beside(self) -> dict[str, str]:
        """By role, the columns that rows may have besides label and features, in the order in which batches carry them."""
        roles = {"weight": self.weight, "offset": self.offset, "validation": self.validation}
        return {role: name for role, name in roles.items() if name}

    @property
    def names(self) -> list[str]:
        """The columns to read, in the order in which batches carry them."""
        return [self.label, *self.source.names, *self.beside.values()]


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
    #: float64 (n,), or empty where all are 0.
    offsets: Array = field(default_factory=lambda: _NO_WEIGHTS)
    #: bool (n,): whether the row is set aside to measure on; empty: none is.
    validation: Array = field(default_factory=lambda: _NO_FLAGS)
    #: int32 (nonzeros,): number of the raw column that each entry came from, or empty.
    fields: Array = field(default_factory=lambda: _NO_FIELDS)

    def where(self, keep: Array) -> Rows:
        """The rows where `keep`, bool (n,), is true; values that are all 1 stay left out."""
        count = int(np.count_nonzero(keep))
        if count == len(keep):
            return self
        indptr = np.empty(count + 1, np.int32)
        indices, values = np.empty(len(self.indices), np.int64), np.empty(len(self.values), self.values.dtype)
        entries = kernels.keep_rows.of(values.dtype)(
            keep.astype(np.uint8), self.indptr, self.indices, self.values, indptr, indices, values
        )
        weights, offsets, validation = (
            each[keep] if len(each) else each for each in (self.weights, self.offsets, self.validation)
        )
        return replace(
            self, labels=self.labels[keep], weights=weights, indptr=indptr, indices=indices[:entries],
            values=values[:entries] if len(values) else values,
            offsets=offsets, validation=validation,
            fields=self.fields[np.repeat(keep, np.diff(self.indptr))] if len(self.fields) else self.fields,
        )  # fmt: skip


class RowReader:
    """Turns the record batches of one rank into `Rows`.

    Parameters
    ----------
    columns : Columns
    rank : int
        For messages.
    label_rule : LabelRule, optional
        What labels must be; None: finite.
    fields : bool
        Whether to say which raw column each entry came from.
    """

    def __init__(self, columns: Columns, rank: int = 0, label_rule: LabelRule | None = None, *, fields: bool = False) -> None:
        self.columns = columns
        self.rank = rank
        self.label_rule: LabelRule = label_rule or FiniteLabels()
        #: Length of this rank's vectors; 0 until one was seen, or where there are none.
        self.width = 0
        #: Whether `Rows.fields` are told.
        self.fields = fields
        self._source = columns.source
        #: Rows seen, for messages.
        self._seen = 0

    @property
    def num_features(self) -> int:
        """Number of features where it is known before any row is; else 0."""
        return self._source.size

    def read(self, batch: pa.RecordBatch) -> Rows:
        """The rows of `batch`, whose columns are those of `Columns.names` in that order.

        Raises
        ------
        InvalidInput
            A row is wrong and ``handle_invalid`` is "error"; it names column, row and rank.
        """
        columns = self.columns
        after = 1 + len(self._source.names)
        features = self._source.read(batch.columns[1:after], self.width, fields=self.fields)
        labels, codes = self._labels(batch.column(0))
        weights, offsets, validation = _beside(dict(zip(columns.beside, batch.columns[after:], strict=True)), codes)
        if len(weights):
            labels = _forgiven(labels, codes, weights)
        _mark_from(codes, features.codes)
        if not self._source.size:
            kernels.check_entries.of(features.values.dtype)(
                features.indptr, features.indices, features.values, columns.num_features or NO_LIMIT, codes
            )
        self.width = features.width
        skipped = int(np.count_nonzero(codes))
        if skipped and columns.handle_invalid == "error":
            raise self._refusal(batch, int(np.flatnonzero(codes)[0]), codes)
        rows = Rows(
            labels, weights, features.indptr, features.indices, features.values, features.width, skipped, offsets, validation,
            features.fields,
        )  # fmt: skip
        self._seen += batch.num_rows
        return _with_plain_values(rows.where(codes == kernels.OK) if skipped else rows)

    def _labels(self, column: pa.Array) -> tuple[Array, Array]:
        labels = numbers_of(column, np.float64)
        codes = np.zeros(len(labels), np.int8)
        if column.null_count:
            mark(codes, ~valid(column), kernels.LABEL_NULL)
        mark(codes, self.label_rule.wrong(labels), kernels.LABEL_WRONG)
        return labels - self.columns.origin if self.columns.origin else labels, codes

    def _refusal(self, batch: pa.RecordBatch, row: int, codes: Array) -> InvalidInput:
        code = int(codes[row])
        name, must = self._describe(code)
        name = name or self._source.culprit(batch.columns[1:], row)
        content = ", ".join(
            f"{field}={shortened(batch.column(i)[row].as_py())}" for i, field in enumerate(self.columns.names)
        )
        advice = self.label_rule.advice(batch.column(0)[row].as_py()) if code == kernels.LABEL_WRONG else ""
        return InvalidInput(
            f"Column {name!r}: {must}. Got the row {content} (row {self._seen + row} of rank {self.rank}). {advice or _ADVICE}",
            column=name,
            rank=self.rank,
            row=self._seen + row,
            **({"label": float(batch.column(0)[row].as_py())} if code == kernels.LABEL_WRONG else {}),
        )

    def _describe(self, code: int) -> tuple[str, str]:
        """Column, empty for the one of the features that is wrong; and what must hold."""
        columns = self.columns
        limit = f"numFeatures ({columns.num_features})" if columns.num_features else "2^63 - 1"
        return {
            kernels.LABEL_NULL: (columns.label, "a label must not be null"),
            kernels.LABEL_WRONG: (columns.label, self.label_rule.must),
            kernels.WEIGHT_INVALID: (columns.weight, "a weight must be a float in [0, inf)"),
            kernels.OFFSET_INVALID: (columns.offset, "an offset must be finite"),
            kernels.INDICATOR_NULL: (columns.validation, "whether a row is for validation must not be null"),
            kernels.FEATURES_NULL: ("", "features must not be null"),
            kernels.ENTRY_NULL: ("", "indices and values must not be null"),
            kernels.LENGTHS_DIFFER: ("", "indices and values must be of the same length"),
            kernels.NEGATIVE_INDEX: ("", "an index must not be negative"),
            kernels.INDEX_TOO_LARGE: ("", f"an index must be less than {limit}"),
            kernels.NOT_FINITE: ("", "values must be finite"),
            kernels.SIZE_DIFFERS: ("", f"all vectors must have the same size (the first has {self.width})"),
        }[code]


def _beside(found: dict[str, pa.Array], codes: Array) -> tuple[Array, Array, Array]:
    """Weights, offsets and validation flags out of columns by their roles; wrong ones are marked in `codes`."""
    weights, offsets, validation = _NO_WEIGHTS, _NO_WEIGHTS, _NO_FLAGS
    if (column := found.get("weight")) is not None:
        weights = numbers_of(column, np.float64)
        mark(codes, ~((weights >= 0) & np.isfinite(weights)) | ~valid(column), kernels.WEIGHT_INVALID)
    if (column := found.get("offset")) is not None:
        offsets = numbers_of(column, np.float64)
        mark(codes, ~np.isfinite(offsets) | ~valid(column), kernels.OFFSET_INVALID)
    if (column := found.get("validation")) is not None:
        validation = numbers_of(column, np.float64) != 0
        mark(codes, ~valid(column), kernels.INDICATOR_NULL)
    return weights, offsets, validation


def _forgiven(labels: Array, codes: Array, weights: Array) -> Array:
    """Labels, 0 in place of a further class whose row weighs nothing: as in pyspark.ml it is none. Clears the codes of such rows."""
    further = (codes == kernels.LABEL_WRONG) & (weights == 0.0) & (labels >= 0.0) & (np.floor(labels) == labels) & np.isfinite(labels)
    if not further.any():
        return labels
    codes[further] = kernels.OK
    return np.where(further, 0.0, labels)


def _mark_from(codes: Array, others: Array) -> None:
    free = codes == kernels.OK
    codes[free] = others[free]


def _with_plain_values(rows: Rows) -> Rows:
    """Values that are all 1 are left out; others become float32 where that loses nothing."""
    kind = kernels.value_kind.of(rows.values.dtype)(rows.values)
    if kind == 0 or len(rows.indices) == 0:
        return replace(rows, values=_NO_VALUES)
    return replace(rows, values=rows.values.astype(np.float32, copy=False)) if kind == 1 else rows


__all__ = ["NO_LIMIT", "Columns", "RowReader", "Rows"]
