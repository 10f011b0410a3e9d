"""The items that a recommender is trained on: which there are, how often each comes, and where they are kept with a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparkps.driver_bridge.input.scan import quoted
from sparkps.errors import InvalidInput
from sparkps.mllib.deep.columns import InputColumns
from sparkps.mllib.deep.examples import read_inputs
from sparkps.mllib.deep.persistence import DeepModelReader, DeepModelWriter
from sparkps.mllib.errors import InvalidColumn
from sparkps.mllib.models.persistence import said_clearly

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Array = NDArray[Any]

#: Column of the logarithm of the probability that a row has its item: the label of a recommender.
LOG_PROBABILITY = "log probability of the item"
_ITEM, _ROWS, _MORE, _PLACE = "item of the catalogue", "rows of the item", "columns of the item", "place of the item"
_ALL = "all rows of the item"


@dataclass(frozen=True)
class Catalogue:
    """Items, at the driver."""

    #: A row for each item, of the columns that its tower reads; the first is the item.
    items: pa.Table
    #: int64 (m,): rows to train on that have it.
    rows: Array

    @classmethod
    def of(cls, df: DataFrame, columns: InputColumns, validation: str = "", *, skip: bool = False) -> Catalogue:
        """The items of a DataFrame.

        Parameters
        ----------
        df : DataFrame
        columns : InputColumns
            Of items, resolved; the first is the item. Where rows of an item differ in the others, the largest ones are taken.
        validation : str
            Column of rows that are set aside: they count for nothing, but their items are there.
        skip : bool
            Whether rows without an item are left out, and items with wrong numbers.

        Raises
        ------
        InvalidColumn
            The item is an array.
        InvalidInput
            Rows have no item, or there are fewer than two.
        """
        from pyspark.sql import functions as sf

        item = columns.names[0]
        if item in columns.bags:
            raise InvalidColumn(f"The `itemCol` must hold one item a row. Got arrays in {item!r}; explode them.", column=item)
        counted = sf.lit(1) if not validation else sf.when(sf.col(quoted(validation)), 0).otherwise(1)
        others = [_read(name, columns).alias(f"c{place}") for place, name in enumerate(columns.names[1:])]
        more = [sf.max(sf.struct(*others)).alias(_MORE)] if others else []
        counts = sf.sum(counted).alias(_ROWS), sf.count("*").alias(_ALL)
        grouped = df.groupBy(sf.col(quoted(item)).alias(_ITEM)).agg(*counts, *more)
        parts = [sf.col(quoted(_MORE))[f"c{place}"].alias(name) for place, name in enumerate(columns.names[1:])]
        found = grouped.select(sf.col(quoted(_ITEM)).alias(item), *parts, sf.col(quoted(_ROWS)), sf.col(quoted(_ALL))).toArrow()
        return cls._checked(found, columns, skip=skip)

    @classmethod
    def _checked(cls, found: pa.Table, columns: InputColumns, *, skip: bool) -> Catalogue:
        item = columns.names[0]
        found = found.sort_by(item)  # so that equal ratings always come in one order
        there = np.asarray(found.column(item).is_valid())
        rows, every = (found.column(name).to_numpy() for name in (_ROWS, _ALL))
        if not there.all() and not skip:
            raise InvalidInput(
                f"Column {item!r}: every row must have an item. Got {int(every[~there].sum())} rows where it is null. Leave them out, or"
                " set handleInvalid='skip'.",
                column=item,
            )
        items, rows = found.drop_columns([_ROWS, _ALL]).filter(pa.array(there)), rows[there]
        if skip:
            wrong = [bad for _, _, bad in read_inputs(columns, arrays_of(items)).wrong]
            fine = ~np.any([np.zeros(len(items), bool), *wrong], axis=0)
            items, rows = items.filter(pa.array(fine)), rows[fine]
        if len(items) < 2:
            raise InvalidInput(
                f"Column {item!r} must have two distinct items at least, to tell one from the others. Got {len(items)}.", column=item
            )
        return cls(items, rows)

    def with_probabilities(self, df: DataFrame) -> DataFrame:
        """Rows with their item's `LOG_PROBABILITY`; those of other items, and of none, are left out."""
        from pyspark.sql import functions as sf

        item = self.items.column_names[0]
        probabilities = np.log(np.maximum(self.rows, 1) / max(1, self.rows.sum()))
        table: Any = pa.table({_ITEM: self.items.column(item), LOG_PROBABILITY: pa.array(probabilities)})
        known = df.sparkSession.createDataFrame(table)
        return df.join(sf.broadcast(known), sf.col(quoted(item)) == sf.col(quoted(_ITEM))).select(
            *(sf.col(quoted(name)) for name in df.columns), sf.col(quoted(LOG_PROBABILITY))
        )


def arrays_of(items: pa.Table) -> list[pa.Array]:
    """The columns, each one array."""
    return [column.combine_chunks() if column.num_chunks != 1 else column.chunk(0) for column in items.columns]


def _read(name: str, columns: InputColumns) -> Any:
    from pyspark.sql import functions as sf

    column = sf.col(quoted(name))
    return column.cast("double") if name in columns.numeric else column


class RecommenderWriter(DeepModelWriter):
    """Writes a model with its items: ``path/items/*.parquet``."""

    def saveImpl(self, path: str) -> None:
        """See `DeepModelWriter.saveImpl`."""
        items = self.model.items_
        placed: Any = items.append_column(_PLACE, pa.array(np.arange(len(items))))
        self.sparkSession.createDataFrame(placed).coalesce(1).write.parquet(f"{path}/items")
        super().saveImpl(path)


class RecommenderReader(DeepModelReader):
    """Reads what `RecommenderWriter` has written."""

    def load(self, path: str) -> Any:
        """See `DeepModelReader.load`."""
        model = super().load(path)
        with said_clearly(path, "read from"):
            found = self.sparkSession.read.parquet(f"{path}/items").toArrow().sort_by(_PLACE)
        model.items_ = found.drop_columns([_PLACE])
        return model


__all__ = ["LOG_PROBABILITY", "Catalogue", "RecommenderReader", "RecommenderWriter", "arrays_of"]
