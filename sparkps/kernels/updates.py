"""One optimizer step on the touched rows: a loop over buckets and rows, made once for each optimizer's formula.

The formulas are those of `sparkps.optim`. Arithmetic is float64 whatever the table's dtype, and however its rows lie (`halves`). The
hyper-parameters of each touched bucket come as one row of a small table (`layout.RATE` ...), or as a single row where no bucket differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from sparkps.kernels.compiled import FLOATS, HEADS, Kernel, given, inlined, kernel, values_of
from sparkps.kernels.halves import load, salt_of, store
from sparkps.kernels.initial import dual_of
from sparkps.kernels.intrinsics import data, like_at, lock, unlock
from sparkps.kernels.layout import L1, L2, OWN, PLANE, RATE, STEP
from sparkps.kernels.lookup import lock_word
from sparkps.kernels.rows import ROWS, prefetch_row


@inlined
def _shrink(w: float, threshold: float) -> float:
    """The proximal step of threshold·|w|."""
    return math.copysign(max(abs(w) - threshold, 0.0), w) if threshold > 0.0 else w


@inlined
def _sgd(w: float, s: float, r: float, g: float, h: Any) -> Any:
    rate, l1, l2, _, _, _, _, _, _ = h
    return _shrink(w - rate * (g + l2 * w), rate * l1), s, r


@inlined
def _momentum(w: float, s: float, r: float, g: float, h: Any) -> Any:
    rate, l1, l2, momentum, nesterov, _, _, _, _ = h
    g = g + l2 * w
    s = momentum * s + g
    direction = g + momentum * s if nesterov > 0.0 else s
    return _shrink(w - rate * direction, rate * l1), s, r


@inlined
def _adagrad(w: float, s: float, r: float, g: float, h: Any) -> Any:
    rate, l1, l2, epsilon, _, _, _, _, _ = h
    g = g + l2 * w
    s = s + g * g
    rate = rate / (math.sqrt(s) + epsilon)
    return _shrink(w - rate * g, rate * l1), s, r


@inlined
def _rmsprop(w: float, s: float, r: float, g: float, h: Any) -> Any:
    rate, l1, l2, epsilon, decay, _, _, _, _ = h
    g = g + l2 * w
    s = decay * s + (1.0 - decay) * g * g
    rate = rate / (math.sqrt(s) + epsilon)
    return _shrink(w - rate * g, rate * l1), s, r


@inlined
def _adam(w: float, s: float, r: float, g: float, h: Any) -> Any:
    rate, l1, l2, epsilon, beta1, beta2, weight_decay, first, second = h
    g = g + l2 * w
    s = beta1 * s + (1.0 - beta1) * g
    r = beta2 * r + (1.0 - beta2) * g * g
    scaled = rate / (math.sqrt(r / second) + epsilon)
    return _shrink(w - scaled * (s / first) - rate * weight_decay * w, scaled * l1), s, r


@inlined
def _ftrl(w: float, s: float, r: float, g: float, h: Any) -> Any:
    alpha, l1, l2, beta, scheduled, _, _, _, _ = h
    before, root = math.sqrt(r), math.sqrt(r + g * g)
    if scheduled > 0.0 and w != 0.0:
        s = dual_of(w, (beta + before) / alpha + l2, l1)
    s = s + g - (root - before) / alpha * w
    shrunk = math.copysign(max(abs(s) - l1, 0.0), s)
    slope = (beta + root) / alpha + l2
    return (-shrunk / slope if shrunk != 0.0 else 0.0), s, r + g * g


@inlined
def _merge(w: Any, place: int, pushes: Any, begin: int, count: int, h: Any) -> None:
    """One row of `Consensus`."""
    rate, _, _, _, _, _, _, _, _ = h
    third = count // 3
    for column in range(third):
        at, given = place + column, begin + column
        gained = np.float64(pushes[given + third])
        if not gained > 0.0:
            continue
        before = np.float64(w[at + third])
        factor = np.float64(pushes[given + 2 * third]) / gained
        # The difference of the roots, without loss where `gained` is small.
        moved = 2.0 * rate * factor * gained / (math.sqrt(before + gained) + math.sqrt(before))
        old = np.float64(w[at])
        w[at] = old - math.expm1(-moved) * (np.float64(pushes[given]) / gained - old)
        w[at + third] = before + gained
        w[at + 2 * third] = factor


@inlined
def _merge_shared(w: Any, place: int, pushes: Any, begin: int, count: int, h: Any) -> None:
    """One row of `Consensus` whose coefficients share their sum of squares and their factor."""
    rate, _, _, _, _, _, _, _, _ = h
    squares = count - 2
    gained = np.float64(pushes[begin + squares])
    if gained > 0.0:
        before = np.float64(w[place + squares])
        weighted = np.float64(pushes[begin + squares + 1])
        factor = weighted / gained
        moved = 2.0 * rate * factor * gained / (math.sqrt(before + gained) + math.sqrt(before))
        part = -math.expm1(-moved)
        for column in range(squares):
            old = np.float64(w[place + column])
            w[place + column] = old + part * (np.float64(pushes[begin + column]) / weighted - old)
        w[place + squares] = before + gained
        w[place + squares + 1] = factor


def _declare(t: Any) -> tuple[Any, ...]:
    i32, i64 = given(types.int32), given(types.int64)
    return HEADS, HEADS, i32, i64, i32, given(values_of(t), 2), given(types.float64, 2), types.int64, given(t)


def _of_columns(formula: Callable[..., Any], planes: int) -> Callable[..., Any]:
    """The update of a row in which each value is for itself."""

    @inlined
    def row(w: Any, s: Any, r: Any, place: int, grads: Any, begin: int, count: int, h: Any, salt: int) -> None:
        for column in range(count):
            at = place + column
            first = np.float64(s[at]) if planes > 1 else 0.0
            second = np.float64(r[at]) if planes > 2 else 0.0
            weight, first, second = formula(np.float64(load(w, at)), first, second, np.float64(grads[begin + column]), h)
            store(w, at, weight, salt + column)
            if planes > 1:
                s[at] = first
            if planes > 2:
                r[at] = second

    return row


def _of_rows(formula: Callable[..., Any]) -> Callable[..., Any]:
    """The update of a row as a whole, without state."""

    @inlined
    def row(w: Any, s: Any, r: Any, place: int, grads: Any, begin: int, count: int, h: Any, salt: int) -> None:
        formula(w, place, grads, begin, count, h)

    return row


def _made(name: str, row: Callable[..., Any], planes: int, dtypes: tuple[str, ...] = ROWS) -> Kernel:
    """The kernel that applies `row` to a table of `planes` planes."""

    @inlined
    def rows_of_run(
        w: Any, s: Any, r: Any, slots: Any, begin: int, end: int, grads: Any, dim: int, lines: Any, h: Any, salt: int
    ) -> None:
        per_line_of_rows, per_line = lines
        for i in range(begin, end):
            prefetch_row(w, slots, i, end, dim, per_line_of_rows)
            if planes > 1:
                prefetch_row(s, slots, i, end, dim, per_line)
            if planes > 2:
                prefetch_row(r, slots, i, end, dim, per_line)
            if slots[i] >= 0:
                row(w, s, r, np.int64(slots[i]) * dim, grads, i * dim, dim, h, salt)

    def update(
        table: Any, index: Any, buckets: Any, offsets: Any, slots: Any, grads: Any, hyper: Any, advance: int, words: Any
    ) -> None:
        dim = grads.shape[1]
        source = data(grads)
        lines = 64 // words.itemsize, 64 // grads.itemsize
        for run in range(buckets.shape[0]):
            bucket, begin, end = buckets[run], offsets[run], offsets[run + 1]
            k = run if hyper.shape[0] > 1 else 0
            h = (
                hyper[k, RATE], hyper[k, L1], hyper[k, L2], hyper[k, OWN], hyper[k, OWN + 1], hyper[k, OWN + 2],
                hyper[k, OWN + 3], hyper[k, OWN + 4], hyper[k, OWN + 5],
            )  # fmt: skip
            word = lock_word(index, bucket)
            lock(word)
            w = like_at(table[bucket, PLANE], words)
            s = like_at(table[bucket, PLANE + 1], grads)
            r = like_at(table[bucket, PLANE + 2], grads)
            salt = salt_of(bucket, table[bucket, STEP])
            if slots.shape[0] == 0:
                row(w, s, r, 0, source, begin, end - begin, h, salt)
            elif dim == 1:  # a constant, so that the loop over columns goes away
                rows_of_run(w, s, r, slots, begin, end, source, 1, lines, h, salt)
            else:
                rows_of_run(w, s, r, slots, begin, end, source, dim, lines, h, salt)
            table[bucket, STEP] += advance
            unlock(word)

    update.__name__ = update.__qualname__ = f"update_{name}"
    update.__doc__ = f"One {name} step of each bucket's rows on the gradients; the buckets' steps go on by `advance`."
    made: Kernel = kernel(_declare, dtypes=dtypes)(update)
    return made


#: Kernels by name: (table, index, buckets, offsets, slots, grads, hyper, advance, words).
UPDATES = {
    "sgd": _made("sgd", _of_columns(_sgd, 1), 1),
    "momentum": _made("momentum", _of_columns(_momentum, 2), 2),
    "adagrad": _made("adagrad", _of_columns(_adagrad, 2), 2),
    "rmsprop": _made("rmsprop", _of_columns(_rmsprop, 2), 2),
    "adam": _made("adam", _of_columns(_adam, 3), 3),
    "ftrl": _made("ftrl", _of_columns(_ftrl, 3), 3),
    "consensus": _made("consensus", _of_rows(_merge), 1, FLOATS),
    "shared_consensus": _made("shared_consensus", _of_rows(_merge_shared), 1, FLOATS),
}
