"""Every loss against its slow twin and finite differences; see `loss_table`."""

from __future__ import annotations

import pickle
import pkgutil
from dataclasses import replace

import numpy as np
import pytest

from sparkps.kernels import compiled
from sparkps.mllib.data.store import Chunk
from sparkps.mllib.linear import loss_kernel, losses
from sparkps.mllib.linear.loss import Loss, loss_named
from sparkps.mllib.linear.loss_kernel import BLOCK
from tests.unit.mllib.loss_table import LOSSES, naive_sums
from tests.unit.mllib.problems import KINDS, random_chunk

pytestmark = pytest.mark.parametrize("name", LOSSES)


def evaluated(name: str, chunks: list[Chunk], w: np.ndarray, bias: float) -> tuple[float, float, np.ndarray]:
    """Loss, derivative by the intercept, and gradient at `w`."""
    state = np.stack([w, np.zeros(len(w))], axis=1)[:, :, None]
    loss, derivatives = loss_named(name)().loss_and_gradient(chunks, state, np.array([bias]))
    return loss, float(derivatives[0]), state[:, 1, 0]


def test_every_loss_of_the_package_is_in_the_table(name: str) -> None:
    assert {module.name for module in pkgutil.iter_modules(losses.__path__)} <= set(LOSSES)
    assert loss_named(name).name == name


@pytest.mark.parametrize(("values", "weighted"), KINDS)
def test_sums_and_gradient_against_the_twin(name: str, values: str, weighted: bool) -> None:
    rng = np.random.default_rng(1)
    chunk = random_chunk(rng, 200, 15, values, weighted=weighted, labels=LOSSES[name].labels)
    w = rng.normal(size=15)
    loss, derivative, gradient = evaluated(name, [chunk, chunk], w, 0.3)
    expected = naive_sums(name, chunk, w, 0.3)
    assert loss == pytest.approx(2 * expected[0])
    assert derivative == pytest.approx(2 * expected[1])
    np.testing.assert_allclose(gradient, 2 * expected[2], atol=1e-9)


def test_gradient_by_finite_differences(name: str) -> None:
    rng = np.random.default_rng(2)
    chunk = random_chunk(rng, 300, 8, "float64", weighted=True, labels=LOSSES[name].labels)
    w, h = rng.normal(size=8), 1e-6

    def value(point: np.ndarray, bias: float) -> float:
        return evaluated(name, [chunk], point, bias)[0]

    _, derivative, gradient = evaluated(name, [chunk], w, -0.2)
    for k in range(8):
        step = h * np.eye(8)[k]
        assert gradient[k] == pytest.approx(
            (value(w + step, -0.2) - value(w - step, -0.2)) / (2 * h), rel=1e-5, abs=1e-5
        )
    assert derivative == pytest.approx((value(w, -0.2 + h) - value(w, -0.2 - h)) / (2 * h), rel=1e-6)


@pytest.mark.parametrize("rows", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 7])
def test_rows_at_the_borders_of_blocks(name: str, rows: int) -> None:
    chunk = random_chunk(np.random.default_rng(rows), rows, 5, "float64", weighted=True, labels=LOSSES[name].labels)
    w = np.linspace(-1, 1, 5)
    expected = naive_sums(name, chunk, w, 0.1)
    loss, derivative, gradient = evaluated(name, [chunk], w, 0.1)
    assert (loss, derivative) == pytest.approx(expected[:2])
    np.testing.assert_allclose(gradient, expected[2], atol=1e-12)


def test_many_coefficients_are_asked_for_ahead(name: str) -> None:
    rng = np.random.default_rng(7)
    chunk = random_chunk(rng, 100, 600_000, "float32", weighted=False, labels=LOSSES[name].labels)
    w = rng.normal(size=600_000)
    expected = naive_sums(name, chunk, w, 0.0)
    loss, _, gradient = evaluated(name, [chunk], w, 0.0)
    assert loss == pytest.approx(expected[0])
    np.testing.assert_allclose(gradient, expected[2], atol=1e-9)


def test_an_offset_is_part_of_the_margin(name: str) -> None:
    rng = np.random.default_rng(8)
    chunk = random_chunk(rng, 150, 6, "float64", weighted=True, labels=LOSSES[name].labels)
    offsets, w = rng.normal(size=150), rng.normal(size=6)
    loss, derivative, gradient = evaluated(name, [replace(chunk, offsets=offsets)], w, 0.2)
    apart = [evaluated(name, [chunk.rows(r, r + 1)], w, 0.2 + offsets[r]) for r in range(150)]
    assert (loss, derivative) == pytest.approx((sum(each[0] for each in apart), sum(each[1] for each in apart)))
    np.testing.assert_allclose(gradient, sum(each[2] for each in apart), atol=1e-9)


def test_labels(name: str) -> None:
    rule, row = loss_named(name).label_rule, LOSSES[name]
    assert rule.wrong(np.array([*row.labels, *row.wrong])).tolist() == [False] * len(row.labels) + [True] * len(row.wrong)


def test_a_loss_travels(name: str) -> None:
    assert isinstance(pickle.loads(pickle.dumps(loss_named(name)())), loss_named(name))


def test_the_kernel_is_the_loss_s_own(name: str) -> None:
    """Only who trains with it compiles it, and an edit of either module never meets stale code."""
    loss: Loss = loss_named(name)()
    assert loss.kernels == (type(loss).__module__,)
    sources = compiled._own_source(loss.kernel.python)
    for module in (type(loss).__module__, loss_kernel.__name__):
        assert compiled._source(module)
        assert compiled._source(module) in sources
