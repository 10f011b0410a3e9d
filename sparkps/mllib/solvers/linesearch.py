"""Strong-Wolfe line search as a state machine: told a point, it says where to look next.

The rules, constants and order of tests are those of breeze 2.1's `StrongWolfeLineSearch` (Nocedal and Wright, Numerical
Optimization, 2nd edition, algorithms 3.5 and 3.6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Sufficient decrease and curvature.
_C1, _C2 = 1e-4, 0.9

#: Steps of the bracketing and of the zooming phase, unless the caller says another number.
_MAX_STEPS = 10


class LineSearchError(Exception):
    """No step along this direction satisfies the strong Wolfe conditions."""


@dataclass(frozen=True)
class Point:
    """f and its derivative along the direction, at step `t`."""

    t: float
    value: float
    slope: float


class Search:
    """Looks for a step that satisfies the strong Wolfe conditions.

    Parameters
    ----------
    start : Point
        At t = 0.
    first : float
        The first step to try.
    bound : float, optional
        The longest step, at least `first`; one that descends enough is good there, however steep it still is.
    steps : int
        Of the bracketing and of the zooming phase.

    Examples
    --------
    >>> def at(t): return Point(t, (t - 3) ** 2, 2 * (t - 3))
    >>> search = Search(at(0.0), 1.0)
    >>> search.tell(at(1.0)) is None    # slope -4 against -6: flat enough
    True
    """

    def __init__(self, start: Point, first: float, bound: float = math.inf, steps: int = _MAX_STEPS) -> None:
        self._start, self._bound, self._most = start, bound, steps
        #: The step that was asked for.
        self._t = first
        #: Ends of the interval; `_high` is None while it is still open.
        self._low: Point = start
        self._high: Point | None = None
        self._steps = 0

    def tell(self, point: Point) -> float | None:
        """The function at the step that was asked for.

        Returns
        -------
        float or None
            The next step to try, or None: this one is good.

        Raises
        ------
        LineSearchError
            There is nothing left to try.
        """
        self._steps += 1
        if self._high is None:
            return self._bracket(point)
        return self._zoom(point)

    def _too_high(self, point: Point) -> bool:
        return point.value > self._start.value + _C1 * point.t * self._start.slope

    def _is_flat(self, point: Point) -> bool:
        return abs(point.slope) <= _C2 * abs(self._start.slope)

    def _bracket(self, point: Point) -> float | None:
        """Algorithm 3.5."""
        if not math.isfinite(point.value):
            self._t /= 2.0
        elif self._too_high(point) or (point.value >= self._low.value and self._steps > 1):
            return self._close(self._low, point)
        elif self._is_flat(point):
            return None
        elif point.slope >= 0:
            return self._close(point, self._low)
        elif point.t >= self._bound:
            return None
        else:
            self._low = point
            self._t = min(1.5 * self._t, self._bound)
        if self._steps == self._most:
            raise LineSearchError("it found no interval that holds a minimum")
        return self._t

    def _close(self, low: Point, high: Point) -> float:
        self._low, self._high, self._steps = low, high, 0
        return self._between(low, high)

    def _zoom(self, point: Point) -> float | None:
        """Algorithm 3.6."""
        assert self._high is not None, "the interval is closed"
        if self._too_high(point) or point.value >= self._low.value or not math.isfinite(point.value):
            self._high = point
        else:
            if self._is_flat(point):
                return None
            if point.slope * (self._high.t - self._low.t) >= 0:
                self._high = self._low
            self._low = point
        if self._steps == self._most:
            raise LineSearchError("it found no good step within its interval")
        return self._between(self._low, self._high)

    def _between(self, a: Point, b: Point) -> float:
        """Minimum of the cubic through both points (page 59), kept off the ends."""
        left, right = (b, a) if a.t > b.t else (a, b)
        width = right.t - left.t
        d1 = left.slope + right.slope - 3 * (left.value - right.value) / (left.t - right.t)
        inner = d1 * d1 - left.slope * right.slope
        t = math.nan
        if inner >= 0:
            d2 = math.sqrt(inner)
            divisor = right.slope - left.slope + 2 * d2
            t = right.t - width * (right.slope + d2 - d1) / divisor if divisor else math.nan
        if not math.isfinite(t):
            t = left.t + 0.5 * width
        return min(max(t, left.t + 0.1 * width), left.t + 0.9 * width)


__all__ = ["LineSearchError", "Point", "Search"]
