"""What multilayer perceptrons predict of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.coefficients import Coefficients
from sparkps.mllib.data.features import Features
from sparkps.mllib.models.classes import class_of
from sparkps.mllib.models.layers import Layer, forward
from sparkps.mllib.models.links import softmax
from sparkps.mllib.models.scoring import Scorer, margins

Array = NDArray[Any]


@dataclass(frozen=True)
class MultilayerScorer(Scorer):
    """``raw``: the margin of each class; ``probability`` of each, and the class that is ``prediction``.

    Parameters
    ----------
    biases : sequence of float
        Of the first layer.
    layers : sequence of Layer
        Those after the first.
    thresholds : sequence of floats, optional
        What probabilities are divided by before the largest is chosen: one for each class.
    """

    biases: Sequence[float] = field(kw_only=True)
    layers: Sequence[Layer] = field(kw_only=True)
    thresholds: Sequence[float] | None = field(kw_only=True, default=None)

    def parts(self, coefficients: Coefficients, features: Features, offsets: Any) -> Mapping[str, Array]:
        """See `Scorer`. Models have no offsets."""
        _, raw = forward(margins(features, coefficients, self.biases), self.layers)
        probability = softmax(raw) if len(raw) else np.empty(raw.shape)
        return {"raw": raw, "probability": probability, "prediction": class_of(raw, probability, self.thresholds)}


__all__ = ["MultilayerScorer"]
