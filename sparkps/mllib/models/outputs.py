"""Columns that a model adds to a DataFrame: their names, and what Spark's own models say of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sparkps.mllib.errors import InvalidColumn

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

#: The parts of what is predicted that are vectors; the others are doubles.
VECTORS = frozenset({"raw", "probability"})

#: Metadata of each output of a classifier, by part and number of classes, as pyspark.ml has it.
_ATTRIBUTES: dict[str, Callable[[int], dict[str, Any]]] = {
    "raw": lambda classes: {"num_attrs": classes},
    "probability": lambda classes: {"num_attrs": classes},
    "prediction": lambda classes: {"type": "nominal", "num_vals": classes},
}


def check_outputs(dataset: DataFrame, outputs: Mapping[str, str]) -> None:
    """Raise unless every output column is a new one.

    Parameters
    ----------
    dataset : DataFrame
    outputs : mapping
        By Param, the name of the column; empty: there is none.

    Raises
    ------
    InvalidColumn
    """
    taken = {name.lower(): f"a column of the DataFrame, which has {', '.join(dataset.columns)}" for name in dataset.columns}
    for param, name in outputs.items():
        if not name:
            continue
        if name.lower() in taken:
            raise InvalidColumn(
                f"`{param}` must name a new column. Got {name!r}, which is {taken[name.lower()]}; drop it, or set `{param}` to"
                " another name.",
                param=param,
                column=name,
            )
        taken[name.lower()] = f"the `{param}`"


def struct_of(parts: Iterable[str]) -> Any:
    """Spark type of what is predicted of a row: ``raw`` and ``probability`` are vectors, ``prediction`` and others doubles."""
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql.types import DoubleType, StructField, StructType

    return StructType([StructField(part, VectorUDT() if part in VECTORS else DoubleType()) for part in parts])


def output(part: str, scored: Column, name: str, classes: int) -> Column:
    """The column of one part of what was predicted; `classes` is 0 for a model that is no classifier."""
    from pyspark.sql import functions as sf

    column = scored[part]
    if part not in VECTORS:
        column = sf.coalesce(column, sf.lit(float("nan")))  # so that Spark knows that it is never null
    return column.alias(name, metadata={"ml_attr": _ATTRIBUTES[part](classes) if classes else {}})


def never_null(features: Column, name: str) -> Column:
    """True of every row; a row without features ends the job, and says so."""
    from pyspark.sql import functions as sf

    says = sf.raise_error(sf.lit(f"Column {name!r}: features must not be null. Set handleInvalid='skip' to leave such rows out."))
    return sf.when(features.isNull(), says.cast("boolean")).otherwise(sf.lit(True))


def has_valid_features(features: Column, kind: Any, width: int) -> Column:
    """Whether features of Spark type `kind` can be scored, vectors of `width` elements (0: any number): what "skip" keeps."""
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import functions as sf
    from pyspark.sql.types import ArrayType, StructType

    def whole(array: Column) -> Column:
        return array.isNotNull() & ~sf.exists(array, lambda element: element.isNull())

    def long_enough(array: Column) -> Column:
        return sf.size(array) == width if width else sf.lit(True)

    if isinstance(kind, ArrayType):
        return whole(features) & long_enough(features)
    if isinstance(kind, StructType):
        indices, values = features["indices"], features["values"]
        return features.isNotNull() & whole(indices) & whole(values) & (sf.size(indices) == sf.size(values))
    if not width:
        return features.isNotNull()
    return features.isNotNull() & long_enough(vector_to_array(features))


__all__ = ["VECTORS", "check_outputs", "has_valid_features", "never_null", "output", "struct_of"]
