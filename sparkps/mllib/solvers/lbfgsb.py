"""L-BFGS-B: a smooth function under bounds.

Byrd, Lu, Nocedal and Zhu, A limited memory algorithm for bound constrained optimization (SIAM J. Scientific Computing 16, 1995).
Line search, convergence tests and what happens after a failed search are those of breeze 2.1, which pyspark.ml runs, so that both take
the same steps and end at the same point.

Elements that have a bound are at the driver, one by one. All others are known by dot products alone, as in `lbfgs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.solvers.compact import (
    CauchyPoint,
    Direction,
    Model,
    cauchy_point,
    from_cauchy,
    longest,
    middle_of,
    subspace_minimum,
)
from sparkps.mllib.solvers.linesearch import LineSearchError, Point, Search
from sparkps.mllib.solvers.operations import Combine, Extreme, Gram, Vectors, product
from sparkps.mllib.solvers.pairs import names_of
from sparkps.mllib.solvers.quasi_newton import (
    POINT,
    POINT_GRADIENT,
    TRIAL,
    TRIAL_GRADIENT,
    Dots,
    QuasiNewton,
    SolverStanding,
    accepted,
    named,
    new_pair,
)

Array = NDArray[Any]

#: The search direction, and the trial's gradient, both 0 in elements that have a bound.
DIRECTION, UNBOUNDED_GRADIENT = "d", "r"

#: Bounds of each element; 1 for elements that are left to dot products, because none in their row has a bound, else 0.
LOWER, UPPER, UNBOUNDED = "lower", "upper", "u"

#: Steps of the phases of a line search.
_SEARCH_STEPS = 64

#: Ends when a step along -g, cut off at the bounds, moves no element by so much.
_LEAST_MOVE = 1e-5

#: A pair is remembered if s·y is above this times the norm of y.
_LEAST_CURVATURE = 2.2e-16


class BoundedVectors(Vectors, Protocol):
    """What L-BFGS-B needs of its vectors. The elements that have a bound are in one order, always."""

    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper bounds of the elements that have any, float64 (n,); infinite on a side where there is none.

        They may be asked for once the start was evaluated: while it is, those who know bounds may be writing them.
        """

    def bounded(self, *names: str) -> list[Array]:
        """The values of these elements in vectors, float64 (n,) each."""

    def place(self, values: Array) -> None:
        """Write these elements of the trial point."""

    def begin(self, values: Array) -> None:
        """Write these elements of the start, and change others with them where coordinates ask for it."""


