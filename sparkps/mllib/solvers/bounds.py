"""Bounds on the coefficients and intercepts of a model, as their user gives them, and in the coordinates of the solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import InvalidInput
from sparkps.mllib.data.store import INTERCEPT_KEY

Array = NDArray[Any]

#: What stands for no bound: tables hold finite numbers.
FAR = float(np.finfo(np.float64).max)


@dataclass(frozen=True, eq=False)
class Bounds:
    """Bounds on the coefficients of the raw features and on the intercepts; None: none of that kind. Picklable.

    An infinite bound is none.
    """

    #: float64 (outputs, features).
    lower: Array | None = None
    upper: Array | None = None
    #: float64 (outputs,).
    lower_intercepts: Array | None = None
    upper_intercepts: Array | None = None

    @property
    def on_intercepts(self) -> bool:
        """Whether an intercept has a bound: then features cannot be centred, for that would move it."""
        given = (self.lower_intercepts, self.upper_intercepts)
        return any(each is not None and bool(np.isfinite(each).any()) for each in given)

    @property
    def features(self) -> int:
        """How many features there must be; 0: any number."""
        return next((each.shape[1] for each in (self.lower, self.upper) if each is not None), 0)

    def check_features(self, count: int, column: str) -> None:
        """Raise where bounds are for another number of features than the rows have.

        Raises
        ------
        InvalidInput
        """
        if count and self.features and count != self.features:
            raise InvalidInput(
                f"Bounds on coefficients must have a column for each feature: column {column!r} has {count}. Got {self.features}.",
                column=column,
            )

    def keys(self) -> Array:
        """Of all rows that may have a bound, int64: those of the features, then that of the intercepts.

        Examples
        --------
        >>> Bounds(lower=np.zeros((1, 3)), upper_intercepts=np.array([1.0])).keys().tolist()
        [0, 1, 2, -1]
        """
        features = np.arange(self.features, dtype=np.int64)
        return np.append(features, INTERCEPT_KEY) if self.on_intercepts else features

    def rows(self, keys: Array, inverse: Array, parameters: Array, dim: int, column: str) -> tuple[Array, Array]:
        """Bounds in scaled coordinates.

        Parameters
        ----------
        keys : ndarray of shape (n,), int64
        inverse : ndarray of shape (n,), float64
            1 / σ of each feature, and 0 where it is constant: its coefficient stays 0, as in pyspark.ml.
        parameters : ndarray of int64
            Rows that belong to no feature: that of the intercepts, then others, which have no bounds.
        dim : int
        column : str
            Of the features, for messages.

        Returns
        -------
        lower, upper : ndarray of shape (n, dim), float64
            Finite: `FAR` away where there is no bound.

        Raises
        ------
        InvalidInput
            There is a feature beyond the bounds.

        Examples
        --------
        >>> bounds = Bounds(lower=np.array([[0.0, 1.0]]), upper_intercepts=np.array([3.0]))
        >>> lower, upper = bounds.rows(np.array([1, 0, -1]), np.array([0.5, 1.0, 1.0]), np.array([2]), 1, "features")
        >>> lower[:2].ravel().tolist(), upper[2].tolist()
        ([2.0, 0.0], [3.0])
        """
        of_features = np.ones(len(keys), bool)
        of_features[parameters] = False
        if self.features and of_features.any():
            self.check_features(max(int(keys[of_features].max()) + 1, self.features), column)
        scale = np.divide(1.0, inverse, out=np.zeros(len(keys)), where=inverse > 0)
        made = []
        for far, given, intercepts in ((-FAR, self.lower, self.lower_intercepts), (FAR, self.upper, self.upper_intercepts)):
            rows = np.full((len(keys), dim), far)
            if given is not None:
                rows[of_features] = _scaled(given[:, keys[of_features]].T, scale[of_features, None])
            if intercepts is not None:
                rows[parameters[0]] = np.clip(intercepts, -FAR, FAR)
            made.append(rows)
        return made[0], made[1]

    def within(self, intercepts: Array) -> Array:
        """Intercepts to begin with: between the bounds, and finite."""
        lower = -np.inf if self.lower_intercepts is None else self.lower_intercepts
        upper = np.inf if self.upper_intercepts is None else self.upper_intercepts
        found = np.clip(intercepts, lower, upper)
        return np.where(np.isfinite(found), found, np.clip(0.0, lower, upper))


def unbounded(lower: Array, upper: Array) -> Array:
    """1 in all elements of a row without bounds, 0 in all of a row with any: float64, of the shape of the bounds (n, dim)."""
    without = ((lower <= -FAR) & (upper >= FAR)).all(axis=1, keepdims=True)
    return np.broadcast_to(without, lower.shape).astype(np.float64)


def _scaled(bounds: Array, scale: Array) -> Array:
    """Bounds times σ; one that is infinite stays so."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(np.isfinite(bounds), np.clip(bounds * scale, -FAR, FAR), np.clip(bounds, -FAR, FAR))


__all__ = ["FAR", "Bounds", "unbounded"]
