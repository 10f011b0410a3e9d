"""Workers, nodes and drivers that are killed in a deep fit: under BSP the model is, bit by bit, that of a fit without a fault."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from pyspark.sql import DataFrame, SparkSession

from sparkps import PSContext
from sparkps.checkpoints.store import CheckpointStore
from sparkps.errors import CheckpointError, WorkerFailed
from sparkps.mllib.deep import TorchEstimator, TorchModel, driver
from sparkps.nn import Batch
from sparkps.optim import Adam
from sparkps.testing.processes import kill_node, nodes_up
from tests.harness.cases import cases
from tests.harness.deep_models import COLUMNS, SCHEMA, Net, rows_of
from tests.harness.held_rank import Held, disturbed_by
from tests.harness.processes import DriverProgram
from tests.harness.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """Nodes that have taken the place of others stay until the tier of this module ends."""


class SlowNet(Net):
    """A net that takes its time."""

    def forward(self, batch: Batch) -> torch.Tensor:
        threading.Event().wait(0.03)
        return super().forward(batch)


def estimator(**params: Any) -> TorchEstimator:
    torch.manual_seed(3)
    given = {"optimizer": Adam(0.02), "numWorkers": 2, "batchSize": 25, "maxIter": 5, "seed": 4, "validationIndicatorCol": "aside"}
    return TorchEstimator(module=SlowNet(Adam(0.02), norm=True, dropout=0.2), **{**given, **COLUMNS, **params})


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
    with PSContext(spark, num_nodes=3, replication=2) as context:
        yield context
    spark.conf.unset("spark.sparkps.leaseTtl")


@pytest.fixture(scope="module")
def undisturbed(ps: PSContext, rows: DataFrame) -> dict[str, TorchModel]:
    return {dense: estimator(dense=dense).fit(rows) for dense in ("ps", "allreduce")}


def bits_of(model: TorchModel) -> dict[str, bytes]:
    """All that was learned."""
    found = {name: each.numpy().tobytes() for name, each in model.module.state_dict().items()}
    for name, table in model.tables.items():
        found[f"keys of {name}"], found[f"rows of {name}"] = table.keys.tobytes(), np.ascontiguousarray(table.rows).tobytes()
    return found


def assert_same(model: TorchModel, undisturbed: TorchModel) -> None:
    assert model.summary.objectiveHistory == undisturbed.summary.objectiveHistory
    assert model.summary.validationHistory == undisturbed.summary.validationHistory
    found, expected = bits_of(model), bits_of(undisturbed)
    assert [name for name in expected if found[name] != expected[name]] == []


#: A step, the last step of an epoch, its measuring, its decision, and the first step of the next.
@pytest.mark.parametrize("clock", cases([2, 7], long=[4, 5, 6]))
@pytest.mark.parametrize("dense", ["ps", "allreduce"])
def test_killed_worker_leaves_the_same_model(
    ps: PSContext, rows: DataFrame, undisturbed: dict[str, TorchModel], monkeypatch: pytest.MonkeyPatch, dense: str, clock: int
) -> None:
    made = driver.DeepTask
    monkeypatch.setattr(driver, "DeepTask", lambda rank_job: Held(made(rank_job), clock))
    assert_same(disturbed_by(ps, clock, lambda: estimator(dense=dense).fit(rows)), undisturbed[dense])
    assert ps.status()["tables"] == []


@pytest.mark.parametrize(("dense", "after"), [("ps", 3), ("ps", 9), ("allreduce", 9)])
def test_killed_node_leaves_the_same_model(
    ps: PSContext, rows: DataFrame, undisturbed: dict[str, TorchModel], dense: str, after: int
) -> None:
    def clock() -> int:
        return max((int(rank["clock"]) for group in ps.status()["groups"] for rank in group["ranks"]), default=-1)

    assert wait_until(lambda: len(nodes_up(ps)) == 3 and not ps.status()["under_replicated"], 60, 0.1)
    with ThreadPoolExecutor(1) as pool:
        fit = pool.submit(lambda: estimator(dense=dense).fit(rows))
        assert wait_until(lambda: clock() >= after or fit.done(), 30, 0.005)
        assert not fit.done(), "the fit is under way"
        kill_node(ps, nodes_up(ps)[after % 3])
        assert_same(fit.result(timeout=120), undisturbed[dense])


@pytest.mark.parametrize("consistency", ["ssp", "asp"])
def test_killed_worker_under_ssp_and_asp(
    ps: PSContext, rows: DataFrame, monkeypatch: pytest.MonkeyPatch, consistency: str
) -> None:
    made = driver.DeepTask
    monkeypatch.setattr(driver, "DeepTask", lambda rank_job: Held(made(rank_job), 4))
    model = disturbed_by(ps, 4, lambda: estimator(consistency=consistency, staleness=2, earlyStoppingRounds=0).fit(rows))
    assert len(model.summary.objectiveHistory) == 5
    assert model.summary.objectiveHistory[-1] < model.summary.objectiveHistory[0]


#: Fits with checkpoints, and in the end once without.
PROGRAM = """
import hashlib
from pyspark.sql import SparkSession
from sparkps import PSContext
from tests.deep.test_deep_faults import bits_of, estimator

