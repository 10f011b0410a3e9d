"""Vector clocks of all shards of a node: a matrix of ticks, and what follows from it, kept up to date.

A tick goes to every shard of a node at once, so that all rows are alike but for the short time between the arrival of a
shard from another node and the next ticks. `VectorClocks` answers from plain integers while they are, and from the
matrix otherwise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparkps.specs import INFINITE_CLOCK

#: Rows of buckets in the matrix.
Rows = NDArray[np.int32]


class VectorClocks:
    """The highest tick of each rank on each shard of one node.

    Parameters
    ----------
    num_rows : int
        Number of buckets of the node; they are named by their row here.
    num_ranks : int
        Members of the group, at least one.
    """

    def __init__(self, num_rows: int, num_ranks: int) -> None:
        #: (rows, ranks), int64: highest tick; -1 if none, INFINITE_CLOCK of a finished rank. Never falls.
        self.ticked = np.full((num_rows, num_ranks), -1, np.int64)
        #: (rows,), int64: lowest tick of each row.
        self.floor = np.full(num_rows, -1, np.int64)
        #: Lowest tick of each rank over all rows, kept also without rows: a tick to the node counts for a shard that comes.
        self.low = [-1] * num_ranks
        #: Highest tick of each rank that any row has or had. Never falls.
        self.high = [-1] * num_ranks
        #: Lowest of `low`: what every rank has ticked on every row.
        self.lowest = -1
        #: low == high for each rank, so that all rows are alike.
        self.uniform = True

    def floor_of(self, rows: Rows | None) -> int:
        """What every rank has ticked on all of `rows` (None: on all there are)."""
        if self.uniform or rows is None:
            return self.lowest
        return int(self.floor[rows].min(initial=INFINITE_CLOCK))

    def behind(self, rows: Rows | None, clock: int) -> list[int]:
        """Ranks that have not ticked `clock` on one of `rows`."""
        ticked = (
            self.low if self.uniform or rows is None else self.ticked[rows].min(axis=0, initial=INFINITE_CLOCK).tolist()
        )
        return [rank for rank, highest in enumerate(ticked) if highest < clock]

    def raise_to(self, rank: int, clock: int) -> NDArray[np.int64] | None:
        """Rows that are behind `clock` get this tick of `rank`.

        Returns
        -------
        ndarray of shape (rows,), int64, or None
            The floors as they were, if one of them may have risen.
        """
        column = self.ticked[:, rank]
        np.maximum(column, clock, out=column)
        self.low[rank] = max(clock, self.low[rank])
        self.high[rank] = max(clock, self.high[rank])
        lowest = min(self.low)
        if self.uniform and lowest == self.lowest:
            return None
        before = self.floor
        self._set_floors(lowest)
        return before

    def rising(self, before: NDArray[np.int64], clock: int) -> NDArray[np.bool_] | None:
        """Rows whose floor has reached `clock` since it was `before`; None: all of them."""
        mask: NDArray[np.bool_] = (before < clock) & (self.floor >= clock)
        return None if mask.all() else mask

    def insert_row(self, row: int, ticked: list[int]) -> int:
        """A shard arrives; rows from `row` on move down. Returns its floor.

        It gets the ticks that the whole node has: they say that everything up to them was acknowledged, by this shard too. A
        node without shards gets those of the shard.
        """
        raised = [max(pair) for pair in zip(ticked, self.low, strict=True)]
        if not len(self.ticked):
            self.low = list(raised)
        self.ticked = np.insert(self.ticked, row, raised, axis=0)
        self.high = [max(pair) for pair in zip(raised, self.high, strict=True)]
        self.uniform = False
        self._set_floors(min(self.low))
        return min(raised)

    def delete_row(self, row: int) -> None:
        """A shard leaves; rows after `row` move up."""
        self.ticked = np.delete(self.ticked, row, axis=0)
        if len(self.ticked):
            self.low = self.ticked.min(axis=0).tolist()
        self.uniform = False
        self._set_floors(min(self.low))

    def _set_floors(self, lowest: int) -> None:
        self.lowest = lowest
        self.uniform = self.uniform or self.low == self.high
        if self.uniform:
            self.floor = np.full(len(self.ticked), lowest, np.int64)
        else:
            self.floor = self.ticked.min(axis=1)

    def validate(self) -> None:
        """Asserts the invariants written at the fields."""
        assert self.ticked.min(initial=0) >= -1
        assert self.lowest == min(self.low)
        assert all(low <= high for low, high in zip(self.low, self.high, strict=True)), (self.low, self.high)
        assert not self.uniform or self.low == self.high
        if len(self.ticked):
            assert self.low == self.ticked.min(axis=0).tolist(), self.low
            assert (self.ticked.max(axis=0) <= np.array(self.high)).all(), self.high
            assert (self.floor == self.ticked.min(axis=1)).all(), self.floor
