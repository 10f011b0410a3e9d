"""Calls without kernels give what kernels give, bit by bit."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkps.client import grouping, plain_movement
from sparkps.client.routing import Routing
from sparkps.kernels import movement
from sparkps.kernels import partition as kernels

#: Some buckets of each of three nodes.
ROUTING = Routing.of(1, [[bucket % 3] for bucket in range(256)])

KEYS = st.lists(st.one_of(st.integers(-3, 12), st.integers(-(1 << 63), (1 << 63) - 1)), max_size=60)


def same(one: Any, other: Any) -> bool:
    return one is None and other is None if one is None or other is None else one.dtype == other.dtype and np.array_equal(one, other)


@given(KEYS, st.booleans())
@settings(deadline=None, max_examples=200)
def test_keys_are_grouped_as_by_the_kernel(keys: list[int], grouped: bool) -> None:
    given_keys, order = np.array(keys, np.int64), ROUTING.order.position
    if grouped:
        given_keys = kernels.partition(given_keys, order).keys
    plain, compiled = plain_movement.partition(given_keys, order), kernels.partition(given_keys, order)
    assert all(same(one, other) for one, other in zip(plain, compiled, strict=True))


@given(KEYS, st.sampled_from(["float32", "float64"]), st.integers(1, 3), st.integers(0, 9))
@settings(deadline=None, max_examples=100)
def test_rows_move_as_by_the_kernels(keys: list[int], dtype: str, dim: int, seed: int) -> None:
    given_keys = np.array(keys, np.int64)
    found = kernels.partition(given_keys, ROUTING.order.position)
    values = np.random.default_rng(seed).normal(size=(len(keys), dim)).astype(dtype)
    u = len(found.keys)
    if found.inverse is not None:
        out = np.empty((u, dim), dtype), np.empty((u, dim), dtype)
        combined = plain_movement.combine_values(values, found.inverse, out[0])
        assert same(combined, movement.combine_values(values, found.inverse, out[1]))
        back = np.empty((len(keys), dim), dtype), np.empty((len(keys), dim), dtype)
        assert same(plain_movement.spread(combined, found.inverse, back[0]), movement.spread(combined, found.inverse, back[1]))
    if found.source is not None:
        a, b = sorted((seed % (u + 1), u // 2))
        rows = plain_movement.to_groups(values, found.source, found.offsets, a, b)
        assert same(rows, movement.to_groups(values, found.source, found.offsets, a, b))
        outs = np.zeros((len(keys), dim), dtype), np.zeros((len(keys), dim), dtype)
        plain_movement.to_call(rows, found.source, found.offsets, a, b, outs[0])
        movement.to_call(rows, found.source, found.offsets, a, b, outs[1])
        assert same(*outs)


def test_sums_are_of_float64() -> None:
    """As the kernel's: ones that are lost in float32 beside a large number are not lost."""
    values, inverse = np.array([[1e8], [1.0], [1.0], [-1e8]], np.float32), np.zeros(4, np.int32)
    assert plain_movement.combine_values(values, inverse, np.empty((1, 1), np.float32)).tolist() == [[2.0]]


def test_a_process_with_numba_uses_the_kernels_for_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not grouping._is_plain(1), "this process has numba"
    monkeypatch.delitem(sys.modules, "numba")
    assert grouping._is_plain(grouping.PLAIN_KEYS)
    assert not grouping._is_plain(grouping.PLAIN_KEYS + 1)


def test_what_a_plain_program_imports_does_without_numba_and_spark() -> None:
    code = (
        "import sys, numpy as np, sparkps, sparkps.client.connection\n"
        "from sparkps.client.grouping import Grouping\n"
        "from sparkps.client.routing import Routing\n"
        "g = Grouping.of(np.array([5, 7, 5]), Routing.of(1, [[0]] * 256))\n"
        "g.combine(np.ones((3, 2))), g.spread(np.ones((2, 2)))\n"
        "print([name for name in ('numba', 'pyspark', 'pandas', 'pyarrow') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
