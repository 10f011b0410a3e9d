"""Scores of rows in executors: Arrow in, Arrow out. What each family computes of a row stands in a `Scorer` of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparkps.arrow import numbers, valid
from sparkps.errors import InvalidInput
from sparkps.mllib.coefficients import Coefficients
from sparkps.mllib.data import kernels
from sparkps.mllib.data.features import Features
from sparkps.mllib.models.source import ScoredRows

Array = NDArray[Any]


def margins(features: Features, coefficients: Coefficients, intercepts: Sequence[float]) -> Array:
    """intercept + Σ x·w of each row and output, float64 (n, K).

    Parameters
    ----------
    features : Features
    coefficients : Coefficients
        Of K values a key.
    intercepts : sequence of K floats
    """
    ids, values = coefficients.look_up(np.ascontiguousarray(features.indices))
    entries, indptr = np.ascontiguousarray(features.values), features.indptr
    if not len(values):
        values = np.zeros((1, len(intercepts)))
    out = np.empty((len(features.codes), len(intercepts)))
    if len(intercepts) == 1:
        kernels.margins.of(entries.dtype)(indptr, ids, entries, values.reshape(-1), float(intercepts[0]), out.reshape(-1))
    else:
        biases = np.array(intercepts, np.float64)
        kernels.margins_of_many.of(entries.dtype)(indptr, ids, entries, values, biases, out)
    return out


def as_vectors(rows: Array) -> pa.StructArray:
    """Rows (n, K) as the dense vectors of Spark's VectorUDT in Arrow."""
    count, length = rows.shape
    flat = np.ascontiguousarray(rows, np.float64).reshape(-1)
    values = pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32) * np.int32(length)), pa.array(flat))
    parts = [
        pa.array(np.ones(count, np.int8)),
        pa.nulls(count, pa.int32()),
        pa.nulls(count, pa.list_(pa.int32())),
        values,
    ]
    return pa.StructArray.from_arrays(parts, ["type", "size", "indices", "values"])


@dataclass(frozen=True)
class Scorer(ABC):
    """What is predicted of each row, from coefficients and features; the function of a UDF. Picklable.

    Parameters
    ----------
    held : object
        A broadcast variable of `LocalCoefficients`, or coefficients themselves.
    rows : ScoredRows
        What reads the first columns of the UDF.
    wanted : sequence of str
        The parts that the UDF returns, in the order of `outputs.struct_of`.
    offset : str
        Name of the column that is the UDF's last, whose number is added to the margins of its row; empty: there is none.
    """

    held: Any
    rows: ScoredRows
    wanted: Sequence[str] = ("prediction",)
    offset: str = ""

    def __call__(self, *columns: pa.Array) -> pa.Array:  # Spark tells the kind of UDF by these types
        """Struct of all wanted parts of what is predicted."""
        offsets = _offsets(columns[-1], self.offset) if self.offset else None
        features = self.rows.read(columns[: len(columns) - bool(self.offset)])
        found = self.scores(features, offsets)
        parts = [pa.array(found[part]) if found[part].ndim == 1 else as_vectors(found[part]) for part in self.wanted]
        return pa.StructArray.from_arrays(parts, list(self.wanted))

    def scores(self, features: Features, offsets: Array | None = None) -> Mapping[str, Array]:
        """The parts of what is predicted of rows: each float64 (n,), or (n, K) for one that is a vector."""
        return self.parts(getattr(self.held, "value", self.held), features, 0.0 if offsets is None else offsets[:, None])

    @abstractmethod
    def parts(self, coefficients: Coefficients, features: Features, offsets: Any) -> Mapping[str, Array]:
        """See `scores`: of rows whose margins (n, K) have `offsets` added to them, (n, 1) or 0.0."""


def _offsets(column: pa.Array, name: str) -> Array:
    found = np.asarray(numbers(column.cast(pa.float64())))
    wrong = np.flatnonzero(~(valid(column) & np.isfinite(found)))
    if len(wrong):
        raise InvalidInput(f"Column {name!r}: an offset must be finite. Got {column[int(wrong[0])].as_py()}.", column=name)
    return found


__all__ = ["Scorer", "as_vectors", "margins"]
