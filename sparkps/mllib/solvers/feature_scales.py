"""Units in which no feature of a row is larger than the others: what makes learning rates mean the same for all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.tables import SparseTable
from sparkps.mllib.data.store import Store
from sparkps.mllib.solvers import online_kernels

Array = NDArray[Any]

#: Ranks agree on the mean of this power of their magnitudes: about the largest, and sums of it can be pushed.
_POWER = 8

#: Magnitudes beyond are taken for these, so that their powers are numbers.
_LEAST, _MOST = 1e-30, 1e30

#: Columns of the table of magnitudes: sum of powers, and ranks that told theirs.
COLUMNS = 2


class FeatureScales:
    """Scales of a rank's features: 1 / (largest magnitude of the feature's values · root of the features of a mean row).

    Parameters
    ----------
    store : Store
        Rows of this rank.
    table : SparseTable, optional
        Where ranks tell each other of the magnitudes of features whose values are not all 1 at most; None: each goes by its own.
    """

    #: float32 (keys,). Made by `take`.
    scales: Array

    def __init__(self, store: Store, table: SparseTable | None = None) -> None:
        self._store, self._table = store, table
        largest = np.zeros(len(store.keys), np.float32)
        self._plain = not any(len(chunk.values) for chunk in store)
        if self._plain:
            largest[:] = 1.0
        else:
            for chunk in store:
                if len(chunk.values):
                    online_kernels.magnitudes.of(chunk.values.dtype)(chunk.ids, chunk.values, largest)
                else:
                    largest[chunk.ids] = np.maximum(largest[chunk.ids], 1.0)
            largest[largest == 0.0] = 1.0
        self._largest = np.clip(largest, _LEAST, _MOST)
        self._told = np.flatnonzero(self._largest != 1.0)

    def tell(self) -> None:
        """Add this rank's magnitudes to the table."""
        if self._table is not None and len(self._told):
            powers = self._largest[self._told].astype(np.float64) ** _POWER
            self._table.add_async(self._store.keys[self._told], np.column_stack([powers, np.ones(len(powers))]))

    def take(self, *, shared: bool, intercept: int) -> None:
        """Make the scales; of what all ranks told, if `shared`, and for rows with an intercept if its number is not -1."""
        if shared and self._table is not None and len(self._told):
            powers, ranks = self._table.pull(self._store.keys[self._told]).T
            self._largest[self._told] = (powers / np.maximum(ranks, 1.0)) ** (1.0 / _POWER)
        size, rows = 0.0, max(len(self._store), 1)
        for chunk in self._store:
            if len(chunk.values):
                size += online_kernels.squared_sizes.of(chunk.values.dtype)(chunk.ids, chunk.values, self._largest)
            else:
                size += float(len(chunk.ids)) if self._plain else float((self._largest[chunk.ids] ** -2.0).sum())
        mean = size / rows + (1.0 if intercept >= 0 else 0.0)
        self.scales = (1.0 / (self._largest * np.sqrt(max(mean, 1e-30)))).astype(np.float32)


__all__ = ["COLUMNS", "FeatureScales"]
