"""Saving and loading of deep models, and of estimators that have a module.

::

    path/metadata/part-*            one line of JSON: class, uid, Params, the columns and the loss
    path/dense/model.safetensors    parameters and buffers of the module, by name
    path/rows/<table>/*.parquet     key bigint, row array<float>: the embeddings of a table
    path/module/module.pkl          module and loss, of a model or an estimator of one's own

A pickle is a program that loading runs, as with ``torch.load``: load no model whose origin you do not trust. Models of known architectures
are made of what their metadata say, and have none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import pyarrow as pa
from pyspark.ml.util import DefaultParamsWriter, MLReader, MLWriter
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from sparkps.mllib.coefficients import LOCAL_BYTES
from sparkps.mllib.deep.columns import InputColumns
from sparkps.mllib.deep.job import DeepNames, pickled, unpickled
from sparkps.mllib.deep.losses import RowLoss
from sparkps.mllib.deep.rows import HeldTable, LocalTable, TierTable
from sparkps.mllib.deep.scoring import Held
from sparkps.mllib.models.persistence import (
    EstimatorReader,
    EstimatorWriter,
    checked_metadata,
    said_clearly,
    with_params,
)
from sparkps.mllib.params.plain_values import plain_params
from sparkps.mllib.tables import context_of, new_prefix
from sparkps.nn.tables import EmbeddingTable, tables_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: Bytes that go to the JVM at a time.
_AT_ONCE = 8 << 20

#: Files below a model's path.
TENSORS, PICKLE = "dense/model.safetensors", "module/module.pkl"


def write_bytes(spark: SparkSession, path: str, content: bytes) -> None:
    """A file on any file system that Spark knows."""
    jvm: Any = spark._jvm
    where = jvm.org.apache.hadoop.fs.Path(path)
    stream = where.getFileSystem(spark._jsc.hadoopConfiguration()).create(where, True)
    try:
        for first in range(0, len(content), _AT_ONCE):
            stream.write(bytearray(content[first : first + _AT_ONCE]))
    finally:
        stream.close()


def read_bytes(spark: SparkSession, path: str) -> bytes:
    """All of a file."""
    return bytes(spark.read.format("binaryFile").load(path).select("content").head()[0])  # type: ignore[index]


def rows_frame(table: HeldTable, spark: SparkSession) -> DataFrame:
    """Embeddings as a DataFrame: key bigint, row array<float>."""
    if isinstance(table, TierTable):
        return table.held.to_dataframe()
    flat = pa.array(np.ascontiguousarray(table.rows).reshape(-1))
    rows = pa.ListArray.from_arrays(pa.array(np.arange(len(table.keys) + 1, dtype=np.int32) * np.int32(table.table.dim)), flat)
    return spark.createDataFrame(pa.table({"key": pa.array(table.keys), "row": rows}), "key bigint, row array<float>")


def held_from(frame: DataFrame, table: EmbeddingTable, uid: str) -> HeldTable:
    """Embeddings out of a DataFrame as `rows_frame` gives it: at the driver, or where they are too large on the tier."""
    frame = frame.select("key", "row")
    if frame.count() * (8 + 4 * table.dim) <= LOCAL_BYTES:
        found = frame.toArrow().combine_chunks()
        keys, rows = found.column(0).to_numpy(), found.column(1)
        flat = [piece.flatten().to_numpy(zero_copy_only=False) for piece in rows.chunks]
        return LocalTable(table, keys, np.concatenate([np.empty(0, np.float32), *flat]).reshape(-1, table.dim))
    ps = context_of(frame.sparkSession)
    name = DeepNames(new_prefix(uid)).rows(table.name)
    made = ps.sparse_table(name, dim=table.dim, init=table.init, seed=table.seed, storage=table.storage)

    def assign(batches: Any) -> Any:
        for batch in batches:
            keys = batch.column(0).to_numpy(zero_copy_only=False)
            made.assign(keys, batch.column(1).flatten().to_numpy(zero_copy_only=False).reshape(-1, table.dim))
            yield pa.RecordBatch.from_arrays([pa.array([len(keys)])], ["rows"])

    frame.mapInArrow(assign, "rows bigint").collect()
    return TierTable(table, made)


class DeepModelWriter(MLWriter):
    """Writes a model.

    Parameters
    ----------
    model : TorchModel
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
        model, spark = self.model, self.sparkSession
        for name, table in model.tables.items():
            rows_frame(table, spark).write.parquet(f"{path}/rows/{name}")
        tensors = {name: each.clone().contiguous() for name, each in model.module.state_dict().items()}  # weights may be tied
        write_bytes(spark, f"{path}/{TENSORS}", save_tensors(tensors))
        if model._is_pickled:
            write_bytes(spark, f"{path}/{PICKLE}", cloudpickle.dumps((pickled(model.module), model.loss_)))
        facts = {"columns": model.columns_.facts(), **model.facts_}
        DefaultParamsWriter.saveMetadata(model, path, spark, extraMetadata={"sparkps": facts}, paramMap=plain_params(model))


