"""Where the features of a row come from: what training and scoring read, so that both read the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from sparkps.mllib.data.features import Features, read_features
from sparkps.mllib.data.raw_columns import RawColumns


class FeatureSource(Protocol):
    """Columns that features come from. Picklable, and equal to another one that reads the same."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns to read, in the order in which `read` takes them."""

    @property
    def size(self) -> int:
        """Number of features where the source itself knows it; 0: as the rows tell it."""

    def read(self, columns: Sequence[pa.Array], width: int = 0, *, fields: bool = False) -> Features:
        """The features of rows.

        Parameters
        ----------
        columns : sequence of pyarrow.Array
            Those of `names`, of one length.
        width : int
            Length that all vectors must have; 0: that of the first.
        fields : bool
            Whether to say which raw column each entry came from.

        Raises
        ------
        InvalidInput
            A column's type is none that can be read.
        """

    def culprit(self, columns: Sequence[pa.Array], row: int) -> str:
        """Name of the column that makes `row` wrong."""

    def facts(self) -> dict[str, Any]:
        """What makes it, as JSON has it; see `source_of`."""


@dataclass(frozen=True)
class VectorColumn:
    """One column that holds all features: a vector, an array, or a struct of indices and values.

    Examples
    --------
    >>> VectorColumn("features").read([pa.array([[0.0, 2.5], [1.0, 0.0]])]).indices.tolist()
    [1, 0]
    """

    name: str

    @property
    def names(self) -> tuple[str, ...]:
        """See `FeatureSource`."""
        return (self.name,)

    @property
    def size(self) -> int:
        """Unknown."""
        return 0

    def read(self, columns: Sequence[pa.Array], width: int = 0, *, fields: bool = False) -> Features:
        """See `FeatureSource`; such features have no fields."""
        return read_features(columns[0], self.name, width)

    def culprit(self, columns: Sequence[pa.Array], row: int) -> str:
        """The column."""
        return self.name

    def facts(self) -> dict[str, Any]:
        """See `FeatureSource`."""
        return {"features": self.name}


def source_of(facts: Mapping[str, Any]) -> FeatureSource:
    """The source that gave `facts`.

    Examples
    --------
    >>> source_of(VectorColumn("x").facts())
    VectorColumn(name='x')
    """
    return RawColumns.of(facts) if "inputCols" in facts else VectorColumn(facts["features"])


__all__ = ["FeatureSource", "RawColumns", "VectorColumn", "source_of"]
