"""Workers, nodes and drivers that are killed while a module is divided: the fit goes on, and gives the model of one without a fault."""

from __future__ import annotations

import os
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from pyspark.sql import DataFrame, SparkSession

from sparkps import PSContext
from sparkps.checkpoints.store import CheckpointStore
from sparkps.mllib.deep import TorchEstimator, TorchModel, driver
from sparkps.optim import Adam
from sparkps.testing.processes import kill_node, nodes_up
from tests.deep.test_deep_faults import assert_same
from tests.deep.test_divided import KINDS
from tests.harness.cases import cases
from tests.harness.deep_models import COLUMNS, SCHEMA, layered, rows_of
from tests.harness.held_rank import Held, disturbed_by, status_of
from tests.harness.processes import DriverProgram
from tests.harness.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

#: One schedule of pipelines stands for both: what they do over the group is the same.
HOW = {kind: KINDS[kind] for kind in ("1f1b", "fsdp")}


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """Nodes that have taken the place of others stay until the tier of this module ends."""


def estimator(**params: Any) -> TorchEstimator:
    torch.manual_seed(3)
    given = {"optimizer": Adam(0.02), "numWorkers": 2, "batchSize": 25, "maxIter": 4, "seed": 4, "validationIndicatorCol": "aside"}
    return TorchEstimator(module=layered(Adam(0.02), dropout=0.2), **{**given, **COLUMNS, **params})


@pytest.fixture(scope="module")
def rows(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    """Two files, one for each rank."""
    path = str(tmp_path_factory.mktemp("rows") / "parquet")
    spark.createDataFrame(rows_of(200), SCHEMA).repartition(2).write.parquet(path)
    return spark.read.parquet(path)


@pytest.fixture(scope="module")
def ps(spark: SparkSession) -> Iterator[PSContext]:
    """A tier with copies, that gives the ranks of lost workers to others after a second."""
    spark.conf.set("spark.sparkps.leaseTtl", "1s")
    with PSContext(spark, num_nodes=2, replication=2) as context:
        yield context
    spark.conf.unset("spark.sparkps.leaseTtl")


@pytest.fixture(scope="module")
def undisturbed(ps: PSContext, rows: DataFrame) -> dict[str, TorchModel]:
    return {kind: estimator(**how).fit(rows) for kind, how in HOW.items()}


#: The first step, the last one of an epoch, its measuring, its decision, and the first step of the next. The other rank has ticked that
#: clock: it takes it once more, with the successor.
@pytest.mark.parametrize(("clock", "rank"), cases([(4, 0)], long=[(1, 1), (5, 1), (6, 0), (7, 1)]))
@pytest.mark.parametrize("kind", HOW)
def test_killed_worker_leaves_the_same_model(
    ps: PSContext, rows: DataFrame, undisturbed: dict[str, TorchModel], monkeypatch: pytest.MonkeyPatch, kind: str, clock: int, rank: int
) -> None:
    made = driver.DeepTask
    monkeypatch.setattr(driver, "DeepTask", lambda rank_job: Held(made(rank_job), clock, rank))
    assert_same(disturbed_by(ps, clock, lambda: estimator(**HOW[kind]).fit(rows), rank), undisturbed[kind])
    assert ps.status()["tables"] == []


@dataclass(frozen=True)
class Stuck:
    """A train function one of whose ranks stops in the middle of a step, while the other waits for it, until it is killed."""

    train: Callable[[Any, Any], Any]

    def __call__(self, worker: Any, batches: Any) -> Any:
        from sparkps.nn.process_group import DefaultGroup

        gather = DefaultGroup.gather

        def stuck(peers: Any, data: bytes, to: int) -> list[bytes]:
            if worker.rank == 1 and worker.clock == 3 and to == 1 and not worker.meetings > 1:
                worker.report(held=os.getpid())
                threading.Event().wait(40)
            return gather(peers, data, to)

        DefaultGroup.gather = stuck  # type: ignore[method-assign]
        try:
            return self.train(worker, batches)
        finally:
            DefaultGroup.gather = gather  # type: ignore[method-assign]


def test_worker_killed_within_a_step_leaves_the_same_model(
    ps: PSContext, rows: DataFrame, undisturbed: dict[str, TorchModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = driver.DeepTask
    monkeypatch.setattr(driver, "DeepTask", lambda rank_job: Stuck(made(rank_job)))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: estimator(**HOW["1f1b"]).fit(rows))
        assert wait_until(lambda: "held" in status_of(ps, 1).get("counters", {}), 60, 0.05)
        monkeypatch.setattr(driver, "DeepTask", made)
        os.kill(status_of(ps, 1)["counters"]["held"], signal.SIGKILL)
        assert_same(running.result(timeout=120), undisturbed["1f1b"])


def test_killed_node_leaves_the_same_model(ps: PSContext, rows: DataFrame, undisturbed: dict[str, TorchModel]) -> None:
    assert wait_until(lambda: len(nodes_up(ps)) == 2 and not ps.status()["under_replicated"], 60, 0.1)
    with ThreadPoolExecutor(1) as pool:
        fit = pool.submit(lambda: estimator(**HOW["1f1b"]).fit(rows))
        assert wait_until(lambda: int(status_of(ps, 0).get("clock", -1)) >= 3 or fit.done(), 60, 0.005)
        assert not fit.done(), "the fit is under way"
        kill_node(ps, nodes_up(ps)[0])
        assert_same(fit.result(timeout=120), undisturbed["1f1b"])


#: Fits with checkpoints, and in the end once without.
PROGRAM = """
import hashlib
from pyspark.sql import SparkSession
from sparkps import PSContext
from tests.deep.test_deep_faults import bits_of
from tests.deep.test_divided_faults import HOW, estimator

spark = (SparkSession.builder.master("local[2]").config("spark.driver.host", "127.0.0.1").config("spark.ui.enabled", "false")
         .getOrCreate())
rows = spark.read.parquet({rows!r})

def fit(**more):
    model = estimator(maxIter=12, batchSize=5, earlyStoppingRounds=0, **HOW[{kind!r}], **more).fit(rows)
    return sorted((name, hashlib.sha256(each).hexdigest()) for name, each in bits_of(model).items())

with PSContext(spark, num_nodes={nodes}):
    say(bits=fit(checkpointDir={url!r}, checkpointInterval=2))
    say(bits=fit())
spark.stop()
"""


@pytest.mark.long
@pytest.mark.parametrize("kind", ["1f1b", "fsdp"])
def test_a_driver_that_is_killed_goes_on_and_gives_the_same_model(rows: DataFrame, tmp_path: pathlib.Path, kind: str) -> None:
    url = str(tmp_path / "checkpoints")
    (path,) = {pathlib.Path(each.removeprefix("file://")).parent for each in rows.inputFiles()}
    with DriverProgram(PROGRAM.format(rows=str(path), nodes=2, url=url, kind=kind)) as program:
        assert wait_until(lambda: bool(CheckpointStore(url).ids()), 120), program.errors
        program.process.kill()
    with DriverProgram(PROGRAM.format(rows=str(path), nodes=1, url=url, kind=kind)) as program:
        found = program.hear(120)
        assert "goes on after clock" in program.errors
        assert found == program.hear(60)
    assert CheckpointStore(url).ids() == []
