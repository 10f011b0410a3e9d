"""Gradient descent over all rows by steps of one factor, on the vectors of the quasi-Newton solvers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparkps.mllib.solvers.operations import Combine, Gram
from sparkps.mllib.solvers.quasi_newton import POINT, POINT_GRADIENT, TRIAL, TRIAL_GRADIENT, QuasiNewton, accepted

#: pyspark.mllib's GradientDescent compares points from the second step on.
_FIRST_COMPARED = 2


class FixedSteps(QuasiNewton):
    """Every step is `step_size` times the gradient, downwards; see `QuasiNewton`.

    It ends where pyspark.mllib's GradientDescent does: after a step of norm below ``tol·max(‖w‖, 1)``.
    """

    title = "gradient descent"

    #: ‖gradient‖² and ‖w‖² at the point, and the norm of the step to it.
    _squares = _size = _moved = 0.0

    @classmethod
    def vector_names(cls, history: int) -> list[str]:
        """All vectors: there are no pairs.

        Examples
        --------
        >>> FixedSteps.vector_names(10)
        ['w', 'p', 'x', 'g']
        """
        return [POINT, POINT_GRADIENT, TRIAL, TRIAL_GRADIENT]

    def _started(self) -> float:
        value = self._evaluate()
        self._accept()
        return value

    def _iterate(self, iteration: int, value: float) -> float:
        self._moved = self.step_size * self._gradient_norm()
        self.vectors.run([Combine(TRIAL, {POINT: 1.0, POINT_GRADIENT: -self.step_size})])
        value = self._evaluate()
        self._accept()
        return value

    def _accept(self) -> None:
        measured = Gram((TRIAL_GRADIENT,), (TRIAL_GRADIENT,)), Gram((TRIAL,), (TRIAL,))
        squares, size = self.vectors.run([*accepted(), *measured])
        self._squares, self._size = float(squares[0, 0]), float(size[0, 0])

    def _gradient_norm(self) -> float:
        return math.sqrt(self._squares)

    def _numbers(self) -> list[float]:
        return [self._squares, self._size, self._moved]

    def _restore(self, numbers: Sequence[float]) -> None:
        self._squares, self._size, self._moved = numbers

    def _converged(self, iteration: int, history: list[float]) -> str | None:
        if iteration >= self.max_iter:
            return "maxIter was reached"
        still = iteration >= _FIRST_COMPARED and self._moved < self.tol * max(math.sqrt(self._size), 1.0)
        return "the coefficients moved less than tol" if still else None


__all__ = ["FixedSteps"]
