"""OWL-QN without vectors: L-BFGS for a smooth function plus an L1 norm with a weight for each element.

Andrew and Gao, Scalable training of L1-regularized log-linear models (ICML 2007). The direction of L-BFGS is sought from the
pseudo-gradient, brought into line with it, and searched along within one orthant; the history is that of the smooth function.
Line search, first step and convergence tests are those of breeze 2.1, which pyspark.ml runs, so that both take the same steps.
Like breeze it keeps elements without a weight within their orthant, too: one that wants to change its sign stops at 0 for
an iteration.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparkps.mllib.solvers.backtracking import Backtracking
from sparkps.mllib.solvers.linesearch import Point
from sparkps.mllib.solvers.operations import Combine, Gram, WeightedNorm, opposed, orthant_step, pseudo_gradient
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

#: The search direction; pseudo-gradients at the accepted point and at the trial point.
DIRECTION, POINT_PSEUDO, TRIAL_PSEUDO = "d", "q", "h"

#: Weights of the L1 norm, an element each, >= 0.
WEIGHTS = "l1"


class OwlQn(QuasiNewton):
    """Minimises what `vectors` evaluates plus Σ |weight·x|, with the weights in vector `WEIGHTS`; see `QuasiNewton`.

    Objectives that are reported have the L1 norm in them, and the gradient's norm is that of the pseudo-gradient.
    """

    title = "OWL-QN"

    slope = POINT_PSEUDO
    extra = (DIRECTION, POINT_PSEUDO, TRIAL_PSEUDO)
    given = (WEIGHTS,)

    #: The function at the accepted point without its L1 norm.
    _smooth = math.nan
    #: Norm of the gradient at the start, without what the L1 norm adds.
    _first_norm = math.nan

    def _started(self) -> float:
        self._smooth = self._evaluate()
        squares, smooth_squares, norm = self.vectors.run(
            [
                *accepted(),
                pseudo_gradient(POINT_PSEUDO, POINT_GRADIENT, POINT, WEIGHTS),
                Gram((POINT_PSEUDO,), (POINT_PSEUDO,)),
                Gram((POINT_GRADIENT,), (POINT_GRADIENT,)),
                WeightedNorm(POINT, WEIGHTS),
            ]
        )
        self.pairs.gg, self._first_norm = float(squares[0, 0]), math.sqrt(smooth_squares[0, 0])
        return self._smooth + float(norm)

    def _gradient_norm(self) -> float:
        return math.sqrt(self.pairs.gg)

    def _numbers(self) -> list[float]:
        return [self._smooth, self._first_norm]

    def _restore(self, numbers: Sequence[float]) -> None:
        self._smooth, self._first_norm = numbers

    def _iterate(self, iteration: int, value: float) -> float:
        search = self._search(iteration, value)
        slot = self.pairs.next_slot()
        step: float | None = search.step
        while step is not None:
            self.vectors.run([orthant_step(TRIAL, POINT, DIRECTION, POINT_PSEUDO, step)])
            smooth = self._evaluate()
            dots, norm = self._measure(slot)
            step = search.tell(Point(step, smooth + norm, dots[TRIAL_PSEUDO, DIRECTION]))
        self.vectors.run([*accepted(), Combine(POINT_PSEUDO, {TRIAL_PSEUDO: 1.0})])
        self.pairs.take(slot, dots, TRIAL_PSEUDO)
        self._smooth = smooth
        return smooth + norm

    def _search(self, iteration: int, value: float) -> Backtracking:
        """Choose the direction, and begin to search along it."""
        coefficients, _ = self.pairs.direction(POINT_PSEUDO)
        (found,) = self.vectors.run(
            [
                Combine(DIRECTION, coefficients),
                opposed(DIRECTION, POINT_PSEUDO),
                Gram((POINT_PSEUDO,), (DIRECTION,)),
            ]
        )
        start = Point(0.0, value, float(found[0, 0]))
        if iteration == 0 and self._first_norm > 0:
            return Backtracking(start, self._smooth, 0.5 / self._first_norm, 0.1)
        return Backtracking(start, self._smooth, 1.0, 0.5)

    def _measure(self, slot: int) -> tuple[Dots, float]:
        """Dot products of the trial's pseudo-gradient and pair with all vectors in use, and the L1 norm there, in one pass."""
        left = (TRIAL_PSEUDO, f"s{slot}", f"y{slot}")
        right = (TRIAL_PSEUDO, DIRECTION, *names_of(self.pairs.with_next(slot)))
        table, norm = self.vectors.run(
            [
                *new_pair(slot),
                pseudo_gradient(TRIAL_PSEUDO, TRIAL_GRADIENT, TRIAL, WEIGHTS),
                Gram(left, right),
                WeightedNorm(TRIAL, WEIGHTS),
            ]
        )
        return named(left, right, table), float(norm)


__all__ = ["DIRECTION", "WEIGHTS", "OwlQn"]
