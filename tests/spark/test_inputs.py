"""How rows reach the ranks: what is read directly, what is staged, and what staged files hold."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as sf

from sparkps.driver_bridge.input.scan import Shuffle, arrow_schema, check_input, read_directly
from sparkps.driver_bridge.input.staged import StagedInput, stage, staging_root
from sparkps.errors import ConfigError, InvalidInput


def ranks_of(rows):
    """Stands for a rank's function: its rank, and how many rows it got."""
    from pyspark import TaskContext

    count = sum(batch.num_rows for batch in rows)
    rank = TaskContext.get().partitionId()
    yield pa.RecordBatch.from_pydict(
        {"rank": pa.array([rank], pa.int32()), "outcome": [str(count)], "result": pa.array([None], pa.binary())}
    )


@pytest.fixture(scope="module")
def parquet(spark, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("rows") / "rows.parquet")
    spark.range(0, 1000, 1, 4).withColumn("x", sf.col("id") * 0.5).write.parquet(path)
    return path


@pytest.fixture
def rows_of(tmp_path):
    """Stages a DataFrame and reads it back: rows by rank, as tuples."""

    def read(df, num_workers, *, deterministic=False):
        root = str(tmp_path / f"staged-{len(list(tmp_path.iterdir()))}")
        Path(root).mkdir()
        staged = stage(df, num_workers, root, arrow_schema(df), deterministic=deterministic)
        got = []
        for rank in range(num_workers):
            batches = list(staged.read(rank))
            assert sum(batch.num_rows for batch in batches) == staged.rows(rank)
            assert all(batch.schema.types == staged.schema.types for batch in batches)
            got.append([tuple(row.values()) for batch in batches for row in batch.to_pylist()])
        staged.remove()
        assert not Path(root).exists()
        return got

    return read


def direct(df, num_workers):
    return read_directly(df, num_workers, ranks_of)


# ---- direct or staged --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_scan_is_read_directly_by_exactly_as_many_ranks_as_asked(spark, parquet, num_workers):
    spark.conf.set("spark.sql.files.maxPartitionBytes", "4k")
    try:
        ranked = direct(spark.read.parquet(parquet).where("id >= 10"), num_workers)
        rows = ranked.collect()
    finally:
        spark.conf.unset("spark.sql.files.maxPartitionBytes")
    assert [row.rank for row in rows] == list(range(num_workers))
    assert sum(int(row.outcome) for row in rows) == 990


def direct_inputs(spark):
    context = spark.sparkContext
    return {
        "range": spark.range(100),
        "local rows": spark.createDataFrame([(i, 0.5) for i in range(9)], "a int, b double"),
        "RDD": spark.createDataFrame(context.parallelize([(1, 2)] * 5, 3), "a int, b int"),
        "UDF": spark.range(9).withColumn("y", sf.udf(lambda v: v, "long")("id")),
        "union": spark.range(5).union(spark.range(7)),
        "no rows": spark.createDataFrame([], "a int"),
    }


@pytest.mark.parametrize("name", ["range", "local rows", "RDD", "UDF", "union", "no rows"])
def test_no_shuffle_is_read_directly(spark, name):
    ranked = direct(direct_inputs(spark)[name], 2)
    assert not isinstance(ranked, Shuffle), ranked
    assert [row.rank for row in ranked.collect()] == [0, 1]


