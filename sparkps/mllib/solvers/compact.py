"""The quadratic model of L-BFGS-B, in the compact form of its Hessian, and where it is least within the bounds.

Byrd, Lu, Nocedal and Zhu, A limited memory algorithm for bound constrained optimization (SIAM J. Scientific Computing 16, 1995):
B = θI - W·M·Wᵀ (section 3), the generalized Cauchy point (section 4), and the direct primal method (section 5.1).

Only elements that have a bound are met one by one. For all others the path along -g has no corners and every formula treats them
alike, so that of them dot products are enough: they may be any number, and live elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.solvers.linesearch import LineSearchError

Array = NDArray[Any]

#: Corners of the path that are looked at together.
_BLOCK = 512


@dataclass(frozen=True, eq=False)
class Model:
    """m(x + p) = f + g·p + p·B·p / 2, with k pairs: W = [Y, θS]. Arrays are float64."""

    #: (n,): of the elements that have a bound. Bounds may be infinite; the point is between them.
    point: Array
    gradient: Array
    lower: Array
    upper: Array
    #: (n, 2k): their rows of W.
    w: Array
    #: Of all other elements, where Z takes these alone: (ZW)ᵀ(ZW), (ZW)ᵀ(Zg) and |Zg|².
    ww: Array
    wg: Array
    gg: float
    theta: float
    #: M, (2k, 2k).
    middle: Array


@dataclass(frozen=True, eq=False)
class CauchyPoint:
    """The first minimum of the model along the projected steepest descent."""

    #: (n,): elements that have a bound.
    point: Array
    #: All others are at x - step·g.
    step: float
    #: Wᵀ times the way there, (2k,).
    c: Array


@dataclass(frozen=True, eq=False)
class Direction:
    """A way that keeps within the bounds."""

    #: (n,): of the elements that have a bound.
    bounded: Array
    #: Of all others: how much of the gradient, and of each column of W, (2k,).
    along: float
    columns: Array


def middle_of(sy: Array, ss: Array, theta: float) -> Array:
    """M of the compact form (equation 3.4).

    Parameters
    ----------
    sy, ss : ndarray of shape (k, k)
        Dot products of steps with changes of gradient, and of steps; oldest first.
    theta : float

    Raises
    ------
    LineSearchError
        The pairs are as good as linearly dependent.
    """
    lower = np.tril(sy, -1)
    try:
        return np.asarray(np.linalg.inv(np.block([[-np.diag(np.diag(sy)), lower.T], [lower, theta * ss]])))
    except np.linalg.LinAlgError as error:
        raise LineSearchError("the pairs give no model") from error


def cauchy_point(model: Model) -> CauchyPoint:
    """Algorithm CP of section 4, with the corners of the path taken in blocks.

    Raises
    ------
    LineSearchError
        The model has no minimum along the path.
    """
    times = _corners(model)
    moving = np.where(times > 0, -model.gradient, 0.0)
    corners = np.flatnonzero((times > 0) & np.isfinite(times))
    corners = corners[np.argsort(times[corners], kind="stable")]
    path = _Path.begun(model, moving)
    passed = 0
    while passed < len(corners):
        block = corners[passed : passed + _BLOCK]
        path, count = path.through(model, block, times[block])
        passed += count
        if count < len(block):
            break
    at_end = not model.gg and not np.delete(moving, corners[:passed]).any()
    rest = 0.0 if at_end else max(path.rest, 0.0)
    step = path.time + rest
    if not np.isfinite(step):
        raise LineSearchError("the model has no minimum along the gradient")
    point = model.point + step * moving
    held = corners[:passed]
    point[held] = np.where(moving[held] > 0, model.upper[held], model.lower[held])
    return CauchyPoint(np.clip(point, model.lower, model.upper), step, path.c + rest * path.p)


def _corners(model: Model) -> Array:
    """When each element comes to its bound along -g; inf: never."""
    g = model.gradient
    room = np.where(g < 0, model.point - model.upper, model.point - model.lower)
    with np.errstate(over="ignore"):
        times: Array = np.divide(room, g, out=np.full(len(g), np.inf), where=g != 0)
    return times


@dataclass(frozen=True, eq=False)
class _Path:
    """Where the walk along -g is: at a corner, with what is left to move."""

    time: float
    #: Derivatives of the model along the next segment, at its begin.
    first: float
    second: float
    #: Wᵀ times the direction of that segment, and times the way so far.
    p: Array
    c: Array

    @classmethod
    def begun(cls, model: Model, moving: Array) -> _Path:
        p = model.w.T @ moving - model.wg
        first = -float(moving @ moving) - model.gg
        return cls(0.0, first, -model.theta * first - float(p @ model.middle @ p), p, np.zeros(len(p)))

    @property
    def rest(self) -> float:
        """How far the minimum of this segment is."""
        return float(_minima(np.array([self.first]), np.array([self.second]))[0])

    def through(self, model: Model, block: Array, times: Array) -> tuple[_Path, int]:
        """The path at the last of these corners that is not behind the minimum, and how many it has passed."""
        g, w, middle = model.gradient[block], model.w[block], model.middle
        bounds = np.where(g < 0, model.upper[block], model.lower[block])
        spans = np.diff(times, prepend=self.time)
        p = np.cumsum(np.vstack([self.p, w * g[:, None]]), axis=0)
        c = np.cumsum(np.vstack([self.c, p[:-1] * spans[:, None]]), axis=0)
        wm = w @ middle
        bends = -model.theta * g**2 - 2 * g * np.sum(wm * p[:-1], axis=1) - g**2 * np.sum(wm * w, axis=1)
        second = np.cumsum(np.append(self.second, bends))
        rises = spans * second[:-1] + g**2 + model.theta * g * (bounds - model.point[block]) - g * np.sum(wm * c[1:], axis=1)
        first = np.cumsum(np.append(self.first, rises))
        beyond = ~(spans <= _minima(first, second)[:-1])
        count = int(beyond.argmax()) if beyond.any() else len(block)
        time = float(times[count - 1]) if count else self.time
        return _Path(time, float(first[count]), float(second[count]), p[count], c[count]), count


def _minima(first: Array, second: Array) -> Array:
    """Where parabolas have their minima; NaN and infinities where they have none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return -first / second


