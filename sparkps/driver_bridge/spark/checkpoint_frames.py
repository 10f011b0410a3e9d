"""Tables of a checkpoint as DataFrames, without a tier: executors read the files in parallel, bucket by bucket."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from sparkps.checkpoints.files import absolute_url, url_of
from sparkps.checkpoints.manifest import Manifest
from sparkps.checkpoints.store import CheckpointStore

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

#: About as many bytes go to Spark at a time.
BATCH_BYTES = 8 << 20


def checkpoint_dataframe(
    spark: SparkSession,
    url: str | os.PathLike[str],
    table: str,
    id: str | None = None,  # noqa: A002 - as in `Checkpoint`
) -> DataFrame:
    """The rows of a table of a checkpoint: key bigint, row array<float> (or array<double>).

    Of a dense table the key is the position in the flattened table, and the row has one value. Files are read when an action runs, and
    every byte is checked.

    Parameters
    ----------
    spark : SparkSession
    url : str or os.PathLike
        Where checkpoints were written to: executors must be able to read it, too.
    table : str
    id : str, optional
        By default the newest one whose files are all there in their length.

    Raises
    ------
    NoCheckpoint, CheckpointDamaged, InvalidInput

    Examples
    --------
    >>> checkpoint_dataframe(spark, "/data/checkpoints", "weights").count()  # doctest: +SKIP
    10000000
    """
    from sparkps.checkpoints.loading import table_named

    url = absolute_url(url_of(url))
    store = CheckpointStore(url)
    manifest = store.newest_sound() if id is None else store.read(id)
    store.verify(manifest)
    spec = table_named(manifest, table)
    value = "float" if spec.dtype == "float32" else "double"
    partitions = min(manifest.num_buckets, max(1, spark.sparkContext.defaultParallelism))
    buckets = spark.range(0, manifest.num_buckets, 1, partitions)
    checkpoint = manifest.id

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        mine = [int(bucket) for batch in batches for bucket in batch.column(0).to_pylist()]
        if mine:
            yield from read_batches(url, checkpoint, table, mine)

    return buckets.mapInArrow(read, f"key bigint, row array<{value}>")


def read_batches(url: str, checkpoint: str, table: str, buckets: list[int]) -> Iterator[pa.RecordBatch]:
    """Keys and rows of some buckets, in batches of a bounded size."""
    from sparkps.checkpoints.loading import table_named
    from sparkps.checkpoints.reader import table_parts

    manifest: Manifest = CheckpointStore(url).read(checkpoint)
    for keys, planes in table_parts(url, manifest, table_named(manifest, table), buckets):
        rows = planes[0]
        step = max(1, BATCH_BYTES // (8 + rows.shape[1] * rows.itemsize))
        for start in range(0, len(rows), step):
            yield _batch(keys[start : start + step], rows[start : start + step])


def _batch(keys: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> pa.RecordBatch:
    import pyarrow as pa

    offsets = np.arange(len(rows) + 1, dtype=np.int32) * np.int32(rows.shape[1])
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.reshape(-1)))
    return pa.RecordBatch.from_arrays([pa.array(keys), lists], ["key", "row"])


__all__ = ["BATCH_BYTES", "checkpoint_dataframe", "read_batches"]
