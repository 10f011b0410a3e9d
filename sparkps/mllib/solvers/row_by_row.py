"""The kernel of learning row by row: each row moves the coefficients of its features before the next one is looked at.

The steps are adaptive (divided by the root of the sum of a coefficient's squared gradients), normalized (features are taken in
units in which none is larger than the others) and importance-invariant (a row of weight 2 counts like two rows, and no step leads
past the point where the row's loss is least): Karampatziakis and Langford, *Online importance weight aware updates*, UAI 2011;
Ross, Mineiro and Langford, *Normalized online learning*, UAI 2013.

With x̂ the value of a feature times its scale, u the coefficient divided by it, and G the sum of squared gradients by u, a row with
margin m = b + Σ x̂·u and derivative g of its loss does, for each of its features,

    G ← G + weight·g²·x̂²;  r = x̂ / sqrt(G);  u ← u + r·(m' − m) / Σ x̂·r

where m' is the margin at time rate·weight·Σ x̂·r of the flow dm/dt = −derivative(m): what infinitely many small steps would come to.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from sparkps.kernels.compiled import FLOATS, Kernel, array, given, inlined, kernel
from sparkps.kernels.intrinsics import data, prefetch

_I32, _F32, _F64, _I64 = types.int32, types.float32, types.float64, types.int64

#: Columns of the state of a feature: coefficient and sum of squared gradients in its unit, its scale, and rows that had it.
COEFFICIENT, SQUARES, SCALE, ROWS = range(4)
COLUMNS = 4

#: Features whose state is asked for ahead of its use, and the number of features from which on that pays.
_AHEAD, _FAR = 96, 1 << 15

#: Below it a sum of squared gradients is taken for 0 that a float32 could not tell from it.
_TINY = np.float32(1e-30)

#: A loss over a block of rows: (margins, labels, count, room, losses, derivatives), as losses of linear models have it.
Block = Callable[[Any, Any, int, Any, Any, Any], None]

#: How a margin moves: (margin, label, time) -> its change along dm/dt = -derivative(m).
Flow = Callable[[float, float, float], float]

#: Pieces into which `flow_of` cuts the time.
_PIECES = 4


def flow_of(derivative: Callable[[float, float], float]) -> Flow:
    """The flow of any convex loss, from the derivative of the loss alone.

    Each of four pieces of the time is an exponential step with the curvature between here and where a plain step would lead: exact
    for squared losses, of second order for others, and never past the least loss.

    Parameters
    ----------
    derivative : callable
        Of (margin, label); it is compiled.
    """
    slope = inlined(derivative)

    def flow(margin: float, label: float, time: float) -> float:
        """Change of the margin."""
        at, piece = margin, time / _PIECES
        for _ in range(_PIECES):
            here = slope(at, label)
            if here == 0.0:
                break
            there = slope(at - piece * here, label)
            curvature = min(max(1.0 - there / here, 0.0), 700.0)
            at -= piece * here * (-math.expm1(-curvature) / curvature if curvature > 1e-12 else 1.0)
        return at - margin

    return flow


def row_by_row(name: str, loss: Block, flow: Flow) -> Kernel:
    """The kernel of a loss.

    Parameters
    ----------
    name : str
        Names the kernel's file in the cache.
    loss : Block
        The kernel counts as declared by the module of this function.
    flow : callable
        Of the same loss, see `Flow`.

    Returns
    -------
    Kernel
        For values of float32 and float64.
    """
    of_block, change_of = inlined(loss), inlined(flow)

    def run(
        indptr: Any, ids: Any, values: Any, labels: Any, weights: Any, offsets: Any, state: Any, bias: int, rate: float,
        l1: float, l2: float, ages: Any, age: float, room: Any, totals: Any,
    ) -> None:  # fmt: skip
        """Learns from the rows in their order; see the module.

        Parameters
        ----------
        state : ndarray of shape (features, COLUMNS), float32
        bias : int
            Row of the state that is the intercept's; -1: there is none.
        rate : float
        l1, l2 : float
            Penalties of a row of weight 1 on all coefficients; a coefficient meets those of the rows that do not have it when it is next
            looked at.
        ages : ndarray of shape (features,), float64
            Weight of all rows until each coefficient last met its penalties; not looked at where there are none.
        age : float
            Weight of all rows before these.
        room : ndarray of shape (3, n), float32
            Where n is more than the entries of any row.
        totals : ndarray of shape (2,)
            Weighted losses, each before the row was learned from, and weights are added to it.
        """
        entries, scalars, held = data(ids), data(values), data(state)
        xs, squares, steps = data(room[0]), data(room[1]), data(room[2])
        ones, plain, shifted = values.shape[0] == 0, weights.shape[0] == 0, offsets.shape[0] > 0
        penalised = l1 > 0.0 or l2 > 0.0
        ahead, stop = (_AHEAD if state.shape[0] > _FAR else 0), ids.shape[0]
        margins, losses, derivatives, powers = np.empty(1), np.empty(1), np.empty(1), np.empty(1, np.int64)
        for row in range(labels.shape[0]):
            first, last = np.int64(indptr[row]), np.int64(indptr[row + 1])
            if ahead:
                for k in range(first + ahead, min(last + ahead, stop)):
                    prefetch(held, 4 * np.int64(entries[k]))
            weight = 1.0 if plain else weights[row]
            if weight == 0.0:
                continue
            count = last - first
            if penalised:
                age += weight
                for i in range(count):
                    at = np.int64(entries[first + i])
                    _penalise(held, 4 * at, rate * (age - ages[at]), l1, l2)
                    ages[at] = age
            margin = offsets[row] if shifted else 0.0
            for i in range(count):
                at = 4 * np.int64(entries[first + i])
                x = held[at + 2] if ones else np.float32(scalars[first + i]) * held[at + 2]
                xs[i], squares[i] = x, held[at + 1]
                margin += np.float64(x * held[at])
            if bias >= 0:
                at = 4 * np.int64(bias)
                xs[count], squares[count] = held[at + 2], held[at + 1]
                margin += np.float64(held[at + 2] * held[at])
                count += 1
            margins[0] = margin
            of_block(margins, labels[row : row + 1], 1, powers, losses, derivatives)
            totals[0] += weight * losses[0]
            totals[1] += weight
            gradient = derivatives[0]
            together = _steps(xs, squares, steps, count, np.float32(weight * gradient * gradient))
            step = np.float32(0.0)
            if gradient != 0.0 and together > 0.0:
                step = np.float32(change_of(margin, labels[row], rate * weight * together) / together)
            if bias >= 0:
                count -= 1
                _move(held, 4 * np.int64(bias), squares[count], step * steps[count])
            for i in range(count):
                _move(held, 4 * np.int64(entries[first + i]), squares[i], step * steps[i])

    run.__qualname__ = run.__name__ = name
    run.__module__ = loss.__module__
    made: Kernel = kernel(
        lambda t: (
            given(_I32), given(_I32), given(t), given(_F64), given(_F64), given(_F64), array(_F32, 2), _I64, _F64, _F64,
            _F64, array(_F64), _F64, array(_F32, 2), array(_F64),
        ),
        dtypes=FLOATS,
    )(run)  # fmt: skip
    return made


@inlined
def _steps(xs: Any, squares: Any, steps: Any, count: int, gained: Any) -> float:
    """New sums of squares and steps of a row's features; returns Σ x̂·r."""
    for i in range(count):
        total = squares[i] + gained * xs[i] * xs[i]
        squares[i] = total
        steps[i] = xs[i] / np.float32(math.sqrt(max(total, _TINY)))
    together = 0.0
    for i in range(count):
        together += np.float64(xs[i] * steps[i])
    return together


