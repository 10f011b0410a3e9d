"""Field-aware factorization machines: what they minimise, and what they predict of rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import InvalidInput
from sparkps.mllib.coefficients import Coefficients
from sparkps.mllib.data.features import Features
from sparkps.mllib.data.store import Chunk
from sparkps.mllib.fm import field_kernel
from sparkps.mllib.fm.objective import FactorizationMachine
from sparkps.mllib.fm.scoring import MachineClassifierScorer
from sparkps.mllib.models.machines import fields_of

Array = NDArray[Any]


@dataclass(frozen=True)
class FieldAwareMachine(FactorizationMachine):
    """The `Objective` of a field-aware factorization machine of two classes. Picklable.

    A feature has 1 + fields·`factors` values.
    """

    #: First feature of each field, ascending from 0; of no use where each raw column is a field.
    starts: tuple[int, ...] = (0,)
    #: Whether the sum over pairs is divided by the sum of squares of a row's values.
    normal: bool = False
    #: Raw columns and their crosses, each a field; 0: `starts` says where fields are.
    columns: int = 0
    #: int32 (keys,): field of each local number, once these are known.
    fields: Array = field(default_factory=lambda: np.empty(0, np.int32), repr=False, compare=False)

    @property
    def dim(self) -> int:
        """See `Objective`."""
        return 1 + (self.columns or len(self.starts)) * self.factors

    @property
    def by_column(self) -> bool:
        """See `LocatedObjective`."""
        return self.columns > 0

    @property
    def kernels(self) -> tuple[str, ...]:
        """See `Objective`."""
        return (field_kernel.__name__,)

    def located(self, keys: Array, columns: Array) -> FieldAwareMachine:
        """See `LocatedObjective`."""
        return replace(self, fields=np.maximum(columns, 0) if self.columns else fields_of(keys, self.starts))

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
        First feature of each field; empty: each raw column is a field, and `rows` say which.
    factors : int
    normal : bool
    """

    starts: tuple[int, ...] = field(kw_only=True)
    factors: int = field(kw_only=True)
    normal: bool = field(kw_only=True)

    def _margins(self, coefficients: Coefficients, features: Features) -> Array:
        keys = np.ascontiguousarray(features.indices)
        fields = fields_of(keys, self.starts) if self.starts else _fields_in(features)
        ids, rows = coefficients.look_up(keys)
        entries, out = np.ascontiguousarray(features.values), np.empty(len(features.codes))
        rows = rows if len(rows) else np.zeros((1, coefficients.dim))
        field_kernel.margins.of(entries.dtype)(
            features.indptr, ids, fields, entries, rows, self.factors, int(self.linear), int(self.normal),
            self.intercept, out,
        )  # fmt: skip
        return out


def _fields_in(features: Features) -> Array:
    """The raw column of each entry."""
    if len(features.fields) != len(features.indices):
        raise InvalidInput("A machine whose fields are raw columns must be given rows of these, by `transform`. Got a vector.")
    return np.ascontiguousarray(features.fields, np.int32)


__all__ = ["FieldAwareMachine", "FieldAwareScorer"]
