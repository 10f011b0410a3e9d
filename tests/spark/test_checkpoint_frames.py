"""Tables of a checkpoint as DataFrames, with no tier."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sparkps.checkpoints.reader import read_checkpoint
from sparkps.driver_bridge.spark import checkpoint_frames
from sparkps.driver_bridge.spark.checkpoint_frames import checkpoint_dataframe
from sparkps.errors import InvalidInput, NoCheckpoint
from sparkps.optim import SGD
from sparkps.specs import NUM_BUCKETS, TableSpec
from tests.unit.checkpoints.samples import SPECS, write

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DENSE = TableSpec(name="dense", kind="dense", dim=1, shape=(20, 3), optimizer=SGD(0.1), table=3)
TABLES = (SPECS[0], SPECS[1], DENSE, SPECS[3])


def test_spark_reads_what_plain_python_reads(spark: SparkSession, tmp_path: pathlib.Path) -> None:
    older = write(tmp_path, 1, TABLES, buckets=NUM_BUCKETS, rows=3)
    write(tmp_path, 2, TABLES, buckets=NUM_BUCKETS, rows=3)
    for checkpoint in (None, older.id):
        contents = read_checkpoint(str(tmp_path), checkpoint)
        for spec in TABLES:
            df = checkpoint_dataframe(spark, str(tmp_path), spec.name, checkpoint)
            kind = "float" if spec.dtype == "float32" else "double"
            assert df.dtypes == [("key", "bigint"), ("row", f"array<{kind}>")]
            expected = contents[spec.name]
            rows = expected.rows.reshape(len(expected.keys), spec.dim)
            got = {row.key: np.array(row.row, spec.dtype).tobytes() for row in df.collect()}
            # A signalling NaN becomes a quiet one on its way through Python's floats.
            wanted = {key: np.array(row.tolist(), spec.dtype).tobytes() for key, row in zip(expected.keys.tolist(), rows, strict=True)}
            assert got == wanted


def test_batches_are_of_a_bounded_size(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = write(tmp_path, 1, TABLES, buckets=NUM_BUCKETS, rows=7)
    monkeypatch.setattr(checkpoint_frames, "BATCH_BYTES", 30)
    batches = list(checkpoint_frames.read_batches(str(tmp_path), made.id, "linear", [4, 9]))
    assert [len(batch) for batch in batches] == [2, 2, 2, 1] * 2


def test_what_is_not_there_is_named_before_any_task_runs(spark: SparkSession, tmp_path: pathlib.Path) -> None:
    with pytest.raises(NoCheckpoint):
        checkpoint_dataframe(spark, str(tmp_path), "linear")
    write(tmp_path, 1, TABLES, buckets=NUM_BUCKETS, rows=0)
    with pytest.raises(InvalidInput, match="'linear'"):
        checkpoint_dataframe(spark, str(tmp_path), "nowhere")
