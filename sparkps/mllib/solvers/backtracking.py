"""Backtracking line search as a state machine: told a point, it says where to look next.

Rules, constants and order of tests are those of breeze 2.1's `BacktrackingLineSearch`, as its OWL-QN calls it. The step shrinks
while the function is too high or its slope too flat, and grows while the slope is too steep: as the two factors are no
inverses of each other, it comes near a step that satisfies the strong Wolfe conditions.
"""

from __future__ import annotations

import math

from sparkps.mllib.solvers.linesearch import LineSearchError, Point

#: Sufficient decrease and curvature.
_C1, _C2 = 1e-4, 0.9

#: A step that is too short grows by this.
_GROW = 2.1

#: Steps outside of these are none.
_LEAST_STEP, _LARGEST_STEP = 1e-10, 1e10

#: After so many changes of the step the last but one is taken as it is.
_MAX_STEPS = 20


class Backtracking:
    """Looks for a step along a path that bends, such as that of projected points.

    Parameters
    ----------
    start : Point
        At t = 0; the slope is that of the direction before projection.
    before : float
        What the first step's value is taken to be when it is tested for sufficient decrease. breeze's OWL-QN gives the
        objective at the start without its L1 norm: unless that norm is next to nothing, the first step is judged by its slope alone.
    first : float
        The first step to try.
    shrink : float
        A step that is too long shrinks by this.

    Examples
    --------
    >>> def at(t): return Point(t, (t - 3) ** 2, 2 * (t - 3))
    >>> search = Backtracking(at(0.0), 8.0, 1.0, 0.5)
    >>> search.step, search.tell(at(1.0)) is None       # slope -4 against -6: flat enough
    (1.0, True)
    """

    def __init__(self, start: Point, before: float, first: float, shrink: float) -> None:
        self._start = start
        self._shrink = shrink
        #: Changes of the step so far.
        self._changes = 0
        #: The step that is asked for.
        self.step = first
        if self._too_high(before):  # whatever the function is there: it need not be looked at
            self._change(shrink)

    def tell(self, point: Point) -> float | None:
        """The function at `step`.

        Returns
        -------
        float or None
            The next step to try, or None: this one is taken.

        Raises
        ------
        LineSearchError
            The step has become too short or too long.
        """
        steep = _C2 * self._start.slope
        known = math.isfinite(point.value) and math.isfinite(point.slope)
        if not known or (self._changes and self._too_high(point.value)):
            factor = self._shrink
        elif point.slope < steep:
            factor = _GROW
        elif point.slope > -steep:
            factor = self._shrink
        else:
            return None
        before = self.step
        self._change(factor)
        if self._changes == _MAX_STEPS:
            self.step = before
            return None
        return self.step

    def _too_high(self, value: float) -> bool:
        return value > self._start.value + self.step * self._start.slope * _C1

    def _change(self, factor: float) -> None:
        changed = self.step * factor
        if not _LEAST_STEP <= changed <= _LARGEST_STEP:
            raise LineSearchError(f"a step must be between {_LEAST_STEP} and {_LARGEST_STEP}, and it is {changed}")
        self.step = changed
        self._changes += 1


__all__ = ["Backtracking"]
