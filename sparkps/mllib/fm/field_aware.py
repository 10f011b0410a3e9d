"""Field-aware factorization machines: what they minimise, and what they predict of rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.mllib.coefficients import Coefficients
from sparkps.mllib.data.features import Features
from sparkps.mllib.data.store import Chunk
from sparkps.mllib.fm import field_kernel
from sparkps.mllib.fm.objective import FactorizationMachine
from sparkps.mllib.fm.scoring import MachineClassifierScorer

Array = NDArray[Any]


def fields_of(keys: Array, starts: tuple[int, ...]) -> Array:
    """The field of each feature, int32: fields are ranges of indices, which begin at `starts`.

    Examples
    --------
    >>> fields_of(np.array([0, 2, 3, 9]), (0, 3, 5)).tolist()
    [0, 0, 1, 2]
    """
    found: Array = np.searchsorted(np.array(starts, np.int64), keys, side="right") - 1
    return np.maximum(found, 0).astype(np.int32)


@dataclass(frozen=True)
class FieldAwareMachine(FactorizationMachine):
    """The `Objective` of a field-aware factorization machine of two classes. Picklable.

    A feature has 1 + fields·`factors` values.
    """

    #: First feature of each field, ascending from 0.
    starts: tuple[int, ...] = (0,)
    #: Whether the sum over pairs is divided by the sum of squares of a row's values.
    normal: bool = False
    #: int32 (keys,): field of each local number, once these are known.
    fields: Array = field(default_factory=lambda: np.empty(0, np.int32), repr=False, compare=False)

    @property
    def dim(self) -> int:
        """See `Objective`."""
        return 1 + len(self.starts) * self.factors

    @property
    def kernels(self) -> tuple[str, ...]:
        """See `Objective`."""
        return (field_kernel.__name__,)

    def located(self, keys: Array) -> FieldAwareMachine:
        """See `LocatedObjective`."""
        return replace(self, fields=fields_of(keys, self.starts))

    def loss_and_gradient(self, chunks: Iterable[Chunk], state: Array, bias: Array) -> tuple[float, Array]:
        """See `Objective`; of one that is `located`."""
        totals = np.zeros(2)
        for chunk in chunks:
            field_kernel.loss_and_gradient.of(chunk.values.dtype)(
                chunk.indptr, chunk.ids, self.fields[chunk.ids], chunk.values, chunk.labels, chunk.weights, chunk.offsets, state,
                self.factors, int(self.linear), int(self.normal), float(bias[0]), totals,
            )  # fmt: skip
        return float(totals[0]), totals[1:]

    def scores(self, chunk: Chunk, rows: Array, bias: Array) -> Array:
        """See `MeasuredObjective`; of one that is `located`."""
        margins = np.empty(len(chunk))
        field_kernel.margins.of(chunk.values.dtype)(
            chunk.indptr, chunk.ids, self.fields[chunk.ids], chunk.values, rows, self.factors, int(self.linear), int(self.normal),
            float(bias[0]), margins,
        )  # fmt: skip
        return margins + chunk.offsets if len(chunk.offsets) else margins


@dataclass(frozen=True)
class FieldAwareScorer(MachineClassifierScorer):
    """As `MachineClassifierScorer`, of a field-aware machine.

    Parameters
    ----------
    starts : tuple of int
    factors : int
    normal : bool
    """

    starts: tuple[int, ...] = field(kw_only=True)
    factors: int = field(kw_only=True)
    normal: bool = field(kw_only=True)

    def _margins(self, coefficients: Coefficients, features: Features) -> Array:
        keys = np.ascontiguousarray(features.indices)
        ids, rows = coefficients.look_up(keys)
        entries, out = np.ascontiguousarray(features.values), np.empty(len(features.codes))
        rows = rows if len(rows) else np.zeros((1, coefficients.dim))
        field_kernel.margins.of(entries.dtype)(
            features.indptr, ids, fields_of(keys, self.starts), entries, rows, self.factors, int(self.linear), int(self.normal),
            self.intercept, out,
        )  # fmt: skip
        return out


__all__ = ["FieldAwareMachine", "FieldAwareScorer", "fields_of"]
