"""Rows of Hive tables, in a program of its own: a session cannot take up a metastore later."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

PROGRAM = """
import numpy as np
from pyspark.sql import SparkSession, functions as sf

from sparkps import PSContext
from sparkps.mllib.classification import LogisticRegression

spark = SparkSession.builder.enableHiveSupport().getOrCreate()
rows = spark.range(400).select(
    (sf.col("id") % 3 == 0).cast("double").alias("label"), sf.concat(sf.lit("town "), sf.col("id") % 7).alias("town"),
    (sf.rand(1) + sf.col("id") % 3).alias("price"), (sf.col("id") % 2).alias("day"),
).localCheckpoint()
rows.createTempView("rows")
spark.conf.set("hive.exec.dynamic.partition.mode", "nonstrict")
with PSContext(spark, num_nodes=2):
    estimator = LogisticRegression(inputCols=["town", "price", "day"], numFeatures=64, regParam=0.01, tol=1e-12, maxIter=100)
    expected = estimator.fit(rows)
    for name, stored in {"texts": "row format delimited fields terminated by ','", "files": "stored as parquet"}.items():
        spark.sql(f"create table {name} (label double, town string, price double) partitioned by (day bigint) {stored}")
        spark.sql(f"insert into {name} partition (day) select label, town, price, day from rows")
        found = estimator.fit(spark.table(name))
        np.testing.assert_allclose(found.coefficients.toArray(), expected.coefficients.toArray(), atol=1e-6)
        np.testing.assert_allclose(found.intercept, expected.intercept, atol=1e-6)
        provider = [row.data_type for row in spark.sql(f"describe extended {name}").collect() if row.col_name == "Provider"]
        print(name, "are of", *provider)
"""


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(400)
def test_hive_tables_are_rows_as_all_others(tmp_path: pathlib.Path) -> None:
    settings = (
        f"--master local[2] --driver-memory 1g --conf spark.ui.enabled=false --conf spark.sql.warehouse.dir={tmp_path}/warehouse"
        f" --conf spark.driver.extraJavaOptions=-Dderby.system.home={tmp_path} --conf spark.sql.shuffle.partitions=2 pyspark-shell"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_SUBMIT_ARGS": settings}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=380, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line for line in done.stdout.splitlines() if " are of " in line] == ["texts are of hive", "files are of hive"]
