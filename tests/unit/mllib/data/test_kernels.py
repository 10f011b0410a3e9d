"""Compiled passes against what numpy says."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.mllib.data import kernels


@pytest.mark.parametrize("outputs", [1, 3])
def test_coordinates_in_and_out(outputs: int) -> None:
    rng = np.random.default_rng(4)
    x, g = rng.normal(size=(2, 6, outputs))
    inverse, penalty = rng.normal(size=(2, 6, 1))
    state = np.full((6, 2, outputs), 7.0)
    kernels.enter(x, inverse.ravel(), state)
    np.testing.assert_array_equal(state, np.stack([x * inverse, np.zeros((6, outputs))], axis=1))
    state[:, 1] = g
    gradient = np.empty((6, outputs))
    value = kernels.leave(x, inverse.ravel(), penalty.ravel(), 0.5, state, gradient)
    np.testing.assert_allclose(gradient, 0.5 * inverse * g + penalty * x)
    assert value == pytest.approx(0.5 * (penalty * x**2).sum())


def test_batch_numbering() -> None:
    ids = np.array([4, 2, 4, 0, 2], np.int32)
    stamps, found, places, local = (np.zeros(n, np.int32) for n in (5, 5, 5, 5))
    count = kernels.distinct_ids(ids, stamps, 1, found)
    assert found[:count].tolist() == [4, 2, 0]
    order = np.sort(found[:count])
    kernels.local_ids(ids, order, places, local)
    assert order[local].tolist() == ids.tolist()
