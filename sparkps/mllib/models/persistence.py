"""Saving and loading of models: JSON metadata as pyspark.ml writes it, coefficients as Parquet.

::

    path/metadata/part-*        one line of JSON: class, uid, Params, and what the model knows besides its coefficients
    path/data/*.parquet         key bigint, weight double: one row per feature whose coefficient is not 0; of a model with several values
                                a feature: key bigint, weights array<double>

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
from sparkps.mllib.coefficients import LOCAL_BYTES, Coefficients, LocalCoefficients, TableCoefficients, bytes_of
from sparkps.mllib.params.plain_values import from_plain, plain_params
from sparkps.mllib.tables import context_of, new_prefix

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from sparkps.client.tables import SparseTable


def weights_of(coefficients: Coefficients, spark: SparkSession) -> DataFrame:
    """Coefficients that are not 0 as a DataFrame: key bigint, and weight double or, of several values a key, weights array<double>."""
    from pyspark.sql import functions as sf

    one = coefficients.dim == 1
    if isinstance(coefficients, LocalCoefficients):
        table = pa.table({"key": pa.array(coefficients.keys), **_as_column(coefficients.values)})
        return spark.createDataFrame(table, "key bigint, weight double" if one else "key bigint, weights array<double>")
    row = sf.col("row").cast("array<double>")
    kept = coefficients.table.to_dataframe().where(sf.exists("row", lambda value: value != 0) & (sf.col("key") >= 0))
    return kept.select("key", row[0].alias("weight") if one else row.alias("weights"))


def _as_column(values: Any) -> dict[str, pa.Array]:
    """The column of a table of `weights_of`, by its name."""
    count, dim = values.shape
    if dim == 1:
        return {"weight": pa.array(values[:, 0])}
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return {"weights": pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32) * np.int32(dim)), flat)}


def coefficients_from(weights: DataFrame, uid: str, dim: int, limit: int = LOCAL_BYTES) -> Coefficients:
    """Coefficients out of a DataFrame as `weights_of` gives it: at the driver, or past `limit` bytes on the tier."""
    columns = "key", "weight" if dim == 1 else "weights"
    weights = weights.select(*columns)
    if bytes_of(weights.count(), dim) <= limit:
        table = weights.toArrow().combine_chunks()
        keys = table.column(0).to_numpy()
        rows = _rows_of(table.column(1), dim)
        order = np.argsort(keys, kind="stable")
        return LocalCoefficients(keys[order], rows[order])
    ps = context_of(weights.sparkSession)
    made = ps.sparse_table(f"{new_prefix(uid)}.coefficients", dim=dim, dtype="float64")
    weights.mapInArrow(_assign(made), "rows bigint").collect()
    return TableCoefficients(made)


def _rows_of(column: Any, dim: int) -> Any:
    """Values (n, dim) of the second column of `weights_of`, in pieces or in one."""
    pieces = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    flat = [(piece.flatten() if pa.types.is_list(piece.type) else piece).to_numpy(zero_copy_only=False) for piece in pieces]
    return np.concatenate([np.empty(0), *flat]).reshape(-1, dim)


def _assign(table: SparseTable) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Writes rows to a table; a task that runs twice writes the same."""

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            keys = batch.column(0).to_numpy(zero_copy_only=False)
            table.assign(keys, _rows_of(batch.column(1), table.dim))
            yield pa.RecordBatch.from_arrays([pa.array([len(keys)])], ["rows"])

    return write


class ModelWriter(MLWriter):
    """Writes a model.

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
        with said_clearly(path, "written to"):
            super().save(path)

    def saveImpl(self, path: str) -> None:
        """Metadata last: a directory without it is no model."""
        weights = weights_of(self.model.coefficients_, self.sparkSession)
        weights.write.parquet(f"{path}/data")
        model = self.model
        facts = {**model.facts_, "link": model.link_, "kind": model.kind_, "dim": model.coefficients_.dim}
        extra = {"sparkps": facts}
        DefaultParamsWriter.saveMetadata(model, path, self.sparkSession, extraMetadata=extra, paramMap=plain_params(model))


class EstimatorWriter(DefaultParamsWriter):
    """Writes the Params of an estimator, as pyspark.ml's own does."""

    def save(self, path: str) -> None:
        """Save the Params; raises as `ModelWriter.save`."""
        with said_clearly(path, "written to"):
            super().save(path)

    def saveImpl(self, path: str) -> None:
        """See `DefaultParamsWriter`, which has no words for vectors and matrices."""
        DefaultParamsWriter.saveMetadata(self.instance, path, self.sparkSession, paramMap=plain_params(self.instance))


class EstimatorReader(DefaultParamsReader[Any]):
    """Reads what `EstimatorWriter` has written.

    Parameters
    ----------
    cls : type
        The estimator's class.
    """

    def load(self, path: str) -> Any:
        """Load an estimator; raises as `ModelReader.load`."""
        with said_clearly(path, "read from"):
            metadata = checked_metadata(self.cls, path, self.sparkSession)
        return with_params(self.cls(), metadata)


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
        with said_clearly(path, "read from"):
            metadata = checked_metadata(self.cls, path, self.sparkSession)
            facts = facts_of(metadata["sparkps"])
            weights = self.sparkSession.read.parquet(f"{path}/data")
            model = self.cls._from_saved(coefficients_from(weights, metadata["uid"], facts.pop("dim")), facts)
        return with_params(model, metadata)


def checked_metadata(cls: Any, path: str, spark: SparkSession) -> dict[str, Any]:
    """What is said of the saved object; an error where it is of another class."""
    metadata = DefaultParamsReader.loadMetadata(path, spark)
    expected = f"{cls.__module__}.{cls.__name__}"
    if metadata["class"] != expected:
        raise InvalidInput(f"{path!r} must hold a {expected}. Got a {metadata['class']}.", path=path)
    return metadata


def with_params(loaded: Any, metadata: dict[str, Any]) -> Any:
    """The object, with the uid and the Params that its metadata say."""
    loaded._resetUid(metadata["uid"])
    values = {name: from_plain(value) for name, value in metadata["paramMap"].items()}
    DefaultParamsReader.getAndSetParams(loaded, {**metadata, "paramMap": values})
    return loaded


def facts_of(saved: dict[str, Any]) -> dict[str, Any]:
    """What a model knows, out of its metadata: models that were saved when all had one output named one `intercept`.

    Examples
    --------
    >>> facts_of({"intercept": 0.5, "numFeatures": 3})
    {'numFeatures': 3, 'intercepts': [0.5], 'dim': 1}
    """
    facts = {name: value for name, value in saved.items() if name != "intercept"}
    facts.setdefault("intercepts", [saved.get("intercept", 0.0)])
    facts.setdefault("dim", 1)
    return facts


@contextmanager
def said_clearly(path: str, verb: str) -> Iterator[None]:
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


__all__ = [
    "EstimatorReader", "EstimatorWriter", "ModelReader", "ModelWriter", "checked_metadata", "coefficients_from", "facts_of", "first_cause",
    "said_clearly", "weights_of", "with_params",
]  # fmt: skip
