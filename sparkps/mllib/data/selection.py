"""What the driver looks at before it trains or scores: whether the columns are there, and of types that can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparkps.driver_bridge.input.scan import quoted
from sparkps.mllib.data.rows import Columns
from sparkps.mllib.errors import InvalidColumn

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def select_rows(df: DataFrame, columns: Columns) -> DataFrame:
    """The columns that workers read, in the order of ``columns.names``.

    Raises
    ------
    InvalidColumn
        A column is missing or of a type that cannot be read; names it.
    """
    from pyspark.sql import functions as sf
    from pyspark.sql.types import DoubleType

    for name in columns.names:
        if name not in df.columns:
            raise InvalidColumn(f"Column {name!r} must exist. The DataFrame has {', '.join(df.columns)}.", column=name)
    check_features_type(columns.features, df.schema[columns.features].dataType)
    if columns.validation:
        check_indicator_type(columns.validation, df.schema[columns.validation].dataType)
    doubles = {}
    for name in filter(None, (columns.label, columns.weight, columns.offset)):
        kind = df.schema[name].dataType
        check_number_type(name, kind)
        if not isinstance(kind, DoubleType):
            doubles[name] = sf.col(quoted(name)).cast("double").alias(name)
    if not doubles and df.columns == columns.names:
        return df  # planning a projection takes a third of a second in a JVM that has not planned any
    return df.select(*(doubles.get(name, sf.col(quoted(name))) for name in columns.names))


def check_number_type(name: str, kind: Any) -> None:
    """Raise unless a column of Spark type `kind` holds numbers."""
    from pyspark.sql.types import NumericType

    if not isinstance(kind, NumericType):
        raise InvalidColumn(f"Column {name!r} must be numeric. Got {kind.simpleString()} instead.", column=name)


def check_indicator_type(name: str, kind: Any) -> None:
    """Raise unless a column of Spark type `kind` says yes or no."""
    from pyspark.sql.types import BooleanType

    if not isinstance(kind, BooleanType):
        raise InvalidColumn(
            f"Column {name!r} must be boolean: whether a row is for validation. Got {kind.simpleString()} instead.", column=name
        )


def check_features_type(name: str, kind: Any) -> None:
    """Raise unless a column of Spark type `kind` can hold features."""
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql.types import ArrayType, DecimalType, IntegralType, NumericType, StructType

    def is_array(of: Any, elements: type) -> bool:
        return isinstance(of, ArrayType) and isinstance(of.elementType, elements) and not isinstance(of.elementType, DecimalType)

    if isinstance(kind, VectorUDT) or is_array(kind, NumericType):
        return
    if isinstance(kind, StructType) and {"indices", "values"} <= set(kind.names):
        indices, values = (kind[part].dataType for part in ("indices", "values"))
        if is_array(indices, IntegralType) and is_array(values, NumericType):
            return
    raise InvalidColumn(
        f"Column {name!r} must hold features: a vector, array<double>, or struct<indices: array<bigint>, values: array<float>>. Got"
        f" {kind.simpleString()} instead.",
        column=name,
    )


__all__ = ["check_features_type", "check_indicator_type", "check_number_type", "select_rows"]
