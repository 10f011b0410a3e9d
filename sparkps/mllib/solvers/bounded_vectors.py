"""A solver's vectors on the tier, of which the elements that have a bound come to the driver."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.keyset import KeySet
from sparkps.client.tables import pull_together
from sparkps.mllib.data.store import parameter_keys
from sparkps.mllib.solvers.bounds import FAR, Bounds
from sparkps.mllib.solvers.lbfgsb import LOWER, UPPER
from sparkps.mllib.solvers.operations import ColumnDots
from sparkps.mllib.solvers.vectors import TierVectors

Array = NDArray[Any]


class BoundedTierVectors(TierVectors):
    """`BoundedVectors` on the tier; for the solver's thread.

    The ranks have written bounds in scaled coordinates. Rows that they do not know, features that no row has, read as between 0 and 0,
    as rows do that must stay 0: neither come to the driver, and their elements are 0 from the start to the end.

    Parameters
    ----------
    given : Bounds
        Says which rows may have a bound.
    *args, **more
        See `TierVectors`.
    """

    def __init__(self, given: Bounds, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._given = given
        self._rows: KeySet | None = None

    def bounds(self) -> tuple[Array, Array]:
        """See `BoundedVectors`."""
        self.settle()
        keys = self._given.keys()
        lower, upper = pull_together(self._solver.session, [(self._table(LOWER), keys), (self._table(UPPER), keys)])
        has = ((lower > -FAR) | (upper < FAR)).any(axis=1) & ((lower != 0) | (upper != 0)).any(axis=1)
        self._rows = self._table(self._trial).register(keys[has])
        lower, upper = lower[has].ravel(), upper[has].ravel()
        return np.where(lower > -FAR, lower, -np.inf), np.where(upper < FAR, upper, np.inf)

    def bounded(self, *names: str) -> list[Array]:
        """See `BoundedVectors`."""
        self.settle()
        rows = self._known()
        if not len(rows):
            return [np.empty(0) for _ in names]
        return [each.ravel() for each in pull_together(self._solver.session, [rows.on(self._table(name)) for name in names])]

    def place(self, values: Array) -> None:
        """See `BoundedVectors`."""
        self.settle()
        rows = self._known()
        if len(rows):
            rows.assign(values.reshape(len(rows), -1))

    def begin(self, values: Array) -> None:
        """See `BoundedVectors`; intercepts of centred features go with the coefficients, so that those of the raw ones stay."""
        self.place(values)
        if self._centred:
            (shift,) = self.run([ColumnDots(self._trial, "m")])
            self._table(self._trial).add(parameter_keys(0), shift[None, :])

    def _known(self) -> KeySet:
        assert self._rows is not None, "`bounds` was asked for first"
        return self._rows


__all__ = ["BoundedTierVectors"]