spark = (SparkSession.builder.master("local[2]").config("spark.driver.host", "127.0.0.1").config("spark.ui.enabled", "false")
         .getOrCreate())
rows = spark.read.parquet({rows!r})

def fit(**more):
    model = estimator(maxIter=8, earlyStoppingRounds=0, dense={dense!r}, **more).fit(rows)
    return sorted((name, hashlib.sha256(each).hexdigest()) for name, each in bits_of(model).items())

with PSContext(spark, num_nodes={nodes}):
    say(bits=fit(checkpointDir={url!r}, checkpointInterval=2))
    say(bits=fit())
spark.stop()
"""


@pytest.mark.parametrize("dense", cases(["ps"], long=["allreduce"]))
def test_a_driver_that_is_killed_goes_on_and_gives_the_same_model(rows: DataFrame, tmp_path: pathlib.Path, dense: str) -> None:
    url = str(tmp_path / "checkpoints")
    (path,) = {pathlib.Path(each.removeprefix("file://")).parent for each in rows.inputFiles()}
    with DriverProgram(PROGRAM.format(rows=str(path), nodes=2, url=url, dense=dense)) as program:
        assert wait_until(lambda: bool(CheckpointStore(url).ids()), 120), program.errors
        program.process.kill()
    with DriverProgram(PROGRAM.format(rows=str(path), nodes=1, url=url, dense=dense)) as program:
        found = program.hear(120)
        assert "goes on after clock" in program.errors
        assert found == program.hear(60)
    assert CheckpointStore(url).ids() == []


def test_checkpoints_of_another_module_are_refused(ps: PSContext, rows: DataFrame, tmp_path: pathlib.Path) -> None:
    def described(module: Net, **more: Any) -> dict[str, str]:
        made = TorchEstimator(module=module, **{**COLUMNS, **more})
        return made._job(rows).described(2)

    torch.manual_seed(0)
    assert described(Net(dim=3)) != described(Net(dim=4))
    torch.manual_seed(0)
    first = Net()
    assert described(first) == described(first)
    others = [
        {"batchSize": 7}, {"optimizer": Adam(0.5)}, {"seed": 9}, {"dense": "allreduce"}, {"accumulationSteps": 2}, {"maxIter": 9},
        {"transport": "int8"}, {"consistency": "asp"}, {"weightCol": "weight"}, {"validationIndicatorCol": "aside"}, {"loss": "squared"},
        {"modelParallel": "fsdp", "numWorkers": 2},
    ]  # fmt: skip
    for other in others:
        assert described(first, **other) != described(first), other


def test_a_checkpoint_is_of_its_rows(ps: PSContext, spark: SparkSession, tmp_path: pathlib.Path) -> None:
    calls = tmp_path / "calls"

    def raising(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with calls.open("ab") as file:
            file.write(b".")
        if calls.stat().st_size == 9:
            raise ValueError("the ninth step")
        return (output.reshape(-1) - labels) ** 2

    given = {"optimizer": Adam(0.02), "numWorkers": 1, "batchSize": 50, "maxIter": 5, "seed": 4, **COLUMNS}
    torch.manual_seed(3)
    made = TorchEstimator(module=Net(), loss=raising, checkpointDir=str(tmp_path / "kept"), checkpointInterval=1, **given)
    sets = [(200, 0), (150, 0), (200, 1)]
    frames = [spark.createDataFrame(rows_of(count, seed), SCHEMA).coalesce(1).localCheckpoint() for count, seed in sets]
    with pytest.raises(WorkerFailed, match="the ninth step"):
        made.fit(frames[0])
    for other, said in [(frames[1], "rows 200 then and 150 now"), (frames[2], "sum of labels")]:
        with pytest.raises((CheckpointError, WorkerFailed), match=said):
            made.fit(other)
    assert len(made.fit(frames[0]).summary.objectiveHistory) == 5
