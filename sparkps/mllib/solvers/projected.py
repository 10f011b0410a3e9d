"""L-BFGS under bounds without vectors, by two-metric projection.

Bertsekas, Projected Newton methods for optimization problems with simple constraints (SIAM J. Control and Optimization 20, 1982);
Schmidt, Kim and Sra, Projected Newton-type methods in machine learning (2011), section 3. Elements that are held by a bound
move along the gradient alone, the others along the direction of L-BFGS on the space that they span, and all of them are clipped to
their bounds. It reaches the minimum that L-BFGS-B (Byrd, Lu, Nocedal and Zhu 1995) reaches, by other steps: no points of
change are sorted, which would need all elements in one place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparkps.mllib.solvers.linesearch import LineSearchError
from sparkps.mllib.solvers.operations import Combine, Gram, Operation, clip, free, product
from sparkps.mllib.solvers.pairs import names_of
from sparkps.mllib.solvers.quasi_newton import (
    POINT,
    POINT_GRADIENT,
    TRIAL,
    TRIAL_GRADIENT,
    Dots,
    QuasiNewton,
    accepted,
    named,
    new_pair,
)

#: The search direction; what a step along the gradient comes to within the bounds.
DIRECTION, RESIDUAL = "d", "r"

#: 1 for each element that no bound holds, else 0: at the accepted point and at the trial point.
POINT_FREE, TRIAL_FREE = "f", "e"

#: Bounds of each element.
LOWER, UPPER = "lower", "upper"

#: Of the decrease that the direction promises, what a step must give.
_C1 = 1e-4

#: A step with less curvature, in comparison with the squares of the gradient's change, is not remembered.
_LEAST_CURVATURE = 1e-10

#: Elements within this of a bound may count as held by it.
_MARGIN = 1e-3

#: Steps of one line search.
_MAX_STEPS = 40


class ProjectedLbfgs(QuasiNewton):
    """Minimises a smooth function with each element between the bounds in vectors `LOWER` and `UPPER`; see `QuasiNewton`.

    A start outside of the bounds is evaluated, and then clipped to them. The gradient's norm is that of P(x - g) - x, with P the
    projection onto the bounds: it is 0 at a minimum.
    """

    extra = (DIRECTION, RESIDUAL, POINT_FREE, TRIAL_FREE)
    given = (LOWER, UPPER)

    #: Norm of `RESIDUAL` at the accepted point.
    _residual = 0.0
    #: s·y / y·y of the last pair that is remembered, over all elements.
    _scale = 1.0

    def _started(self) -> float:
        value = self._evaluate()
        # Bounds are read for the first time now: while the start is evaluated, those who know them may be writing them.
        (outside,) = self.vectors.run(
            [
                Combine(RESIDUAL, {TRIAL: 1.0}),
                clip(RESIDUAL, LOWER, UPPER),
                Combine(RESIDUAL, {RESIDUAL: 1.0, TRIAL: -1.0}),
                Gram((RESIDUAL,), (RESIDUAL,)),
            ]
        )
        if outside[0, 0] > 0:
            self.vectors.run([clip(TRIAL, LOWER, UPPER)])
            value = self._evaluate()
        squares, dots = self.vectors.run(
            [
                *self._looking(),
                Gram((RESIDUAL,), (RESIDUAL,)),
                Gram((TRIAL_GRADIENT,), (TRIAL_GRADIENT,), TRIAL_FREE),
                *self._accepting(),
            ]
        )
        self._residual, self.pairs.gg = math.sqrt(squares[0, 0]), float(dots[0, 0])
        return value

    def _gradient_norm(self) -> float:
        return self._residual

    def _numbers(self) -> list[float]:
        return [self._residual, self._scale]

    def _restore(self, numbers: Sequence[float]) -> None:
        self._residual, self._scale = numbers

    def _looking(self) -> list[Operation]:
        """Residual of the trial point, and which of its elements are free."""
        return [
            Combine(RESIDUAL, {TRIAL: 1.0, TRIAL_GRADIENT: -1.0}),
            clip(RESIDUAL, LOWER, UPPER),
            Combine(RESIDUAL, {RESIDUAL: 1.0, TRIAL: -1.0}),
            # A margin that shrinks with the residual: elements about to be held do not shorten the steps of all others.
            free(TRIAL_FREE, TRIAL, TRIAL_GRADIENT, LOWER, UPPER, min(_MARGIN, self._residual)),
        ]

    def _accepting(self) -> list[Operation]:
        return [*accepted(), Combine(POINT_FREE, {TRIAL_FREE: 1.0})]

    # ---- an iteration --------------------------------------------------------------------------------------------------

    def _iterate(self, iteration: int, value: float) -> float:
        slope = self._direct()
        step = 1.0 if self.pairs.order else min(1.0, 1.0 / self._residual)
        slot = self.pairs.next_slot()
        for _ in range(_MAX_STEPS):
            self.vectors.run([Combine(TRIAL, {POINT: 1.0, DIRECTION: step}), clip(TRIAL, LOWER, UPPER)])
            found = self._evaluate()
            whole, held, dots, residual = self._measure(slot)
            promised = step * slope + held
            if found <= value + _C1 * promised:
                break
            step *= _shrinking(value, found, promised)
        else:
            raise LineSearchError(f"a step of {step} does not decrease the function")
        self.vectors.run(self._accepting())
        self._take(slot, whole, dots)
        self._residual = residual
        return found

    def _direct(self) -> float:
        """Have the direction made; its slope over the free elements."""
        used = [i for i in self.pairs.order if self.pairs.sy[i, i] > _LEAST_CURVATURE * self.pairs.yy[i, i]]
        coefficients, slope = self.pairs.among(used).direction(POINT_GRADIENT)
        if slope > 0:
            raise LineSearchError(f"the direction must descend, and its slope is {slope}")
        along = self._scale if self.pairs.order else 1.0
        apart = {**coefficients, POINT_GRADIENT: coefficients[POINT_GRADIENT] + along}
        self.vectors.run(
            [
                Combine(DIRECTION, apart),
                product(DIRECTION, POINT_FREE),
                Combine(DIRECTION, {DIRECTION: 1.0, POINT_GRADIENT: -along}),
            ]
        )
        return slope

    def _measure(self, slot: int) -> tuple[Dots, float, Dots, float]:
        """What a trial comes to, in one pass.

        Returns
        -------
        whole : dict
            s·y and y·y of the trial's pair over all elements.
        held : float
            Gradient times step over the elements that were held at the accepted point.
        dots : dict
            Over the elements that are free at the trial: products of its gradient and of all pairs.
        residual : float
        """
        s, y = f"s{slot}", f"y{slot}"
        used = (TRIAL_GRADIENT, *names_of(self.pairs.with_next(slot)))
        pair, moved, dots, squares = self.vectors.run(
            [
                *new_pair(slot),
                *self._looking(),
                Gram((s, y, POINT_GRADIENT), (s, y)),
                Gram((POINT_GRADIENT,), (s,), POINT_FREE),
                Gram(used, used, TRIAL_FREE),
                Gram((RESIDUAL,), (RESIDUAL,)),
            ]
        )
        whole = named((s, y, POINT_GRADIENT), (s, y), pair)
        held = min(whole[POINT_GRADIENT, s] - float(moved[0, 0]), 0.0)
        return whole, held, named(used, used, dots), math.sqrt(squares[0, 0])

    def _take(self, slot: int, whole: Dots, dots: Dots) -> None:
        """Remember the accepted trial's pair where it has curvature, and all products over the elements that are free now."""
        curvature, squares = whole[f"s{slot}", f"y{slot}"], whole[f"y{slot}", f"y{slot}"]
        order = [i for i in self.pairs.order if i != slot]
        if curvature > _LEAST_CURVATURE * squares:
            order.append(slot)
            self._scale = curvature / squares
        self.pairs.take_all(order, dots, TRIAL_GRADIENT)


def _shrinking(value: float, found: float, promised: float) -> float:
    """By how much to shorten a step: to the minimum of a parabola, kept off the ends."""
    if not math.isfinite(found):
        return 0.1
    return min(max(0.5 * promised / (promised - (found - value)), 0.1), 0.5)


__all__ = ["LOWER", "UPPER", "ProjectedLbfgs"]
