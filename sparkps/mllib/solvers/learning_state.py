"""What a learner that goes row by row holds of the tier's rows, by the number of margins of a row of data: one, or several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.tables import SparseTable
from sparkps.mllib.data.store import Store
from sparkps.mllib.solvers import feature_scales, online_kernels
from sparkps.mllib.solvers.feature_scales import FeatureScales, TypicalScales
from sparkps.mllib.solvers.objective import Objective
from sparkps.mllib.solvers.row_by_row import COLUMNS, penalise
from sparkps.mllib.solvers.row_by_row_many import BESIDES, enter_many, leave_many, penalise_many
from sparkps.mllib.solvers.together import factor_for
from sparkps.optim import Consensus

Array = NDArray[Any]

#: Values of the tier's rows that a learner of several margins has at a time, about, and features that a row of data has and no other.
_VALUES, _NEW = 64_000_000, 25

#: exp(-30) is as good as nothing.
_GONE = 30.0

#: Part of a sum of squares that coefficients gain as penalties settle them.
_SETTLED = 1e-6


class LearningState(ABC):
    """How rows of the tier become a learner's state, and what it has learned a push.

    Parameters
    ----------
    objective : Objective
        Informed, where it learns.
    """

    def __init__(self, objective: Objective) -> None:
        self.outputs = objective.outputs
        #: Of margins.
        self.unit = 1.0

    @property
    @abstractmethod
    def columns(self) -> int:
        """Of the tier's rows."""

    #: Of the table in which ranks tell each other of their features.
    scale_columns = feature_scales.COLUMNS

    @abstractmethod
    def optimizer(self, rate: float) -> Consensus:
        """Which merges what workers push."""

    @abstractmethod
    def scales(self, store: Store, table: SparseTable) -> FeatureScales:
        """The units of features."""

    @abstractmethod
    def enter(self, rows: Array, scales: Array) -> Array:
        """The state of a learner of these rows, as `row_by_row` or `row_by_row_many` has it."""

    @abstractmethod
    def penalise(self, state: Array, weights: Array, rate: float, l1: float, l2: float) -> None:
        """The penalties of rows of so much weight on the coefficients of each feature."""

    @abstractmethod
    def _three(self, rows: Array, state: Array) -> tuple[Array, Array]:
        """What `online_kernels.moves` goes by."""

    @abstractmethod
    def _leave(
        self, rows: Array, state: Array, gained: Array, moved: Array, decays: Array, factor: float, pushes: Array
    ) -> None:
        """Write the pushes."""

    def decays(self, rows: Array, state: Array, waited: Array, rate: float, l1: float, l2: float) -> Array:
        """How far penalties alone have led the coefficients on the way to 0, for `pushes`; empty: that does not count.

        Parameters
        ----------
        rows, state : ndarray
            As the tier had them, and as they are now.
        waited : ndarray of shape (n,)
            Weight of the rows whose penalties each feature has met since.
        rate, l1, l2 : float
        """
        return np.empty(0)

    def most_rows(self, batch_size: int) -> int:
        """Rows of one rank in one step, no more than `batch_size`."""
        return batch_size

    def pieces(self, held: Array) -> list[Array]:
        """Numbers of features in parts whose coefficients are held at a time."""
        return [held]

    def pushes(self, rows: Array, state: Array, rate: float, count: int, workers: int, decays: Array | None = None) -> Array:
        """What comes of `rows` after learning from `count` rows of data beside so many workers, where penalties had them decay."""
        gained, moved, bins = np.empty(len(rows)), np.empty(len(rows)), np.zeros(2 * online_kernels.BINS)
        online_kernels.moves(*self._three(rows, state), rate, float(count), gained, moved, bins)
        shares, products = bins[: online_kernels.BINS], bins[online_kernels.BINS :]
        met = shares > 0.0
        factor = factor_for(shares[met], products[met] / shares[met], workers)
        pushes = np.empty((len(rows), self.columns), np.float32)
        self._leave(rows, state, gained, moved, np.empty(0) if decays is None else decays, factor, pushes)
        return pushes

    def settled(self, rows: Array, state: Array, rate: float) -> Array:
        """Pushes that bring coefficients to what the state says, or to the mean where several ranks say it: changes do not add up."""
        outputs, unit = self.outputs, self.unit
        squares = rows[:, outputs].astype(np.float64)
        gained = _SETTLED * squares
        moved = 2.0 * rate * gained / np.maximum(np.sqrt(squares + gained) + np.sqrt(squares), 1e-30)
        factors = np.divide(_GONE, moved, out=np.zeros(len(rows)), where=moved > 0.0)
        scales = state[:, outputs + 1].astype(np.float64)[:, None]
        pushes = np.empty((len(rows), self.columns), np.float32)
        pushes[:, :outputs] = state[:, :outputs] * scales * unit * (gained * (factors if outputs > 1 else 1.0))[:, None]
        pushes[:, outputs], pushes[:, outputs + 1] = gained, gained * factors
        return pushes


