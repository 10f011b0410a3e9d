"""Loss and gradient of multilayer perceptrons against finite differences and a slow twin, and where training begins."""

from __future__ import annotations

import itertools
import math
import pickle
from typing import Any

import numpy as np
import pytest

from sparkps.errors import InvalidInput
from sparkps.mllib.data.store import Chunk
from sparkps.mllib.models.layers import count_of, layers_of
from sparkps.mllib.multilayer.initial import first_weights
from sparkps.mllib.multilayer.objective import MultilayerPerceptron
from sparkps.mllib.solvers.objective import LabelSums, WholeObjective, parameter_rows
from tests.unit.mllib.problems import KINDS, random_chunk

Array = np.ndarray[Any, Any]
SUMS = LabelSums(weight=1.0, labels=0.0, squares=0.0)
SIZES = ([7, 3], [7, 4, 3], [7, 2, 5, 3])


def labelled(values: str, weighted: bool) -> Chunk:
    rng = np.random.default_rng(2)
    chunk = random_chunk(rng, 40, 7, values, weighted=weighted)
    return Chunk(rng.integers(0, 3, 40).astype(float), chunk.weights, chunk.indptr, chunk.ids, chunk.values)


def evaluated(sizes: list[int], flat: Array, chunks: list[Chunk]) -> tuple[float, Array]:
    """Loss and gradient, all parameters in the order of `models.layers`."""
    first = layers_of(flat, sizes[:2])[0]
    state = np.stack([first.weights, np.zeros_like(first.weights)], axis=1)
    bias = flat[first.weights.size :]
    loss, derivatives = MultilayerPerceptron.of(sizes, 0).loss_and_gradient(chunks, state, bias)
    return loss, np.concatenate([state[:, 1].reshape(-1), derivatives])


def loss_of_row(sizes: list[int], flat: Array, chunk: Chunk, row: int) -> float:
    """One value after the other."""
    given = [0.0] * sizes[0]
    for e in range(chunk.indptr[row], chunk.indptr[row + 1]):
        given[chunk.ids[e]] += float(chunk.values[e]) if len(chunk.values) else 1.0
    for number, layer in enumerate(layers_of(flat, sizes)):
        if number:
            given = [1.0 / (1.0 + math.exp(-each)) for each in given]
        given = [sum(x * w for x, w in zip(given, layer.weights[:, k], strict=True)) + b for k, b in enumerate(layer.biases)]
    return math.log(sum(map(math.exp, given))) - given[int(chunk.labels[row])]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(("values", "weighted"), KINDS)
def test_loss_is_that_of_one_value_after_the_other(sizes: list[int], values: str, weighted: bool) -> None:
    chunk, flat = labelled(values, weighted), first_weights(sizes, 3)
    weights = chunk.weights if weighted else np.ones(len(chunk))
    expected = sum(weights[row] * loss_of_row(sizes, flat, chunk, row) for row in range(len(chunk)))
    assert evaluated(sizes, flat, [chunk])[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_gradient_is_that_of_finite_differences(sizes: list[int]) -> None:
    chunk, flat = labelled("float64", weighted=True), first_weights(sizes, 3)
    _, gradient = evaluated(sizes, flat, [chunk])
    for place, found in enumerate(gradient):
        step = np.zeros(len(flat))
        step[place] = 1e-6
        apart = evaluated(sizes, flat + step, [chunk])[0] - evaluated(sizes, flat - step, [chunk])[0]
        assert found == pytest.approx(apart / 2e-6, rel=1e-6, abs=1e-6)


def test_chunks_add_up() -> None:
    chunk, flat = labelled("float32", weighted=False), first_weights([7, 4, 3], 3)
    whole, parts = evaluated([7, 4, 3], flat, [chunk]), evaluated([7, 4, 3], flat, [chunk.rows(0, 11), chunk.rows(11, 40)])
    assert parts[0] == pytest.approx(whole[0], rel=1e-12)
    np.testing.assert_allclose(parts[1], whole[1], rtol=1e-9, atol=1e-12)


def test_margins_beyond_the_range_of_exp_have_a_loss() -> None:
    chunk = Chunk(np.array([1.0]), np.empty(0), np.array([0, 1], np.int32), np.zeros(1, np.int32), np.array([1e4]))
    state = np.array([[[1.0, -1.0], [0.0, 0.0]]])
    loss, derivatives = MultilayerPerceptron.of([1, 2], 0).loss_and_gradient([chunk], state, np.zeros(2))
    assert (loss, derivatives.tolist()) == (2e4, [1.0, -1.0])


def test_training_begins_with_all_weights_in_their_places() -> None:
    given = np.arange(count_of([3, 2, 4])).astype(float)
    objective = MultilayerPerceptron.of([3, 2, 4], 0, given)
    start = objective.start(SUMS)
    assert (start.rows.tolist(), start.intercepts.tolist()) == ([[0, 1], [2, 3], [4, 5]], [6, 7])
    assert start.scalars.tolist() == given[8:].tolist()
    assert (objective.outputs, objective.dim, objective.scalars, parameter_rows(objective)) == (2, 2, 12, 6)
    assert isinstance(objective, WholeObjective)
    assert pickle.loads(pickle.dumps(objective)).start(SUMS).rows.tolist() == start.rows.tolist()


def test_what_makes_it_another_one_is_told() -> None:
    some = [MultilayerPerceptron.of(sizes, seed, given) for sizes, seed, given in (
        ([2, 2], 0, None), ([2, 3], 0, None), ([2, 2], 1, None), ([2, 2], 0, np.zeros(6)), ([2, 2], 0, np.ones(6))
    )]  # fmt: skip
    assert all(a.described != b.described for a, b in itertools.combinations(some, 2))


def test_first_weights_are_within_the_range_of_their_layer() -> None:
    drawn = layers_of(first_weights([100, 25, 4], -5), [100, 25, 4])
    for layer, inputs in zip(drawn, (100, 25), strict=True):
        most = 2.4 / math.sqrt(inputs)
        assert np.abs(layer.weights).max() <= most
        assert layer.weights.mean() == pytest.approx(0.0, abs=0.2 * most)


@pytest.mark.parametrize(("width", "declared", "said"), [(4, 0, "features, 4. Got 3"), (0, 0, "numFeatures.*Got 0"), (0, 5, "Got 5")])
def test_features_are_as_many_as_the_first_layer_takes(width: int, declared: int, said: str) -> None:
    objective = MultilayerPerceptron.of([3, 2], 0)
    with pytest.raises(InvalidInput, match=said):
        objective.check_width(width, declared)
    objective.check_width(3, 0)
    objective.check_width(0, 3)


@pytest.mark.parametrize(("label", "said"), [(2.0, "last of `layers`"), (0.5, "whole numbers"), (-1.0, "map -1 to 0")])
def test_labels_without_an_output_are_wrong(label: float, said: str) -> None:
    rule = MultilayerPerceptron.of([3, 2], 0).label_rule
    assert rule.wrong(np.array([0.0, 1.0, label])).tolist() == [False, False, True]
    assert said in rule.advice(label)
