"""Scores of rows by a linear model, in executors: Arrow in, Arrow out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparkps.errors import InvalidInput
from sparkps.mllib.coefficients import Coefficients
from sparkps.mllib.data import kernels
from sparkps.mllib.data.features import Features, read_features, shortened

Array = NDArray[Any]

_REFUSED = {
    kernels.FEATURES_NULL: "features must not be null",
    kernels.ENTRY_NULL: "indices and values must not be null",
    kernels.LENGTHS_DIFFER: "indices and values must be of the same length",
    kernels.SIZE_DIFFERS: "vectors must have as many elements as the model has features ({width})",
}


def margins(features: Features, coefficients: Coefficients, intercept: float) -> Array:
    """intercept + Σ x·w of each row, float64 (n,)."""
    ids, values = coefficients.look_up(np.ascontiguousarray(features.indices))
    out = np.empty(len(features.codes))
    if not len(values):
        values = np.zeros(1)
    kernels.margins.of(features.values.dtype)(
        features.indptr, ids, np.ascontiguousarray(features.values), values, float(intercept), out
    )
    return out


def vectors_of_two(first: Array, second: Array) -> pa.StructArray:
    """Dense vectors of length 2 as Spark's VectorUDT has them in Arrow."""
    count = len(first)
    flat = np.stack([first, second], axis=1).ravel()
    values = pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32) * 2), pa.array(flat))
    parts = [
        pa.array(np.ones(count, np.int8)),
        pa.nulls(count, pa.int32()),
        pa.nulls(count, pa.list_(pa.int32())),
        values,
    ]
    return pa.StructArray.from_arrays(parts, ["type", "size", "indices", "values"])


@dataclass(frozen=True)
class LinearScorer:
    """What is predicted of each row, here the margin; the function of a UDF. Picklable.

    Parameters
    ----------
    coefficients : object
        A broadcast variable of `LocalCoefficients`, or `TableCoefficients`.
    intercept : float
    column : str
        Name of the features, for messages.
    width : int
        Elements of every vector; 0: any number.
    """

    coefficients: Any
    intercept: float
    column: str
    width: int = 0

    def __call__(self, features: pa.Array) -> pa.Array:  # Spark tells the kind of UDF by these types
        """Struct of all parts of what was predicted."""
        rows = read_features(features, self.column, self.width)
        self._check(features, rows)
        coefficients = getattr(self.coefficients, "value", self.coefficients)
        parts = self.parts(margins(rows, coefficients, self.intercept))
        return pa.StructArray.from_arrays(list(parts.values()), list(parts))

    def parts(self, margin: Array) -> dict[str, pa.Array]:
        """Each part, by name and in the order of `outputs.struct_of`, of rows of that `margin`."""
        return {"prediction": pa.array(margin)}

    def _check(self, features: pa.Array, rows: Features) -> None:
        for code, must in _REFUSED.items():
            if code == kernels.SIZE_DIFFERS and not self.width:
                continue
            wrong = np.flatnonzero(rows.codes == code)
            if len(wrong):
                row = features[int(wrong[0])].as_py()
                text = must.format(width=self.width)
                raise InvalidInput(f"Column {self.column!r}: {text}. Got {shortened(row)}.", column=self.column)


@dataclass(frozen=True)
class BinaryScorer(LinearScorer):
    """Raw prediction, probability and prediction of each row.

    Parameters
    ----------
    probabilities : callable
        Of label 1, of margins; see `Loss.probabilities`.
    threshold : float
        Label 1 is predicted where its probability is above.
    """

    probabilities: Callable[[Array], Array] = field(kw_only=True)
    threshold: float = field(kw_only=True)

    def parts(self, margin: Array) -> dict[str, pa.Array]:
        """``raw`` and ``probability`` (vectors) and ``prediction`` (double)."""
        p = self.probabilities(margin)
        predicted = (p > self.threshold).astype(np.float64)
        return {
            "raw": vectors_of_two(-margin, margin),
            "probability": vectors_of_two(1.0 - p, p),
            "prediction": pa.array(predicted),
        }


__all__ = ["BinaryScorer", "LinearScorer", "margins", "vectors_of_two"]
