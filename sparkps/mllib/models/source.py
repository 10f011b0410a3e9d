"""How a model reads the rows that it scores: the driver looks at its columns, executors bring Arrow batches into sparse rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sparkps.driver_bridge.input.scan import quoted
from sparkps.errors import InvalidInput
from sparkps.mllib.data import kernels
from sparkps.mllib.data.features import Features, shortened
from sparkps.mllib.data.selection import arrow_types, check_features_type
from sparkps.mllib.data.sources import FeatureSource, RawColumns, VectorColumn
from sparkps.mllib.errors import InvalidColumn
from sparkps.mllib.models.outputs import has_valid_features

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

_REFUSED = {
    kernels.FEATURES_NULL: "features must not be null",
    kernels.ENTRY_NULL: "indices and values must not be null",
    kernels.LENGTHS_DIFFER: "indices and values must be of the same length",
    kernels.SIZE_DIFFERS: "vectors must have as many elements as the model has features ({width})",
}


@dataclass(frozen=True)
class ScoredRows:
    """The features of rows to be scored. Picklable.

    Parameters
    ----------
    source : FeatureSource
    width : int
        Elements of every vector; 0: any number.
    fields : bool
        Whether features are to say which raw column each entry came from.
    """

    source: FeatureSource
    width: int = 0
    fields: bool = False

    @property
    def names(self) -> Sequence[str]:
        """The columns that are read, in the order in which `read` gets them."""
        return self.source.names

    def check(self, dataset: DataFrame) -> None:
        """Raise `InvalidColumn` where a column is missing, or of a type that holds no features."""
        for name in self.names:
            if name not in dataset.columns:
                raise InvalidColumn(f"Column {name!r} must exist. The DataFrame has {', '.join(dataset.columns)}.", column=name)
        if isinstance(self.source, VectorColumn):
            check_features_type(self.source.name, dataset.schema[self.source.name].dataType)
        if isinstance(self.source, RawColumns):
            try:
                self.source.check_types(arrow_types(dataset, self.names))
            except InvalidInput as error:
                raise InvalidColumn(error.message, **error.attributes) from None

    def valid(self, dataset: DataFrame) -> Column:
        """Which rows can be scored: what is kept where invalid ones are skipped. Of raw columns all can: a null is a feature less."""
        from pyspark.sql import functions as sf

        if not isinstance(self.source, VectorColumn):
            return sf.lit(True)
        name = self.source.name
        return has_valid_features(sf.col(quoted(name)), dataset.schema[name].dataType, self.width)

    def read(self, columns: Sequence[pa.Array]) -> Features:
        """The rows of a batch.

        Raises
        ------
        InvalidInput
            One cannot be scored; shows it.
        """
        rows = self.source.read(columns, self.width, fields=self.fields)
        for code, must in _REFUSED.items():
            if code == kernels.SIZE_DIFFERS and not self.width:
                continue
            wrong = np.flatnonzero(rows.codes == code)
            if len(wrong):
                self._refuse(columns, int(wrong[0]), must.format(width=self.width))
        return rows

    def _refuse(self, columns: Sequence[pa.Array], row: int, must: str) -> None:
        name = self.source.culprit(columns, row)
        got: Any = columns[list(self.names).index(name)][row].as_py()
        raise InvalidInput(f"Column {name!r}: {must}. Got {shortened(got)}.", column=name)


__all__ = ["ScoredRows"]
