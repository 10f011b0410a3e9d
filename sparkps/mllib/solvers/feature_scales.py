"""Units in which no feature of a row is larger than the others: what makes learning rates mean the same for all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.tables import SparseTable
from sparkps.mllib.data.store import Chunk, Store
from sparkps.mllib.solvers import online_kernels

Array = NDArray[Any]

#: Ranks agree on the mean of this power of their magnitudes: about the largest, and sums of it can be pushed.
_POWER = 8

#: Magnitudes beyond are taken for these, so that their powers are numbers.
_LEAST, _MOST = 1e-30, 1e30

#: Columns of the table of magnitudes: sum of powers, and ranks that told theirs. Of `TypicalScales`: sum of squares, values, and ranks.
COLUMNS, TYPICAL_COLUMNS = 2, 3


def _counted(chunk: Chunk) -> tuple[Array, Array]:
    """Features and values of the rows that weigh something; no values are all 1."""
    if not len(chunk.weights) or bool((chunk.weights > 0.0).all()):
        return chunk.ids, chunk.values
    kept = np.repeat(chunk.weights > 0.0, np.diff(chunk.indptr))
    return chunk.ids[kept], chunk.values[kept] if len(chunk.values) else chunk.values


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
        #: float32 (keys,): sizes of the features, and numbers of those that the ranks talk about.
        self._plain = not any(len(chunk.values) for chunk in store)
        self._sizes = np.ones(len(store.keys), np.float32) if self._plain else np.clip(self._measured(), _LEAST, _MOST)
        self._told = np.flatnonzero(self._sizes != 1.0)

    def _measured(self) -> Array:
        """The size of each feature on this rank, float32 (keys,)."""
        largest = np.zeros(len(self._store.keys), np.float32)
        for ids, values in map(_counted, self._store):
            if len(values):
                online_kernels.magnitudes.of(values.dtype)(ids, values, largest)
            else:
                largest[ids] = np.maximum(largest[ids], 1.0)
        largest[largest == 0.0] = 1.0
        return largest

    def _agreed(self, sums: Array) -> Array:
        """The sizes of what all ranks have added."""
        powers, ranks = sums.T
        return np.asarray((powers / np.maximum(ranks, 1.0)) ** (1.0 / _POWER))

    def tell(self) -> None:
        """Add this rank's magnitudes to the table."""
        if self._table is not None and len(self._told):
            powers = self._sizes[self._told].astype(np.float64) ** _POWER
            self._table.add_async(self._store.keys[self._told], np.column_stack([powers, np.ones(len(powers))]))

    def take(self, *, shared: bool, intercept: int) -> None:
        """Make the scales; of what all ranks told, if `shared`, and for rows with an intercept if its number is not -1."""
        if shared and self._table is not None and len(self._told):
            self._sizes[self._told] = self._agreed(self._table.pull(self._store.keys[self._told]))
        size, rows = 0.0, 0
        of_one = self._plain and bool((self._sizes == 1.0).all())  # other ranks may have other values
        for chunk in self._store:
            ids, values = _counted(chunk)
            rows += int(np.count_nonzero(chunk.weights)) if len(chunk.weights) else len(chunk)
            if len(values):
                size += online_kernels.squared_sizes.of(values.dtype)(ids, values, self._sizes)
            else:
                size += float(len(ids)) if of_one else float((self._sizes[ids] ** -2.0).sum())
        mean = size / max(rows, 1) + (1.0 if intercept >= 0 else 0.0)
        self.scales = (1.0 / (self._sizes * np.sqrt(max(mean, 1e-30)))).astype(np.float32)


class TypicalScales(FeatureScales):
    """As `FeatureScales`, with the root of the mean square of a feature's values in place of their largest magnitude.

    Where few values are far larger than the others, as counts of words are, the largest would make the others count for little. Ranks
    tell each other of all features, and so learn how many of them have each.
    """

    def __init__(self, store: Store, table: SparseTable | None = None) -> None:
        super().__init__(store, table)
        self._told = np.arange(len(store.keys))
        #: float64 (keys,): ranks that have each feature, where they have told each other.
        self.holders = np.ones(len(store.keys))

    def _measured(self) -> Array:
        return np.asarray(self._agreed(self._sums()), np.float32)

    def _sums(self) -> Array:
        """Sums of squares, and numbers of values."""
        sums = np.zeros((2, len(self._store.keys)))
        for ids, given in map(_counted, self._store):
            values = given.astype(np.float64) if len(given) else np.ones(len(ids))
            for of_all, each in zip(sums, (values * values, None), strict=True):
                of_all += np.bincount(ids, each, len(of_all))
        return sums.T

    def tell(self) -> None:
        """See `FeatureScales`; the table has it when this returns."""
        if self._table is not None and len(self._told):
            sums = self._sums()
            self._table.add(self._store.keys, np.column_stack([sums, sums[:, 1] > 0.0]))

    def _agreed(self, sums: Array) -> Array:
        squares, counts, *holders = sums.T
        for each in holders:
            self.holders = np.maximum(each, 1.0)
        return np.asarray(np.sqrt(np.divide(squares, counts, out=np.ones(len(sums)), where=squares > 0.0)))


__all__ = ["COLUMNS", "TYPICAL_COLUMNS", "FeatureScales", "TypicalScales"]
