"""`syncBatchNorm` in fits: a worker that is killed in the midst of a step changes no bit, and ranks without rows hold nobody up."""

from __future__ import annotations

import os
import pathlib
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from pyspark.sql import DataFrame, SparkSession

from sparkps import PSContext
from sparkps.mllib.deep import TorchEstimator, TorchModel
from sparkps.mllib.errors import InvalidParam
from sparkps.nn import Batch
from sparkps.optim import Adam
from tests.deep.test_deep_faults import assert_same
from tests.harness.deep_models import COLUMNS, SCHEMA, Net, rows_of
from tests.harness.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


class HeldNet(Net):
    """A net of which one process, the first that comes there, stops in a step until it is killed."""

    def __init__(self, place: str, held: pathlib.Path) -> None:
        super().__init__(Adam(0.02), norm=True, dropout=0.2)
        self.place, self.held, self.calls = place, held, 0

    def forward(self, batch: Batch) -> torch.Tensor:
        """Of the fourth step, before any sum, or between the sum forward and that back."""
        self.calls += self.training
        if self.place == "before":
            self.hold()
        found = super().forward(batch)
        if self.place == "between":
            self.hold()
        return found

    def hold(self) -> None:
        if self.training and self.calls == 4:
            try:
                with self.held.open("x") as held:
                    held.write(str(os.getpid()))
            except FileExistsError:
                return
            threading.Event().wait(60)


def estimator(module: Net, **params: Any) -> TorchEstimator:
    given = {"optimizer": Adam(0.02), "numWorkers": 2, "batchSize": 25, "maxIter": 3, "seed": 4}
    return TorchEstimator(module=module, **{**given, **COLUMNS, "dense": "allreduce", "syncBatchNorm": True, **params})


def made(place: str, held: pathlib.Path) -> HeldNet:
    torch.manual_seed(3)
    return HeldNet(place, held)


@pytest.fixture(scope="module")
def rows(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    """Two files, one for each rank."""
    path = str(tmp_path_factory.mktemp("rows") / "parquet")
    spark.createDataFrame(rows_of(150), SCHEMA).repartition(2).write.parquet(path)
    return spark.read.parquet(path)


@pytest.fixture(scope="module")
def ps(spark: SparkSession) -> Iterator[PSContext]:
    """A tier that gives the ranks of lost workers to others after a second."""
    spark.conf.set("spark.sparkps.leaseTtl", "1s")
    with PSContext(spark, num_nodes=1) as context:
        yield context
    spark.conf.unset("spark.sparkps.leaseTtl")


@pytest.fixture(scope="module")
def undisturbed(ps: PSContext, rows: DataFrame, tmp_path_factory: pytest.TempPathFactory) -> TorchModel:
    return estimator(made("nowhere", tmp_path_factory.mktemp("none") / "held")).fit(rows)


@pytest.mark.parametrize("place", ["before", "between"])
def test_a_worker_killed_in_the_midst_of_a_step_leaves_the_same_model(
    ps: PSContext, rows: DataFrame, undisturbed: TorchModel, tmp_path: pathlib.Path, place: str
) -> None:
    held = tmp_path / "held"
    with ThreadPoolExecutor(1) as pool:
        fit = pool.submit(lambda: estimator(made(place, held)).fit(rows))
        assert wait_until(lambda: held.exists() and bool(held.read_text()), 60, 0.02)
        os.kill(int(held.read_text()), signal.SIGKILL)
        assert_same(fit.result(timeout=120), undisturbed)


def test_ranks_without_rows_in_most_steps_and_parts_hold_nobody_up(ps: PSContext, spark: SparkSession, tmp_path: pathlib.Path) -> None:
    given = rows_of(72)
    frame = spark.createDataFrame(spark.sparkContext.parallelize([given[:70], given[70:]], 2).flatMap(lambda part: part), SCHEMA)
    model = estimator(made("nowhere", tmp_path / "held"), batchSize=10, accumulationSteps=3).fit(frame)
    assert int(model.module.hidden[1].num_batches_tracked) == 7 * 3 * 3, "steps, parts and epochs"
    assert np.isfinite(model.summary.objectiveHistory).all()
    assert model.summary.objectiveHistory[-1] < model.summary.objectiveHistory[0]


def test_statistics_are_shared_only_among_workers_that_wait_for_each_other(ps: PSContext, rows: DataFrame, tmp_path: pathlib.Path) -> None:
    with pytest.raises(InvalidParam, match="syncBatchNorm=True needs dense='allreduce'.*Got 'ps'"):
        estimator(made("nowhere", tmp_path / "held"), dense="ps").fit(rows)
