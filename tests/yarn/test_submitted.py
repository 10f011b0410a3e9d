"""The cluster of these tests runs what is submitted to it, and leaves nothing behind."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from tests.harness.hadoop import HOSTS, HadoopCluster
from tests.harness.waiting import wait_until

JOB = """
import os, sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
def where(rows):
    import sparkps
    yield sum(rows), os.environ["NM_HOST"], sparkps.__file__
spark.range(100).selectExpr("id", "id * 2 as twice").write.parquet(sys.argv[1])
parts = spark.sparkContext.parallelize(range(100), 4).mapPartitions(where).collect()
assert sum(part[0] for part in parts) == 4950 and all(part[2] == sys.argv[2] and part[1] in sys.argv[3] for part in parts), parts
assert spark.read.parquet(sys.argv[1]).count() == 100
spark.stop()
"""


@pytest.mark.parametrize(("mode", "archive"), [("cluster", False), ("client", True)])
def test_job_runs_in_containers_and_leaves_none(
    hadoop: HadoopCluster, tmp_path: pathlib.Path, mode: str, archive: bool
) -> None:
    import sparkps

    job = tmp_path / "job.py"
    job.write_text(JOB)
    out = f"{hadoop.hdfs}/submitted/{mode}"
    before = {one.id for one in hadoop.applications()}
    command = hadoop.submit("--deploy-mode", mode, str(job), out, str(sparkps.__file__), str(HOSTS), archive=archive)
    ran = subprocess.run(command, env=hadoop.environment(), capture_output=True, text=True, timeout=200, check=False)
    (application,) = [one for one in hadoop.applications() if one.id not in before]
    assert ran.returncode == 0, ran.stderr[-3000:] + hadoop.logs(application.id)
    assert (application.state, application.final) == ("FINISHED", "SUCCEEDED")
    assert hadoop.status(f"/submitted/{mode}/_SUCCESS") is not None
    assert wait_until(lambda: not hadoop.containers(application.id), 20)
