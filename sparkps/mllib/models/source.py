"""Where a model finds the features of the rows that it scores: which columns are read, and how Arrow columns become sparse rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from sparkps.driver_bridge.input.scan import quoted
from sparkps.errors import InvalidInput
from sparkps.mllib.data import kernels
from sparkps.mllib.data.features import Features, read_features, shortened
from sparkps.mllib.data.selection import check_features_type
from sparkps.mllib.models.outputs import has_valid_features

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

_REFUSED = {
    kernels.FEATURES_NULL: "features must not be null",
    kernels.ENTRY_NULL: "indices and values must not be null",
    kernels.LENGTHS_DIFFER: "indices and values must be of the same length",
    kernels.SIZE_DIFFERS: "vectors must have as many elements as the model has features ({width})",
}


class FeatureSource(Protocol):
    """The features of rows to be scored. Picklable: it is read from in executors."""

    @property
    def names(self) -> Sequence[str]:
        """The columns that are read, in the order in which `read` gets them."""

    def check(self, dataset: DataFrame) -> None:
        """Raise `InvalidInput` where a column is missing, or of a type that holds no features."""

    def valid(self, dataset: DataFrame) -> Column:
        """Which rows can be scored: what is kept where invalid rows are skipped."""

    def read(self, columns: Sequence[pa.Array]) -> Features:
        """The rows of a batch; raises `InvalidInput` for one that cannot be scored, and shows it."""


@dataclass(frozen=True)
class FeaturesColumn:
    """One column of vectors, arrays, or pairs of indices and values: a `FeatureSource`.

    Parameters
    ----------
    name : str
    width : int
        Elements of every vector; 0: any number.
    """

    name: str
    width: int = 0

    @property
    def names(self) -> Sequence[str]:
        """See `FeatureSource`."""
        return (self.name,)

    def check(self, dataset: DataFrame) -> None:
        """See `FeatureSource`."""
        if self.name not in dataset.columns:
            raise InvalidInput(
                f"Column {self.name!r} must exist. The DataFrame has {', '.join(dataset.columns)}.", column=self.name
            )
        check_features_type(self.name, dataset.schema[self.name].dataType)

    def valid(self, dataset: DataFrame) -> Column:
        """See `FeatureSource`."""
        from pyspark.sql import functions as sf

        return has_valid_features(sf.col(quoted(self.name)), dataset.schema[self.name].dataType, self.width)

    def read(self, columns: Sequence[pa.Array]) -> Features:
        """See `FeatureSource`."""
        rows = read_features(columns[0], self.name, self.width)
        for code, must in _REFUSED.items():
            if code == kernels.SIZE_DIFFERS and not self.width:
                continue
            wrong = np.flatnonzero(rows.codes == code)
            if len(wrong):
                row: Any = columns[0][int(wrong[0])].as_py()
                text = must.format(width=self.width)
                raise InvalidInput(f"Column {self.name!r}: {text}. Got {shortened(row)}.", column=self.name)
        return rows


__all__ = ["FeatureSource", "FeaturesColumn"]
