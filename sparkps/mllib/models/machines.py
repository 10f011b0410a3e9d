"""Margins of factorization machines in numpy alone, for processes without numba; `fm.kernel` and `fm.field_kernel` are the compiled twins.

Rows are as CSR has them: row r has the entries from ``indptr[r]`` to below ``indptr[r + 1]``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def fields_of(keys: Array, starts: tuple[int, ...]) -> Array:
    """The field of each feature, int32: fields are ranges of indices, which begin at `starts`.

    Examples
    --------
    >>> fields_of(np.array([0, 2, 3, 9]), (0, 3, 5)).tolist()
    [0, 0, 1, 2]
    """
    found: Array = np.searchsorted(np.array(starts, np.int64), keys, side="right") - 1
    return np.maximum(found, 0).astype(np.int32)


def machine_margins(indptr: Array, coefficients: Array, values: Array, *, linear: bool = True) -> Array:
    """Σ w·x + Σ over pairs a < b of (v_a · v_b)·x_a·x_b of each row, float64 (n,), in time linear in entries (Rendle 2010, lemma 3.1).

    Parameters
    ----------
    indptr : ndarray of shape (n + 1,), int
    coefficients : ndarray of shape (entries, 1 + factors), float64
        Of the feature of each entry its linear coefficient, then its factors; all 0 where it has none.
    values : ndarray of shape (entries,)
    linear : bool
        Whether linear coefficients count.

    Examples
    --------
    >>> machine_margins(np.array([0, 2]), np.array([[1.0, 0.5], [0.0, 2.0]]), np.array([3.0, 1.0])).tolist()    # 3 + 0.5·2·3
    [6.0]
    """
    count, entries = len(indptr) - 1, _known(coefficients, values)
    rows = np.repeat(np.arange(count), np.diff(indptr))

    def summed(terms: Array) -> Array:
        return np.bincount(rows, weights=terms, minlength=count)

    margins = summed(coefficients[:, 0] * entries) if linear else np.zeros(count)
    for factor in coefficients[:, 1:].T:
        parts = factor * entries
        margins += 0.5 * (summed(parts) ** 2 - summed(parts * parts))
    return margins


def field_machine_margins(
    indptr: Array, coefficients: Array, values: Array, fields: Array, factors: int, *, linear: bool = True, normal: bool = False
) -> Array:
    """Σ w·x + r·Σ over pairs a < b of (v_a,field(b) · v_b,field(a))·x_a·x_b of each row, float64 (n,); see `fm.field_kernel`.

    Parameters
    ----------
    indptr, values, linear
        As for `machine_margins`.
    coefficients : ndarray of shape (entries, 1 + fields·factors), float64
    fields : ndarray of shape (entries,), int
        The field of each entry.
    factors : int
    normal : bool
        Whether r is 1 / Σ x² of the row, and not 1.
    """
    entries = _known(coefficients, values)
    vectors = coefficients[:, 1:].reshape(len(coefficients), -1, factors)
    margins = np.empty(len(indptr) - 1)
    for row, (first, last) in enumerate(pairwise(indptr)):
        x, plain, of = entries[first:last], values[first:last], fields[first:last]
        meeting = vectors[first:last][:, of] * x[:, None, None]  # [a, b]: what a shows to b
        pairs = np.triu(np.einsum("abf,baf->ab", meeting, meeting), 1).sum()
        square = float(np.dot(plain, plain)) if normal else 1.0
        margins[row] = (coefficients[first:last, 0] @ x if linear else 0.0) + (pairs / square if square > 0 else 0.0)
    return margins


def _known(coefficients: Array, values: Array) -> Array:
    """Values of entries as float64; 0 for features without coefficients, be they infinite."""
    return np.where(coefficients.any(axis=1), np.asarray(values, np.float64), 0.0)


__all__ = ["field_machine_margins", "fields_of", "machine_margins"]
