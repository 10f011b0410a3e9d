"""Small problems and slow, obvious twins for the tests of `sparkps.mllib`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparkps.mllib.data.store import Chunk
from sparkps.mllib.solvers.lbfgs import Lbfgs
from sparkps.mllib.solvers.lbfgsb import LOWER, UNBOUNDED, UPPER, LbfgsB
from sparkps.mllib.solvers.operations import Combine, Elementwise, Extreme, Gram, Operation, WeightedNorm
from sparkps.mllib.solvers.quasi_newton import TRIAL, TRIAL_GRADIENT, QuasiNewton
from tests import naive

Array = NDArray[Any]


class NumpyVectors:
    """A solver's vectors as numpy arrays, with a function that gives value and gradient.

    Parameters
    ----------
    function : callable
    start : ndarray
    history : int
    method : type of QuasiNewton
        The solver whose vectors they are.
    **given : ndarray
        Vectors that others fill.
    """

    def __init__(
        self,
        function: Callable[[Array], tuple[float, Array]],
        start: Array,
        history: int = 10,
        method: type[QuasiNewton] = Lbfgs,
        **given: Array,
    ) -> None:
        self.function = function
        self.held = {name: np.zeros(len(start)) for name in method.vector_names(history)}
        self.held |= {name: np.broadcast_to(np.asarray(values, float), len(start)) for name, values in given.items()}
        self.held[TRIAL] = np.array(start, dtype=float)
        self.trials: list[Array] = []
        #: Requests that a tier would have got.
        self.requests = 0

    def evaluate(self) -> float:
        self.trials.append(self.held[TRIAL].copy())
        value, self.held[TRIAL_GRADIENT] = self.function(self.held[TRIAL])
        return value

    def run(self, operations: Sequence[Operation]) -> list[Any]:
        found = [self._do(operation) for operation in operations]
        answers = [each for each in found if each is not None]
        self.requests += bool(answers)
        return answers

    def _do(self, operation: Operation) -> Any:
        held = self.held
        match operation:
            case Combine(target, terms):
                held[target] = sum((c * held[name] for name, c in terms.items()), 0.0)
            case Gram(left, right, weights):
                by = held[weights] if weights else 1.0
                return np.array([[(held[a] * by) @ held[b] for b in right] for a in left])
            case WeightedNorm(vector, weights):
                return float(np.abs(held[vector] * held[weights]).sum())
            case Extreme(vector, which):
                return float(getattr(held[vector], which)())
            case Elementwise(function, target, vectors, numbers):
                operands = [held[name] for name in vectors.values()]
                if function in ("product", "opposed"):
                    operands = [held[target], *operands]
                held[target] = np.array([ELEMENTWISE[function](*each, *numbers.values()) for each in zip(*operands, strict=True)])
        return None


class BoundedNumpyVectors(NumpyVectors):
    """Those of `LbfgsB`, between bounds that may be infinite; elements of which both are have none.

    Parameters
    ----------
    function, start, history
        See `NumpyVectors`.
    lower, upper : ndarray
    """

    def __init__(
        self, function: Callable[[Array], tuple[float, Array]], start: Array, lower: Array, upper: Array, history: int = 10
    ) -> None:
        self.has = np.isfinite(lower) | np.isfinite(upper)
        super().__init__(function, start, history, LbfgsB, **{LOWER: lower, UPPER: upper, UNBOUNDED: (~self.has).astype(float)})

    def bounds(self) -> tuple[Array, Array]:
        return self.held[LOWER][self.has], self.held[UPPER][self.has]

    def bounded(self, *names: str) -> list[Array]:
        return [self.held[name][self.has] for name in names]

    def place(self, values: Array) -> None:
        self.held[TRIAL] = self.held[TRIAL].copy()
        self.held[TRIAL][self.has] = values

    def begin(self, values: Array) -> None:
        self.place(values)


#: What elementwise functions make of each element, in the order of the operations' arguments.
ELEMENTWISE: dict[str, Callable[..., float]] = {
    "product": lambda v, other: v * other,
    "opposed": lambda v, other: v if v * other < 0 else 0.0,
    "pseudo_gradient": naive.pseudo_gradient,
    "orthant_step": naive.orthant_step,
}


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
