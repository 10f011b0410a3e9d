"""L-BFGS without vectors: all that it holds are dot products; the vectors are named, and live elsewhere.

The search direction is a linear combination of the 2m + 1 vectors s_i, y_i and g, whose coefficients follow from their dot
products (Chen, Wang and Zhou, Large-scale L-BFGS using MapReduce, NIPS 2014). Line search, scaling of the first step,
convergence tests and what happens after a failed search are those of breeze 2.1, which pyspark.ml runs, so that both
take the same steps.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import msgspec
import numpy as np

from sparkps.mllib.solvers.linesearch import LineSearchError, Point, Search
from sparkps.mllib.solvers.operations import Combine, Gram, Operation, Vectors

log = logging.getLogger(__name__)

#: Function values must have stood still for so many iterations (breeze's `fvalMemory`).
_VALUE_MEMORY = 20

#: A gradient of at most this norm is zero, whatever `tol` says.
_LEAST_GRADIENT = 1e-8

#: A step that moves less than this is none.
_LEAST_STEP = 1e-10

#: The accepted point and its gradient; the trial point and its gradient.
POINT, POINT_GRADIENT, TRIAL, TRIAL_GRADIENT = "w", "p", "x", "g"


def vector_names(history: int) -> list[str]:
    """All vectors of a solver with `history` pairs.

    Examples
    --------
    >>> vector_names(1)
    ['w', 'p', 'x', 'g', 's0', 'y0']
    """
    pairs = [f"{kind}{i}" for kind in "sy" for i in range(history)]
    return [POINT, POINT_GRADIENT, TRIAL, TRIAL_GRADIENT, *pairs]


@dataclass(frozen=True)
class Progress:
    """What an iteration came to."""

    iteration: int
    objective: float
    gradient_norm: float


@dataclass
class Minimum:
    """Where a minimisation ended; the vector itself is `POINT`."""

    #: Objective at the start and after each iteration.
    history: list[float]
    iterations: int
    #: Why it ended, in words.
    reason: str
    #: Evaluations of the objective.
    evaluations: int


@dataclass
class Pairs:
    """The history of steps s and changes of gradient y, as dot products alone.

    Arrays are indexed by slot; `order` lists the slots in use, oldest first.
    """

    size: int
    order: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        #: [i, j] = s_i·y_j
        self.sy = np.zeros((self.size, self.size))
        #: [i, j] = y_i·y_j
        self.yy = np.zeros((self.size, self.size))
        #: s_i·g and y_i·g, with g the gradient at the accepted point.
        self.sg = np.zeros(self.size)
        self.yg = np.zeros(self.size)
        self.gg = 0.0

    def next_slot(self) -> int:
        """Where the next pair goes: a free slot, or the oldest pair's."""
        if len(self.order) < self.size:
            return next(slot for slot in range(self.size) if slot not in self.order)
        return self.order[0]

    def take(self, slot: int, dots: dict[tuple[str, str], float]) -> None:
        """The pair in `slot` and a new gradient were accepted; `dots` has their products with all vectors in use."""
        if slot in self.order:
            self.order.remove(slot)
        self.order.append(slot)
        for i in self.order:
            self.sy[slot, i] = dots[f"s{slot}", f"y{i}"]
            self.sy[i, slot] = dots[f"y{slot}", f"s{i}"]
            self.yy[slot, i] = self.yy[i, slot] = dots[f"y{slot}", f"y{i}"]
            self.sg[i] = dots[TRIAL_GRADIENT, f"s{i}"]
            self.yg[i] = dots[TRIAL_GRADIENT, f"y{i}"]
        self.gg = dots[TRIAL_GRADIENT, TRIAL_GRADIENT]

    def standing(self) -> list[list[float]]:
        """All that is known, as plain numbers; see `restore`."""
        order = [float(slot) for slot in self.order]
        return [order, self.sy.ravel().tolist(), self.yy.ravel().tolist(), self.sg.tolist(), self.yg.tolist(), [self.gg]]

    def restore(self, standing: list[list[float]]) -> None:
        """Know what `standing` gave, to the last bit."""
        order, sy, yy, sg, yg, (self.gg,) = standing
        self.order = [int(slot) for slot in order]
        self.sy, self.yy = (np.array(each).reshape(self.size, self.size) for each in (sy, yy))
        self.sg, self.yg = np.array(sg), np.array(yg)

    def forget(self) -> None:
        """Start again from steepest descent."""
        self.order.clear()

    def direction(self) -> tuple[dict[str, float], float]:
        """The two-loop recursion in coefficients.

        Returns
        -------
        coefficients : dict
            Of `POINT_GRADIENT`, ``s<i>`` and ``y<i>``: their combination is the search direction d.
        slope : float
            d·g.

        Raises
        ------
        LineSearchError
            The last pair has negative curvature, or d does not descend.
        """
        of_s, of_y, of_g = np.zeros(self.size), np.zeros(self.size), -1.0
        alphas = {}
        for i in reversed(self.order):  # newest first
            along = of_g * self.sg[i] + float(self.sy[i] @ of_y)
            alphas[i] = along / self.sy[i, i]
            of_y[i] -= alphas[i]
        scale = self._scale()
        of_y, of_g = of_y * scale, of_g * scale
        for i in self.order:
            beta = (of_g * self.yg[i] + float(self.sy[:, i] @ of_s) + float(self.yy[i] @ of_y)) / self.sy[i, i]
            of_s[i] += alphas[i] - beta
        slope = of_g * self.gg + float(of_s @ self.sg) + float(of_y @ self.yg) if self.order else of_g * self.gg
        if not math.isfinite(slope) or slope > 0:
            raise LineSearchError(f"the direction must descend, and its slope is {slope}")
        coefficients = {POINT_GRADIENT: of_g}
        for i in self.order:
            coefficients[f"s{i}"], coefficients[f"y{i}"] = float(of_s[i]), float(of_y[i])
        return coefficients, slope

    def _scale(self) -> float:
        if not self.order:
            return 1.0
        last = self.order[-1]
        curvature, squares = self.sy[last, last], self.yy[last, last]
        if not (curvature >= 0 and squares > 0):
            raise LineSearchError(f"the last step must have positive curvature, and it is {curvature}")
        return float(curvature / squares)


