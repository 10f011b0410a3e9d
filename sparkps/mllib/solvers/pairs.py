"""The history of a quasi-Newton method without vectors: dot products of steps and changes of gradient.

The search direction is a linear combination of the 2m + 1 vectors s_i, y_i and g, whose coefficients follow from their dot
products (Chen, Wang and Zhou, Large-scale L-BFGS using MapReduce, NIPS 2014).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sparkps.mllib.solvers.linesearch import LineSearchError


@dataclass
class Pairs:
    """The history of steps s and changes of gradient y, as dot products alone.

    Arrays are indexed by slot; `order` lists the slots in use, oldest first. The direction is sought from a point where the
    gradient is g; which vector that is the caller says.
    """

    size: int
    order: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        #: [i, j] = s_i·y_j
        self.sy = np.zeros((self.size, self.size))
        #: [i, j] = y_i·y_j
        self.yy = np.zeros((self.size, self.size))
        #: [i, j] = s_i·s_j
        self.ss = np.zeros((self.size, self.size))
        #: s_i·g and y_i·g.
        self.sg = np.zeros(self.size)
        self.yg = np.zeros(self.size)
        self.gg = 0.0

    def next_slot(self) -> int:
        """Where the next pair goes: a free slot, or the oldest pair's."""
        if len(self.order) < self.size:
            return next(slot for slot in range(self.size) if slot not in self.order)
        return self.order[0]

    def with_next(self, slot: int) -> list[int]:
        """The slots that are in use once `slot` has a pair, that one first."""
        return [slot, *(i for i in self.order if i != slot)]

    def take(self, slot: int, dots: dict[tuple[str, str], float], gradient: str) -> None:
        """The pair in `slot` and a new gradient were accepted; `dots` has their products with all vectors in use."""
        if slot in self.order:
            self.order.remove(slot)
        self.order.append(slot)
        self._note(slot, dots)
        self._look_from(dots, gradient)

    def pass_over(self, slot: int, dots: dict[tuple[str, str], float], gradient: str) -> None:
        """The new gradient was accepted, but not its pair in `slot`; one that was there before is lost."""
        if slot in self.order:
            self.order.remove(slot)
        self._look_from(dots, gradient)

    def _note(self, slot: int, dots: dict[tuple[str, str], float]) -> None:
        for i in self.order:
            self.sy[slot, i] = dots[f"s{slot}", f"y{i}"]
            self.sy[i, slot] = dots[f"y{slot}", f"s{i}"]
            self.yy[slot, i] = self.yy[i, slot] = dots[f"y{slot}", f"y{i}"]
            self.ss[slot, i] = self.ss[i, slot] = dots[f"s{slot}", f"s{i}"]

    def _look_from(self, dots: dict[tuple[str, str], float], gradient: str) -> None:
        for i in self.order:
            self.sg[i] = dots[gradient, f"s{i}"]
            self.yg[i] = dots[gradient, f"y{i}"]
        self.gg = dots[gradient, gradient]

    def standing(self) -> list[list[float]]:
        """All that is known, as plain numbers; see `restore`."""
        order = [float(slot) for slot in self.order]
        tables = [each.ravel().tolist() for each in (self.sy, self.yy, self.ss)]
        return [order, *tables, self.sg.tolist(), self.yg.tolist(), [self.gg]]

    def restore(self, standing: list[list[float]]) -> None:
        """Know what `standing` gave, to the last bit."""
        order, *tables, sg, yg, (self.gg,) = standing
        self.order = [int(slot) for slot in order]
        self.sy, self.yy, self.ss = (np.array(each).reshape(self.size, self.size) for each in tables)
        self.sg, self.yg = np.array(sg), np.array(yg)

    def forget(self) -> None:
        """Start again from steepest descent."""
        self.order.clear()

    def direction(self, gradient: str) -> tuple[dict[str, float], float]:
        """The two-loop recursion in coefficients.

        Parameters
        ----------
        gradient : str
            Name of the vector g.

        Returns
        -------
        coefficients : dict
            Of `gradient`, ``s<i>`` and ``y<i>``: their combination is the search direction d.
        slope : float
            d·g.

        Raises
        ------
        LineSearchError
            The last pair has negative curvature, or the direction is not finite.
        """
        of_s, of_y, of_g = np.zeros(self.size), np.zeros(self.size), -1.0
        alphas = {}
        for i in reversed(self.order):  # newest first
            along = of_g * self.sg[i] + float(self.sy[i] @ of_y)
            alphas[i] = along / self.sy[i, i]
            of_y[i] -= alphas[i]
        scale = self.scale()
        of_y, of_g = of_y * scale, of_g * scale
        for i in self.order:
            beta = (of_g * self.yg[i] + float(self.sy[:, i] @ of_s) + float(self.yy[i] @ of_y)) / self.sy[i, i]
            of_s[i] += alphas[i] - beta
        slope = of_g * self.gg + float(of_s @ self.sg) + float(of_y @ self.yg) if self.order else of_g * self.gg
        if not math.isfinite(slope):
            raise LineSearchError(f"the direction must be finite, and its slope is {slope}")
        coefficients = {gradient: of_g}
        for i in self.order:
            coefficients[f"s{i}"], coefficients[f"y{i}"] = float(of_s[i]), float(of_y[i])
        return coefficients, slope

    def scale(self) -> float:
        """Of the identity that the recursion begins with: s·y / y·y of the last pair.

        Raises
        ------
        LineSearchError
            The last pair has negative curvature.
        """
        if not self.order:
            return 1.0
        last = self.order[-1]
        curvature, squares = self.sy[last, last], self.yy[last, last]
        if not (curvature >= 0 and squares > 0):
            raise LineSearchError(f"the last step must have positive curvature, and it is {curvature}")
        return float(curvature / squares)


def names_of(slots: Sequence[int]) -> tuple[str, ...]:
    """Names of the steps in these slots, and then of the changes of gradient.

    Examples
    --------
    >>> names_of([2, 0])
    ('s2', 's0', 'y2', 'y0')
    """
    return tuple(f"{kind}{i}" for kind in "sy" for i in slots)


__all__ = ["Pairs", "names_of"]
