"""Saving and loading of models: JSON metadata as pyspark.ml writes it, coefficients as Parquet.

::

    path/metadata/part-*        one line of JSON: class, uid, Params, and what the model knows besides its coefficients
    path/data/*.parquet         key bigint, weight double: one row per coefficient that is not 0

`mllib.scoring` reads the same files without Spark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReader, MLWriter

from sparkps.errors import InvalidInput
from sparkps.mllib.coefficients import (
    BYTES_PER_COEFFICIENT,
    LOCAL_BYTES,
    Coefficients,
    LocalCoefficients,
    TableCoefficients,
)
from sparkps.mllib.tables import context_of, new_prefix

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from sparkps.client.tables import SparseTable

_SCHEMA = "key bigint, weight double"


def weights_of(coefficients: Coefficients, spark: SparkSession) -> DataFrame:
    """Coefficients that are not 0 as a DataFrame (key bigint, weight double)."""
    from pyspark.sql import functions as sf

    if isinstance(coefficients, LocalCoefficients):
        table = pa.table({"key": pa.array(coefficients.keys), "weight": pa.array(coefficients.values)})
        return spark.createDataFrame(table, _SCHEMA)
    rows = coefficients.table.to_dataframe().select("key", sf.col("row")[0].cast("double").alias("weight"))
    return rows.where((sf.col("key") >= 0) & (sf.col("weight") != 0))


def coefficients_from(weights: DataFrame, uid: str, limit: int = LOCAL_BYTES) -> Coefficients:
    """Coefficients out of a DataFrame as `weights_of` gives it: at the driver, or past `limit` bytes on the tier."""
    if weights.count() * BYTES_PER_COEFFICIENT <= limit:
        table = weights.select("key", "weight").toArrow()
        keys, values = (table.column(name).to_numpy() for name in ("key", "weight"))
        order = np.argsort(keys, kind="stable")
        return LocalCoefficients(keys[order], values[order])
    ps = context_of(weights.sparkSession)
    made = ps.sparse_table(f"{new_prefix(uid)}.coefficients", dim=1, dtype="float64")
    weights.select("key", "weight").mapInArrow(_assign(made), "rows bigint").collect()
    return TableCoefficients(made)


def _assign(table: SparseTable) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Writes rows to a table; a task that runs twice writes the same."""

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            keys, weights = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
            table.assign(keys, weights[:, None])
            yield pa.RecordBatch.from_arrays([pa.array([len(keys)])], ["rows"])

    return write


class ModelWriter(MLWriter):
    """Writes a model of the linear family.

    Parameters
    ----------
    model : Params
        With `coefficients_` and `facts_`, a dict of what goes into the metadata.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def save(self, path: str) -> None:
        """Save the model.

        Raises
        ------
        InvalidInput
            The path exists already and `overwrite` was not called, or it cannot be written.
        """
        with _said_clearly(path, "written to"):
            super().save(path)

    def saveImpl(self, path: str) -> None:
        """Metadata last: a directory without it is no model."""
        weights = weights_of(self.model.coefficients_, self.sparkSession)
        weights.write.parquet(f"{path}/data")
        facts = {**self.model.facts_, "link": self.model.link_}
        DefaultParamsWriter.saveMetadata(self.model, path, self.sparkSession, extraMetadata={"sparkps": facts})


class EstimatorWriter(DefaultParamsWriter):
    """Writes the Params of an estimator, as pyspark.ml's own does."""

    def save(self, path: str) -> None:
        """Save the Params; raises as `ModelWriter.save`."""
        with _said_clearly(path, "written to"):
            super().save(path)


class ModelReader(MLReader[Any]):
    """Reads what `ModelWriter` has written.

    Parameters
    ----------
    cls : type
        The model's class; made as ``cls._from_saved(coefficients, facts)``.
    """

    def __init__(self, cls: Any) -> None:
        super().__init__()
        self.cls = cls

    def load(self, path: str) -> Any:
        """Load a model.

        Raises
        ------
        InvalidInput
            There is no such model at `path`.
        """
        with _said_clearly(path, "read from"):
            metadata = DefaultParamsReader.loadMetadata(path, self.sparkSession)
            expected = f"{self.cls.__module__}.{self.cls.__name__}"
            if metadata["class"] != expected:
                raise InvalidInput(f"{path!r} must hold a {expected}. Got a {metadata['class']}.", path=path)
            weights = self.sparkSession.read.parquet(f"{path}/data")
            model = self.cls._from_saved(coefficients_from(weights, metadata["uid"]), metadata["sparkps"])
        model._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(model, metadata)
        return model


@contextmanager
def _said_clearly(path: str, verb: str) -> Iterator[None]:
    """Turns what Spark and its file systems raise into one sentence about `path`."""
    from py4j.protocol import Py4JJavaError

    if not path:  # Spark would take the root of its file system
        raise InvalidInput("The path of a model must not be empty. Got ''.", path=path)
    try:
        yield
    except (PySparkException, Py4JJavaError, OSError) as error:
        cause = first_cause(error)
        hint = " Call write().overwrite() to replace what is there." if "already exists" in cause.lower() else ""
        raise InvalidInput(
            f"A model must be {verb} a path that allows it. {path!r}: {cause}.{hint}", path=path
        ) from error


def first_cause(error: Exception) -> str:
    """The innermost cause of an error out of the JVM, in one line."""
    java = getattr(error, "java_exception", None)
    while java is not None and java.getCause() is not None:
        java = java.getCause()
    text = java.toString() if java is not None else str(error)
    return text.strip().splitlines()[0].rstrip(".") if text.strip() else type(error).__name__


__all__ = ["EstimatorWriter", "ModelReader", "ModelWriter", "coefficients_from", "first_cause", "weights_of"]
