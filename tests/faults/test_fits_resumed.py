"""A driver that is killed in a fit, and started again: the fit goes on from its last checkpoint, and gives the same model."""

from __future__ import annotations

import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparkps.checkpoints.store import CheckpointStore
from tests.harness.cases import cases
from tests.harness.fits import labelled
from tests.harness.processes import DriverProgram
from tests.harness.waiting import wait_until

#: Fits with checkpoints, and in the end once without.
PROGRAM = """
from pyspark.sql import SparkSession
from sparkps import PSContext
from sparkps.mllib.classification import LogisticRegression
from tests.harness.fits import FITS, bits_of
from tests.harness.striking_loss import StrikingLogistic

spark = (SparkSession.builder.master("local[2]").config("spark.driver.host", "127.0.0.1").config("spark.ui.enabled", "false")
         .getOrCreate())
rows = spark.read.parquet({rows!r})

def fit(**more):
    estimator = LogisticRegression(solver={solver!r}, numWorkers=2, **FITS[{solver!r}], **more)
    estimator._objective = lambda: StrikingLogistic(seconds=0.1)
    return bits_of(estimator.fit(rows))

with PSContext(spark, num_nodes={nodes}):
    say(bits=fit(checkpointDir={url!r}, checkpointInterval=2))
    say(bits=fit())
spark.stop()
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two files of rows."""
    path = tmp_path_factory.mktemp("rows")
    made = labelled()
    kind = pa.struct([("indices", pa.list_(pa.int64())), ("values", pa.list_(pa.float64()))])
    for part in range(2):
        mine = made[part::2]
        features = pa.array([{"indices": indices, "values": values} for _, (indices, values) in mine], kind)
        pq.write_table(pa.table({"label": pa.array([label for label, _ in mine]), "features": features}), path / f"{part}.parquet")
    return str(path)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("solver", cases(["lbfgs"], long=["adam"]))
def test_a_driver_that_is_killed_in_a_fit_goes_on_and_gives_the_same_model(rows: str, tmp_path: pathlib.Path, solver: str) -> None:
    url = str(tmp_path / "checkpoints")
    with DriverProgram(PROGRAM.format(rows=rows, solver=solver, nodes=2, url=url)) as driver:
        assert wait_until(lambda: bool(CheckpointStore(url).ids()), 120), driver.errors
        driver.process.kill()
    with DriverProgram(PROGRAM.format(rows=rows, solver=solver, nodes=1, url=url)) as driver:
        found = driver.hear(120)
        assert "goes on after clock" in driver.errors
        assert found == driver.hear(60)
    assert CheckpointStore(url).ids() == []