class LbfgsStanding(msgspec.Struct, frozen=True):
    """Where a minimisation was between two iterations, besides its vectors."""

    #: As in `Minimum`: of so many iterations, and the start.
    history: list[float]
    evaluations: int
    #: As `Pairs.standing` gives them.
    pairs: list[list[float]]

    def encoded(self) -> bytes:
        """In bytes; numbers keep every bit."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decoded(cls, data: bytes) -> LbfgsStanding:
        """Out of the bytes of `encoded`."""
        return msgspec.msgpack.decode(data, type=cls)


class Lbfgs:
    """Minimises what `vectors` evaluates, from the point that `TRIAL` holds.

    Parameters
    ----------
    vectors : Vectors
    max_iter : int
    tol : float
        Ends when the gradient's norm is at most ``max(tol·|f|, 1e-8)``, or the function has changed by at most ``tol·|f_0|`` over
        the last 20 iterations.
    history : int
        Pairs to keep.
    report : callable, optional
        Called with a `Progress` at the start and after each iteration; it may say why there should be no further one.
    keep : callable, optional
        Called between two iterations, with the number of those that are done and a function that gives the `LbfgsStanding`.
    """

    def __init__(
        self,
        vectors: Vectors,
        max_iter: int,
        tol: float,
        history: int = 10,
        report: Callable[[Progress], str | None] = lambda progress: None,
        keep: Callable[[int, Callable[[], LbfgsStanding]], None] = lambda iteration, standing: None,
    ) -> None:
        self.vectors = vectors
        self.max_iter = max_iter
        self.tol = tol
        self.report = report
        self.keep = keep
        self.pairs = Pairs(history)
        self.evaluations = 0
        #: Trials of the running line search have their pair here.
        self._slot = 0

    def minimize(self, begun: LbfgsStanding | None = None) -> Minimum:
        """Run to the end; `POINT` then holds the best point.

        Parameters
        ----------
        begun : LbfgsStanding, optional
            Go on from there, with the vectors of that time.
        """
        history = self._started() if begun is None else self._restored(begun)
        iteration, value, failed = len(history) - 1, history[-1], False
        stop = self.report(Progress(iteration, value, math.sqrt(self.pairs.gg)))
        while (reason := stop or self._converged(iteration, history)) is None:
            if not failed:
                self.keep(iteration, partial(self._standing, history))
            try:
                value = self._iterate(iteration, value)
                failed = False
            except LineSearchError as error:
                if failed:
                    reason = f"the line search failed: {error}"
                    break
                log.info("the line search failed, L-BFGS starts again from steepest descent: %s", error)
                failed = True
                self.pairs.forget()
                continue
            iteration += 1
            history.append(value)
            stop = self.report(Progress(iteration, value, math.sqrt(self.pairs.gg)))
        return Minimum(history, iteration, reason, self.evaluations)

    def _standing(self, history: list[float]) -> LbfgsStanding:
        return LbfgsStanding(list(history), self.evaluations, self.pairs.standing())

    def _started(self) -> list[float]:
        """The objective at the start."""
        value = self._evaluate()
        (found,) = self.vectors.run([*_accept(), Gram((TRIAL_GRADIENT,), (TRIAL_GRADIENT,))])
        self.pairs.gg = float(found[0, 0])
        return [value]

    def _restored(self, begun: LbfgsStanding) -> list[float]:
        """The objective at the start and after each iteration that was done."""
        self.pairs.restore(begun.pairs)
        self.evaluations = begun.evaluations
        return list(begun.history)

    def _converged(self, iteration: int, history: list[float]) -> str | None:
        value = history[-1]
        if iteration >= self.max_iter:
            return "maxIter was reached"
        remembered = history[1:][-_VALUE_MEMORY:]
        if len(remembered) == _VALUE_MEMORY and abs(value - max(remembered)) <= self.tol * abs(history[0]):
            return "the objective stands still"
        if math.sqrt(self.pairs.gg) <= max(self.tol * abs(value), _LEAST_GRADIENT):
            return "the gradient is small"
        return None

    def _evaluate(self) -> float:
        self.evaluations += 1
        return self.vectors.evaluate()

    def _iterate(self, iteration: int, value: float) -> float:
        """One line search; the objective at the point that it found."""
        coefficients, slope = self.pairs.direction()
        first = 1.0 / math.sqrt(self.pairs.gg) if iteration == 0 else 1.0
        search = Search(Point(0.0, value, slope), first)
        trial = first
        move = Combine(TRIAL, {POINT: 1.0, **{name: trial * c for name, c in coefficients.items()}})
        slot = self.pairs.next_slot()
        while True:
            if trial * math.sqrt(self.pairs.gg) < _LEAST_STEP:
                raise LineSearchError(f"a step of {trial} moves nothing")
            self.vectors.run([move])
            value = self._evaluate()
            dots = self._measure(slot)
            point = Point(trial, value, dots[TRIAL_GRADIENT, f"s{slot}"] / trial)
            following = search.tell(point)
            if following is None:
                break
            ratio = following / trial
            move, trial = Combine(TRIAL, {POINT: 1.0 - ratio, TRIAL: ratio}), following
        self.vectors.run(_accept())
        self.pairs.take(slot, dots)
        return value

    def _measure(self, slot: int) -> dict[tuple[str, str], float]:
        """Dot products of the trial's gradient and pair with all vectors in use, in one pass."""
        step, change = f"s{slot}", f"y{slot}"
        used = [slot, *(i for i in self.pairs.order if i != slot)]
        left = (TRIAL_GRADIENT, step, change)
        right = (TRIAL_GRADIENT, *(f"{kind}{i}" for kind in "sy" for i in used))
        (table,) = self.vectors.run(
            [
                Combine(step, {TRIAL: 1.0, POINT: -1.0}),
                Combine(change, {TRIAL_GRADIENT: 1.0, POINT_GRADIENT: -1.0}),
                Gram(left, right),
            ]
        )
        return {(a, b): float(table[i, j]) for i, a in enumerate(left) for j, b in enumerate(right)}


def _accept() -> list[Operation]:
    """The trial point becomes the point."""
    return [Combine(POINT, {TRIAL: 1.0}), Combine(POINT_GRADIENT, {TRIAL_GRADIENT: 1.0})]


__all__ = [
    "POINT",
    "POINT_GRADIENT",
    "TRIAL",
    "TRIAL_GRADIENT",
    "Lbfgs",
    "LbfgsStanding",
    "Minimum",
    "Pairs",
    "Progress",
    "vector_names",
]
