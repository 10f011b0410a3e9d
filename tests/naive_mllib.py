"""Slow and obvious twins of what `sparkps.mllib` compiles: plain Python, one row at a time. Those of the tier stand in `naive`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.naive import mix, orthant_step, pseudo_gradient

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
