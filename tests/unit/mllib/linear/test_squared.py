"""What is particular to the squared loss: the labels' unit, and labels that do not vary."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.errors import InvalidInput
from sparkps.mllib.linear.losses.squared import Squared
from sparkps.mllib.solvers.objective import LabelSums
from tests.unit.mllib.problems import random_chunk


def sums_of(labels: np.ndarray, weights: np.ndarray | None = None) -> LabelSums:
    w = np.ones(len(labels)) if weights is None else weights
    return LabelSums(float(w.sum()), float(w @ labels), float(w @ labels**2), float(w @ w))


def test_its_unit_is_the_deviation_of_the_labels_without_bias() -> None:
    labels = np.array([1.0, 4.0, -2.0, 9.0])
    assert Squared().informed(sums_of(labels)).unit == pytest.approx(labels.std(ddof=1))
    weights = np.array([2.0, 1.0, 0.5, 1.0])
    mean = np.average(labels, weights=weights)
    freedom = weights.sum() - (weights**2).sum() / weights.sum()
    expected = np.sqrt(weights @ (labels - mean) ** 2 / freedom)
    assert Squared().informed(sums_of(labels, weights)).unit == pytest.approx(expected)


def test_in_another_unit_it_is_the_loss_of_scaled_labels_and_offsets() -> None:
    rng = np.random.default_rng(1)
    chunk = random_chunk(rng, 50, 4, "float64", weighted=True, labels=(1.0, 7.0, -3.0))
    plain, scaled = Squared(), Squared(unit=4.0)
    w = rng.normal(size=4)
    states = [np.stack([w * factor, np.zeros(4)], axis=1)[:, :, None] for factor in (4.0, 1.0)]
    loss, slope = plain.loss_and_gradient([chunk], states[0], np.array([2.0]))
    loss_scaled, slope_scaled = scaled.loss_and_gradient([chunk], states[1], np.array([0.5]))
    assert loss == pytest.approx(16 * loss_scaled)
    assert slope[0] == pytest.approx(4 * slope_scaled[0])
    np.testing.assert_allclose(states[0][:, 1], 4 * states[1][:, 1])
    np.testing.assert_allclose(scaled.published(states[1][:, 0], penalised=True), states[0][:, 0])
    assert scaled.penalties(1.0, 2.0) == (0.25, 0.5)


def test_training_starts_at_the_mean() -> None:
    labels = np.array([1.0, 4.0, -2.0, 9.0])
    loss = Squared().informed(sums_of(labels))
    assert loss.start(sums_of(labels)).intercepts[0] * loss.unit == pytest.approx(3.0)


@pytest.mark.parametrize(("label", "unit"), [(0.1, 0.1), (-3.0, 3.0), (0.0, 1.0)])
def test_labels_that_do_not_vary_are_the_solution(label: float, unit: float) -> None:
    sums = sums_of(np.full(1000, label))
    loss = Squared().informed(sums)
    assert loss.unit == pytest.approx(unit)
    start = loss.start(sums)
    assert (start.intercepts[0], start.solved) == (pytest.approx(label), "labels do not vary")


def test_they_cannot_be_penalised_without_intercept() -> None:
    sums = sums_of(np.full(10, 2.0))
    with pytest.raises(InvalidInput, match="`regParam` must be 0 where all labels are equal"):
        Squared(fit_intercept=False, penalised=True).informed(sums).start(sums)
    assert Squared(fit_intercept=False).informed(sums).start(sums).solved
    zeros = sums_of(np.zeros(10))
    assert Squared(fit_intercept=False, penalised=True).start(zeros).intercepts.tolist() == [0.0]


def test_one_row_does_not_vary() -> None:
    assert Squared().start(sums_of(np.array([5.0]))).solved
