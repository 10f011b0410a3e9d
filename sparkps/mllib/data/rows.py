"""Arrow batches of labelled rows, checked and brought into one sparse form.

Rows that are wrong are refused with their column, content and rank, or left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparkps.arrow import valid
from sparkps.errors import InvalidInput
from sparkps.mllib.data import kernels
from sparkps.mllib.data.features import mark, numbers_of, read_features, shortened
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


class RowReader:
    """Turns the record batches of one rank into `Rows`.

    Parameters
    ----------
    columns : Columns
    rank : int
        For messages.
    label_rule : LabelRule, optional
        What labels must be; None: finite.
    """

    def __init__(self, columns: Columns, rank: int = 0, label_rule: LabelRule | None = None) -> None:
        self.columns = columns
        self.rank = rank
        self.label_rule: LabelRule = label_rule or FiniteLabels()
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
            weights = numbers_of(batch.column(2), np.float64)
            invalid = ~((weights >= 0) & np.isfinite(weights)) | ~valid(batch.column(2))
            mark(codes, invalid, kernels.WEIGHT_INVALID)
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
        labels = numbers_of(column, np.float64)
        codes = np.zeros(len(labels), np.int8)
        if column.null_count:
            mark(codes, ~valid(column), kernels.LABEL_NULL)
        mark(codes, self.label_rule.wrong(labels), kernels.LABEL_WRONG)
        return labels, codes

    def _refusal(self, batch: pa.RecordBatch, row: int, codes: Array) -> InvalidInput:
        code = int(codes[row])
        name, must = self._describe(code)
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
        """Column, and what must hold."""
        columns = self.columns
        limit = f"numFeatures ({columns.num_features})" if columns.num_features else "2^63 - 1"
        return {
            kernels.LABEL_NULL: (columns.label, "a label must not be null"),
            kernels.LABEL_WRONG: (columns.label, self.label_rule.must),
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


__all__ = ["NO_LIMIT", "Columns", "RowReader", "Rows"]
