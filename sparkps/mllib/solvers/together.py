"""How workers that learn side by side are kept from going too far together, and from knowing too little of each other.

What W workers learn from the same coefficients is merged by `optim.Consensus`: changes add up, unless a worker has brought a
coefficient to where its rows want it. But coefficients move together. A row's margin changes by what all its features have learned;
where all workers have corrected the same thing, the level of the margins for one, and each has spread it over many features that are
far from settled one by one, the sum goes up to W times as far as it should. So a worker says by which factor its coefficients are
to be taken as further on the way than each is by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Changes of a margin that all workers make may come to this multiple of what one that had all rows would have made. From 2 on they
#: would swing around where they should end, and some way before it where features are many.
_MOST = 1.5

#: Largest factor.
_LARGEST = 64.0

#: Rows of all workers that nobody else has seen yet, as a part of the rows that all have seen: early steps are short, because
#: coefficients change quickly then. And rows of all workers in a first step.
_UNSEEN, _FIRST = 0.25, 200


def amplified(moved: Array, workers: int) -> Array:
    """How much W times the way is than the way: (1 − exp(−W·τ)) / (1 − exp(−τ)), between 1 and W.

    Examples
    --------
    >>> amplified(np.array([1e-6, 1.0, 50.0]), 4).round(3).tolist()
    [4.0, 1.553, 1.0]
    """
    kept = np.maximum(moved, 1e-9)
    return np.asarray(np.expm1(-workers * kept) / np.expm1(-kept))


def factor_for(shares: Array, moved: Array, workers: int) -> float:
    """The least factor, at least 1, with which the workers' changes of a margin stay within bounds.

    Parameters
    ----------
    shares : ndarray of shape (n,)
        Of features, or of groups of them: way τ that the coefficient has gone, times the part of the rows that had the feature. Their
        sum is how far the features that all rows share have gone together.
    moved : ndarray of shape (n,)
        The way itself.
    workers : int

    Examples
    --------
    >>> factor_for(np.array([0.01]), np.array([0.01]), 8)    # one feature, far from settled: changes add up
    1.0
    >>> round(factor_for(np.full(100, 0.1), np.full(100, 0.1), 8), 1)    # a hundred that have settled it together
    11.0
    """
    total = float(shares.sum())
    if workers == 1 or not total > 0.0:
        return 1.0
    weights, bound = shares / total, _MOST * float(amplified(np.array([total]), workers)[0])

    def within(factor: float) -> bool:
        return float(weights @ amplified(factor * moved, workers)) <= bound

    low, high = 1.0, _LARGEST
    if within(low):
        return low
    for _ in range(20):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if within(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class GrowingSchedule:
    """Which rows make up which step. One worker takes batches of one size; several begin with short ones.

    Parameters
    ----------
    rows : tuple of int
        Rows of each rank that steps together with this one; of this rank alone under SSP and ASP.
    batch_size : int
        Most rows of one rank in one step.
    workers : int
    seed : int

    Examples
    --------
    >>> schedule = GrowingSchedule((1000, 500), 300, 2, seed=0)
    >>> schedule.steps_until(1), [schedule.span(1000, t, shuffled=True) for t in range(3)]
    (10, [(0, 100), (100, 200), (200, 300)])
    >>> schedule.span(500, 9, shuffled=True), schedule.epoch_of(9), schedule.epoch_of(10)
    ((450, 500), 0, 1)
    """

    rows: tuple[int, ...]
    batch_size: int
    workers: int
    seed: int

    @property
    def most(self) -> int:
        """Rows of the rank that has most."""
        return max(self.rows, default=0)

    def _size(self, seen: int) -> int:
        """Rows of a step after so many."""
        if self.workers == 1:
            return self.batch_size
        return min(self.batch_size, max(_FIRST // self.workers, int(_UNSEEN / self.workers * seen), 1))

    @cached_property
    def first(self) -> tuple[int, ...]:
        """Where the steps of the first epoch begin and end, of the rank with most rows."""
        cuts = [0]
        while cuts[-1] < self.most:
            cuts.append(min(self.most, cuts[-1] + self._size(cuts[-1])))
        return tuple(cuts)

    @cached_property
    def later(self) -> int:
        """Steps of each later epoch."""
        return -(-self.most // self._size(self.most))

    def steps_until(self, epoch: int) -> int:
        """Steps of the first `epoch` epochs."""
        return len(self.first) - 1 + (epoch - 1) * self.later if epoch else 0

    def epoch_of(self, step: int) -> int:
        """The epoch of a step."""
        after = step - (len(self.first) - 1)
        return 0 if after < 0 else 1 + after // max(self.later, 1)

    def span(self, rows: int, step: int, *, shuffled: bool) -> tuple[int, int]:
        """First and last row of a step of a rank with `rows` rows; later epochs take steps in an order of their own if `shuffled`."""
        epoch = self.epoch_of(step)
        if not epoch:
            return tuple(cut * rows // self.most for cut in self.first[step : step + 2])  # type: ignore[return-value]
        number = step - self.steps_until(epoch)
        if shuffled:
            number = int(np.random.default_rng((self.seed, epoch)).permutation(self.later)[number])
        return number * rows // self.later, (number + 1) * rows // self.later


__all__ = ["GrowingSchedule", "amplified", "factor_for"]
