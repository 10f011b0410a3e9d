"""Second moments of rows with few features: all that weighted least squares need to know of the rows.

With z = (x_1 ... x_p, 1, y) of a row of weight w, they are Σ w·z·zᵀ: the Gram matrix of the features, their products with the label,
and the sums. The lower triangle is kept, packed by rows: element (i, j), j <= i, is at i·(i + 1)/2 + j.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from sparkps.kernels.compiled import FLOATS, array, given, kernel
from sparkps.mllib.data.store import Chunk

Array = NDArray[Any]

_I32, _I64, _F64 = types.int32, types.int64, types.float64

#: Most features of which moments are gathered, as in pyspark.ml: their table takes 64 MiB.
MOST_FEATURES = 4096

#: Rows that have at least this share of all features go through BLAS as dense blocks, which costs less than adding up pairs.
_DENSE = 0.25

#: Elements of a dense block.
_BLOCK = 1 << 21


def packed_size(features: int) -> int:
    """Number of elements of the packed moments.

    Examples
    --------
    >>> packed_size(1)      # x·x, x, 1, x·y, y, y·y
    6
    """
    return (features + 2) * (features + 3) // 2


@kernel(lambda t: (given(_I32), given(_I32), given(t), given(_I64), given(_F64), given(_F64), _I64, array(_F64)), dtypes=FLOATS)
def add_pairs(
    indptr: Any, ids: Any, values: Any, places: Any, labels: Any, weights: Any, features: int, packed: Any
) -> None:
    """Adds Σ w·z·zᵀ of sparse rows to `packed`; ``places[id]`` is the column of an entry. Of an empty array all are 1."""
    one = features * (features + 1) // 2
    label = (features + 1) * (features + 2) // 2
    for r in range(labels.shape[0]):
        weight = 1.0 if weights.shape[0] == 0 else weights[r]
        y = labels[r]
        for k in range(indptr[r], indptr[r + 1]):
            i = places[ids[k]]
            x = weight if values.shape[0] == 0 else weight * values[k]
            row = i * (i + 1) // 2
            for other in range(indptr[r], k + 1):
                j = places[ids[other]]
                product = x if values.shape[0] == 0 else x * values[other]
                if j < i:
                    packed[row + j] += product
                elif j > i:
                    packed[j * (j + 1) // 2 + i] += product
                else:  # of a column that a row names twice, (a + b)² has 2ab
                    packed[row + i] += product if other == k else 2.0 * product
            packed[one + i] += x
            packed[label + i] += x * y
        packed[one + features] += weight
        packed[label + features] += weight * y
        packed[label + features + 1] += weight * y * y


@kernel(lambda t: (given(_I32), given(_I32), given(t), given(_I64), _I64, array(_F64, 2)), dtypes=FLOATS)
def fill_dense(indptr: Any, ids: Any, values: Any, places: Any, begin: int, out: Any) -> None:
    """Rows from `begin` as the dense rows of `out`, which holds zeros."""
    for r in range(out.shape[0]):
        for k in range(indptr[begin + r], indptr[begin + r + 1]):
            out[r, places[ids[k]]] += 1.0 if values.shape[0] == 0 else values[k]


@kernel(lambda _: (given(_F64, 2), array(_F64)))
def add_packed(square: Any, packed: Any) -> None:
    """Adds the lower triangle of a square matrix to `packed`."""
    at = 0
    for i in range(square.shape[0]):
        for j in range(i + 1):
            packed[at] += square[i, j]
            at += 1


@kernel(lambda _: (given(_F64), array(_F64, 2)))
def unpack(packed: Any, square: Any) -> None:
    """The symmetric matrix of a packed triangle, into `square`."""
    at = 0
    for i in range(square.shape[0]):
        for j in range(i + 1):
            square[i, j] = packed[at]
            square[j, i] = packed[at]
            at += 1


def add_moments(chunk: Chunk, places: Array, labels: Array, weights: Array, features: int, packed: Array) -> None:
    """Add the moments of a chunk's rows, with labels and weights of one's own.

    Parameters
    ----------
    chunk : Chunk
        Its features count.
    places : ndarray of shape (keys,), int64
        Column of each key.
    labels, weights : ndarray of shape (n,), float64
        The weights are not negative; an empty array says that all are 1.
    features : int
    packed : ndarray of shape (packed_size(features),), float64
    """
    if len(chunk.ids) >= _DENSE * features * max(1, len(chunk)):
        _add_dense(chunk, places, labels, weights, features, packed)
    else:
        add_pairs.of(chunk.values.dtype)(
            chunk.indptr, chunk.ids, chunk.values, places, labels, weights, features, packed
        )


def _add_dense(chunk: Chunk, places: Array, labels: Array, weights: Array, features: int, packed: Array) -> None:
    size = max(1, _BLOCK // (features + 2))
    square = np.zeros((features + 2, features + 2))
    for begin in range(0, len(chunk), size):
        rows = np.zeros((min(size, len(chunk) - begin), features + 2))
        fill_dense.of(chunk.values.dtype)(chunk.indptr, chunk.ids, chunk.values, places, begin, rows)
        rows[:, -2], rows[:, -1] = 1.0, labels[begin : begin + size]
        if len(weights):
            rows *= np.sqrt(weights[begin : begin + size, None])
        square += rows.T @ rows
    add_packed(square, packed)


@dataclass(frozen=True)
class Moments:
    """Means over rows of their weights: what `weighted_least_squares` takes."""

    #: Σ w.
    weight: float
    #: float64 (p,) and (p, p): Σ w·x / Σ w, and Σ w·x·xᵀ / Σ w.
    mean: Array
    products: Array
    #: Σ w·y / Σ w, Σ w·y² / Σ w, and float64 (p,): Σ w·x·y / Σ w.
    label_mean: float
    label_square: float
    label_products: Array

    @classmethod
    def of(cls, packed: Array, features: int) -> Moments:
        """Out of packed sums.

        Examples
        --------
        >>> found = Moments.of(np.array([5.0, 3.0, 2.0, 4.0, 3.0, 5.0]), 1)   # rows (x, y): (1, 2), (2, 1)
        >>> found.weight, found.mean.tolist(), found.label_products.tolist()
        (2.0, [1.5], [2.0])
        """
        square = np.empty((features + 2, features + 2))
        unpack(packed, square)
        weight = float(square[features, features])
        if weight > 0:
            square /= weight
        label = square[-1]
        return cls(
            weight, square[features, :features], square[:features, :features],
            float(label[features]), float(label[-1]), label[:features],
        )  # fmt: skip

    @classmethod
    def of_rows(cls, x: Array, y: Array, weights: Array | None = None) -> Moments:
        """Of dense rows (n, p) and their labels, for tests and small data."""
        z = np.column_stack([x, np.ones(len(x)), y])
        square = z.T @ (z if weights is None else weights[:, None] * z)
        packed = np.zeros(packed_size(x.shape[1]))
        add_packed(square, packed)
        return cls.of(packed, x.shape[1])


def moments_of(
    rows: Iterable[tuple[Chunk, Array, Array]], places: Array, features: int
) -> Array:
    """Packed moments of chunks with their labels and weights; see `add_moments`."""
    packed = np.zeros(packed_size(features))
    for chunk, labels, weights in rows:
        add_moments(chunk, places, labels, weights, features, packed)
    return packed


__all__ = ["MOST_FEATURES", "Moments", "add_moments", "moments_of", "packed_size"]
