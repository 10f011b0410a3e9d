"""Elementwise kernels against their slow twins, bit for bit, at the values where they change their mind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sparkps.kernels.elementwise import ELEMENTWISE
from tests import naive
from tests.unit.kernels.test_vectors import BUCKETS, DenseShards, described, tables_of

#: Twins of (own value, those of further tables, the number), and how many further tables there are.
TWINS: dict[str, tuple[int, Callable[..., float]]] = {
    "product": (1, lambda w, other, _: w * other),
    "opposed": (1, lambda w, other, _: w if w * other < 0 else 0.0),
    "clip": (2, lambda w, lower, upper, _: upper if w > upper else max(w, lower)),
    "pseudo_gradient": (3, lambda _, gradient, point, weight, __: naive.pseudo_gradient(gradient, point, weight)),
    "orthant_step": (3, lambda _, *given: naive.orthant_step(*given)),
}


def given(name: str, size: int, dtypes: list[str]) -> list[DenseShards]:
    """A target and further tables: of few values, so that zeros, ties and signs of all kinds meet; weights and bounds have their sign."""
    tables, rng = tables_of(size, dtypes), np.random.default_rng(size)
    for place, table in enumerate(tables):
        values = rng.choice([-1.0, -0.5, 0.0, 0.5, 1.0], size)
        if (name, place) in {("pseudo_gradient", 3), ("clip", 2)}:
            values = abs(values)
        if (name, place) == ("clip", 1):
            values = -abs(values)
        table.assign(table.held, values.astype(table.dtype))
    return tables


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [10, 256 * 1200 + 7])
@pytest.mark.parametrize("name", TWINS)
def test_elementwise_functions_equal_their_twins(name: str, size: int, dtype: str) -> None:
    further, twin = TWINS[name]
    tables = given(name, size, [dtype, "float64", dtype, "float64", "float32"][: 1 + further])
    before = [table.gather(table.held).astype(np.float64) for table in tables]
    where = tables[0].lock_heads, BUCKETS, tables[0].sizes(BUCKETS)
    ELEMENTWISE[name](described(tables), np.array([0.5]), *where)
    after = tables[0].gather(tables[0].held)
    for bucket in range(256):
        place = slice(*tables[0].range_of(bucket))
        expected = before[0][place]
        if bucket in BUCKETS:
            expected = np.array([twin(*values, 0.5) for values in zip(*(each[place] for each in before), strict=True)])
        assert np.array_equal(after[place], expected)
    for table, values in zip(tables[1:], before[1:], strict=True):
        assert np.array_equal(table.gather(table.held), values)


def test_a_function_may_read_one_table_twice_and_what_it_writes() -> None:
    (table,) = tables_of(256 * 600, ["float64"])
    before = table.rows_of(3).copy()
    ELEMENTWISE["orthant_step"](described([table] * 4), np.array([0.5]), table.lock_heads, BUCKETS, table.sizes(BUCKETS))
    assert np.array_equal(table.rows_of(3), 1.5 * before)
