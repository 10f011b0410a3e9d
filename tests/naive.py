"""Slow and obvious twins of the kernels: plain Python, one key and one row at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sparkps import optim
from sparkps.initializers import Law, LawKind

WORD = (1 << 64) - 1


# ---- hashing ---------------------------------------------------------------------------------------------------------


def mix(key: int) -> int:
    """The 64-bit hash of a key."""
    h = (key & WORD) * 0x9E3779B97F4A7C15 & WORD
    h ^= h >> 32
    h = h * 0xD6E8FEB86659FD93 & WORD
    return h ^ (h >> 32)


def bucket_of(key: int) -> int:
    return mix(key) >> 56


def position_of(key: int, capacity: int) -> int:
    return ((mix(key) & 0xFFFFFFFF) * capacity) >> 32


# ---- first rows ------------------------------------------------------------------------------------------------------


def _uniform(seed: int, key: int, number: int) -> float:
    golden = 0x9E3779B97F4A7C15
    row = mix(mix((seed & WORD) + golden & WORD) ^ (key & WORD))
    return (mix(row + (number + 1) * golden & WORD) >> 11) / (1 << 53)


def draw(law: Law, seed: int, key: int, column: int) -> float:
    """Value `column` of the first row of `key`."""
    if law.kind == LawKind.CONSTANT:
        return law.a
    first = _uniform(seed, key, 2 * column)
    if law.kind == LawKind.UNIFORM:
        return law.a + first * (law.b - law.a)
    second = _uniform(seed, key, 2 * column + 1)
    return law.a + law.b * math.sqrt(-2 * math.log(1 - first)) * math.cos(2 * math.pi * second)


# ---- the client's partition ------------------------------------------------------------------------------------------


def partition(keys: Sequence[int], order: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Unique keys by position of their bucket, then by first appearance; offsets of positions; the way back."""
    seen = dict.fromkeys(int(key) for key in keys)
    unique = sorted(seen, key=lambda key: order[bucket_of(key)])
    place = {key: i for i, key in enumerate(unique)}
    counts = [0] * 256
    for key in unique:
        counts[order[bucket_of(key)]] += 1
    return unique, [sum(counts[:p]) for p in range(257)], [place[int(key)] for key in keys]


def combine(values: np.ndarray, inverse: Sequence[int], size: int) -> np.ndarray:
    """Rows of duplicate keys, summed in float64 in order of appearance."""
    sums = np.zeros((size, values.shape[1]))
    for row, place in zip(values, inverse, strict=True):
        sums[place] += row
    return sums.astype(values.dtype)


# ---- optimizers ------------------------------------------------------------------------------------------------------


