"""A driver that is killed while its ranks train, and started again: the job goes on from its last checkpoint, and ends the same."""

from __future__ import annotations

import pathlib

import pytest

from sparkps.checkpoints.store import CheckpointStore
from tests.harness.processes import DriverProgram
from tests.harness.waiting import wait_until

PROGRAM = """
from pyspark.sql import SparkSession
from sparkps import PSContext
from sparkps.optim import Adam
from tests.harness.stateful_training import KEYS, StatefulTraining

spark = (SparkSession.builder.master("local[2]").config("spark.driver.host", "127.0.0.1").config("spark.ui.enabled", "false")
         .config("spark.sparkps.numNodes", "{nodes}").getOrCreate())
with PSContext(spark) as ps:
    w = ps.sparse_table("w", dim=2, dtype="float64", optimizer=Adam(0.1))
    results = ps.run(spark.range(100), StatefulTraining(40, seconds=0.05), 2, deterministic=True{options})
    say(rows=w.pull(KEYS).tobytes().hex(), began=[began for began, _ in results], resumed=results.report.resumed_from)
spark.stop()
"""


@pytest.mark.timeout(400)
def test_a_driver_that_is_killed_is_started_again_and_ends_bit_equal(tmp_path: pathlib.Path) -> None:
    url = str(tmp_path / "checkpoints")
    with_checkpoints = f", checkpoint_dir={url!r}, checkpoint_every=5"
    with DriverProgram(PROGRAM.format(nodes=2, options=with_checkpoints)) as driver:
        assert wait_until(lambda: len(CheckpointStore(url).ids()) >= 2, 120), driver.errors
        driver.process.kill()
    with DriverProgram(PROGRAM.format(nodes=1, options=with_checkpoints)) as driver:
        again = driver.hear(120)
        assert again["resumed"], "it went on"
        assert min(again["began"]) > 0
    with DriverProgram(PROGRAM.format(nodes=3, options="")) as driver:
        assert driver.hear(120)["rows"] == again["rows"]
