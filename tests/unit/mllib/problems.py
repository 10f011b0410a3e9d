"""Small problems and slow, obvious twins for the tests of `sparkps.mllib`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparkps.mllib.data.store import Chunk
from sparkps.mllib.solvers.lbfgs import TRIAL, TRIAL_GRADIENT, vector_names
from sparkps.mllib.solvers.operations import Combine, Operation

Array = NDArray[Any]


class NumpyVectors:
    """A solver's vectors as numpy arrays, with a function that gives value and gradient."""

    def __init__(self, function: Callable[[Array], tuple[float, Array]], start: Array, history: int = 10) -> None:
        self.function = function
        self.held = {name: np.zeros(len(start)) for name in vector_names(history)}
        self.held[TRIAL] = np.array(start, dtype=float)
        self.trials: list[Array] = []

    def evaluate(self) -> float:
        self.trials.append(self.held[TRIAL].copy())
        value, self.held[TRIAL_GRADIENT] = self.function(self.held[TRIAL])
        return value

    def run(self, operations: Sequence[Operation]) -> list[Array]:
        found = []
        for operation in operations:
            if isinstance(operation, Combine):
                self.held[operation.target] = sum((c * self.held[n] for n, c in operation.terms.items()), 0.0)
            else:
                found.append(np.array([[self.held[a] @ self.held[b] for b in operation.right] for a in operation.left]))
        return found


def logistic_objective(x: Array, y: Array, l2: float) -> Callable[[Array], tuple[float, Array]]:
    """Mean logistic loss over dense rows plus the penalty of all coefficients but the last, the intercept."""

    def function(w: Array) -> tuple[float, Array]:
        margin = x @ w[:-1] + w[-1]
        residual = 1 / (1 + np.exp(-margin)) - y
        penalised = np.append(w[:-1], 0.0)
        value = np.mean(np.logaddexp(0, margin) - y * margin) + 0.5 * l2 * penalised @ penalised
        return float(value), np.append(x.T @ residual, residual.sum()) / len(y) + l2 * penalised

    return function


#: Kinds of chunks: values and weights.
KINDS = [(values, weighted) for values in ("ones", "float32", "float64") for weighted in (False, True)]


def random_chunk(
    rng: np.random.Generator,
    rows: int,
    features: int,
    values: str,
    *,
    weighted: bool = False,
    labels: Sequence[float] = (0.0, 1.0),
) -> Chunk:
    """Rows with 0 to 6 entries; `values`: ones, float32 or float64."""
    lengths = rng.integers(0, 7, rows)
    indptr = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    ids = rng.integers(0, features, indptr[-1]).astype(np.int32)
    entries = np.empty(0, np.float32) if values == "ones" else rng.normal(size=len(ids)).astype(values)
    weights = rng.uniform(0, 2, rows) if weighted else np.empty(0)
    return Chunk(np.array(labels, np.float64)[rng.integers(0, len(labels), rows)], weights, indptr, ids, entries)


def vector_column(rows: Sequence[Any]) -> pa.StructArray:
    """A column as Spark hands VectorUDT to Python: a row is a list (dense), (size, indices, values) or None."""
    kind = pa.struct([("type", pa.int8()), ("size", pa.int32()), ("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float64()))])
    structs = []
    for row in rows:
        if row is None:
            structs.append(None)
        elif isinstance(row, list):
            structs.append({"type": 1, "size": None, "indices": None, "values": row})
        else:
            structs.append({"type": 0, "size": row[0], "indices": row[1], "values": row[2]})
    return pa.array(structs, kind)


def pairs_column(rows: Sequence[Any]) -> pa.StructArray:
    """A column struct<indices: array<bigint>, values: array<float>>: a row is (indices, values) or None."""
    kind = pa.struct([("indices", pa.list_(pa.int64())), ("values", pa.list_(pa.float32()))])
    return pa.array([None if row is None else {"indices": row[0], "values": row[1]} for row in rows], kind)


def batch_of(labels: Sequence[Any], features: pa.Array, **more: Any) -> pa.RecordBatch:
    """A record batch as a worker gets it."""
    columns = {"label": pa.array(labels, pa.float64()), "features": features, **more}
    return pa.RecordBatch.from_pydict(columns)
