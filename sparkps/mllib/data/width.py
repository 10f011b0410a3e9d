"""How many features rows have, as the driver can tell before anything is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparkps.driver_bridge.input.scan import quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def width_of(df: DataFrame, name: str) -> int:
    """Length of the vectors, or arrays, of a column: out of its metadata, or of the first row that has features.

    Parameters
    ----------
    df : DataFrame
    name : str

    Returns
    -------
    int
        0: nobody knows, because there are no rows, or features are pairs of indices and values.
    """
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql import functions as sf
    from pyspark.sql.types import ArrayType

    if name not in df.columns or not isinstance(df.schema[name].dataType, (VectorUDT, ArrayType)):
        return 0
    declared = df.schema[name].metadata.get("ml_attr", {}).get("num_attrs")
    if declared:
        return int(declared)
    column = sf.col(quoted(name))
    first = df.select(column).where(column.isNotNull()).head()
    return 0 if first is None else len(first[0])


__all__ = ["width_of"]
