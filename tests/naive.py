"""Slow and obvious twins of the kernels: plain Python, one key and one row at a time."""

from __future__ import annotations

import itertools
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


def free(point: float, gradient: float, lower: float, upper: float, margin: float) -> float:
    """0 for a value that is held by one of its bounds."""
    if gradient > 0:
        return float(point > lower + margin)
    return float(point < upper - margin) if gradient < 0 else 1.0


# ---- least squares ---------------------------------------------------------------------------------------------------


def moments(rows: Sequence[Sequence[float]], labels: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Σ w·z·zᵀ with z = (x, 1, y), its lower triangle by rows, of dense rows x."""
    size = len(rows[0]) + 2
    packed = []
    for i in range(size):
        for j in range(i + 1):
            total = 0.0
            for x, y, w in zip(rows, labels, weights, strict=True):
                z = [*x, 1.0, y]
                total += w * z[i] * z[j]
            packed.append(total)
    return packed


def lasso(gram: np.ndarray, products: np.ndarray, l1: np.ndarray, sweeps: int) -> np.ndarray:
    """Coordinate descent on ½ wᵀ·gram·w - wᵀ·products + Σ l1·|w|, each coordinate from scratch."""
    w = np.zeros(len(products))
    for _ in range(sweeps):
        for j in range(len(w)):
            if gram[j, j] > 0:
                rest = products[j] - sum(gram[j, i] * w[i] for i in range(len(w)) if i != j)
                w[j] = math.copysign(max(abs(rest) - l1[j], 0.0), rest) / gram[j, j]
    return w

# ---- scores of rows --------------------------------------------------------------------------------------------------


def margins(
    indptr: Sequence[int], ids: Sequence[int], values: np.ndarray, coefficients: np.ndarray, biases: Sequence[float]
) -> np.ndarray:
    """bias + Σ x·w of each row and output, in the order of entries; a negative id has no coefficient."""
    found = []
    for begin, end in itertools.pairwise(indptr):
        totals = [float(bias) for bias in biases]
        for k in range(begin, end):
            if ids[k] >= 0:
                x = float(values[k]) if len(values) else 1.0
                totals = [total + float(w) * x for total, w in zip(totals, coefficients[ids[k]], strict=True)]
        found.append(totals)
    return np.array(found)


# ---- factorization machines ------------------------------------------------------------------------------------------


def machine_margin(row: dict[int, float], linear: np.ndarray, factors: np.ndarray, bias: float) -> float:
    """b + Σ w·x + Σ over pairs of features of the dot product of their factors, times both values."""
    margin = bias + sum(linear[i] * x for i, x in row.items())
    for i, x in row.items():
        for j, y in row.items():
            if i < j:
                margin += float(factors[i] @ factors[j]) * x * y
    return float(margin)


class JavaRandom:
    """java.util.Random, as its documentation defines it."""

    def __init__(self, seed: int) -> None:
        self._state = (seed ^ 0x5DEECE66D) & ((1 << 48) - 1)
        self._next: float | None = None

    def _bits(self, count: int) -> int:
        self._state = (self._state * 0x5DEECE66D + 0xB) & ((1 << 48) - 1)
        return self._state >> (48 - count)

    def _uniform(self) -> float:
        return ((self._bits(26) << 27) + self._bits(27)) / (1 << 53)

    def normal(self) -> float:
        if self._next is not None:
            value, self._next = self._next, None
            return value
        while True:
            first, second = 2 * self._uniform() - 1, 2 * self._uniform() - 1
            size = first * first + second * second
            if 0 < size < 1:
                scale = math.sqrt(-2 * math.log(size) / size)
                self._next = second * scale
                return first * scale


# ---- solvers -----------------------------------------------------------------------------------------------------------


def two_loops(pairs: Sequence[tuple[np.ndarray, np.ndarray]], gradient: np.ndarray) -> np.ndarray:
    """Direction of L-BFGS from pairs (s, y), oldest first."""
    q, alphas = gradient.copy(), []
    for s, y in reversed(pairs):
        alphas.append(s @ q / (s @ y))
        q = q - alphas[-1] * y
    if pairs:
        s, y = pairs[-1]
        q = q * (s @ y / (y @ y))
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        q = q + (alpha - y @ q / (s @ y)) * s
    return -q


class Owlqn:
    """Steps of breeze's OWL-QN with vectors as vectors: nothing is put off, combined or known without being looked at.

    Parameters
    ----------
    function : callable
        Gives the smooth function's value and gradient.
    weights : ndarray
        Of the L1 norm.
    """

    def __init__(self, function: Any, weights: np.ndarray) -> None:
        self.function, self.weights = function, weights

    def adjusted(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and pseudo-gradient with the L1 norm."""
        value, gradient = self.function(x)
        pseudo = [pseudo_gradient(*each) for each in zip(gradient, x, self.weights, strict=True)]
        return value + float((self.weights * abs(x)).sum()), np.array(pseudo)

    def moved(self, x: np.ndarray, direction: np.ndarray, pseudo: np.ndarray, alpha: float) -> np.ndarray:
        """A step within the orthant."""
        return np.array([orthant_step(*each, alpha) for each in zip(x, direction, pseudo, strict=True)])

    def searched(self, iteration: int, x: np.ndarray, direction: np.ndarray, pseudo: np.ndarray) -> float:
        """Backtracking line search: the step, or an `ArithmeticError`."""
        smooth, gradient = self.function(x)
        value, slope = self.adjusted(x)[0], float(pseudo @ direction)
        alpha, shrink = (0.5 / float(np.linalg.norm(gradient)), 0.1) if iteration == 0 else (1.0, 0.5)
        at = smooth  # of the first step: as if it were the start without its L1 norm
        for _ in range(20):
            _, pseudo_there = self.adjusted(self.moved(x, direction, pseudo, alpha))
            taken, slope_there = alpha, float(pseudo_there @ direction)
            if at > value + alpha * slope * 1e-4:
                alpha *= shrink
            elif slope_there < 0.9 * slope:
                alpha *= 2.1
            elif slope_there > -0.9 * slope:
                alpha *= shrink
            else:
                return alpha
            if not 1e-10 <= alpha <= 1e10:
                raise ArithmeticError
            at = self.adjusted(self.moved(x, direction, pseudo, alpha))[0]
        return taken

    def minimize(self, x: np.ndarray, iterations: int, history: int = 10) -> list[np.ndarray]:
        """The start and the point after each iteration."""
        points, pairs, failed = [x], list[tuple[np.ndarray, np.ndarray]](), False
        while len(points) <= iterations:
            pseudo = self.adjusted(x)[1]
            direction = two_loops(pairs, pseudo)
            direction = np.where(direction * pseudo < 0, direction, 0.0)
            try:
                alpha = self.searched(len(points) - 1, x, direction, pseudo)
            except ArithmeticError:
                if failed:
                    break
                failed, pairs = True, []
                continue
            new = self.moved(x, direction, pseudo, alpha)
            pairs = [*pairs, (new - x, self.function(new)[1] - self.function(x)[1])][-history:]
            x, failed = new, False
            points.append(x)
        return points


# ---- raw columns -----------------------------------------------------------------------------------------------------


def hash_of(data: bytes) -> int:
    """H of bytes, as the definition says it."""
    h = mix(len(data) + 1)
    while data:
        h = mix(h ^ int.from_bytes(data[:8].ljust(8, b"\0"), "little"))
        data = data[8:]
    return h


def words_of(text: str) -> list[str]:
    """Runs of letters, digits and underscores."""
    return "".join(c if c.isalnum() or c == "_" else " " for c in text).split()


def grams_of(words: Sequence[int], most: int, seed: int) -> list[int]:
    """Hashes of runs of words, in the order of their first words, shorter ones first."""
    found = []
    for first in range(len(words)):
        for last in range(first + 1, min(first + most, len(words)) + 1):
            g = seed
            for word in words[first:last]:
                g = mix(g ^ word)
            found.append(g)
    return found


def row_of_keys(hashes: Sequence[int], values: Sequence[float], buckets: int) -> dict[int, float]:
    """Sum of the values of each key, in order of appearance."""
    found: dict[int, float] = {}
    for h, value in zip(hashes, values, strict=True):
        key = h // 2 % buckets if buckets else h // 2
        found[key] = found.get(key, 0.0) + value
    return found


# ---- mixtures of logistic regressions --------------------------------------------------------------------------------


def mixture_loss(margins: np.ndarray, label: float) -> float:
    """-log of the probability of the label: gates in the first half of the margins, logarithms of odds in the second."""
    regions = len(margins) // 2
    gates = [math.exp(u) for u in margins[:regions]]
    odds = [1 / (1 + math.exp(-v)) for v in margins[regions:]]
    probability = sum(g * p for g, p in zip(gates, odds, strict=True)) / sum(gates)
    return -math.log(probability if label else 1 - probability)


# ---- field-aware factorization machines ------------------------------------------------------------------------------


def field_machine_margin(
    row: dict[int, float], fields: Sequence[int], linear: np.ndarray, factors: np.ndarray, bias: float, normal: bool
) -> float:
    """As `machine_margin`, with factors (features, fields, k): of each feature those for the field of the other."""
    pairs = 0.0
    for i, x in row.items():
        for j, y in row.items():
            if i < j:
                pairs += float(factors[i, fields[j]] @ factors[j, fields[i]]) * x * y
    size = sum(x * x for x in row.values())
    scale = (1 / size if size else 0.0) if normal else 1.0
    return bias + sum(linear[i] * x for i, x in row.items()) + scale * pairs


# ---- perceptrons -----------------------------------------------------------------------------------------------------


def perceptron(
    x: np.ndarray, labels: np.ndarray, weights: np.ndarray, start: np.ndarray, bias: float, fit_intercept: bool
) -> tuple[np.ndarray, np.ndarray, float]:
    """Coefficients and bias after the rows, their mean over the rows after each, and the weights of the mistakes."""
    w, after, mistakes = np.append(start, bias), [], 0.0
    for row, label, weight in zip(x, labels, weights, strict=True):
        side = 1.0 if label else -1.0
        if side * (w[:-1] @ row + w[-1]) <= 0 and weight:
            w = w + weight * side * np.append(row, float(fit_intercept))
            mistakes += weight
        after.append(w)
    return w, np.mean(after, axis=0), mistakes


# ---- learning row by row ---------------------------------------------------------------------------------------------


def flow(derivative: Any, margin: float, label: float, time: float, pieces: int = 100_000) -> float:
    """Change of a margin along dm/dt = -derivative, in small steps."""
    start = margin
    for _ in range(pieces):
        margin -= time / pieces * derivative(margin, label)
    return margin - start


def learn_row(
    rate: float, state: np.ndarray, row: dict[int, float], label: float, weight: float, offset: float, derivative: Any, change: Any
) -> float:
    """Learns from one row, in place: columns of the state are coefficient, sum of squares, scale and rows. Returns the margin before."""
    scaled = {j: x * state[j, 2] for j, x in row.items()}
    margin = offset + sum(x * state[j, 0] for j, x in scaled.items())
    slope = derivative(margin, label)
    for j, x in scaled.items():
        state[j, 1] += weight * slope**2 * x * x
    steps = {j: x / math.sqrt(state[j, 1]) for j, x in scaled.items() if state[j, 1]}
    together = sum(scaled[j] * r for j, r in steps.items())
    for j in scaled:
        state[j, 3] += 1
        if slope:
            state[j, 0] += steps[j] * change(margin, label, rate * weight * together) / together
    return margin


def penalise_row(rate: float, state: np.ndarray, j: int, weight: float, l1: float, l2: float) -> None:
    """The penalties of rows of so much weight on one coefficient, in place."""
    if state[j, 0]:
        pace = rate * weight / math.sqrt(state[j, 1])
        u = state[j, 0] * math.exp(-pace * l2 * state[j, 2] ** 2)
        state[j, 0] = math.copysign(max(abs(u) - pace * l1 * state[j, 2], 0.0), u)


def learn_row_many(
    rate: float, state: np.ndarray, row: dict[int, float], label: float, weight: float, offset: float, loss: Any, changes: Any
) -> float:
    """Learns from one row of several margins, in place: columns of the state are coefficients, sum of squares, scale and rows.

    Returns the row's loss before.
    """
    outputs = state.shape[1] - 3
    scaled = {j: x * state[j, outputs + 1] for j, x in row.items()}
    margins = offset + sum((x * state[j, :outputs] for j, x in scaled.items()), np.zeros(outputs))
    slopes, moves = np.empty(outputs), np.empty(outputs)
    found: float = loss(margins, label, slopes)
    for j, x in scaled.items():
        state[j, outputs] += weight * np.mean(slopes**2) * x * x
        state[j, outputs + 2] += 1
    steps = {j: x / math.sqrt(state[j, outputs]) for j, x in scaled.items() if state[j, outputs]}
    together = sum(scaled[j] * r for j, r in steps.items())
    if together:
        changes(label, slopes, rate * weight * together, moves)
        for j, r in steps.items():
            state[j, :outputs] += r * moves / together
    return found


def penalise_row_many(rate: float, state: np.ndarray, j: int, weight: float, l1: float, l2: float) -> None:
    """The penalties of rows of so much weight on the coefficients of one feature, in place."""
    outputs = state.shape[1] - 3
    for k in range(outputs):
        alone = state[j : j + 1, [k, outputs, outputs + 1, outputs + 2]]
        penalise_row(rate, alone, 0, weight, l1, l2)
        state[j, k] = alone[0, 0]


def softmax_flow(margins: np.ndarray, label: int, time: float, steps: int) -> np.ndarray:
    """Changes of margins along dm/dt = -derivatives of the softmax loss, in small steps of a time that grows with them (Heun)."""

    def slope(m: np.ndarray) -> np.ndarray:
        p = np.exp(m - m.max())
        return np.eye(len(m))[label] - p / p.sum()

    at = margins.astype(np.float64)
    for begin, end in itertools.pairwise(time * np.linspace(0, 1, steps + 1) ** 3):
        first = slope(at)
        at = at + (end - begin) * 0.5 * (first + slope(at + (end - begin) * first))
    return at - margins
