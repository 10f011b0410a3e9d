"""Margins of rows: what linear models say of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.data import kernels
from sparkps.mllib.data.store import Chunk

Array = NDArray[Any]


def margins_of(chunk: Chunk, coefficients: Array, bias: float) -> Array:
    """bias + Σ x·w + offset of each row.

    Parameters
    ----------
    chunk : Chunk
    coefficients : ndarray of shape (keys,), float64
    bias : float

    Examples
    --------
    >>> chunk = Chunk(np.zeros(1), np.empty(0), np.array([0, 1], np.int32), np.zeros(1, np.int32), np.array([2.0]))
    >>> margins_of(chunk, np.array([3.0]), 1.0).tolist()
    [7.0]
    """
    margins = np.empty(len(chunk))
    kernels.margins.of(chunk.values.dtype)(chunk.indptr, chunk.ids, chunk.values, coefficients, bias, margins)
    return margins + chunk.offsets if len(chunk.offsets) else margins


def margins_of_many(chunk: Chunk, coefficients: Array, biases: Array) -> Array:
    """Those of several outputs, float64 (n, outputs); an offset is part of all of them.

    Parameters
    ----------
    chunk : Chunk
    coefficients : ndarray of shape (keys, outputs), float64
    biases : ndarray of shape (outputs,), float64

    Examples
    --------
    >>> chunk = Chunk(np.zeros(1), np.empty(0), np.array([0, 1], np.int32), np.zeros(1, np.int32), np.array([2.0]))
    >>> margins_of_many(chunk, np.array([[3.0, 1.0]]), np.array([1.0, 0.0])).tolist()
    [[7.0, 2.0]]
    """
    margins = np.empty((len(chunk), len(biases)))
    kernels.margins_of_many.of(chunk.values.dtype)(chunk.indptr, chunk.ids, chunk.values, coefficients, biases, margins)
    return margins + chunk.offsets[:, None] if len(chunk.offsets) else margins


__all__ = ["margins_of", "margins_of_many"]
