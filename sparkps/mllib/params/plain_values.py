"""Values of Params as JSON has them: vectors and matrices in the form that Spark's own JVM writes, optimizers, all else as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from pyspark.ml.linalg import DenseMatrix, DenseVector, Matrix, SparseMatrix, SparseVector
from pyspark.ml.param import Params

from sparkps.optim import Optimizer


def to_plain(value: Any) -> Any:
    """What JSON can have of a Param's value.

    Examples
    --------
    >>> to_plain(SparseVector(4, [1], [2.5]))
    {'class': 'vector', 'type': 0, 'size': 4, 'indices': [1], 'values': [2.5]}
    >>> from_plain(to_plain(DenseMatrix(1, 2, [3.0, 4.0])))
    DenseMatrix(1, 2, [3.0, 4.0], False)
    """
    if isinstance(value, DenseVector):
        return {"class": "vector", "type": 1, "values": _list(value.values)}
    if isinstance(value, SparseVector):
        return {"class": "vector", "type": 0, "size": value.size, "indices": _list(value.indices), "values": _list(value.values)}
    if isinstance(value, DenseMatrix):
        return {"class": "matrix", "type": 1, **_shape(value), "values": _list(value.values)}
    if isinstance(value, SparseMatrix):
        places = {"colPtrs": _list(value.colPtrs), "rowIndices": _list(value.rowIndices)}
        return {"class": "matrix", "type": 0, **_shape(value), **places, "values": _list(value.values)}
    if isinstance(value, Optimizer):
        return {"class": "optimizer", **msgspec.to_builtins(value)}
    return value


def from_plain(value: Any) -> Any:
    """The value that `to_plain` was given.

    Examples
    --------
    >>> from sparkps.optim import Adam
    >>> from_plain(to_plain(Adam(0.1))) == Adam(0.1)
    True
    """
    kind = value.get("class") if isinstance(value, Mapping) else None
    if kind == "optimizer":
        return msgspec.convert({name: each for name, each in value.items() if name != "class"}, Optimizer)
    if kind == "vector":
        return DenseVector(value["values"]) if value["type"] else SparseVector(value["size"], value["indices"], value["values"])
    if kind == "matrix":
        shape = value["numRows"], value["numCols"]
        if value["type"]:
            return DenseMatrix(*shape, value["values"], value["isTransposed"])
        return SparseMatrix(*shape, value["colPtrs"], value["rowIndices"], value["values"], value["isTransposed"])
    return value


def plain_params(of: Params) -> dict[str, Any]:
    """By name the values that were set of an object's Params, as JSON can have them."""
    return {param.name: to_plain(value) for param, value in of._paramMap.items()}


def _shape(matrix: Matrix) -> dict[str, Any]:
    return {"numRows": matrix.numRows, "numCols": matrix.numCols, "isTransposed": bool(matrix.isTransposed)}


def _list(values: Any) -> list[Any]:
    found: list[Any] = np.asarray(values).tolist()
    return found


__all__ = ["from_plain", "plain_params", "to_plain"]
