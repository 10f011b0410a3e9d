"""The kernel of learning row by row where a row has several margins; see `row_by_row`, and read that one first.

A feature has a coefficient for each of K margins, and one sum of squared gradients for all of them: with x̂ the value of a feature
times its scale, u_k the coefficients divided by it, and g_k the derivatives of a row's loss by its margins m_k = b_k + Σ x̂·u_k, a row does

    G ← G + weight·x̂²·(Σ_k g_k²)/K;  r = x̂ / sqrt(G);  u_k ← u_k + r·(m_k' − m_k) / Σ x̂·r

where m' are the margins at time rate·weight·Σ x̂·r of the flow dm/dt = −g(m). As all coefficients of a feature have one step size, the
flow is that of the margins alone, whatever the features; and what is stored of a feature is little more than its coefficients. A sum for
each coefficient takes twice the time and three times the room, and has learned less from a row of text (as have one-versus-rest losses).
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

#: Columns of the state of a feature besides its coefficients, which come first: sum of squares, scale, and rows that had it.
BESIDES = 3

#: Entries whose coefficients are asked for ahead of their use, and the values of the state from which on that pays.
_AHEAD, _FAR = 24, 1 << 19

#: Below it a sum of squared gradients is taken for 0 that a float32 could not tell from it.
_TINY = np.float32(1e-30)

#: A loss of one row: (margins, label, derivatives) -> loss. Writes the derivative by each margin.
RowLoss = Callable[[Any, float, Any], float]

#: How margins move: (label, derivatives, time, changes) from where the loss has these derivatives. Writes the change of each margin.
Flow = Callable[[float, Any, float, Any], None]


def row_by_row_many(name: str, loss: RowLoss, flow: Flow) -> Kernel:
    """The kernel of a loss of several margins; its arguments are those of the kernels that `row_by_row.row_by_row` makes.

    Parameters
    ----------
    name : str
        Names the kernel's file in the cache.
    loss : RowLoss
        The kernel counts as declared by the module of this function.
    flow : Flow
        Of the same loss.

    Returns
    -------
    Kernel
        For values of float32 and float64.
    """
    of_row, changes_of = inlined(loss), inlined(flow)

    def run(
        indptr: Any, ids: Any, values: Any, labels: Any, weights: Any, offsets: Any, state: Any, bias: int, rate: float,
        l1: float, l2: float, ages: Any, age: float, room: Any, totals: Any,
    ) -> None:  # fmt: skip
        """Learns from the rows in their order; ``state`` is float32 (features, K + BESIDES), and a row's offset part of all its margins."""
        entries, scalars, held = data(ids), data(values), data(state)
        width, stop = state.shape[1], ids.shape[0]
        outputs = width - BESIDES
        xs = data(room[0])
        ones, plain, shifted = values.shape[0] == 0, weights.shape[0] == 0, offsets.shape[0] > 0
        penalised, ahead = l1 > 0.0 or l2 > 0.0, _AHEAD if state.size > _FAR else 0
        places, sums = np.empty(room.shape[1], np.int64), np.empty(outputs, np.float32)
        margins, derivatives, changes = np.empty(outputs), np.empty(outputs), np.empty(outputs)
        for row in range(labels.shape[0]):
            weight = 1.0 if plain else weights[row]
            if weight == 0.0:
                continue
            first, last = np.int64(indptr[row]), np.int64(indptr[row + 1])
            count = last - first
            age += weight
            for k in range(outputs):
                sums[k] = np.float32(0.0)
            for i in range(count):
                if ahead and first + i + ahead < stop:
                    for part in range(0, width, 16):  # numbers of a cache line
                        prefetch(held, width * np.int64(entries[first + i + ahead]) + part)
                feature = np.int64(entries[first + i])
                at = width * feature
                if penalised:
                    _penalise(held, at, outputs, rate * (age - ages[feature]), l1, l2)
                    ages[feature] = age
                x = held[at + outputs + 1] if ones else np.float32(scalars[first + i]) * held[at + outputs + 1]
                xs[i], places[i] = x, at
                for k in range(outputs):
                    sums[k] += x * held[at + k]
            if bias >= 0:
                at = width * np.int64(bias)
                xs[count], places[count] = held[at + outputs + 1], at
                for k in range(outputs):
                    sums[k] += xs[count] * held[at + k]
                count += 1
            offset = offsets[row] if shifted else 0.0
            for k in range(outputs):
                margins[k] = np.float64(sums[k]) + offset
            totals[0] += weight * of_row(margins, labels[row], derivatives)
            totals[1] += weight
            square = 0.0
            for k in range(outputs):
                square += derivatives[k] * derivatives[k]
            together = _steps(held, xs, places, count, outputs, np.float32(weight * square / outputs))
            if not (square > 0.0 and together > 0.0):
                continue
            changes_of(labels[row], derivatives, rate * weight * together, changes)
            for k in range(outputs):
                sums[k] = np.float32(changes[k] / together)
            for i in range(count):
                at, step = places[i], xs[i]
                for k in range(outputs):
                    held[at + k] = held[at + k] + step * sums[k]

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
def _steps(held: Any, xs: Any, places: Any, count: int, outputs: int, gained: Any) -> float:
    """New sums of squares; the steps r of a row's features take the place of x̂. Returns Σ x̂·r."""
    for i in range(count):
        at = places[i] + outputs
        held[at] = held[at] + gained * xs[i] * xs[i]
        held[at + 2] = held[at + 2] + np.float32(1.0)
    together = 0.0
    for i in range(count):
        step = xs[i] / np.float32(math.sqrt(max(held[places[i] + outputs], _TINY)))
        together += np.float64(xs[i] * step)
        xs[i] = step
    return together


