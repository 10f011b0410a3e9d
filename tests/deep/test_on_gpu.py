"""What is done for GPUs, on one: skipped where torch can use none."""

from __future__ import annotations

import pathlib
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed

from sparkps.nn.device_memory import copied
from sparkps.nn.process_group import Collective
from sparkps.wire.messages.control import TierAddress
from tests.harness.processes import DriverProgram

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use (torch.cuda.is_available() is false)"),
]

#: Fits on the driver's first GPU, which workers share out, and on the CPU; says what was learned.
PROGRAM = """
import torch
from pyspark.sql import SparkSession
from sparkps import PSContext
from sparkps.errors import SparkPSError
from sparkps.mllib.deep import DeepFMClassifier, TorchEstimator
from sparkps.optim import SGD
from tests.harness.deep_models import COLUMNS, SCHEMA, Net, rows_of

sys.excepthook = lambda kind, error, trace: say(error=f"{kind.__name__}: {error}")
spark = (SparkSession.builder.master("local[2]").config("spark.driver.host", "127.0.0.1").config("spark.ui.enabled", "false")
         .config("spark.driver.resource.gpu.amount", "1").config("spark.driver.resource.gpu.discoveryScript", DISCOVERY).getOrCreate())
rows = spark.createDataFrame(rows_of(400), SCHEMA).repartition(2).localCheckpoint()

class TooLarge(Net):
    def forward(self, batch):
        return super().forward(batch) + torch.zeros(1 << 44, device=batch.numeric.device).sum()

def learned(**params):
    made = DeepFMClassifier(embeddingDim=4, hiddenUnits=[16], maxIter=2, batchSize=100, deterministic=True, optimizer=SGD(0.1),
                            embeddingOptimizer=SGD(0.1), seed=3, **COLUMNS, **params)
    model = made.fit(rows)
    dense = [each.double().flatten().tolist() for each in model.module.state_dict().values()]
    tables = [table.rows[table.keys.argsort()].ravel().tolist() for _, table in sorted(model.tables.items())]
    return {"values": sum(dense + tables, []), "loss": model.summary.objectiveHistory}

def failure():
    try:
        TorchEstimator(module=TooLarge(), numWorkers=1, gpusPerWorker=1, **COLUMNS).fit(rows)
    except SparkPSError as error:
        return f"{type(error).__name__}: {error}"

with PSContext(spark, num_nodes=1):
    say(
        cpu=learned(numWorkers=1, device="cpu"),
        cuda=learned(numWorkers=1, gpusPerWorker=1),
        parts=learned(numWorkers=1, gpusPerWorker=1, accumulationSteps=4),
        allreduce=learned(numWorkers=1, gpusPerWorker=1, dense="allreduce"),
        shared=learned(numWorkers=2, gpusPerWorker=0.5),
        shared_on_cpus=learned(numWorkers=2, device="cpu"),
        amp=learned(numWorkers=1, gpusPerWorker=1, amp=True),
        failure=failure(),
        after=learned(numWorkers=1, gpusPerWorker=1),
    )
spark.stop()
"""


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    root = pathlib.Path(__file__).parents[2]
    program = f"DISCOVERY = {str(root / 'conf' / 'discover-gpu.sh')!r}\n{PROGRAM}"
    with DriverProgram(program, PYSPARK_PYTHON=sys.executable, PYTHONPATH=str(root)) as driver:
        said = driver.hear(360)
        assert "error" not in said, said["error"] + driver.errors[-2000:]
        driver.wait(30)
    return said


@pytest.mark.parametrize(("name", "beside"), [("cuda", "cpu"), ("parts", "cpu"), ("allreduce", "cpu"), ("shared", "shared_on_cpus")])
def test_a_fit_on_a_gpu_is_that_on_cpus(told: dict[str, Any], name: str, beside: str) -> None:
    np.testing.assert_allclose(told[name]["values"], told[beside]["values"], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(told[name]["loss"], told[beside]["loss"], rtol=1e-4)


def test_a_fit_in_bfloat16_is_close(told: dict[str, Any]) -> None:
    np.testing.assert_allclose(told["amp"]["loss"], told["cuda"]["loss"], rtol=0.02)
    assert told["amp"]["values"] != told["cuda"]["values"]


def test_too_little_memory_is_told_with_what_to_set_and_leaves_room_for_the_next_fit(told: dict[str, Any]) -> None:
    for part in ("WorkerFailed", "OutOfDeviceMemory", "CUDA out of memory", "batchSize=1024", "`accumulationSteps`", "amp=True"):
        assert part in told["failure"]
    np.testing.assert_allclose(told["after"]["values"], told["cuda"]["values"], rtol=1e-3, atol=1e-4)


def test_copies_are_there_when_what_computes_uses_them() -> None:
    device = torch.device("cuda", 0)
    busy = torch.randn(2048, 2048, device=device)
    for number in range(50):
        busy = busy @ busy / 2048  # so that copies have something to go on beside
        host = torch.full((1 << 18,), float(number))
        there = copied(host, device)
        host.zero_()  # what is pinned is a copy of it
        assert there.device == device
        doubled = there * 2
        del there  # its memory may be given to the next copy only when the kernel before has read it
        copied(torch.full((1 << 18,), -1.0), device)
        assert torch.equal(doubled.cpu(), torch.full((1 << 18,), 2.0 * number))


def test_nccl_of_one_worker_adds_and_gives() -> None:
    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    address = TierAddress("t1", "ipc:///nobody")
    one = SimpleNamespace(rank=0, num_workers=1, meetings=1, meeting_called=False, session=SimpleNamespace(address=address))
    peers = Collective(one, device)
    peers._group = peers._made(distributed.HashStore(), 0, 1)
    peers.members = [0, 0]  # so that it asks its group, which has one member, all the same
    given = torch.arange(3.0, device=device)
    peers.add(given)
    peers.give(given, 0)
    peers.barrier()
    assert given.tolist() == [0.0, 1.0, 2.0]
    peers.close()