class OneMargin(LearningState):
    """A coefficient a feature; margins are in the objective's unit."""

    columns = 3

    def __init__(self, objective: Objective) -> None:
        super().__init__(objective)
        self.unit = float(getattr(objective, "unit", 1.0))

    def optimizer(self, rate: float) -> Consensus:
        """See `LearningState`."""
        return Consensus(rate)

    def scales(self, store: Store, table: SparseTable) -> FeatureScales:
        """See `LearningState`: by the largest value of a feature."""
        return FeatureScales(store, table)

    def enter(self, rows: Array, scales: Array) -> Array:
        """See `LearningState`."""
        state = np.empty((len(rows), COLUMNS), np.float32)
        online_kernels.enter(rows, scales, self.unit, state)
        return state

    def penalise(self, state: Array, weights: Array, rate: float, l1: float, l2: float) -> None:
        """See `LearningState`."""
        penalise(state, weights, rate, l1, l2)

    def _three(self, rows: Array, state: Array) -> tuple[Array, Array]:
        return rows, state

    def _leave(
        self, rows: Array, state: Array, gained: Array, moved: Array, decays: Array, factor: float, pushes: Array
    ) -> None:
        online_kernels.leave(rows, state, self.unit, gained, moved, factor, pushes)


class SeveralMargins(LearningState):
    """A coefficient a feature for each margin, and one sum of squared gradients for all of them."""

    scale_columns = feature_scales.TYPICAL_COLUMNS

    @property
    def columns(self) -> int:
        """See `LearningState`."""
        return self.outputs + 2

    def most_rows(self, batch_size: int) -> int:
        """See `LearningState`: fewer where rows have so many margins that the coefficients of a step would fill the memory."""
        return max(1, min(batch_size, _VALUES // (_NEW * self.columns)))

    def pieces(self, held: Array) -> list[Array]:
        """See `LearningState`."""
        size = max(1, _VALUES // self.columns)
        return [held[begin : begin + size] for begin in range(0, len(held), size)]

    def optimizer(self, rate: float) -> Consensus:
        """See `LearningState`."""
        return Consensus(rate, shared=True)

    def scales(self, store: Store, table: SparseTable) -> FeatureScales:
        """See `LearningState`: by the typical value of a feature, as counts of words have few that are far larger."""
        return TypicalScales(store, table)

    def enter(self, rows: Array, scales: Array) -> Array:
        """See `LearningState`."""
        state = np.empty((len(rows), self.outputs + BESIDES), np.float32)
        enter_many(rows, scales, state)
        return state

    def penalise(self, state: Array, weights: Array, rate: float, l1: float, l2: float) -> None:
        """See `LearningState`."""
        penalise_many(state, weights, rate, l1, l2)

    def _three(self, rows: Array, state: Array) -> tuple[Array, Array]:
        last = self.outputs - 1  # of the coefficients; none is looked at
        return np.ascontiguousarray(rows[:, last:]), np.ascontiguousarray(state[:, last:])

    def decays(self, rows: Array, state: Array, waited: Array, rate: float, l1: float, l2: float) -> Array:
        """See `LearningState`. A penalty wants a coefficient at 0 at every worker alike: what they have done of it must not add up."""
        outputs = self.outputs
        squares = np.where(rows[:, outputs] > 0.0, rows[:, outputs], state[:, outputs]).astype(np.float64)
        scales = state[:, outputs + 1].astype(np.float64)
        pace = l2 * scales**2
        if l1 > 0.0:
            sizes = np.abs(rows[:, :outputs])
            pace += l1 * scales**2 / np.where(sizes > 0.0, sizes, np.inf).min(axis=1)
        return np.minimum(rate * waited * pace / np.sqrt(np.maximum(squares, 1e-30)), _GONE)

    def _leave(
        self, rows: Array, state: Array, gained: Array, moved: Array, decays: Array, factor: float, pushes: Array
    ) -> None:
        leave_many(rows, state, gained, moved, decays, factor, pushes)


def state_of(objective: Objective) -> LearningState:
    """The kind that an objective needs."""
    return OneMargin(objective) if objective.outputs == 1 else SeveralMargins(objective)


__all__ = ["LearningState", "OneMargin", "SeveralMargins", "state_of"]
