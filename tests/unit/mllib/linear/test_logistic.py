"""What is particular to the logistic loss: exactness, margins without bound, labels that are all equal."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparkps.kernels.compiled import inlined
from sparkps.mllib.linear.losses.logistic import Logistic, block
from sparkps.mllib.solvers.objective import LabelSums

compiled_block = inlined(block)


def logistic_of(margins: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count = len(margins)
    losses, derivatives = np.empty(count), np.empty(count)
    compiled_block(margins, labels, count, np.empty(count, np.int64), losses, derivatives)
    return losses, derivatives


@pytest.mark.parametrize(
    ("margin", "label", "loss", "slope"),
    [(800.0, 1.0, 0.0, 0.0), (800.0, 0.0, 800.0, 1.0), (-800.0, 1.0, 800.0, -1.0), (1e300, 1.0, 0.0, 0.0)],
)
def test_logistic_does_not_overflow(margin: float, label: float, loss: float, slope: float) -> None:
    found = logistic_of(np.array([margin]), np.array([label]))
    assert (found[0][0], found[1][0]) == pytest.approx((loss, slope))


def test_logistic_of_nothing_known_is_not_a_number() -> None:
    assert np.isnan(logistic_of(np.array([np.nan]), np.array([1.0]))).all()


def test_logistic_is_as_exact_as_the_library() -> None:
    m = np.concatenate([np.linspace(-700, 700, 20011), np.linspace(-2, 2, 20011), [0.0, -0.0, 5e-324, -1e-300]])
    losses, derivatives = logistic_of(m, np.zeros(len(m)))
    e = np.array([math.exp(-abs(x)) for x in m])
    np.testing.assert_allclose(losses, np.maximum(m, 0) + [math.log1p(x) for x in e], rtol=1e-15)
    np.testing.assert_allclose(derivatives, np.where(m > 0, 1.0, e) / (1 + e), rtol=1e-15)


@pytest.mark.parametrize(("positive", "intercept"), [(0.0, -math.inf), (4.0, math.inf)])
def test_labels_that_are_all_equal_leave_nothing_to_train(positive: float, intercept: float) -> None:
    start = Logistic().start(LabelSums(4.0, positive, positive))
    assert (start.intercepts, start.solved) == (intercept, "all labels are equal")


def test_training_starts_at_the_odds_of_the_labels() -> None:
    start = Logistic().start(LabelSums(5.0, 1.0, 1.0))
    assert (start.intercepts, start.solved) == (math.log(1 / 4), "")
