"""The perceptron's rule, row by row, against the algorithm as it stands in books."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparkps.mllib.linear.perceptron import PerceptronRule
from tests.naive_mllib import perceptron
from tests.unit.mllib.problems import KINDS, random_chunk

Array = np.ndarray[Any, Any]


def dense(chunk: Any, features: int) -> Array:
    x = np.zeros((len(chunk), features))
    for r in range(len(chunk)):
        for k in range(chunk.indptr[r], chunk.indptr[r + 1]):
            x[r, chunk.ids[k]] += chunk.values[k] if len(chunk.values) else 1.0
    return x


@pytest.mark.parametrize(("values", "weighted"), KINDS)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_sweep_is_the_algorithm_of_the_books(values: str, weighted: bool, fit_intercept: bool) -> None:
    rng = np.random.default_rng(1)
    chunk, start = random_chunk(rng, 80, 6, values, weighted=weighted), rng.normal(size=6)
    weights = chunk.weights if weighted else np.ones(80)
    last, mean, mistakes = perceptron(dense(chunk, 6), chunk.labels, weights, start, 0.3, fit_intercept)
    moved, average, loss = PerceptronRule(True).sweep(chunk, start.copy(), 0.3, fit_intercept=fit_intercept)
    begun = np.append(start, 0.3)
    np.testing.assert_allclose(begun + moved, last, atol=1e-12)
    np.testing.assert_allclose(begun + average, mean, atol=1e-12)
    assert loss == pytest.approx(mistakes)


def test_rows_on_the_right_side_move_nothing() -> None:
    chunk = random_chunk(np.random.default_rng(2), 30, 4, "ones", labels=(1.0, 1.0))
    moved, mean, loss = PerceptronRule(False).sweep(chunk, np.zeros(4), 1.0, fit_intercept=True)
    assert not moved.any()
    assert not mean.any()
    assert loss == 0.0
