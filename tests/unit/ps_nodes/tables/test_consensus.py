"""The optimizer that merges what workers have learned by themselves: its formula, and what it promises of several workers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparkps.errors import ConfigError, InvalidInput
from sparkps.optim import Consensus, Step
from sparkps.ps_nodes.tables.index import KeyIndex
from sparkps.ps_nodes.tables.sparse import SparseShards
from sparkps.specs import TableSpec, check_spec
from sparkps.wire.messages.data import OpCode
from tests import naive
from tests.unit.ps_nodes.tables.given import grouped

RATE = 0.5
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def made(dtype: str = "float64", dim: int = 3, *, shared: bool = False) -> SparseShards:
    index = KeyIndex(range(256))
    table = SparseShards(TableSpec("t", "sparse", dim, dtype, optimizer=Consensus(RATE, shared)), index)
    index.attach(table)
    return table


def part(table: SparseShards, keys: np.ndarray, values: np.ndarray) -> tuple:
    runs = table.index.runs(keys)
    return table.index.resolve(keys, runs), runs, values


def read(table: SparseShards, keys: np.ndarray) -> np.ndarray:
    runs = table.index.runs(keys)
    return table.gather(keys, table.index.find(keys, runs), runs)


def pushes(rng: np.random.Generator, count: int, dim: int, dtype: str, *, shared: bool = False) -> np.ndarray:
    gained = rng.uniform(1e-3, 5, (count, 1 if shared else dim // 3))
    factors = rng.uniform(1, 8, gained.shape)
    wanted = rng.normal(size=(count, dim - 2 if shared else dim // 3))
    return np.hstack([gained * (factors if shared else 1.0) * wanted, gained, gained * factors]).astype(dtype)


@each_dtype
@pytest.mark.parametrize(("dim", "shared"), [(3, False), (6, False), (3, True), (7, True)])
def test_rows_follow_the_formula(dtype: str, dim: int, shared: bool) -> None:
    rng, table = np.random.default_rng(dim), made(dtype, dim, shared=shared)
    twin = naive.Table(Consensus(RATE, shared), dtype, lambda _: np.zeros(dim))
    for _ in range(6):
        keys = grouped(rng.choice(np.arange(60), 25, replace=False))
        values = pushes(rng, 25, dim, dtype, shared=shared)
        values[0] = 0  # nothing gained: nothing changes
        table.push(*part(table, keys, values))
        twin.push(keys.tolist(), values)
    for key in range(60):
        assert read(table, np.array([key]))[0] == pytest.approx(twin.read(key), rel=2e-5, abs=1e-6)


@each_dtype
def test_one_coefficient_that_shares_with_none_is_as_one_by_itself(dtype: str) -> None:
    rng, table, other = np.random.default_rng(4), made(dtype), made(dtype, shared=True)
    for _ in range(3):
        keys = grouped(rng.choice(100, 40, replace=False))
        values = pushes(rng, 40, 3, dtype)
        table.push(*part(table, keys, values))
        values[:, 0] *= values[:, 2] / values[:, 1]
        other.push(*part(other, keys, values))
    keys = grouped(np.arange(100))
    assert read(table, keys) == pytest.approx(read(other, keys), rel=1e-5)


def test_changes_of_workers_that_say_other_factors_add_up() -> None:
    table, keys, settled = made(shared=True), np.array([7]), (1.0, 1e6)
    table.push(*part(table, keys, said((0.0, 0.0), settled)))
    moved = [said(settled, (1.0 + change, 1e6 + 1), factor) for change, factor in ((0.001, 1.0), (-0.0002, 30.0))]
    for each, factor in zip(moved, (1.0, 30.0), strict=True):
        each[0, 0] *= factor
    table.apply_sum([part(table, keys, each) for each in moved], OpCode.PUSH, 1)
    assert read(table, keys)[0, 0] == pytest.approx(1.0008, abs=2e-5)


@each_dtype
def test_sum_of_several_workers_is_one_step_on_the_sum(dtype: str) -> None:
    rng, table, other = np.random.default_rng(1), made(dtype), made(dtype)
    for clock in range(3):
        given = [(grouped(rng.choice(100, n, replace=False)), pushes(rng, n, 3, dtype)) for n in (40, 7, 30)]
        table.apply_sum([part(table, keys, values) for keys, values in given], OpCode.PUSH, clock)
        sums = naive.sum_of_parts([(keys.tolist(), values) for keys, values in given], last=False)
        keys = grouped(np.array(sorted(sums)))
        other.apply_sum([part(other, keys, np.array([sums[key] for key in keys.tolist()]))], OpCode.PUSH, clock)
    keys = grouped(np.arange(100))
    assert np.array_equal(read(table, keys), read(other, keys))


def said(before: tuple[float, float], after: tuple[float, float], factor: float = 1.0) -> np.ndarray:
    """What a worker pushes that has brought a coefficient and its sum of squares from `before` to `after`."""
    gained = after[1] - before[1]
    moved = 2 * RATE * factor * (math.sqrt(after[1]) - math.sqrt(before[1]))
    wanted = before[0] + (after[0] - before[0]) / -math.expm1(-moved)
    return np.array([[gained * wanted, gained, gained * factor]])


@pytest.mark.parametrize("factor", [1.0, 6.0])
def test_push_of_one_worker_gives_the_row_that_the_worker_had(factor: float) -> None:
    table, keys = made(), np.array([7])
    row = (0.0, 0.0)
    for after in ((0.5, 0.2), (0.4, 1.5), (0.4001, 1.5002), (-0.7, 90.0)):
        table.push(*part(table, keys, said(row, after, factor)))
        assert read(table, keys)[0] == pytest.approx([*after, factor], rel=1e-9)
        row = after


def test_changes_of_coefficients_that_few_rows_have_add_up() -> None:
    table, keys, settled = made(), np.array([7]), (1.0, 1e6)
    table.push(*part(table, keys, said((0.0, 0.0), settled)))
    moved = said(settled, (1.001, 1e6 + 1))
    table.apply_sum([part(table, keys, moved), part(table, keys, moved)], OpCode.PUSH, 1)
    assert read(table, keys)[0, 0] == pytest.approx(1.002, abs=2e-6)


def test_coefficients_that_each_worker_has_settled_are_averaged_by_what_it_knows() -> None:
    table, keys = made(), np.array([7])
    parts = [part(table, keys, said((0.0, 0.0), after)) for after in ((1.0, 3e4), (2.0, 1e4))]
    table.apply_sum(parts, OpCode.PUSH, 0)
    assert read(table, keys)[0, 0] == pytest.approx(1.25, abs=1e-9)


def test_push_that_comes_late_leaves_the_row_between_what_it_was_and_what_the_worker_wanted() -> None:
    table, keys = made(), np.array([7])
    late = said((0.0, 0.0), (1.0, 100.0))
    for _ in range(20):
        table.push(*part(table, keys, late))
        assert 0 < read(table, keys)[0, 0] <= 1.0 + 1e-4


@pytest.mark.parametrize("wrong", [{"l1": 0.1}, {"l2": 0.1}, {"clip_norm": 1.0}, {"schedule": Step(2)}])
def test_takes_no_penalty_clipping_or_schedule(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=f"`{next(iter(wrong))}` of Consensus"):
        Consensus(RATE, **wrong)


def test_needs_a_sparse_table_of_three_columns_for_each_coefficient() -> None:
    with pytest.raises(InvalidInput, match="multiple of 3"):
        check_spec(TableSpec("t", "sparse", 4, "float32", optimizer=Consensus(RATE)))
    with pytest.raises(InvalidInput, match="3 or more"):
        check_spec(TableSpec("t", "sparse", 2, "float32", optimizer=Consensus(RATE, shared=True)))
    with pytest.raises(InvalidInput, match="sparse for the optimizer Consensus"):
        check_spec(TableSpec("t", "dense", 1, "float32", (3,), optimizer=Consensus(RATE)))