@inlined
def _penalise(held: Any, at: int, outputs: int, time: float, l1: float, l2: float) -> None:
    """The coefficients u of a feature after so much time: where the flow of l1·|w| + ½·l2·w², with w = u·scale, has led at their rate."""
    squares, scale = np.float64(held[at + outputs]), np.float64(held[at + outputs + 1])
    if time > 0.0 and squares > 0.0:  # else the coefficients are still 0
        pace = time / math.sqrt(max(squares, 1e-30))
        kept, less = np.float32(math.exp(-pace * l2 * scale * scale)), np.float32(pace * l1 * scale)
        for k in range(outputs):
            u = kept * held[at + k]
            held[at + k] = u if less == 0.0 else np.float32(math.copysign(max(abs(u) - less, np.float32(0.0)), u))


@kernel(lambda _: (array(_F32, 2), given(_F64), _F64, _F64, _F64))
def penalise_many(state: Any, weights: Any, rate: float, l1: float, l2: float) -> None:
    """The penalties of rows of so much weight on the coefficients of each feature."""
    outputs, held = state.shape[1] - BESIDES, data(state)
    for k in range(state.shape[0]):
        if weights[k] > 0.0 and state[k, outputs] > 0.0:
            _penalise(held, k * state.shape[1], outputs, rate * weights[k], l1, l2)
            state[k, outputs + 2] = np.float32(1.0)


@kernel(lambda _: (given(_F32, 2), given(_F32), array(_F32, 2)))
def enter_many(rows: Any, scales: Any, state: Any) -> None:
    """Rows of the tier (see `optim.Consensus`, `shared`) into a learner's state."""
    outputs = state.shape[1] - BESIDES
    for i in range(rows.shape[0]):
        for k in range(outputs):
            state[i, k] = rows[i, k] / scales[i]
        state[i, outputs], state[i, outputs + 1], state[i, outputs + 2] = rows[i, outputs], scales[i], np.float32(0.0)


@kernel(lambda _: (given(_F32, 2), given(_F32, 2), given(_F64), given(_F64), given(_F64), _F64, array(_F32, 2)))
def leave_many(rows: Any, state: Any, gained: Any, moved: Any, decays: Any, factor: float, pushes: Any) -> None:
    """What the learner pushes (see `optim.Consensus`, `shared`), as `online_kernels.leave`: of what it has not changed, zeros.

    Where penalties had coefficients decay (see `LearningState.decays`; empty: nowhere), they are that much further on the way.
    """
    outputs = state.shape[1] - BESIDES
    for i in range(rows.shape[0]):
        gain = gained[i]
        if not gain > 0.0:
            for k in range(outputs + 2):
                pushes[i, k] = np.float32(0.0)
            continue
        faster = factor * (1.0 + decays[i] / moved[i]) if decays.shape[0] > 0 else factor
        part, scale = -math.expm1(-faster * moved[i]), np.float64(state[i, outputs + 1])
        for k in range(outputs):
            before = np.float64(rows[i, k])
            pushes[i, k] = np.float32(gain * faster * (before + (np.float64(state[i, k]) * scale - before) / part))
        pushes[i, outputs], pushes[i, outputs + 1] = np.float32(gain), np.float32(gain * faster)


__all__ = ["BESIDES", "Flow", "RowLoss", "enter_many", "leave_many", "penalise_many", "row_by_row_many"]
