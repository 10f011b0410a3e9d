"""Rows that are staged or spilled to a disk that is full, cannot be written or is gone: an error by name, and nothing left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import functions as sf

from sparkps.driver_bridge.input import staged
from sparkps.driver_bridge.input.scan import arrow_schema
from sparkps.driver_bridge.input.staged import StagedInput, stage, staging_root
from sparkps.errors import ConfigError, GroupError, WorkerFailed
from tests.harness.disks import no_room_for_python_workers
from tests.harness.waiting import wait_until

ROWS = 400_000


def count(worker, batches):
    return sum(batch.num_rows for batch in batches)


def _as_they_are(batches):
    yield from batches


@pytest.fixture
def wide(spark):
    """Six megabytes of rows, in two partitions."""
    spark.range(0, 2, 1, 2).mapInArrow(_as_they_are, "id long").collect()  # so that there are Python workers to limit
    return spark.range(0, ROWS, 1, 2).withColumn("x", sf.col("id") * 0.5)


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_full_staging_directory_is_named(spark, wide, tmp_path, deterministic):
    root = staging_root(spark, str(tmp_path), "")
    with no_room_for_python_workers(1 << 20):
        with pytest.raises(GroupError, match=r"File too large.*bytes are free.*`spark\.sparkps\.stagingDir`") as caught:
            stage(wide, 2, root, arrow_schema(wide), deterministic=deterministic)
    assert caught.value.directory == root
    assert caught.value.key == "spark.sparkps.stagingDir"
    assert root in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert not list(tmp_path.iterdir()), "half-written files stay behind"


def test_a_group_whose_rows_find_no_room_leaves_nothing_behind(spark, ps, wide, tmp_path):
    settings = ps.settings
    ps.settings = dataclasses.replace(settings, workers=dataclasses.replace(settings.workers, staging_dir=str(tmp_path)))
    try:
        with no_room_for_python_workers(1 << 20), pytest.raises(GroupError, match="Staged rows"):
            ps.run(wide.repartition(3), count, num_workers=2)
        assert not list(tmp_path.iterdir())
        assert sum(ps.run(wide.repartition(3), count, num_workers=2)) == ROWS
        assert not list(tmp_path.iterdir())
    finally:
        ps.settings = settings


def test_a_staging_directory_that_vanishes_while_it_is_written_is_not_made_anew(spark, wide, tmp_path):
    root = staging_root(spark, str(tmp_path), "")
    shutil.rmtree(root)
    with pytest.raises(GroupError, match=r"No such file or directory.*`spark\.sparkps\.stagingDir`"):
        stage(wide, 2, root, arrow_schema(wide), deterministic=False)
    assert not list(tmp_path.iterdir())


def test_staged_rows_that_vanish_before_they_are_read_are_named(spark, tmp_path):
    df = spark.range(10)
    root = staging_root(spark, str(tmp_path), "")
    staged = stage(df, 1, root, arrow_schema(df), deterministic=False)
    shutil.rmtree(root)
    with pytest.raises(GroupError, match=r"No such file or directory.*`spark\.sparkps\.stagingDir`") as caught:
        list(staged.read(0))
    assert caught.value.directory == root


@pytest.mark.parametrize("left", [0, 100, 0.5, -8])
def test_staged_rows_that_were_cut_off_are_never_read_as_all_there_are(spark, tmp_path, left):
    df = spark.range(0, 50_000, 1, 2)
    root = staging_root(spark, str(tmp_path), "")
    staged = stage(df, 1, root, arrow_schema(df), deterministic=False)
    file = Path(staged.files[0][0].path)
    data = file.read_bytes()
    if left == 0.5:  # between two batches, where a stream may end
        with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as reader:
            reader.read_next_batch()
            data = data[: source.tell()]
    else:
        data = data[: int(left)]
    file.write_bytes(data)
    if left == -8:  # only the mark of the end is missing
        assert sum(batch.num_rows for batch in staged.read(0)) == 50_000
        return
    with pytest.raises(GroupError, match=r"Staged rows .*`spark\.sparkps\.stagingDir`"):
        list(staged.read(0))


def test_an_error_of_the_users_own_rows_is_not_taken_for_a_full_disk(spark, tmp_path):
    def fails(x):
        raise OSError("no such luck")

    df = spark.range(10).select(sf.udf(fails, "long")("id").alias("y"))
    root = staging_root(spark, str(tmp_path), "")
    with pytest.raises(Exception, match="no such luck") as caught:
        stage(df, 1, root, arrow_schema(df), deterministic=False)
    assert not isinstance(caught.value, GroupError)
    assert not Path(root).exists()


def test_what_a_killed_attempt_left_half_written_goes_with_the_failure(spark, tmp_path):
    def fails(x):
        raise OSError("no such luck")

    root = staging_root(spark, str(tmp_path), "")
    half_written = Path(root) / "part-1-attempt-7"  # of a Python worker that Spark has killed: it cleared up nothing
    half_written.mkdir()
    (half_written / "rank-0.arrows").write_bytes(b"half")
    df = spark.range(10).select(sf.udf(fails, "long")("id").alias("y"))
    with pytest.raises(Exception, match="no such luck"):
        stage(df, 1, root, arrow_schema(df), deterministic=False)
    assert not list(tmp_path.iterdir())


def test_an_attempt_by_url_makes_no_directory_anew_that_was_removed(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    files = staged._RankFiles(f"file://{root}/part-0-attempt-1", 0)
    StagedInput(f"file://{root}", pa.schema([]), ()).remove()
    files.add(0, pa.RecordBatch.from_pydict({"x": [1]}))
    with pytest.raises(GroupError, match="No such file or directory"):
        files.finish()
    assert not root.exists()


def test_attempts_that_still_write_while_all_is_removed_leave_nothing_behind(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    written = 0

    def write():
        nonlocal written
        with contextlib.suppress(FileNotFoundError):
            for attempt in range(1_000_000):
                (root / f"part-0-attempt-{attempt}").mkdir()
                (root / f"part-0-attempt-{attempt}" / "rank-0.arrows").write_bytes(b"half")
                written = attempt

    writer = threading.Thread(target=write)
    writer.start()
    assert wait_until(lambda: written > 100, 20)
    StagedInput(str(root), pa.schema([]), ()).remove()
    writer.join(20)
    assert not writer.is_alive(), "it may write on"
    assert not list(tmp_path.iterdir())
    StagedInput(str(root), pa.schema([]), ()).remove()  # what is gone is removed


def test_the_setting_that_names_the_directory_is_the_one_that_the_error_names(spark, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"Not a directory.*set `spark\.sparkps\.localDir`") as caught:
        staging_root(spark, "", str(tmp_path / "file" / "below"))
    assert caught.value.key == "spark.sparkps.localDir"


def test_spilled_rows_that_find_no_room_fail_the_group_by_name(spark, ps, wide, tmp_path):
    settings = ps.settings
    workers = dataclasses.replace(settings.workers, local_dir=str(tmp_path / "new"), memory_budget=1 << 16, parquet_reader="spark")
    ps.settings = dataclasses.replace(settings, workers=workers)
    try:
        assert sum(ps.run(wide, count, num_workers=2)) == ROWS, "the directory is made"
        with no_room_for_python_workers(1 << 20):
            with pytest.raises(WorkerFailed, match=r"Rows that do not fit in memory.*`spark\.sparkps\.localDir`") as caught:
                ps.run(wide, count, num_workers=2)
    finally:
        ps.settings = settings
    assert caught.value.directory == str(tmp_path / "new")