def staged_inputs(spark, parquet):
    context = spark.sparkContext
    grouped = (
        context.parallelize(range(10)).map(lambda x: (x % 3, x)).groupByKey().map(lambda kv: (kv[0], len(list(kv[1]))))
    )
    spark.range(5).createOrReplaceTempView("five")
    return {
        "repartition": spark.range(100).repartition(4),
        "groupBy": spark.range(100).groupBy((sf.col("id") % 7).alias("k")).count(),
        "sort": spark.range(100).sort(sf.desc("id")),
        "limit": spark.range(100).limit(5),
        "top": spark.range(100).orderBy(sf.desc("id")).limit(5),
        "join": spark.range(100).join(spark.range(5), "id"),
        "broadcast": spark.range(100).join(sf.broadcast(spark.read.parquet(parquet).select("id")), "id"),
        "subquery": spark.range(100).where("id < (select max(id) from five)"),
        "RDD behind a shuffle": spark.createDataFrame(grouped, "a int, b int"),
        "too few partitions": spark.range(0, 100, 1, 1),
        "nothing": spark.range(100).where("1 = 0"),
    }


@pytest.mark.parametrize("adaptive", ["true", "false"])
def test_every_shuffle_is_found(spark, parquet, adaptive):
    spark.conf.set("spark.sql.adaptive.enabled", adaptive)
    try:
        read = {name: direct(df, 2) for name, df in staged_inputs(spark, parquet).items()}
    finally:
        spark.conf.unset("spark.sql.adaptive.enabled")
    assert [name for name, how in read.items() if not isinstance(how, Shuffle)] == []
    assert "1 partitions for 2 workers" in read["too few partitions"].reason


def test_a_cached_shuffle_is_found(spark):
    cached = spark.range(100).repartition(4).cache()
    plain = spark.range(0, 100, 1, 4).cache()
    try:
        cached.count()
        assert isinstance(direct(cached, 2), Shuffle)
        assert isinstance(direct(cached.where("id > 3"), 2), Shuffle)
        assert not isinstance(direct(plain, 2), Shuffle)
    finally:
        cached.unpersist()
        plain.unpersist()


def test_looking_at_a_plan_runs_no_job(spark, parquet):
    tracker = spark.sparkContext.statusTracker()
    inputs = {**staged_inputs(spark, parquet), **direct_inputs(spark)}
    before = tracker.getJobIdsForGroup(None)
    for df in inputs.values():
        direct(df, 2)
    assert tracker.getJobIdsForGroup(None) == before


# ---- staged files ------------------------------------------------------------------------------------------------------


def test_staged_rows_are_dealt_evenly(spark, rows_of):
    got = rows_of(spark.range(0, 1003, 1, 3), 4)
    assert sorted(row[0] for rank in got for row in rank) == list(range(1003))
    assert max(map(len, got)) - min(map(len, got)) <= 3


def test_fewer_rows_than_ranks_and_none(spark, rows_of):
    assert sorted(len(rank) for rank in rows_of(spark.range(3).repartition(2), 5)) == [0, 0, 1, 1, 1]
    assert rows_of(spark.range(3).where("id > 5"), 3) == [[], [], []]
    assert rows_of(spark.range(3).where("1 = 0"), 2, deterministic=True) == [[], []]


ROW = (
    7, 2.5, "text", b"bytes", True, None, datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 12, 30), [1, None, 3],
    {"b": 2, "a": 1}, (1, "in"),
)  # fmt: skip
TYPES = (
    "a int, b double, c string, d binary, e boolean, f long, g date, h timestamp, i array<int>, j map<string,int>,"
    " k struct<x:int,y:string>"
)


@pytest.mark.parametrize("deterministic", [False, True])
def test_every_type_of_column_can_be_staged(spark, rows_of, deterministic):
    df = spark.createDataFrame([ROW] * 20, TYPES).withColumn("price", sf.lit("1.25").cast("decimal(10, 2)"))
    [got] = rows_of(df, 1, deterministic=deterministic)
    assert len(got) == 20
    assert got[0][:5] == ROW[:5]
    assert got[0][8] == [1, None, 3]
    assert sorted(got[0][9]) == [("a", 1), ("b", 2)]