def from_cauchy(model: Model, found: CauchyPoint) -> Direction:
    """The way to the Cauchy point."""
    return Direction(found.point - model.point, -found.step, np.zeros(len(found.c)))


def subspace_minimum(model: Model, found: CauchyPoint) -> Direction:
    """The way to the model's minimum over the elements that the Cauchy point leaves free, cut off where it leaves the bounds.

    Raises
    ------
    LineSearchError
        There is none.
    """
    theta, w = model.theta, model.w
    free = (found.point != model.lower) & (found.point != model.upper)
    mc = model.middle @ found.c
    part = 1 - theta * found.step  # of the gradient, in the residual of elements without bounds
    residual = (model.gradient + theta * (found.point - model.point) - w @ mc)[free]
    projected = w[free].T @ residual + part * model.wg - model.ww @ mc
    system = np.eye(len(mc)) - model.middle @ (w[free].T @ w[free] + model.ww) / theta
    try:
        v = np.linalg.solve(system, model.middle @ projected)
    except np.linalg.LinAlgError as error:
        raise LineSearchError("the model has no minimum among the free elements") from error
    step = np.zeros(len(w))
    step[free] = -(residual / theta + w[free] @ v / theta**2)
    alpha = _within(found.point, step, model.lower, model.upper)
    point = np.clip(found.point + alpha * step, model.lower, model.upper)
    return Direction(point - model.point, -found.step - alpha * part / theta, alpha * (mc / theta - v / theta**2))


def _within(point: Array, step: Array, lower: Array, upper: Array) -> float:
    """The largest part of a step, at most 1, that keeps within the bounds."""
    return min(1.0, longest(point, step, lower, upper))


def longest(point: Array, step: Array, lower: Array, upper: Array) -> float:
    """The multiple of a step at which the first element comes to its bound; inf: none does.

    Examples
    --------
    >>> longest(np.zeros(2), np.array([1.0, -2.0]), np.array([-5.0, -3.0]), np.array([np.inf, 9.0]))
    1.5
    """
    room = np.where(step > 0, upper - point, lower - point)
    with np.errstate(over="ignore"):
        parts = np.divide(room, step, out=np.full(len(step), np.inf), where=step != 0)
    return float(parts.min(initial=np.inf))


__all__ = ["CauchyPoint", "Direction", "Model", "cauchy_point", "from_cauchy", "longest", "middle_of", "subspace_minimum"]
