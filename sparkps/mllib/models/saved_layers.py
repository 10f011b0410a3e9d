"""Saved multilayer perceptrons in plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.models.classes import class_of
from sparkps.mllib.models.layers import Layer, forward
from sparkps.mllib.models.links import softmax
from sparkps.mllib.models.saved import SavedLinearModel

Array = NDArray[Any]


@dataclass(frozen=True, repr=False)
class SavedMultilayer(SavedLinearModel):
    """A saved multilayer perceptron; rows are given as to a `SavedLinearModel`.

    Attributes
    ----------
    coefficients : Coefficients
        Of each feature its weights in the first layer.
    intercept : ndarray of shape (outputs of the first layer,)
    layers : sequence of Layer
        Those after the first.

    Examples
    --------
    >>> from sparkps.mllib.models.layers import layers_of
    >>> from sparkps.mllib.models.saved import Coefficients
    >>> later = layers_of(np.array([4.0, 0.0, 0.0, 1.0]), [1, 2])
    >>> model = SavedMultilayer(Coefficients(np.array([0]), np.array([[9.0]])), np.zeros(1), link="softmax", layers=later)
    >>> model.predict(np.array([[1.0], [-1.0]])).tolist()
    [0.0, 1.0]
    """

    layers: Sequence[Layer] = ()

    def predict(self, rows: Any) -> Array:
        """The label that is predicted of each row, float64 (n,)."""
        margins = self._margins(rows)
        return class_of(margins, self._probabilities(margins), self.thresholds)

    def decision_function(self, rows: Any) -> Array:
        """Margins of the classes of each row, float64 (n, classes)."""
        return self._margins(rows)

    def _probabilities(self, margins: Array) -> Array:
        return softmax(margins)

    def _margins(self, rows: Any) -> Array:
        """Those of the last layer."""
        return forward(super()._margins(rows), self.layers)[1]

    @property
    def _values(self) -> Array:
        """Also where no feature has a weight: a column for each output of the first layer."""
        return self.coefficients.values.reshape(len(self.coefficients.keys), np.size(self.intercept))


__all__ = ["SavedMultilayer"]
