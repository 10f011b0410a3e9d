"""Inputs that Spark itself cannot compute: its own first cause is told, at once, and not what a rank saw of it."""

from __future__ import annotations

import os
import time

import pytest
from pyspark.ml.feature import VectorAssembler
from pyspark.sql import functions as sf

from sparkps.errors import InputFailed, WorkerFailed
from sparkps.mllib.classification import LogisticRegression
from tests.harness.cases import cases


def count(worker, batches):
    return sum(batch.num_rows for batch in batches)


def divided(x):
    return 1 // (x - 70)


def vectors(spark):
    rows = spark.createDataFrame([(1.0, 2.0), (None, 3.0)], "a double, b double")
    return VectorAssembler(inputCols=["a", "b"], outputCol="features").transform(rows).withColumn("label", sf.lit(1.0))


def python_udf(spark):
    return spark.range(100).select(sf.udf(divided, "long")("id").alias("x"))


def pandas_udf(spark):
    return spark.range(100).select(sf.pandas_udf(lambda x: x.map(divided), "long")("id").alias("x"))


def arrow_map(spark):
    def fails(batches):
        for batch in batches:
            yield batch
            raise KeyError("no such luck")

    return spark.range(100).mapInArrow(fails, "id long")


def cast(spark):
    return spark.createDataFrame([("1",), ("two",)], ["s"]).select(sf.col("s").cast("int"))


def asserted(spark):
    return spark.range(100).where(sf.assert_true(sf.col("id") < 50, sf.lit("id too large")).isNull())


PLANS = {
    "VectorAssembler": (vectors, r"Encountered null while assembling a row.*Consider removing nulls"),
    "python udf": (python_udf, r"ZeroDivisionError: integer division or modulo by zero"),
    "pandas udf": (pandas_udf, r"ZeroDivisionError"),
    "mapInArrow": (arrow_map, r"KeyError: 'no such luck'"),
    "cast": (cast, r"CAST_INVALID_INPUT.*'two'"),
    "assert_true": (asserted, r"id too large"),
}


@pytest.mark.parametrize("deterministic", cases([True], long=[False]))
@pytest.mark.parametrize("plan", list(PLANS))
def test_the_cause_is_what_spark_says(spark, ps, plan, deterministic, caplog):
    make, says = PLANS[plan]
    df = make(spark)
    began = time.monotonic()
    with pytest.raises(InputFailed, match=f"must be computable. They are not: .*{says}") as caught:
        ps.run(df, count, num_workers=1, deterministic=deterministic)
    assert time.monotonic() - began < 40
    assert "ArrowInvalid" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None, "Spark's own error is there for who wants more"
    assert not [record for record in caplog.records if "again" in record.getMessage()], "it would fail again"


def test_what_the_user_s_own_error_says_of_cancelling_misleads_nobody(spark, ps):
    def fails(x):
        raise ValueError("order 7 was cancelled by its customer")

    with pytest.raises(InputFailed, match="They are not: ValueError: order 7 was cancelled by its customer"):
        ps.run(spark.range(20).select(sf.udf(fails, "long")("id").alias("id")), count, num_workers=1)


def test_an_error_that_is_its_own_cause_ends_the_group(spark, ps):
    def train(worker, batches):
        try:
            raise ValueError("boom")
        except ValueError as error:
            raise error from error

    with pytest.raises(WorkerFailed, match="ValueError: boom"):
        ps.run(spark.range(20), train, num_workers=1, timeout=30)


def test_a_fit_says_it_too(spark, ps):
    with pytest.raises(InputFailed, match="Encountered null while assembling a row"):
        LogisticRegression(maxIter=2).fit(vectors(spark).select("label", "features"))


def test_files_that_are_damaged_or_gone_are_named(spark, ps, tmp_path):
    path = tmp_path / "rows"
    spark.range(0, 100, 1, 2).write.parquet(str(path))
    df = spark.read.parquet(str(path)).select((sf.col("id") + 1).alias("x"))
    parts = sorted(path.glob("part-*.parquet"))
    parts[0].write_bytes(b"PAR1" + b"x" * 100 + b"PAR1")
    with pytest.raises((InputFailed, WorkerFailed), match=parts[0].name[:20]):
        ps.run(df, count, num_workers=1)
    parts[0].unlink()
    with pytest.raises((InputFailed, WorkerFailed), match=r"(?i)exist|no such file|not found"):
        ps.run(df, count, num_workers=1)


def test_a_worker_that_always_dies_ends_the_group_soon_and_says_so(spark, ps):
    def dies(worker, batches):
        os._exit(7)

    began = time.monotonic()
    with pytest.raises(WorkerFailed, match="Rank 0 .* was lost with its process on .*: its Python process was killed, or crashed"):
        ps.run(spark.range(10), dies, num_workers=1)
    assert time.monotonic() - began < 30
