"""The first value of a row, from the table's seed and the row's key alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparkps.initializers import LawKind
from sparkps.kernels.compiled import inlined
from sparkps.kernels.halves import NEAREST, load, store
from sparkps.kernels.hashing import mix
from sparkps.kernels.intrinsics import float32_at, float64_at, int16_at, int64_at, uint16_at
from sparkps.kernels.layout import (
    BFLOAT16,
    FLOAT32,
    FLOAT64,
    LAW_A,
    LAW_B,
    LAW_DIM,
    LAW_DUAL,
    LAW_HEADS,
    LAW_KIND,
    LAW_L1,
    LAW_PLANES,
    LAW_SEED,
    LAW_SLOPE,
    LAW_STATE1,
    LAW_STATE2,
    LAW_STORED,
    PLANE,
    WIDTH,
)

_CONSTANT = int(LawKind.CONSTANT)
_UNIFORM = int(LawKind.UNIFORM)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ONE = np.uint64(1)
_MANTISSA = np.uint64(11)
_UNIT = 1.0 / (1 << 53)


@inlined
def _bits(seed: int, key: int, number: int) -> np.uint64:
    """64 random bits, number `number` of the row of `key`."""
    row = mix(np.int64(mix(np.int64(np.uint64(seed) + _GOLDEN)) ^ np.uint64(key)))
    return mix(np.int64(row + (np.uint64(number) + _ONE) * _GOLDEN))


@inlined
def draw(kind: int, a: float, b: float, seed: int, key: int, column: int) -> float:
    """Value `column` of the first row of `key` (uniform: 53 bits; normal: Box and Muller)."""
    if kind == _CONSTANT:
        return a
    first = np.float64(_bits(seed, key, 2 * column) >> _MANTISSA) * _UNIT
    if kind == _UNIFORM:
        return a + first * (b - a)
    second = np.float64(_bits(seed, key, 2 * column + 1) >> _MANTISSA) * _UNIT
    return a + b * (math.sqrt(-2.0 * math.log(1.0 - first)) * math.cos(2.0 * math.pi * second))


@inlined
def dual_of(row: float, slope: float, l1: float) -> float:
    """FTRL's z for which the row is `row`; 0 for a row of 0."""
    if row > 0.0:
        return -row * slope - l1
    if row < 0.0:
        return -row * slope + l1
    return 0.0


@inlined
def _write(rows: Any, state1: Any, state2: Any, slot: int, key: int, ints: Any, floats: Any, law: int) -> None:
    dim = ints[law, LAW_DIM]
    planes = ints[law, LAW_PLANES]
    kind, seed = ints[law, LAW_KIND], ints[law, LAW_SEED]
    for column in range(dim):
        place = slot * dim + column
        store(rows, place, draw(kind, floats[law, LAW_A], floats[law, LAW_B], seed, key, column), NEAREST)
        if planes > 1:
            if ints[law, LAW_DUAL] != 0:
                state1[place] = dual_of(np.float64(load(rows, place)), floats[law, LAW_SLOPE], floats[law, LAW_L1])
            else:
                state1[place] = floats[law, LAW_STATE1]
        if planes > 2:
            state2[place] = floats[law, LAW_STATE2]


@inlined
def begin_row(ints: Any, floats: Any, law: int, bucket: int, slot: int, key: int) -> None:
    """Writes the first row and state of `key` at `slot` into the table of `law`."""
    head = int64_at(ints[law, LAW_HEADS])
    first = bucket * WIDTH + PLANE
    rows, state1, state2 = head[first], head[first + 1], head[first + 2]
    stored = ints[law, LAW_STORED]
    if stored == FLOAT64:
        _write(float64_at(rows), float64_at(state1), float64_at(state2), slot, key, ints, floats, law)
    elif stored == FLOAT32:
        _write(float32_at(rows), float32_at(state1), float32_at(state2), slot, key, ints, floats, law)
    elif stored == BFLOAT16:
        _write(uint16_at(rows), float32_at(state1), float32_at(state2), slot, key, ints, floats, law)
    else:
        _write(int16_at(rows), float32_at(state1), float32_at(state2), slot, key, ints, floats, law)
