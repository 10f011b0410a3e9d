"""Every optimizer against its formula, for sparse and dense tables: one table of optimizers, a row runs every property."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sparkps import optim
from sparkps.initializers import Normal, Zeros
from sparkps.optim import FTRL, SGD, Adagrad, Adam, AdamW, Cosine, InverseSqrt, Momentum, RMSProp, Step
from sparkps.ps_nodes.tables.dense import DenseShards
from sparkps.ps_nodes.tables.index import KeyIndex
from sparkps.ps_nodes.tables.optimizers import rule_of, scale
from sparkps.ps_nodes.tables.sparse import SparseShards
from sparkps.specs import TableSpec
from sparkps.wire.messages.data import OpCode
from tests import naive
from tests.unit.ps_nodes.tables.given import grouped

OPTIMIZERS: list[optim.Optimizer] = [
    SGD(0.1),
    SGD(0.1, l1=0.02, l2=0.3, schedule=Step(2, 0.98)),
    Momentum(0.05),
    Momentum(0.05, 0.8, nesterov=True, l1=0.01, schedule=InverseSqrt(3)),
    Adagrad(0.5),
    Adagrad(0.5, 0.0, l1=0.05, l2=0.1, clip_value=0.7),
    RMSProp(0.02),
    RMSProp(0.02, 0.5, l1=0.05, clip_norm=1.0, schedule=Cosine(500, 2, 0.1)),
    Adam(0.05),
    Adam(0.05, 0.7, 0.9, l1=0.1, l2=0.1, clip_value=0.5, clip_norm=0.9),
    AdamW(0.05, weight_decay=0.1, schedule=Cosine(500, 3)),
    FTRL(alpha=0.5),
    FTRL(alpha=0.5, beta=0.5, l1=0.2, l2=0.1),
    FTRL(0.5, l1=0.1, schedule=Step(3, 0.995), clip_norm=1.0),
]
DTYPES = ["float32", "float64"]
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}

each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_dim = pytest.mark.parametrize("dim", [1, 3, 16])


def sparse(optimizer: optim.Optimizer, dtype: str, dim: int = 3, init: Any = Zeros()) -> SparseShards:  # noqa: B008
    index = KeyIndex(range(256))
    table = SparseShards(TableSpec("t", "sparse", dim, dtype, init=init, optimizer=optimizer, seed=5), index)
    index.attach(table)
    return table


def read(table: SparseShards, keys: np.ndarray) -> np.ndarray:
    runs = table.index.runs(keys)
    return table.gather(keys, table.index.find(keys, runs), runs)


def push(table: SparseShards, keys: np.ndarray, grads: np.ndarray) -> None:
    runs = table.index.runs(keys)
    table.push(table.index.resolve(keys, runs), runs, grads)


@each_optimizer
@each_dtype
@each_dim
def test_sparse_table_follows_the_formula(optimizer: optim.Optimizer, dtype: str, dim: int) -> None:
    rng = np.random.default_rng(dim)
    table = sparse(optimizer, dtype, dim, Normal(0, 1))
    twin = naive.Table(optimizer, dtype, lambda key: read(table, np.array([key]))[0].copy())
    pool = np.arange(-20, 20, dtype=np.int64)
    for _ in range(8):
        keys = grouped(rng.choice(pool, 25, replace=False))
        grads = rng.normal(size=(25, dim)).astype(dtype)
        twin.push(keys.tolist(), grads)
        push(table, keys, grads)
    for key in pool.tolist():
        assert read(table, np.array([key]))[0] == pytest.approx(
            twin.read(key), abs=TOLERANCE[dtype], rel=TOLERANCE[dtype]
        )
    buckets = np.array(sorted({naive.bucket_of(key) for key in pool.tolist()}))
    assert table.heads[buckets, 4].tolist() == [twin.steps[bucket] for bucket in buckets]


@each_optimizer
@each_dtype
def test_dense_table_follows_the_formula(optimizer: optim.Optimizer, dtype: str) -> None:
    rng = np.random.default_rng(7)
    table = DenseShards(TableSpec("d", "dense", 1, dtype, (700,), init=Normal(0, 1), optimizer=optimizer), range(256))
    first = table.gather(table.held)
    pieces = [range(*table.range_of(bucket)) for bucket in range(256)]
    rows = {bucket: first[list(piece)].copy() for bucket, piece in enumerate(pieces)}
    state = {bucket: naive.state_of(optimizer, row) for bucket, row in rows.items()}
    for t in range(6):
        grads = rng.normal(size=700).astype(dtype)
        table.push(table.held, grads)
        for bucket, piece in enumerate(pieces):
            naive.step(optimizer, rows[bucket], state[bucket], grads[list(piece)], t)
    assert table.gather(table.held) == pytest.approx(
        np.concatenate(list(rows.values())), abs=TOLERANCE[dtype], rel=TOLERANCE[dtype]
    )


@each_optimizer
@each_dtype
@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_converges_on_a_convex_problem(optimizer: optim.Optimizer, dtype: str, kind: str) -> None:
    """Half the squared distance to a target, plus the penalties: the optimum is known."""
    target = np.random.default_rng(1).normal(size=(64, 1)).astype(dtype)
    optimum = target
    if not isinstance(optimizer, FTRL):  # whose penalties fade against the sum of the gradients
        optimum = np.sign(target) * np.maximum(np.abs(target) - optimizer.l1, 0) / (1 + optimizer.l2)
    here, step = _problem(optimizer, dtype, kind)
    start = float(np.square(here() - optimum).sum())
    for _ in range(400):
        step(here() - target)
    assert np.square(here() - optimum).sum() < (0.1 if isinstance(optimizer, AdamW) else 0.02) * start


def _problem(
    optimizer: optim.Optimizer, dtype: str, kind: str
) -> tuple[Callable[[], np.ndarray], Callable[[np.ndarray], None]]:
    if kind == "dense":
        table = DenseShards(TableSpec("d", "dense", 1, dtype, (64,), optimizer=optimizer), range(256))
        return lambda: table.gather(table.held).reshape(-1, 1), lambda g: table.push(table.held, g.reshape(-1))
    keys = grouped(np.arange(64))
    rows = sparse(optimizer, dtype, 1)
    return lambda: read(rows, keys), lambda g: push(rows, keys, g)


@each_optimizer
@each_dtype
def test_rows_that_are_not_touched_stay(optimizer: optim.Optimizer, dtype: str) -> None:
    table = sparse(optimizer, dtype, init=Normal(0, 1))
    keys = grouped(np.arange(1000))
    push(table, keys, np.ones((1000, 3), dtype))
    before = read(table, keys)
    push(table, keys[::2].copy(), np.ones((500, 3), dtype))
    after = read(table, keys)
    assert np.array_equal(before[1::2], after[1::2])
    assert not np.array_equal(before[::2], after[::2])


@each_optimizer
@each_dtype
def test_sum_of_parts_is_one_step_on_the_sum(optimizer: optim.Optimizer, dtype: str) -> None:
    rng = np.random.default_rng(11)
    parts = []
    for count in (300, 50, 0, 200):
        keys = grouped(rng.choice(400, count, replace=False))
        parts.append((keys, rng.normal(size=(count, 3)).astype(dtype)))
    table, other = sparse(optimizer, dtype), sparse(optimizer, dtype)
    for clock in range(3):
        resolved = []
        for keys, values in parts:
            runs = table.index.runs(keys)
            resolved.append((table.index.resolve(keys, runs), runs, values))
        table.apply_sum(resolved, OpCode.PUSH, clock)
        sums = naive.sum_of_parts([(keys.tolist(), values) for keys, values in parts], last=False)
        keys = grouped(np.array(sorted(sums)))
        runs = other.index.runs(keys)
        summed = np.array([sums[key] for key in keys.tolist()])
        other.apply_sum([(other.index.resolve(keys, runs), runs, summed)], OpCode.PUSH, clock)
    keys = grouped(np.arange(400))
    assert np.array_equal(read(table, keys), read(other, keys))


@each_optimizer
@each_dtype
def test_zero_gradient_leaves_written_rows(optimizer: optim.Optimizer, dtype: str) -> None:
    """FTRL's rows follow from z: an assign or an add must carry over to it, or the next push would undo them."""
    if optimizer.l2 or (optimizer.l1 and not isinstance(optimizer, FTRL)) or isinstance(optimizer, AdamW):
        optimizer = type(optimizer)(0.1)
    if isinstance(optimizer, AdamW):
        optimizer = AdamW(0.1, weight_decay=0.0)
    table = sparse(optimizer, dtype)
    keys = grouped(np.arange(100))
    runs = table.index.runs(keys)
    slots = table.index.resolve(keys, runs)
    values = np.random.default_rng(2).normal(size=(100, 3)).astype(dtype)
    table.assign(slots, runs, values)
    table.add(slots, runs, values)
    push(table, keys, np.zeros((100, 3), dtype))
    assert read(table, keys) == pytest.approx(2 * values, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    "schedule", [optim.Constant(), Step(3, 0.5), InverseSqrt(), InverseSqrt(4), Cosine(10), Cosine(12, 4, 0.2)]
)
def test_schedules_equal_their_twin(schedule: optim.Schedule) -> None:
    steps = np.arange(30)
    assert scale(schedule, steps) == pytest.approx([naive.scale(schedule, int(t)) for t in steps], rel=1e-12)


def test_hyper_parameters_are_one_row_where_no_step_differs() -> None:
    steps = np.array([0, 5, 9])
    assert rule_of(Adagrad(0.1)).hyper(steps).shape == (1, 9)
    assert rule_of(Adagrad(0.1, schedule=Step(2))).hyper(steps).shape == (3, 9)
    assert rule_of(Adam(0.1)).hyper(steps).shape == (3, 9)