class DeepModelReader(MLReader[Any]):
    """Reads what `DeepModelWriter` has written.

    Parameters
    ----------
    cls : type
        The model's class.
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
        spark = self.sparkSession
        with said_clearly(path, "read from"):
            metadata = checked_metadata(self.cls, path, spark)
            return assembled(
                self.cls,
                metadata,
                lambda name: read_bytes(spark, f"{path}/{name}"),
                lambda table: held_from(spark.read.parquet(f"{path}/rows/{table.name}"), table, metadata["uid"]),
            )


class TorchEstimatorWriter(EstimatorWriter):
    """Writes an estimator that has a module of one's own: its Params, and module, loss and metrics as a pickle."""

    def saveImpl(self, path: str) -> None:
        """See `DeepModelWriter.saveImpl`."""
        estimator: Any = self.instance
        module, *more = estimator._given
        content = cloudpickle.dumps((None if module is None else pickled(module), *more))
        write_bytes(self.sparkSession, f"{path}/{PICKLE}", content)
        super().saveImpl(path)


class TorchEstimatorReader(EstimatorReader):
    """Reads what `TorchEstimatorWriter` has written."""

    def load(self, path: str) -> Any:
        """Load an estimator; raises as `DeepModelReader.load`."""
        loaded = super().load(path)
        with said_clearly(path, "read from"):
            module, *more = cloudpickle.loads(read_bytes(self.sparkSession, f"{path}/{PICKLE}"))
        loaded._given = None if module is None else unpickled(module), *more
        return loaded


def assembled(
    cls: Any, metadata: Mapping[str, Any], read: Callable[[str], bytes], held: Callable[[EmbeddingTable], HeldTable]
) -> Any:
    """A model out of what was saved of it.

    Parameters
    ----------
    cls : type
        The model's class.
    metadata : mapping
        As Spark writes them.
    read : callable
        From a file's name below the model's path to what it holds.
    held : callable
        From a table to its embeddings.
    """
    facts = dict(metadata["sparkps"])
    columns = InputColumns.of(facts.pop("columns"))
    module, loss = _unpickled(read(PICKLE)) if cls._is_pickled else cls._made_again(columns, facts)
    module.load_state_dict(load_tensors(read(TENSORS)))
    tables = {name: held(table) for name, table in tables_of(module, facts.get("storage")).items()}
    return with_params(cls(Held(pickled(module), tables), columns, loss, facts), dict(metadata))


def _unpickled(content: bytes) -> tuple[nn.Module, RowLoss]:
    module, loss = cloudpickle.loads(content)
    return unpickled(module), loss


__all__ = [
    "DeepModelReader", "DeepModelWriter", "TorchEstimatorReader", "TorchEstimatorWriter", "assembled", "held_from", "read_bytes",
    "rows_frame", "write_bytes",
]  # fmt: skip
