"""Checks of values, clipping and first values against their twins."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparkps.initializers import Constant, He, Initializer, Normal, Uniform, Xavier, Zeros
from sparkps.kernels import rows
from sparkps.optim import SGD
from sparkps.ps_nodes.tables.dense import DenseShards
from sparkps.ps_nodes.tables.index import KeyIndex
from sparkps.ps_nodes.tables.sparse import SparseShards
from sparkps.specs import TableSpec
from tests import naive

INITIALIZERS = [
    Zeros(),
    Constant(0.25),
    Uniform(-2, 3),
    Normal(1, 0.5),
    Xavier(),
    Xavier(2.0, fan_in=5, fan_out=7),
    He(),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 500, 999])
def test_all_finite(dtype: str, bad: float | None, place: int) -> None:
    values = np.random.default_rng(1).normal(size=(100, 10)).astype(dtype)
    values.flat[0] = np.finfo(dtype).max
    if bad is not None:
        values.flat[place] = bad
    values.flags.writeable = False
    assert rows.all_finite.of(dtype)(values) == (bad is None)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("bound", "norm"), [(0.5, math.inf), (math.inf, 1.0), (0.5, 0.7), (math.inf, math.inf)])
def test_clip_equals_its_twin(dtype: str, bound: float, norm: float) -> None:
    values = np.random.default_rng(2).normal(size=(40, 5)).astype(dtype)
    out = np.empty_like(values)
    rows.clip.of(dtype)(values.reshape(-1), np.arange(0, 201, 5), bound, norm, out.reshape(-1))
    finite = {"clip_value": bound, "clip_norm": norm}
    o = SGD(1.0, **{name: value for name, value in finite.items() if value < math.inf})
    assert np.allclose(out, [naive.clip(row, o) for row in values], rtol=1e-6 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("init", INITIALIZERS, ids=repr)
def test_first_rows_depend_on_seed_and_key_alone(init: Initializer, dtype: str) -> None:
    keys = np.array([5, -7, 1 << 62, -(1 << 63), 0], np.int64)
    spec = TableSpec("t", "sparse", 4, dtype, init=init, seed=-42)
    law = init.law(4, 4)
    for chosen in (keys, keys[::-1]):
        index = KeyIndex(range(256))
        table = SparseShards(spec, index)
        index.attach(table)
        for key in chosen:
            one = np.array([key])
            runs = index.runs(one)
            expected = np.array([naive.draw(law, -42, int(key), column) for column in range(4)]).astype(dtype)
            unseen = table.gather(one, index.find(one, runs), runs)
            seen = table.gather(None, index.resolve(one, runs), runs)
            assert np.array_equal(unseen, seen)
            assert np.allclose(seen[0], expected, rtol=1e-6 if dtype == "float32" else 1e-13)


def elements(table: DenseShards) -> np.ndarray:
    return table.gather(table.held)


def test_first_elements_of_a_dense_table_do_not_depend_on_its_nodes() -> None:
    spec = TableSpec("d", "dense", 1, "float64", (30, 11), init=Normal(0, 2), seed=9)
    whole = elements(DenseShards(spec, range(256)))
    halves = [elements(DenseShards(spec, half)) for half in (range(128), range(128, 256))]
    assert np.array_equal(np.concatenate(halves), whole)
    law = spec.init.law(30, 11)
    assert np.allclose(whole, [naive.draw(law, 9, position, 0) for position in range(330)], rtol=1e-13)


@pytest.mark.parametrize("init", [Uniform(-2, 3), Normal(1, 0.5)], ids=repr)
def test_first_values_have_the_moments_of_their_law(init: Initializer) -> None:
    table = DenseShards(TableSpec("d", "dense", 1, "float64", (200_000,), init=init), range(256))
    values = table.gather(table.held)
    mean, std = (0.5, 5 / math.sqrt(12)) if isinstance(init, Uniform) else (1.0, 0.5)
    assert values.mean() == pytest.approx(mean, abs=5 * std / math.sqrt(200_000))
    assert values.std() == pytest.approx(std, rel=0.01)
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.01
