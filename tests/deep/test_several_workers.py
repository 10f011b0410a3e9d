"""More than two workers, on a session of four slots: their steps are those of one worker on all of their rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.processes import DriverProgram

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

#: One session for all: to start another one, with its Python workers, takes longer than what it is for.
PROGRAM = """
import numpy as np
import torch
from pyspark.sql import SparkSession
from sparkps import PSContext
from sparkps.mllib.deep import TorchEstimator
from sparkps.optim import SGD, Adagrad
from tests.deep import test_divided as divided
from tests.harness.deep_models import COLUMNS, SCHEMA, Net, rows_of

ROWS = 240
spark = SparkSession.builder.master("local[4]").config("spark.ui.enabled", "false").config("spark.driver.host", "127.0.0.1").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")

def fitted(rows, optimizer, workers, norm=False, **params):
    torch.manual_seed(5)
    made = TorchEstimator(
        module=Net(optimizer, norm=norm), optimizer=optimizer, numWorkers=workers, batchSize=ROWS, maxIter=3, weightCol="weight",
        **COLUMNS, **params,
    )
    model = made.fit(rows)
    return {name: each.numpy() for name, each in model.module.state_dict().items()}, model.tables

def apart(ours, theirs):
    # The largest difference, of numbers whose size is about 1 or less.
    found = [np.abs(ours[0][name] - theirs[0][name]).max() for name in ours[0]]
    found += [np.abs(ours[1][name].look_up(table.keys) - table.rows).max() for name, table in theirs[1].items()]
    return float(max(found))

def four_as_one():
    rows = spark.createDataFrame(rows_of(ROWS), SCHEMA).coalesce(1).localCheckpoint()
    told = {}
    for dense in ("ps", "allreduce"):
        one = fitted(rows, Adagrad(0.3), 1)
        told[f"one batch, {dense}"] = apart(fitted(rows.repartition(4), Adagrad(0.3), 4, dense=dense), one)
        parts = fitted(rows, SGD(0.5), 1, accumulationSteps=4)
        told[f"four parts, {dense}"] = apart(fitted(rows.repartition(4), SGD(0.5), 4, dense=dense), parts)
    return told

def with_statistics_of_all():
    rows = rows_of(120)
    def of(*borders, **params):
        # A partition for each pair of neighbours.
        parts = [rows[a:b] for a, b in zip(borders, borders[1:])]
        frame = spark.createDataFrame(spark.sparkContext.parallelize(parts, len(parts)).flatMap(lambda part: part), SCHEMA)
        return fitted(frame, Adagrad(0.3), len(parts), norm=True, dense="allreduce", **params)
    one = of(0, 120)
    return {
        "two": apart(of(0, 85, 120, syncBatchNorm=True), one),
        "three": apart(of(0, 75, 75, 120, syncBatchNorm=True), one),
        "apart": apart(of(0, 85, 120), one),
    }

def with_parts_of_the_module():
    rows = spark.createDataFrame(rows_of(divided.ROWS), SCHEMA).localCheckpoint()
    alone = divided.estimator(numWorkers=1, maxIter=2).fit(rows)
    for kind in divided.KINDS.values():
        divided.assert_same(divided.estimator(numWorkers=3, maxIter=2, **kind).fit(rows), alone)
    return list(divided.KINDS)

with PSContext(spark, num_nodes=2):
    say(four=four_as_one(), statistics=with_statistics_of_all(), parts=with_parts_of_the_module())
spark.stop()
"""


@pytest.fixture(scope="module")
def told() -> Iterator[dict[str, Any]]:
    with DriverProgram(PROGRAM) as driver:
        yield driver.hear(350)
        driver.wait(30)


def test_four_workers_step_as_one_does(told: dict[str, Any]) -> None:
    for dense in ("ps", "allreduce"):
        assert told["four"][f"one batch, {dense}"] <= 1e-5
        assert told["four"][f"four parts, {dense}"] <= 1e-6


def test_two_and_three_workers_with_statistics_of_all_and_uneven_rows_step_as_one(told: dict[str, Any]) -> None:
    assert told["statistics"]["two"] <= 1e-5
    assert told["statistics"]["three"] <= 1e-5, "one of them has no rows"
    assert told["statistics"]["apart"] > 1e-3, "it is the statistics that make it so"


def test_three_workers_with_parts_learn_what_one_does_with_the_whole(told: dict[str, Any]) -> None:
    assert told["parts"] == ["gpipe", "1f1b", "fsdp"]
