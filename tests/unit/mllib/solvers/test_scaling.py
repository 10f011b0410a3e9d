"""Statistics of columns against numpy, and the scaled coordinates that they give."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.mllib.data import kernels
from sparkps.mllib.solvers.scaling import Scaling, scaling
from tests.unit.mllib.problems import KINDS, random_chunk


@pytest.mark.parametrize(("values", "weighted"), KINDS)
def test_column_statistics_against_numpy(values: str, weighted: bool) -> None:
    rng = np.random.default_rng(3)
    chunk = random_chunk(rng, 150, 10, values, weighted=weighted)
    weights = chunk.weights if weighted else np.ones(150)
    x = np.zeros((150, 10))
    present = np.zeros((150, 10))
    entries = chunk.values if len(chunk.values) else np.ones(len(chunk.ids))
    unique = {}
    for r in range(150):
        for k in range(chunk.indptr[r], chunk.indptr[r + 1]):
            unique[r, chunk.ids[k]] = entries[k]
    for (r, k), value in unique.items():
        x[r, k], present[r, k] = value, 1.0
    rows = [sorted(k for r_, k in unique if r_ == r) for r in range(150)]
    ids = np.array([k for row in rows for k in row], np.int32)
    indptr = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int32)
    flat = np.array([unique[r, k] for r, row in enumerate(rows) for k in row], chunk.values.dtype)
    sums = np.zeros((10, 2))
    kernels.column_sums.of(flat.dtype)(indptr, ids, flat, chunk.weights, sums)
    np.testing.assert_allclose(sums, np.stack([weights @ x, weights @ present], axis=1), rtol=1e-5, atol=1e-9)
    squares = np.zeros(10)
    means = sums[:, 0] / weights.sum()
    kernels.centred_squares.of(flat.dtype)(indptr, ids, flat, chunk.weights, means, squares)
    statistics = np.stack([sums[:, 0], sums[:, 1], np.ones(10), squares], axis=1)
    found = scaling(statistics[:, :3], statistics[:, 3], weights.sum(), (weights**2).sum(), 9, l2=0.0, standardization=True)
    total = weights.sum()
    expected = np.sqrt((weights @ (x - means) ** 2) / (total - (weights**2).sum() / total))
    np.testing.assert_allclose(1 / found.inverse[:9], expected[:9], rtol=1e-6)


def test_a_constant_feature_is_switched_off() -> None:
    column = np.full(1000, 0.1)
    statistics = np.array([[column.sum(), 1000, 1, ((column - column.sum() / 1000) ** 2).sum()], [0, 0, 1, 0]])
    found = scaling(statistics[:, :3], statistics[:, 3], 1000.0, 1000.0, 1, l2=1.0, standardization=False)
    assert found.inverse.tolist() == [0.0, 1.0]
    assert found.penalty.tolist() == [0.0, 0.0]


def test_a_constant_feature_is_switched_off_whatever_the_weights() -> None:
    """Sums of weights in two orders differ in their last digits."""
    weights = np.random.default_rng(4).uniform(0.1, 3, 1000)
    entries, weight = sum(weights.tolist()), float(weights.sum())
    statistics = np.array([[2.5 * weight, entries, 1, 0.0], [0, 0, 1, 0]])
    found = scaling(statistics[:, :3], statistics[:, 3], weight, float(weights @ weights), np.array([1]), l2=1.0, standardization=True)
    assert found.inverse.tolist() == [0.0, 1.0]


def test_penalty_is_shared_out_over_holders() -> None:
    statistics = np.array([[2.0, 2.0, 4.0, 2.0], [0.0, 0.0, 4.0, 0.0]])
    scaled = scaling(statistics[:, :3], statistics[:, 3], 4.0, 4.0, 1, l2=0.8, standardization=True)
    raw = scaling(statistics[:, :3], statistics[:, 3], 4.0, 4.0, 1, l2=0.8, standardization=False)
    assert scaled.penalty[0] == pytest.approx(0.2)
    assert raw.penalty[0] == pytest.approx(0.2 * raw.inverse[0] ** 2)


def of_deviations(deviations: list[float], **how: float | bool) -> Scaling:
    """Scaling of features without entries that are 0, whose mean is 2, with an intercept; of 5 rows in effect."""
    squares = 4.0 * np.array([*deviations, 0.0]) ** 2
    statistics = np.array([[10.0, 5.0, 2.0]] * len(deviations) + [[0.0, 0.0, 2.0]])
    return scaling(statistics, squares, 5.0, 5.0, np.array([len(deviations)]), **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("l2", [1e-6, 0.3, 7.0])
@pytest.mark.parametrize("curvature", [0.05, 1.0])
def test_loss_and_penalty_together_are_curved_alike(l2: float, curvature: float) -> None:
    found = of_deviations([1e-4, 0.5, 30.0], l2=l2, standardization=False, curvature=curvature)
    deviations = np.array([1e-4, 0.5, 30.0])
    # Of the loss by a coordinate curvature·(σ/unit)², and of the penalty, whose half is this rank's, l2/unit².
    along = curvature * (deviations * found.inverse[:3]) ** 2 + 2 * found.penalty[:3]
    np.testing.assert_allclose(along, curvature, rtol=1e-12)
    np.testing.assert_allclose(found.penalty[:3], l2 / 2 * found.inverse[:3] ** 2, rtol=1e-12)
    np.testing.assert_allclose(found.scaled_mean[:3], 2.0 * found.inverse[:3], rtol=1e-12)
    np.testing.assert_allclose(found.by_deviation[:3] * found.inverse[:3], 1 / deviations, rtol=1e-12)  # a gradient by one, by the other
    assert (found.inverse[3], found.scaled_mean[3], found.penalty[3], found.by_deviation[3]) == (1.0, 0.0, 0.0, 1.0)


def test_curvature_changes_nothing_where_the_penalty_is_on_scaled_coefficients() -> None:
    plain, curved = (of_deviations([1e-4, 30.0], l2=0.3, standardization=True, curvature=each) for each in (0.0, 0.1))
    assert plain.inverse.tolist() == curved.inverse.tolist()
    assert plain.penalty.tolist() == curved.penalty.tolist()


def test_a_feature_that_hardly_varies_is_still_a_number() -> None:
    found = of_deviations([1e-9, 0.0], l2=1e300, standardization=False, curvature=1e-3)
    assert np.isfinite(found.penalty).all()
    assert found.inverse[0] > 0.0
    assert found.inverse[1] == 0.0
