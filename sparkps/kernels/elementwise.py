"""Arithmetic on all values of a table, one value at a time and bucket by bucket: what the steps of solvers need.

Tables are given as in `vectors`. Each value is computed in float64 by one formula, written once and in one order, so that a
solver's steps give the same bits wherever its tables lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from sparkps.kernels.compiled import HEADS, Kernel, given, inlined, kernel
from sparkps.kernels.intrinsics import data, float32_at, float64_at, lock, unlock
from sparkps.kernels.lookup import lock_word
from sparkps.kernels.vectors import BLOCK, BUCKETS, ELEMENTS, TABLES, load_block, rows_address

#: Of the own value, those of up to three further tables, and numbers: the value that the own one becomes.
Formula = Callable[[Any, Any, Any, Any, Any], Any]

#: Most tables of a formula, that of the own values included.
_TABLES = 4


@inlined
def _divide(w: float, _a: float, _b: float, _c: float, numbers: Any) -> float:
    return w / numbers[0]


@inlined
def _add_squares(w: float, x: float, _b: float, _c: float, numbers: Any) -> float:
    return w * numbers[0] + numbers[1] * (x * x)


@inlined
def _adaptive_step(w: float, mean: float, square: float, _c: float, numbers: Any) -> float:
    rate, first, second, epsilon, decay = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    return w - (rate * (mean / first) / (math.sqrt(square / second) + epsilon) + decay * w)


@inlined
def _product(w: float, other: float, _b: float, _c: float, _numbers: Any) -> float:
    return w * other


@inlined
def _opposed(w: float, other: float, _b: float, _c: float, _numbers: Any) -> float:
    return w if w * other < 0.0 else 0.0


@inlined
def _clip(w: float, lower: float, upper: float, _c: float, _numbers: Any) -> float:
    return min(max(w, lower), upper)


@inlined
def _pseudo_gradient(_w: float, gradient: float, point: float, weight: float, _numbers: Any) -> float:
    if point > 0.0 or (point == 0.0 and gradient + weight < 0.0):
        return gradient + weight
    if point < 0.0 or (point == 0.0 and gradient - weight > 0.0):
        return gradient - weight
    return 0.0


@inlined
def _orthant_step(_w: float, point: float, direction: float, guide: float, numbers: Any) -> float:
    moved = point + numbers[0] * direction
    side = point if point != 0.0 else -guide
    return moved if (moved > 0.0 and side > 0.0) or (moved < 0.0 and side < 0.0) else 0.0


def _made(name: str, formula: Formula) -> Kernel:
    def run(tables: Any, numbers: Any, index: Any, buckets: Any, elements: Any) -> None:
        room = np.empty((_TABLES, BLOCK))
        blocks = np.empty(_TABLES, np.int64)
        for run in range(buckets.shape[0]):
            bucket = buckets[run]
            word = lock_word(index, bucket)
            lock(word)
            target = rows_address(tables, 0, bucket)
            for begin in range(0, elements[run], BLOCK):
                count = min(BLOCK, elements[run] - begin)
                for t in range(_TABLES):  # a table that is not there reads as the own one
                    used = t if t < tables.shape[0] else 0
                    blocks[t] = load_block(rows_address(tables, used, bucket), tables[used, 1], begin, count, data(room[t]))
                w, a, b = float64_at(blocks[0]), float64_at(blocks[1]), float64_at(blocks[2])
                c = float64_at(blocks[3])
                if tables[0, 1] == 4:
                    narrow = float32_at(target)
                    for i in range(count):
                        narrow[begin + i] = formula(w[i], a[i], b[i], c[i], numbers)
                else:
                    for i in range(count):
                        w[i] = formula(w[i], a[i], b[i], c[i], numbers)
            unlock(word)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"Values of table 0 become what {name} makes of them, those of the further tables, and the numbers."
    made: Kernel = kernel(lambda _: (TABLES, given(types.float64), HEADS, BUCKETS, ELEMENTS))(run)
    return made


#: Kernels by name: (tables, numbers, index, buckets, elements).
ELEMENTWISE = {
    "divide": _made("divide", _divide),
    "add_squares": _made("add_squares", _add_squares),
    "adaptive_step": _made("adaptive_step", _adaptive_step),
    "product": _made("product", _product),
    "opposed": _made("opposed", _opposed),
    "clip": _made("clip", _clip),
    "pseudo_gradient": _made("pseudo_gradient", _pseudo_gradient),
    "orthant_step": _made("orthant_step", _orthant_step),
}

__all__ = ["ELEMENTWISE", "Formula"]