@inlined
def _move(held: Any, at: int, squares: Any, step: Any) -> None:
    held[at] = held[at] + step
    held[at + 1] = squares
    held[at + 3] = held[at + 3] + np.float32(1.0)


@inlined
def _penalised(u: float, squares: float, scale: float, time: float, l1: float, l2: float) -> Any:
    """A coefficient u after so much time: where the flow of l1·|w| + ½·l2·w², with w = u·scale, has led at the coefficient's rate."""
    pace = time / math.sqrt(max(squares, 1e-30))
    u *= math.exp(-pace * l2 * scale * scale)
    return np.float32(math.copysign(max(abs(u) - pace * l1 * scale, 0.0), u))


@inlined
def _penalise(held: Any, at: int, time: float, l1: float, l2: float) -> None:
    """The penalties of rows that have passed on one coefficient."""
    if held[at] != 0.0 and time > 0.0:
        held[at] = _penalised(np.float64(held[at]), np.float64(held[at + 1]), np.float64(held[at + 2]), time, l1, l2)


@kernel(lambda _: (array(_F32, 2), given(_F64), _F64, _F64, _F64))
def penalise(state: Any, weights: Any, rate: float, l1: float, l2: float) -> None:
    """The penalties of rows of so much weight on each coefficient."""
    for k in range(state.shape[0]):
        if weights[k] > 0.0 and state[k, 0] != 0.0:
            state[k, 0] = _penalised(
                np.float64(state[k, 0]), np.float64(state[k, 1]), np.float64(state[k, 2]), rate * weights[k], l1, l2
            )
            state[k, 3] = np.float32(1.0)


__all__ = ["COEFFICIENT", "COLUMNS", "ROWS", "SCALE", "SQUARES", "Flow", "flow_of", "penalise", "row_by_row"]
