"""L-BFGS without vectors: all that it holds are dot products; the vectors are named, and live elsewhere.

Line search, scaling of the first step, convergence tests and what happens after a failed search are those of breeze 2.1, which
pyspark.ml runs, so that both take the same steps.
"""

from __future__ import annotations

import math

from sparkps.mllib.solvers.linesearch import LineSearchError, Point, Search
from sparkps.mllib.solvers.operations import Combine, Gram
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

#: A step that moves less than this is none.
_LEAST_STEP = 1e-10


class Lbfgs(QuasiNewton):
    """Minimises a smooth function without constraints; see `QuasiNewton`."""

    title = "L-BFGS"

    def _started(self) -> float:
        value = self._evaluate()
        (found,) = self.vectors.run([*accepted(), Gram((TRIAL_GRADIENT,), (TRIAL_GRADIENT,))])
        self.pairs.gg = float(found[0, 0])
        return value

    def _gradient_norm(self) -> float:
        return math.sqrt(self.pairs.gg)

    def _iterate(self, iteration: int, value: float) -> float:
        coefficients, slope = self.pairs.direction(POINT_GRADIENT)
        if slope > 0:
            raise LineSearchError(f"the direction must descend, and its slope is {slope}")
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
        self.vectors.run(accepted())
        self.pairs.take(slot, dots, TRIAL_GRADIENT)
        return value

    def _measure(self, slot: int) -> Dots:
        """Dot products of the trial's gradient and pair with all vectors in use, in one pass."""
        left = (TRIAL_GRADIENT, f"s{slot}", f"y{slot}")
        right = (TRIAL_GRADIENT, *names_of(self.pairs.with_next(slot)))
        (table,) = self.vectors.run([*new_pair(slot), Gram(left, right)])
        return named(left, right, table)


__all__ = ["Lbfgs"]
