"""Compiled passes against what numpy says."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.mllib.data import kernels


def test_coordinates_in_and_out() -> None:
    rng = np.random.default_rng(4)
    x, inverse, penalty, g = rng.normal(size=(4, 6))
    state = np.full((6, 2), 7.0)
    kernels.enter(x, inverse, state)
    np.testing.assert_array_equal(state, np.stack([x * inverse, np.zeros(6)], axis=1))
    state[:, 1] = g
    gradient = np.empty(6)
    value = kernels.leave(x, inverse, penalty, 0.5, state, gradient)
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
