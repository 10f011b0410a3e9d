"""Coefficients as vectors and matrices of Spark, dense or sparse as pyspark.ml would choose."""

from __future__ import annotations

from typing import cast

import numpy as np
from pyspark.ml.linalg import DenseMatrix, DenseVector, Matrix, SparseMatrix, SparseVector, Vector

from sparkps.errors import InvalidInput
from sparkps.mllib.coefficients import Coefficients, LocalCoefficients, brought_here

#: How matrices that come out of the JVM say that they are stored by row, or by column, and so how they are shown.
_BY_ROW, _BY_COLUMN = cast(bool, 1), cast(bool, 0)

#: Most features that a vector of Spark can have.
_MAX_VECTOR = (1 << 31) - 1


def vector_of(coefficients: Coefficients, size: int, *, dense: bool = False) -> Vector:
    """Coefficients of one value a feature, in whichever form is smaller (`Vector.compressed`), or dense.

    Parameters
    ----------
    coefficients : Coefficients
    size : int
        Number of features.
    dense : bool

    Raises
    ------
    InvalidInput
        There are more features than a vector can have.

    Examples
    --------
    >>> vector_of(LocalCoefficients(np.array([2]), np.array([[0.5]])), 9)
    SparseVector(9, {2: 0.5})
    """
    held = _held(coefficients, size)
    if not dense and 1.5 * (len(held.keys) + 1) < size:
        return SparseVector(size, held.keys.astype(np.int32), held.values[:, 0])
    values = np.zeros(size)
    values[held.keys] = held.values[:, 0]
    return DenseVector(values)


def matrix_of(coefficients: Coefficients, size: int, *, by_row: bool = False) -> Matrix:
    """Coefficients of K values a feature as a matrix (K, size), in the smallest of its forms (`Matrix.compressed`).

    Parameters
    ----------
    coefficients : Coefficients
    size : int
        Number of features.
    by_row : bool
        Whether it is stored row by row even where columns would be smaller.

    Raises
    ------
    InvalidInput
        The matrix would have more elements than Spark can number.

    Examples
    --------
    >>> matrix_of(LocalCoefficients(np.array([1]), np.array([[0.5, -0.5]])), 2)
    DenseMatrix(2, 2, [0.0, 0.5, 0.0, -0.5], 1)
    """
    held = _held(coefficients, size)
    count, outputs = int(np.count_nonzero(held.values)), held.dim
    dense, column_wise, row_wise = 8 * outputs * size + 21, 12 * count + 4 * size + 49, 12 * count + 4 * outputs + 49
    if dense <= (row_wise if by_row else min(row_wise, column_wise)):
        values = np.zeros((outputs, size))
        values[:, held.keys] = held.values.T
        return DenseMatrix(outputs, size, values.reshape(-1), _BY_ROW)
    if by_row or row_wise < column_wise:
        rows, places = np.nonzero(held.values.T)
        starts = np.searchsorted(rows, np.arange(outputs + 1))
        return SparseMatrix(outputs, size, starts, held.keys[places], held.values[places, rows], _BY_ROW)
    places, rows = np.nonzero(held.values)
    starts = np.searchsorted(held.keys[places], np.arange(size + 1))
    return SparseMatrix(outputs, size, starts, rows, held.values[places, rows], _BY_COLUMN)


def _held(coefficients: Coefficients, size: int) -> LocalCoefficients:
    if size * coefficients.dim > _MAX_VECTOR:
        raise InvalidInput(
            f"A vector of Spark must have at most {_MAX_VECTOR} elements. Got {size * coefficients.dim} coefficients of {size} features;"
            " use `model.weights`, a DataFrame of the coefficients that are not 0."
        )
    return coefficients if isinstance(coefficients, LocalCoefficients) else brought_here(coefficients.table)


def compressed(values: list[float]) -> Vector:
    """A vector in whichever form is smaller.

    Examples
    --------
    >>> compressed([0.0, 0.0, 0.0]), compressed([0.0])
    (SparseVector(3, {}), DenseVector([0.0]))
    """
    places = [place for place, value in enumerate(values) if value != 0]
    if 1.5 * (len(places) + 1) < len(values):
        return SparseVector(len(values), places, [values[place] for place in places])
    return DenseVector(values)


__all__ = ["compressed", "matrix_of", "vector_of"]