def test_vectors_can_be_staged(spark, rows_of):
    df = spark.createDataFrame(
        [(Vectors.sparse(5, [1], [2.0]), 1.0), (Vectors.dense(1, 2), 0.0)], ["features", "label"]
    )
    got = sorted((row for rank in rows_of(df, 2, deterministic=True) for row in rank), key=lambda row: row[1])
    assert got[0][0] == {"type": 1, "size": None, "indices": None, "values": [1.0, 2.0]}
    assert got[1][0] == {"type": 0, "size": 5, "indices": [1], "values": [2.0]}


def test_deterministic_order_depends_on_the_rows_alone(spark, rows_of):
    df = spark.range(0, 500).select(
        (sf.col("id") % 100).alias("a"),
        sf.create_map(sf.lit("k"), sf.col("id") % 50).alias("m"),
        (sf.col("id") * 0.25).alias("x"),
    )
    once = rows_of(df.coalesce(1), 3, deterministic=True)
    assert rows_of(df.repartition(5), 3, deterministic=True) == once
    assert rows_of(df.orderBy(sf.desc("x")), 3, deterministic=True) == once
    assert all(once)
    assert sum(map(len, once)) == 500


def test_deterministic_refuses_what_has_no_order(spark, rows_of):
    nested = spark.createDataFrame([([{"a": 1}],)], "m array<map<string,int>>")
    with pytest.raises(InvalidInput, match="deterministic=True"):
        rows_of(nested, 2, deterministic=True)


def test_only_files_of_successful_attempts_are_read(spark, tmp_path):
    root = str(tmp_path / "staged")
    Path(root).mkdir()
    torn = Path(root) / "part-0-attempt-999"
    torn.mkdir()
    (torn / "rank-0.arrows").write_bytes(b"half a file")
    staged = stage(spark.range(10), 1, root, arrow_schema(spark.range(1)), deterministic=False)
    assert sum(batch.num_rows for batch in staged.read(0)) == 10


def test_staging_url(spark, tmp_path):
    root = staging_root(spark, f"file://{tmp_path}", "")
    staged = stage(spark.range(10).repartition(2), 2, root, arrow_schema(spark.range(1)), deterministic=False)
    assert sum(batch.num_rows for rank in range(2) for batch in staged.read(rank)) == 10
    assert not staged.is_local
    staged.remove()
    assert list(tmp_path.iterdir()) == []


def test_staging_needs_a_shared_directory_on_a_cluster():
    class Cluster:
        class sparkContext:
            master = "spark://host:7077"

    with pytest.raises(ConfigError, match=r"spark\.sparkps\.stagingDir"):
        staging_root(Cluster, "", "")


def test_unwritable_staging_directory_is_named(spark, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"spark\.sparkps\.stagingDir") as caught:
        staging_root(spark, str(tmp_path / "file" / "below"), "")
    assert caught.value.key == "spark.sparkps.stagingDir"


def test_removing_twice_only_logs(tmp_path):
    StagedInput(str(tmp_path / "gone"), pa.schema([]), ()).remove()
    assert not (tmp_path / "gone").exists()


# ---- what is no input --------------------------------------------------------------------------------------------------


def test_inputs_that_are_refused(spark, tmp_path):
    with pytest.raises(InvalidInput, match="DataFrame"):
        check_input([1, 2])
    with pytest.raises(InvalidInput, match="distinct names"):
        check_input(spark.range(3).select("id", "id"))
    with pytest.raises(InvalidInput, match="at least one column"):
        check_input(spark.range(3).select())
    with pytest.raises(InvalidInput, match="streaming"):
        check_input(spark.readStream.format("rate").load())


def test_schema_of_ranks_is_what_spark_hands_over(spark):
    df = spark.createDataFrame([ROW], TYPES)
    assert direct(df.coalesce(1), 1).count() == 1

    def types(rows):
        for batch in rows:
            yield pa.RecordBatch.from_pydict({"types": [str(batch.schema.types)]})

    [row] = df.coalesce(1).mapInArrow(types, "types string").distinct().collect()
    assert row.types == str(arrow_schema(df).types)
