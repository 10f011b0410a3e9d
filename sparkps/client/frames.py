"""Tables as DataFrames: executors read the tier in parallel, bucket by bucket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from sparkps.client.futures import Future
from sparkps.client.items import row_bytes
from sparkps.client.pieces import Piece
from sparkps.client.routing import Routing
from sparkps.errors import ConfigError, ProtocolError
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.messages import data as m

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

    from sparkps.client.tables import SparseTable


def read_bucket(table: SparseTable, bucket: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Keys and rows of one bucket, in pieces of at most the session's chunk size, in slot order."""
    return read_buckets(table, [bucket])


def read_buckets(table: SparseTable, buckets: Iterable[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """As `read_bucket`, one bucket after the other; all are asked for before the first is awaited."""
    limit = max(1, table.session().settings.chunk_bytes // (8 + row_bytes(table.spec)))
    for bucket, first in [(bucket, _ask(table, bucket, 0, limit)) for bucket in buckets]:
        start, piece = 0, first
        while True:
            keys, rows = piece.result()
            if len(keys):
                yield keys, rows
            if len(keys) < limit:
                break
            start += len(keys)
            piece = _ask(table, bucket, start, limit)


def _ask(table: SparseTable, bucket: int, start: int, limit: int) -> Future[list[Any]]:
    """Ask for keys and rows of a bucket, from slot `start` on."""
    session, spec = table.session(), table.spec
    got: list[Any] = []
    future: Future[list[Any]] = Future(session, f"export of bucket {bucket} of table {spec.name!r}", lambda: got)

    def take(_: Any, arrays: list[Any]) -> None:
        keys, rows = arrays if len(arrays) == 2 else (np.empty(0), np.empty(0))
        if keys.dtype != np.int64 or keys.ndim != 1 or rows.dtype != spec.dtype or rows.shape != (len(keys), spec.dim):
            raise ProtocolError(
                f"An export of table {spec.name!r} must bring int64 keys, and as many rows of {spec.dim} {spec.dtype}. Got"
                f" {[f'{array.dtype} of shape {array.shape}' for array in arrays]}.",
                table=spec.name,
            )
        got.extend(arrays)

    def piece(routing: Routing) -> Piece:
        down = limit * (8 + row_bytes(spec))
        message = m.Export(routing.epoch, spec.table, bucket, start, limit)
        node = routing.primaries[bucket]
        return Piece(future, node, message, [], take, down=down, again=lambda _, newest: [piece(newest)])

    session.send(piece(session.routing))
    return future


def to_dataframe(table: SparseTable) -> DataFrame:
    """See `SparseTable.to_dataframe`."""
    from pyspark.sql import SparkSession

    spark = SparkSession.getActiveSession()
    if spark is None:
        raise ConfigError("`to_dataframe` must be called on the driver, with a SparkSession active. Got none.")
    partitions = min(NUM_BUCKETS, max(1, spark.sparkContext.defaultParallelism))
    buckets = spark.range(0, NUM_BUCKETS, 1, partitions)
    value = "float" if table.spec.dtype == "float32" else "double"

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for bucket in batch.column(0).to_pylist():
                for keys, rows in read_bucket(table, bucket):
                    yield _batch(keys, rows)

    return buckets.mapInArrow(read, f"key bigint, row array<{value}>")


def _batch(keys: np.ndarray, rows: np.ndarray) -> pa.RecordBatch:
    import pyarrow as pa

    offsets = np.arange(len(rows) + 1, dtype=np.int32) * np.int32(rows.shape[1])
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.reshape(-1)))
    return pa.RecordBatch.from_arrays([pa.array(keys), lists], ["key", "row"])
