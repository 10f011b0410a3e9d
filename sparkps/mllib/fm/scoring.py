"""What factorization machines predict of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.coefficients import Coefficients
from sparkps.mllib.data.features import Features
from sparkps.mllib.fm import kernel
from sparkps.mllib.models.classes import class_of
from sparkps.mllib.models.scoring import Scorer

Array = NDArray[Any]


@dataclass(frozen=True)
class MachineScorer(Scorer):
    """``prediction``: the margin of single features and pairs.

    Parameters
    ----------
    intercept : float
    linear : bool
        Whether the first coefficient of a feature is its linear one; else it does not count.
    """

    intercept: float = field(kw_only=True)
    linear: bool = field(kw_only=True)

    def parts(self, coefficients: Coefficients, features: Features, offsets: Any) -> Mapping[str, Array]:
        """See `Scorer`."""
        return self.of_margins((self._margins(coefficients, features)[:, None] + offsets)[:, 0])

    def _margins(self, coefficients: Coefficients, features: Features) -> Array:
        ids, rows = coefficients.look_up(np.ascontiguousarray(features.indices))
        entries = np.ascontiguousarray(features.values)
        out = np.empty(len(features.codes))
        rows = rows if len(rows) else np.zeros((1, coefficients.dim))
        kernel.margins.of(entries.dtype)(features.indptr, ids, entries, rows, int(self.linear), self.intercept, out)
        return out

    def of_margins(self, margin: Array) -> Mapping[str, Array]:
        """The parts at each row's margin, float64 (n,)."""
        return {"prediction": margin}


@dataclass(frozen=True)
class MachineClassifierScorer(MachineScorer):
    """``raw`` [-margin, margin], ``probability`` of both labels, and the label that is ``prediction``.

    Parameters
    ----------
    thresholds : sequence of two floats, optional
        What probabilities are divided by before the larger is chosen.
    """

    thresholds: Sequence[float] | None = field(kw_only=True, default=None)

    def of_margins(self, margin: Array) -> Mapping[str, Array]:
        """See `MachineScorer`."""
        with np.errstate(over="ignore"):
            positive = 1.0 / (1.0 + np.exp(-margin))  # pyspark.ml's formula, to the last bit
        raw = np.stack([-margin, margin], axis=1)
        probability = np.stack([1.0 - positive, positive], axis=1)
        return {"raw": raw, "probability": probability, "prediction": class_of(raw, probability, self.thresholds)}


__all__ = ["MachineClassifierScorer", "MachineScorer"]
