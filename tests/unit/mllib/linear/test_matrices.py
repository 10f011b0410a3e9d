"""Coefficients as vectors and matrices of Spark."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.linalg import SparseMatrix

from sparkps.errors import InvalidInput
from sparkps.mllib.coefficients import LocalCoefficients
from sparkps.mllib.linear.matrices import matrix_of, vector_of


def held(dense: np.ndarray) -> LocalCoefficients:
    """Of a matrix (K, size)."""
    keys = np.flatnonzero(dense.any(axis=0))
    return LocalCoefficients(keys, np.ascontiguousarray(dense[:, keys].T))


@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("outputs", [1, 2, 5])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 1.0])
def test_a_matrix_in_any_form_has_the_coefficients(outputs: int, share: float, by_row: bool) -> None:
    rng = np.random.default_rng(outputs)
    for size in (1, 3, 40):
        dense = rng.normal(size=(outputs, size)) * (rng.random((outputs, size)) < share)
        found = matrix_of(held(dense), size, by_row=by_row)
        np.testing.assert_array_equal(found.toArray(), dense)
        assert found.isTransposed or not by_row
        if size == 40:
            assert isinstance(found, SparseMatrix) == (share < 0.5)


def test_a_vector_in_any_form_has_the_coefficients() -> None:
    dense = np.array([[0.0, 0.0, 0.0, 2.0, 0.0, 0.0]])
    assert str(vector_of(held(dense), 6)) == "(6,[3],[2.0])"
    assert str(vector_of(held(dense), 6, dense=True)) == "[0.0,0.0,0.0,2.0,0.0,0.0]"


def test_what_no_vector_can_hold_names_the_way_out() -> None:
    with pytest.raises(InvalidInput, match=r"at most 2147483647 elements.*use `model\.weights`"):
        vector_of(held(np.ones((1, 2))), 1 << 31)
    with pytest.raises(InvalidInput, match=r"at most 2147483647 elements"):
        matrix_of(held(np.ones((4, 2))), 1 << 29)
