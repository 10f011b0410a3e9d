"""Parquet files that ranks read themselves: which DataFrames are plain enough, and that the rows are those of Spark."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import functions as sf
from pyspark.sql.types import StructType

from sparkps.driver_bridge.input import parquet_plan
from sparkps.driver_bridge.input.parquet import ParquetInput
from sparkps.driver_bridge.input.parquet_plan import NotPlain, plain_parquet
from sparkps.driver_bridge.input.scan import arrow_schema
from sparkps.driver_bridge.spark.master import Master
from sparkps.errors import WorkerFailed
from sparkps.mllib.data.rows import Columns
from sparkps.mllib.data.selection import select_rows


def plain(df, num_workers=2):
    return plain_parquet(df, arrow_schema(df), num_workers)


def rows_of(found):
    """Rows by rank, as tuples of plain values."""
    assert isinstance(found, ParquetInput), found
    read = []
    for rank in range(len(found.pieces)):
        batches = list(found.read(rank))
        assert all(batch.schema == found.schema for batch in batches)
        read.append([tuple(row.values()) for batch in batches for row in batch.to_pylist()])
    return read


def spark_rows(df):
    """Rows as Spark hands them to Python through Arrow."""

    def keep(batches):
        yield from batches

    return [tuple(row.values()) for row in df.mapInArrow(keep, df.schema).toArrow().to_pylist()]


@pytest.fixture(scope="module")
def numbers(spark, tmp_path_factory):
    """Four files of several row groups, in a directory with a strange name."""
    path = str(tmp_path_factory.mktemp("rows") / "a b%20c")
    spark.conf.set("parquet.block.size", "2048")
    spark.range(0, 1000, 1, 4).selectExpr(
        "id",
        "cast(id % 2 as int) label",
        "cast(id as float) / 3 x",
        "id * 0.1D y",
        "id % 3 = 0 flag",
        "if(id % 5 = 0, null, array(id, id + 1)) list",
        "if(id % 7 = 0, null, struct(array(id, 2L) as indices, array(1.5F, cast(id as float)) as values)) pairs",
        "if(id % 6 = 0, null, cast(id as string)) s",
        "if(id % 4 = 0, null, array('a', cast(id as string), null)) tags",
        "cast(cast(id as string) as binary) bytes",
        "cast(id as decimal(10, 2)) d",
        "timestamp_seconds(id) t",
    ).write.parquet(path)
    spark.conf.unset("parquet.block.size")
    return path


PLAIN = ["id", "label", "x", "y", "flag", "list", "pairs", "s", "tags"]


@pytest.mark.parametrize("num_workers", [1, 2, 3, 7])
def test_ranks_read_what_spark_reads_in_equal_shares(spark, numbers, num_workers):
    df = spark.read.parquet(numbers).select(PLAIN)
    by_rank = rows_of(plain(df, num_workers))
    assert max(map(len, by_rank)) - min(map(len, by_rank)) <= 1
    key = repr
    assert sorted((row for rows in by_rank for row in rows), key=key) == sorted(spark_rows(df), key=key)


def test_columns_are_chosen_renamed_and_made_doubles(spark, numbers):
    df = spark.read.parquet(numbers)
    chosen = df.select(
        sf.col("y").alias("first"), "id", sf.col("label").cast("double"), sf.col("x").cast("double"), sf.col("y")
    ).select("y", "label", "first", sf.col("id").cast("double").alias("z"), "x")
    found = plain(chosen, 1)
    assert sorted(rows_of(found)[0]) == sorted(spark_rows(chosen))
    assert found.schema.names == ["y", "label", "first", "z", "x"]


def test_vectors_of_both_kinds_and_nulls(spark, tmp_path):
    vectors = [Vectors.dense([1.0, 0.0, 2.0]), Vectors.sparse(3, [2], [4.0]), None, Vectors.sparse(3, [], [])]
    schema = StructType().add("label", "double").add("features", VectorUDT())
    df = spark.createDataFrame([(float(i), vector) for i, vector in enumerate(vectors)], schema)
    df.coalesce(1).write.parquet(str(tmp_path / "v"))
    back = spark.read.parquet(str(tmp_path / "v"))
    found = plain(select_rows(back, Columns("label", "features")), 1)
    assert [
        None
        if row["features"] is None
        else (row["features"]["type"], row["features"]["indices"], row["features"]["values"])
        for batch in found.read(0)
        for row in batch.to_pylist()
    ] == [(1, None, [1.0, 0.0, 2.0]), (0, [2], [4.0]), None, (0, [], [])]


def test_no_files_no_rows_and_fewer_rows_than_ranks(spark, tmp_path):
    schema = "label double, x array<float>"
    (tmp_path / "none").mkdir()
    assert rows_of(plain(spark.read.schema(schema).parquet(str(tmp_path / "none")), 3)) == [[], [], []]
    spark.createDataFrame([], schema).write.parquet(str(tmp_path / "empty"))
    assert rows_of(plain(spark.read.parquet(str(tmp_path / "empty")), 2)) == [[], []]
    spark.createDataFrame([(1.0, [2.0])], schema).write.parquet(str(tmp_path / "one"))
    assert sorted(map(len, rows_of(plain(spark.read.parquet(str(tmp_path / "one")), 4)))) == [0, 0, 0, 1]


def not_plain_inputs(spark, numbers, tmp_path):
    df = spark.read.parquet(numbers)
    df.limit(20).write.partitionBy("label").parquet(str(tmp_path / "partitioned"))
    partitioned = spark.read.parquet(str(tmp_path / "partitioned"))
    pq.write_table(pa.table({"a.b": [1.0]}), tmp_path / "dots.parquet")
    (tmp_path / "mixed").mkdir()
    pq.write_table(pa.table({"x": [1.0], "more": [1]}), tmp_path / "mixed" / "a.parquet")
    pq.write_table(pa.table({"x": [2.0]}), tmp_path / "mixed" / "b.parquet")
    pq.write_table(pa.table({"n": pa.array([1], pa.uint32())}), tmp_path / "unsigned.parquet")
    return {
        "filter": df.select("id").where("id > 3"),
        "limit": df.select("id").limit(5),
        "sample": df.select("id").sample(0.5, seed=1),
        "repartition": df.select("id").repartition(3),
        "union": df.select("id").union(df.select("id")),
        "computed": df.select((sf.col("id") + 1).alias("id")),
        "cast to long": df.select(sf.col("label").cast("long")),
        "literal": df.select("id", sf.lit(1.0).alias("w")),
        "bytes": df.select("id", "bytes"),
        "string made a double": df.select(sf.col("s").cast("double")),
        "decimal": df.select("d"),
        "timestamp": df.select("t"),
        "partition column": partitioned.select("id", "label"),
        "file name": df.select("id", sf.col("_metadata.file_size")),
        "CSV": spark.read.csv(numbers),
        "in memory": spark.createDataFrame([(1, 2.0)], "a int, b double"),
        "a column of a field": df.select("pairs.indices"),
        "dots": spark.read.parquet(str(tmp_path / "dots.parquet")),
        "a file without the column": spark.read.option("mergeSchema", "true").parquet(str(tmp_path / "mixed")),
        "unsigned": spark.read.parquet(str(tmp_path / "unsigned.parquet")),
        "another type than in the file": spark.read.schema("x float").parquet(str(tmp_path / "mixed" / "b.parquet")),
    }


def test_everything_else_is_left_to_spark(spark, numbers, tmp_path):
    inputs = not_plain_inputs(spark, numbers, tmp_path)
    assert [name for name, df in inputs.items() if not isinstance(plain(df), NotPlain)] == []


def test_own_columns_of_partitioned_files_are_plain(spark, numbers, tmp_path):
    df = spark.read.parquet(numbers).select("id", "label").limit(50)
    df.write.partitionBy("label").parquet(str(tmp_path / "p"))
    found = rows_of(plain(spark.read.parquet(str(tmp_path / "p")).select("id"), 2))
    assert sorted(row for rows in found for row in rows) == sorted((row.id,) for row in df.collect())


def test_a_cached_dataframe_is_left_to_spark(spark, numbers):
    df = spark.read.parquet(numbers).select("id").cache()
    try:
        assert isinstance(plain(df), NotPlain)
    finally:
        df.unpersist()


def test_a_damaged_file_is_left_to_spark(spark, numbers, tmp_path):
    df = spark.read.parquet(numbers).select("id")
    copy = tmp_path / "copy"
    shutil.copytree(numbers, copy)
    damaged = spark.read.schema("id long").parquet(str(copy))
    sorted(copy.glob("*.parquet"))[0].write_bytes(b"PAR1 no more")
    found = plain(damaged)
    assert isinstance(found, NotPlain)
    assert "copy" in found.reason
    assert isinstance(plain(df), ParquetInput)


def test_looking_at_files_runs_no_job(spark, numbers):
    tracker = spark.sparkContext.statusTracker()
    df = spark.read.parquet(numbers).select(PLAIN)
    before = tracker.getJobIdsForGroup(None)
    plain(df)
    assert tracker.getJobIdsForGroup(None) == before


def test_files_of_a_path_are_the_ranks_on_a_cluster_only_where_the_user_says_so(spark, numbers, monkeypatch):
    df = spark.read.parquet(numbers).select("id")
    monkeypatch.setattr(parquet_plan, "Master", lambda name: Master("yarn"))
    assert plain(df) == NotPlain("the files may be on another host")
    found = plain_parquet(df, arrow_schema(df), 2, "files")
    assert sorted(row[0] for rows in rows_of(found) for row in rows) == list(range(1000))


# ---- in a group --------------------------------------------------------------------------------------------------------


def ids_of(worker, batches):
    passes = [sorted(i for batch in batches for i in batch.column("id").to_pylist()) for _ in range(2)]
    return passes[0] if passes[0] == passes[1] else None


@pytest.mark.parametrize(("reader", "how"), [("auto", "parquet"), ("spark", "spark")])
def test_a_group_says_who_read_its_rows(spark, ps, numbers, monkeypatch, reader, how):
    import dataclasses

    workers = dataclasses.replace(ps.settings.workers, parquet_reader=reader)
    monkeypatch.setattr(ps, "settings", dataclasses.replace(ps.settings, workers=workers))
    results = ps.run(spark.read.parquet(numbers).select("id"), ids_of, num_workers=2)
    assert results.report.reader == how
    assert results.report.staged == ""
    assert sorted(i for ids in results for i in ids) == list(range(1000))


def test_a_file_that_is_gone_is_told(spark, ps, numbers, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(numbers, copy)

    def remove_then_read(worker, batches):
        for path in Path(copy).glob("*.parquet"):
            path.unlink(missing_ok=True)
        return sum(batch.num_rows for batch in batches)

    with pytest.raises(WorkerFailed, match="No such file"):
        ps.run(spark.read.parquet(str(copy)).select("id"), remove_then_read, num_workers=1)
