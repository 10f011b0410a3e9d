"""Arithmetic on all values of a table, one value at a time and bucket by bucket: what the steps of adaptive solvers need.

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
from sparkps.kernels.vectors import BLOCK, _load_block, _rows_address

#: Of (own value, value of the second table, value of the third, numbers): the value that the own one becomes.
Formula = Callable[[Any, Any, Any, Any], Any]


@inlined
def _divide(w: float, _x: float, _y: float, numbers: Any) -> float:
    return w / numbers[0]


@inlined
def _add_squares(w: float, x: float, _y: float, numbers: Any) -> float:
    return w * numbers[0] + numbers[1] * (x * x)


@inlined
def _adaptive_step(w: float, mean: float, square: float, numbers: Any) -> float:
    rate, first, second, epsilon, decay = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    return w - (rate * (mean / first) / (math.sqrt(square / second) + epsilon) + decay * w)


def _made(name: str, formula: Formula) -> Kernel:
    def run(tables: Any, numbers: Any, index: Any, buckets: Any, elements: Any) -> None:
        room = np.empty((3, BLOCK))
        operands = tables.shape[0]
        for run in range(buckets.shape[0]):
            bucket = buckets[run]
            word = lock_word(index, bucket)
            lock(word)
            target = _rows_address(tables, 0, bucket)
            for begin in range(0, elements[run], BLOCK):
                count = min(BLOCK, elements[run] - begin)
                w = float64_at(_load_block(target, tables[0, 1], begin, count, data(room[0])))
                x = y = w
                if operands > 1:
                    x = float64_at(_load_block(_rows_address(tables, 1, bucket), tables[1, 1], begin, count, data(room[1])))
                if operands > 2:
                    y = float64_at(_load_block(_rows_address(tables, 2, bucket), tables[2, 1], begin, count, data(room[2])))
                if tables[0, 1] == 4:
                    narrow = float32_at(target)
                    for i in range(count):
                        narrow[begin + i] = formula(w[i], x[i], y[i], numbers)
                else:
                    for i in range(count):
                        w[i] = formula(w[i], x[i], y[i], numbers)
            unlock(word)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"Values of table 0 become what {name} makes of them, those of the further tables, and the numbers."
    made: Kernel = kernel(lambda _: (given(types.int64, 2), given(types.float64), HEADS, given(types.int32), given(types.int64)))(run)
    return made


#: Kernels by name: (tables, numbers, index, buckets, elements).
ELEMENTWISE = {
    "divide": _made("divide", _divide),
    "add_squares": _made("add_squares", _add_squares),
    "adaptive_step": _made("adaptive_step", _adaptive_step),
}

__all__ = ["ELEMENTWISE", "Formula"]
