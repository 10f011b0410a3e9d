"""Objectives of several margins a row, against a slow twin and finite differences."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from sparkps.mllib.data.store import Chunk
from sparkps.mllib.linear.softmax import Softmax
from sparkps.mllib.solvers.objective import LabelSums
from tests.unit.mllib.problems import KINDS, random_chunk


def naive_softmax(chunk: Chunk, w: np.ndarray, bias: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Loss, derivatives by the intercepts, and gradient, row by row."""
    loss, slopes, gradient = 0.0, np.zeros(len(bias)), np.zeros_like(w)
    for r in range(len(chunk)):
        x = np.zeros(len(w))
        for k in range(chunk.indptr[r], chunk.indptr[r + 1]):
            x[chunk.ids[k]] += chunk.values[k] if len(chunk.values) else 1.0
        weight = chunk.weights[r] if len(chunk.weights) else 1.0
        margins = bias + x @ w + (chunk.offsets[r] if len(chunk.offsets) else 0.0)
        p = np.exp(margins) / np.exp(margins).sum()
        y = int(chunk.labels[r])
        loss -= weight * math.log(p[y])
        residual = weight * (p - np.eye(len(bias))[y])
        slopes += residual
        gradient += np.outer(x, residual)
    return loss, slopes, gradient


def evaluated(objective: Softmax, chunks: list[Chunk], w: np.ndarray, bias: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    state = np.stack([w, np.zeros_like(w)], axis=1)
    loss, slopes = objective.loss_and_gradient(chunks, state, bias)
    return loss, slopes, state[:, 1]


@pytest.mark.parametrize("outputs", [2, 3, 11])
@pytest.mark.parametrize(("values", "weighted"), KINDS)
def test_sums_and_gradient_against_the_twin(values: str, weighted: bool, outputs: int) -> None:
    rng = np.random.default_rng(outputs)
    chunk = random_chunk(rng, 150, 9, values, weighted=weighted, labels=range(outputs))
    chunk = replace(chunk, offsets=rng.normal(size=150) if weighted else np.empty(0))
    w, bias = rng.normal(size=(9, outputs)), rng.normal(size=outputs)
    found = evaluated(Softmax(outputs), [chunk, chunk], w, bias)
    for one, expected in zip(found, naive_softmax(chunk, w, bias), strict=True):
        np.testing.assert_allclose(one, 2 * expected, rtol=1e-10, atol=1e-10)


def test_gradient_by_finite_differences() -> None:
    rng = np.random.default_rng(2)
    chunk = random_chunk(rng, 200, 4, "float64", weighted=True, labels=range(3))
    w, bias, h = rng.normal(size=(4, 3)), rng.normal(size=3), 1e-6
    _, slopes, gradient = evaluated(Softmax(3), [chunk], w, bias)
    for at in np.ndindex(4, 3):
        step = np.zeros((4, 3))
        step[at] = h
        apart = [evaluated(Softmax(3), [chunk], w + sign * step, bias)[0] for sign in (1, -1)]
        assert gradient[at] == pytest.approx((apart[0] - apart[1]) / (2 * h), rel=1e-5, abs=1e-5)
    for k in range(3):
        apart = [evaluated(Softmax(3), [chunk], w, bias + sign * h * np.eye(3)[k])[0] for sign in (1, -1)]
        assert slopes[k] == pytest.approx((apart[0] - apart[1]) / (2 * h), rel=1e-5, abs=1e-5)


def test_margins_of_a_thousand_do_not_overflow() -> None:
    chunk = random_chunk(np.random.default_rng(3), 20, 2, "ones", labels=range(2))
    loss, slopes, gradient = evaluated(Softmax(2), [chunk], np.array([[800.0, -800.0], [900.0, 0.0]]), np.zeros(2))
    assert np.isfinite([loss, *slopes, *gradient.ravel()]).all()


def test_many_coefficients_are_asked_for_ahead() -> None:
    rng = np.random.default_rng(7)
    chunk = random_chunk(rng, 60, 100_000, "float32", labels=range(6))
    w = rng.normal(size=(100_000, 6))
    found = evaluated(Softmax(6), [chunk], w, np.zeros(6))
    held, ids = np.unique(chunk.ids, return_inverse=True)
    dense = naive_softmax(replace(chunk, ids=ids.astype(np.int32)), w[held], np.zeros(6))
    assert found[0] == pytest.approx(dense[0])
    np.testing.assert_allclose(found[2][held], dense[2], atol=1e-9)


def test_rows_of_one_class_are_certain() -> None:
    start = Softmax(3).start(LabelSums(5.0, 10.0, 20.0, classes=np.array([0.0, 0.0, 5.0])))
    assert (start.intercepts.tolist(), start.solved) == ([0.0, 0.0, math.inf], "all labels are equal")


def test_without_a_penalty_coefficients_have_mean_0() -> None:
    rows = np.array([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])
    assert Softmax(3).published(rows, penalised=False).tolist() == [[-2.0, -1.0, 3.0], [-1.0, -1.0, 2.0]]
    assert Softmax(3).published(rows, penalised=True) is rows


def test_labels_are_whole_numbers_below_the_number_of_classes() -> None:
    rule = Softmax(3).label_rule
    assert rule.wrong(np.array([0.0, 2.0, 3.0, -1.0, 1.5, np.inf, np.nan])).tolist() == [False, False, True, True, True, True, True]
    assert rule.must == "a label must be a whole number from 0 to 2"
    assert "regression" in rule.advice(0.5)
    assert "StringIndexer" in rule.advice(7.0)
    assert rule.advice(math.nan) == ""


def test_it_travels() -> None:
    assert pickle.loads(pickle.dumps(Softmax(4))) == Softmax(4)
    assert (Softmax(4).dim, Softmax(4).classes, Softmax(4).scalars) == (4, 4, 0)