def scale(schedule: optim.Schedule, t: int) -> float:
    """What a schedule multiplies the rate by at step t, from 0."""
    if isinstance(schedule, optim.Step):
        return schedule.factor ** (t // schedule.every)
    if isinstance(schedule, optim.InverseSqrt):
        u = max(schedule.warmup, 1)
        return min((t + 1) / u, math.sqrt(u / (t + 1)))
    if isinstance(schedule, optim.Cosine):
        if t < schedule.warmup:
            return (t + 1) / schedule.warmup
        p = min((t - schedule.warmup) / (schedule.total - schedule.warmup), 1)
        return schedule.floor + (1 - schedule.floor) * (1 + math.cos(math.pi * p)) / 2
    return 1.0


def clip(gradient: np.ndarray, o: optim.Optimizer) -> np.ndarray:
    """A row's gradient, clipped by value and then by norm."""
    gradient = np.array(gradient, np.float64)
    if o.clip_value is not None:
        gradient = np.clip(gradient, -o.clip_value, o.clip_value)
    norm = math.sqrt(sum(x * x for x in gradient))
    if o.clip_norm is not None and norm > o.clip_norm:
        gradient = gradient * (o.clip_norm / norm)
    return gradient


def state_of(o: optim.Optimizer, row: np.ndarray) -> list[np.ndarray]:
    """The optimizer's state of a row that nobody has pushed to."""
    zero = np.zeros_like(row)
    if isinstance(o, (optim.SGD, optim.Consensus)):
        return []
    if isinstance(o, optim.Adagrad):
        return [np.full_like(row, o.initial_accumulator)]
    if isinstance(o, (optim.Momentum, optim.RMSProp)):
        return [zero]
    if isinstance(o, optim.FTRL):
        return [(-row * (o.beta / o.alpha + o.l2) - np.sign(row) * o.l1).astype(row.dtype), zero.copy()]
    return [zero, zero.copy()]


def _shrink(w: np.ndarray, threshold: Any) -> np.ndarray:
    return np.sign(w) * np.maximum(np.abs(w) - threshold, 0)


def merge(o: optim.Consensus, row: np.ndarray, push: np.ndarray) -> None:
    """What `Consensus` does to one row, in place."""
    if o.shared:
        *coefficients, squares, factors = range(len(row))
        for k in coefficients:
            alone, given = row[[k, squares, factors]], push[[k, squares, factors]].astype(np.float64)
            given[0] *= given[1] / given[2] if given[1] > 0 else 1
            merge(optim.Consensus(o.learning_rate), alone, given)
            row[k] = alone[0]
        row[squares:] = alone[1:]
        return
    third = len(row) // 3
    for k in range(third):
        wanted, gained, weighted = (float(push[k + part * third]) for part in range(3))
        if gained > 0:
            before, factor = float(row[k + third]), weighted / gained
            moved = 2 * o.learning_rate * factor * (math.sqrt(before + gained) - math.sqrt(before))
            row[k] += (1 - math.exp(-moved)) * (wanted / gained - float(row[k]))
            row[k + third], row[k + 2 * third] = before + gained, factor


def step(o: optim.Optimizer, row: np.ndarray, state: list[np.ndarray], gradient: np.ndarray, t: int) -> None:
    """One step on one row, in place: the formulas of `sparkps.optim`; t counts from 0."""
    if isinstance(o, optim.Consensus):
        merge(o, row, gradient)
        return
    w, g = row.astype(np.float64), clip(gradient, o)
    rate = (o.alpha if isinstance(o, optim.FTRL) else o.learning_rate) * scale(o.schedule, t)
    s = [each.astype(np.float64) for each in state]
    if isinstance(o, optim.FTRL):
        z, n = s
        if not isinstance(o.schedule, optim.Constant):
            slope = (o.beta + np.sqrt(n)) / rate + o.l2
            z = np.where(w != 0, -w * slope - np.sign(w) * o.l1, z)
        sigma = (np.sqrt(n + g * g) - np.sqrt(n)) / rate
        z, n = z + g - sigma * w, n + g * g
        w = np.where(np.abs(z) <= o.l1, 0, -(z - np.sign(z) * o.l1) / ((o.beta + np.sqrt(n)) / rate + o.l2))
        s = [z, n]
    else:
        g = g + o.l2 * w
        if isinstance(o, optim.SGD):
            w = _shrink(w - rate * g, rate * o.l1)
        elif isinstance(o, optim.Momentum):
            s = [o.momentum * s[0] + g]
            w = _shrink(w - rate * (g + o.momentum * s[0] if o.nesterov else s[0]), rate * o.l1)
        elif isinstance(o, optim.Adagrad):
            s = [s[0] + g * g]
            own = rate / (np.sqrt(s[0]) + o.epsilon)
            w = _shrink(w - own * g, own * o.l1)
        elif isinstance(o, optim.RMSProp):
            s = [o.decay * s[0] + (1 - o.decay) * g * g]
            own = rate / (np.sqrt(s[0]) + o.epsilon)
            w = _shrink(w - own * g, own * o.l1)
        else:
            s = [o.beta1 * s[0] + (1 - o.beta1) * g, o.beta2 * s[1] + (1 - o.beta2) * g * g]
            own = rate / (np.sqrt(s[1] / (1 - o.beta2 ** (t + 1))) + o.epsilon)
            decay = rate * o.weight_decay * w if isinstance(o, optim.AdamW) else 0
            w = _shrink(w - own * s[0] / (1 - o.beta1 ** (t + 1)) - decay, own * o.l1)
    row[:] = w
    for kept, new in zip(state, s, strict=True):
        kept[:] = new


class Table:
    """A table as a dictionary of rows.

    Parameters
    ----------
    optimizer : Optimizer
    dtype : str
    first : callable
        The first row of a key.
    """

    def __init__(self, optimizer: optim.Optimizer, dtype: str, first: Any) -> None:
        self.optimizer, self.dtype, self.first = optimizer, dtype, first
        self.rows: dict[int, np.ndarray] = {}
        self.state: dict[int, list[np.ndarray]] = {}
        self.steps = [0] * 256

    def read(self, key: int) -> np.ndarray:
        return self.rows[key] if key in self.rows else np.array(self.first(key), self.dtype)

    def touch(self, key: int) -> np.ndarray:
        if key not in self.rows:
            self.rows[key] = self.read(key)
            self.state[key] = state_of(self.optimizer, self.rows[key])
        return self.rows[key]

    def push(self, keys: Sequence[int], grads: np.ndarray, bucket: Any = bucket_of, t: int | None = None) -> None:
        """One step; `bucket` tells the bucket of a key."""
        for key, grad in zip(keys, grads, strict=True):
            at = self.steps[bucket(key)] if t is None else t
            step(self.optimizer, self.touch(key), self.state[key], grad, at)
        for each in {bucket(key) for key in keys}:
            self.steps[each] = self.steps[each] + 1 if t is None else t + 1

    def add(self, keys: Sequence[int], values: np.ndarray) -> None:
        for key, value in zip(keys, values, strict=True):
            self.touch(key)[:] += value

    def assign(self, keys: Sequence[int], values: np.ndarray) -> None:
        for key, value in zip(keys, values, strict=True):
            self.touch(key)[:] = value


def sum_of_parts(parts: Sequence[tuple[Sequence[int], np.ndarray]], last: bool) -> dict[int, np.ndarray]:
    """Per key the sum (or the last) of the rows of all parts, in float64, rounded once."""
    sums: dict[int, np.ndarray] = {}
    for keys, values in parts:
        for key, value in zip(keys, values, strict=True):
            sums[key] = value.astype(np.float64) + (0 if last or key not in sums else sums[key])
    return {key: total.astype(parts[0][1].dtype) for key, total in sums.items()}


# ---- vectors ---------------------------------------------------------------------------------------------------------


def lane_dot(a: np.ndarray, b: np.ndarray) -> float:
    """A dot product in the kernel's order: blocks of 512, 16 lanes, a tree, then the rest."""
    total = 0.0
    for begin in range(0, len(a), 512):
        products = a[begin : begin + 512].astype(np.float64) * b[begin : begin + 512].astype(np.float64)
        whole = len(products) // 16 * 16
        lanes = np.zeros(16)
        for start in range(0, whole, 16):
            lanes = lanes + products[start : start + 16]
        while len(lanes) > 1:
            lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
        block = lanes[0]
        for product in products[whole:]:
            block += product
        total += block
    return float(total)


def pseudo_gradient(gradient: float, point: float, weight: float) -> float:
    """Of the interval of subgradients of f + weight·|x|, the one of least magnitude."""
    if point != 0:
        return gradient + np.sign(point) * weight
    return min(gradient + weight, 0.0) if gradient < 0 else max(gradient - weight, 0.0)


def orthant_step(point: float, direction: float, guide: float, alpha: float) -> float:
    """A step that ends at 0 where it leaves the orthant."""
    orthant = np.sign(point) if point != 0 else np.sign(-guide)
    moved = point + alpha * direction
    return moved if np.sign(moved) == orthant else 0.0
