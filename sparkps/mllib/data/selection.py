"""What the driver looks at before it trains or scores: whether the columns are there, and of types that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sparkps.driver_bridge.input.scan import quoted
from sparkps.errors import InvalidInput
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

    check_present(df, columns.names)
    if columns.raw is None:
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


def resolved(df: DataFrame, columns: Columns) -> Columns:
    """The same columns, with what values of raw ones become: that depends on their types.

    Raises
    ------
    InvalidColumn
        A raw column is missing, of a type that cannot be hashed, or has another part to play, too.
    """
    if columns.raw is None:
        return columns
    parts = {"label": columns.label, **columns.beside}
    for part, name in parts.items():
        if name in columns.raw.names:
            raise InvalidColumn(f"Raw columns must be features and nothing else. Got {name!r}, which is the {part}, too.", column=name)
    try:
        return replace(columns, raw=columns.raw.resolved(arrow_types(df, columns.raw.names)))
    except InvalidInput as error:
        raise InvalidColumn(error.message, **error.attributes) from None


def arrow_types(df: DataFrame, names: Sequence[str]) -> dict[str, pa.DataType]:
    """Types of columns as workers get them; null where Spark has none for a type.

    Raises
    ------
    InvalidColumn
        A column is missing.
    """
    from pyspark.errors import PySparkException
    from pyspark.sql.pandas.types import to_arrow_type

    check_present(df, names)
    types = {}
    for name in names:
        try:
            types[name] = to_arrow_type(df.schema[name].dataType, timezone="UTC")
        except (PySparkException, TypeError, ValueError):
            types[name] = pa.null()
    return types


def check_present(df: DataFrame, names: Sequence[str]) -> None:
    """Raise unless all columns exist."""
    for name in names:
        if name not in df.columns:
            raise InvalidColumn(f"Column {name!r} must exist. The DataFrame has {', '.join(df.columns)}.", column=name)


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


__all__ = [
    "arrow_types", "check_features_type", "check_indicator_type", "check_number_type", "check_present", "resolved", "select_rows",
]  # fmt: skip