class LbfgsB(QuasiNewton):
    """Minimises a smooth function with elements between bounds; see `QuasiNewton`. Its vectors must be `BoundedVectors`.

    A start outside of the bounds is evaluated, and then brought within them.
    """

    title = "L-BFGS-B"

    extra = (DIRECTION, UNBOUNDED_GRADIENT)
    given = (LOWER, UPPER, UNBOUNDED)

    vectors: BoundedVectors

    #: Largest element of P(x - g) - x at the accepted point, with P the projection onto the bounds.
    _residual = 0.0

    def _started(self) -> float:
        value = self._evaluate()
        self._lower, self._upper = self.vectors.bounds()
        (start,) = self.vectors.bounded(TRIAL)
        within = np.clip(start, self._lower, self._upper)
        if (within != start).any():
            self.vectors.begin(within)
            value = self._evaluate()
        dots, largest = self._measure((TRIAL_GRADIENT,), (TRIAL_GRADIENT,))
        self.pairs.gg = dots[TRIAL_GRADIENT, TRIAL_GRADIENT]
        self.vectors.run(accepted())
        self._load((), *self.vectors.bounded(TRIAL, TRIAL_GRADIENT))
        self._residual = self._moves(largest)
        return value

    def _load(self, pairs: Sequence[tuple[int, Array, Array]], point: Array, gradient: Array) -> None:
        """Know the elements that have a bound: of each slot's pair, of the point and of its gradient."""
        self._steps = {slot: s for slot, s, _ in pairs}
        self._changes = {slot: y for slot, _, y in pairs}
        self._point, self._gradient = point, gradient

    def _gradient_norm(self) -> float:
        return float(np.sqrt(self.pairs.gg + self._gradient @ self._gradient))

    def _converged(self, iteration: int, history: list[float]) -> str | None:
        if self._residual < _LEAST_MOVE:
            return "the gradient leads nowhere within the bounds"
        return super()._converged(iteration, history)

    def _numbers(self) -> list[float]:
        return [self._residual]

    def _restored(self, begun: SolverStanding) -> list[float]:
        history = super()._restored(begun)
        (self._residual,) = begun.numbers
        self._lower, self._upper = self.vectors.bounds()
        order = self.pairs.order
        point, gradient, *pairs = self.vectors.bounded(POINT, POINT_GRADIENT, *names_of(order))
        self._load(list(zip(order, pairs[: len(order)], pairs[len(order) :], strict=True)), point, gradient)
        return history

    def _restore(self, numbers: Sequence[float]) -> None:
        """All are taken up with the vectors."""

    # ---- an iteration --------------------------------------------------------------------------------------------------

    def _iterate(self, iteration: int, value: float) -> float:
        model = self._model()
        found: CauchyPoint = cauchy_point(model)
        direction = subspace_minimum(model, found) if iteration else from_cauchy(model, found)
        slope = self._direct(direction, model.theta)
        bound = max(1.0, longest(self._point, direction.bounded, self._lower, self._upper))
        search = Search(Point(0.0, value, slope), 1.0, bound, _SEARCH_STEPS)
        slot = self.pairs.next_slot()
        right = (TRIAL_GRADIENT, DIRECTION, *names_of(self.pairs.with_next(slot)))
        step: float | None = 1.0
        while step is not None:
            point = np.clip(self._point + step * direction.bounded, self._lower, self._upper)
            self.vectors.run([Combine(TRIAL, {POINT: 1.0, DIRECTION: step})])
            self.vectors.place(point)
            value = self._evaluate()
            dots, largest = self._measure((TRIAL_GRADIENT, f"s{slot}", f"y{slot}"), right, slot)
            (gradient,) = self.vectors.bounded(TRIAL_GRADIENT)
            step = search.tell(Point(step, value, dots[TRIAL_GRADIENT, DIRECTION] + float(gradient @ direction.bounded)))
        self.vectors.run(accepted())
        self._take(slot, dots, point, gradient)
        self._residual = self._moves(largest)
        return value

    def _model(self) -> Model:
        """The quadratic model at the point."""
        pairs, order = self.pairs, self.pairs.order
        point, gradient, bounds = self._point, self._gradient, (self._lower, self._upper)
        k, n, chosen = len(order), len(point), np.ix_(order, order)
        s = np.array([self._steps[i] for i in order]).reshape(k, n).T
        y = np.array([self._changes[i] for i in order]).reshape(k, n).T
        sy, ss, yy = pairs.sy[chosen], pairs.ss[chosen], pairs.yy[chosen]
        whole = sy + s.T @ y
        last = k - 1
        theta = float((yy[last, last] + y[:, last] @ y[:, last]) / whole[last, last]) if order else 1.0
        return Model(
            point, gradient, *bounds,
            w=np.hstack([y, theta * s]),
            ww=np.block([[yy, theta * sy.T], [theta * sy, theta**2 * ss]]),
            wg=np.append(pairs.yg[order], theta * pairs.sg[order]),
            gg=pairs.gg,
            theta=theta,
            middle=middle_of(whole, ss + s.T @ s, theta) if order else np.zeros((0, 0)),
        )  # fmt: skip

    def _direct(self, direction: Direction, theta: float) -> float:
        """Have the direction made; its slope."""
        of_y, of_s = np.split(direction.columns, 2)
        terms = {POINT_GRADIENT: direction.along}
        for i, along_y, along_s in zip(self.pairs.order, of_y, theta * of_s, strict=True):
            terms[f"y{i}"], terms[f"s{i}"] = float(along_y), float(along_s)
        if not (np.isfinite(list(terms.values())).all() and np.isfinite(direction.bounded).all()):
            raise LineSearchError("the direction must be finite")
        (found,) = self.vectors.run(
            [Combine(DIRECTION, terms), product(DIRECTION, UNBOUNDED), Gram((POINT_GRADIENT,), (DIRECTION,))]
        )
        slope = float(found[0, 0]) + float(self._gradient @ direction.bounded)
        if not slope <= 0:
            raise LineSearchError(f"the direction must descend, and its slope is {slope}")
        return slope

    def _measure(self, left: tuple[str, ...], right: tuple[str, ...], slot: int | None = None) -> tuple[Dots, float]:
        """Of elements without bounds at the trial: dot products, and the largest of the gradient; makes the pair in `slot`."""
        table, largest, smallest = self.vectors.run(
            [
                *(() if slot is None else new_pair(slot)),
                Gram(left, right, UNBOUNDED),
                Combine(UNBOUNDED_GRADIENT, {TRIAL_GRADIENT: 1.0}),
                product(UNBOUNDED_GRADIENT, UNBOUNDED),
                Extreme(UNBOUNDED_GRADIENT, "max"),
                Extreme(UNBOUNDED_GRADIENT, "min"),
            ]
        )
        return named(left, right, table), max(float(largest), -float(smallest), 0.0)

    def _moves(self, largest: float) -> float:
        """The largest element of P(x - g) - x, where that of elements without bounds is known."""
        moved = np.clip(self._point - self._gradient, self._lower, self._upper) - self._point
        return max(largest, float(np.abs(moved).max(initial=0.0)))

    def _take(self, slot: int, dots: Dots, point: Array, gradient: Array) -> None:
        """The trial was accepted: remember its pair where it has curvature."""
        s, y = point - self._point, gradient - self._gradient
        curvature = dots[f"s{slot}", f"y{slot}"] + float(s @ y)
        squares = dots[f"y{slot}", f"y{slot}"] + float(y @ y)
        if curvature > _LEAST_CURVATURE * np.sqrt(squares):
            self._steps[slot], self._changes[slot] = s, y
            self.pairs.take(slot, dots, TRIAL_GRADIENT)
        else:
            self.pairs.pass_over(slot, dots, TRIAL_GRADIENT)
        self._point, self._gradient = point, gradient


__all__ = ["DIRECTION", "LOWER", "UNBOUNDED", "UNBOUNDED_GRADIENT", "UPPER", "BoundedVectors", "LbfgsB"]
