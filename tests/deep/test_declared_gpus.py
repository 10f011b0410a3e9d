"""Workers with GPUs that Spark was told of, on a local-cluster: each computes on its own, as `gpusPerWorker` says.

There is no GPU: a discovery script declares two, and what torch says of CUDA is faked where a worker chooses its device.
"""

from __future__ import annotations

import pathlib
import sys
from typing import Any

import pytest

from tests.harness.processes import DriverProgram

#: An executor in a JVM of its own.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

DISCOVERY = """#!/bin/sh
echo '{"name": "gpu", "addresses": ["0", "1"]}'
"""

PROGRAM = """
import torch
from pyspark.sql import SparkSession
from sparkps import PSContext
from sparkps.errors import SparkPSError
from sparkps.mllib.deep import MLPClassifier

sys.excepthook = lambda kind, error, trace: say(error=f"{kind.__name__}: {error}")
builder = SparkSession.builder
for key, value in CONF.items():
    builder = builder.config(key, value)
spark = builder.getOrCreate()
spark.sparkContext.setLogLevel("OFF")

def train(worker, batches):
    import os, torch
    from unittest import mock
    from sparkps.mllib.deep.devices import device_of
    for _ in batches:
        pass
    with mock.patch.multiple(torch.cuda, is_available=lambda: True, device_count=lambda: 2, set_device=mock.DEFAULT) as faked:
        device = device_of(worker, "auto", 1.0)
    return [worker.device, str(device), faked["set_device"].call_args.args[0], os.getpid()]

def failure(gpus, **params):
    made = MLPClassifier(categoricalCols=["c"], hiddenUnits=[2], numWorkers=2, gpusPerWorker=gpus, **params)
    try:
        made.fit(rows)
    except SparkPSError as error:
        return f"{type(error).__name__}: {error}"

rows = spark.range(0, 40, 1, 4).selectExpr("cast(id % 2 as double) as label", "id % 5 as c")
with PSContext(spark, num_nodes=1, launch="local") as ps:
    told = {"without": list(ps.run(rows, lambda worker, batches: worker.device, num_workers=2))}
    for gpus, workers in ((1, 2), (0.5, 4), (1, 2)):
        told.setdefault(str(gpus), []).append(list(ps.run(rows, train, num_workers=workers, gpus_per_worker=gpus)))
    told["given"] = failure(1)
    told["too many"] = failure(4)
    told["cpu"] = failure(4, device="cpu")
say(**told)
spark.stop()
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("declared")
    script = directory / "discover.sh"
    script.write_text(DISCOVERY)
    script.chmod(0o755)
    settings = {
        "spark.master": "local-cluster[1,4,1024]",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": "512m",
        "spark.executor.memory": "512m",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.worker.resource.gpu.amount": "2",
        "spark.worker.resource.gpu.discoveryScript": str(script),
        "spark.executor.resource.gpu.amount": "2",
        "spark.sparkps.groupStartTimeout": "100s",
        "spark.sparkps.stagingDir": str(directory / "staged"),
    }
    root = str(pathlib.Path(__file__).parents[2])
    with DriverProgram(f"CONF = {settings!r}\n{PROGRAM}", PYSPARK_PYTHON=sys.executable, PYTHONPATH=root) as driver:
        said = driver.hear(200)
        assert "error" not in said, said["error"] + driver.errors[-2000:]
        driver.wait(30)
    return said


def test_each_worker_computes_on_the_gpu_that_its_task_was_given(told: dict[str, Any]) -> None:
    assert told["without"] == [None, None], "the setting gives none"
    first, second = told["1"]
    for ran in (first, second):
        assert sorted(ran)[0][:3] == ["0", "cuda:0", 0]
        assert sorted(ran)[1][:3] == ["1", "cuda:1", 1]
    (shared,) = told["0.5"]
    assert sorted(address for address, *_ in shared) == ["0", "0", "1", "1"]
    assert all((device, current) == (f"cuda:{address}", int(address)) for address, device, current, _ in shared)


def test_a_python_worker_that_is_reused_takes_the_gpu_of_its_task(told: dict[str, Any]) -> None:
    processes = [{pid for *_, pid in ran} for ran in (told["1"][0], told["0.5"][0], told["1"][1])]
    assert processes[0] & processes[1], "torch was imported before"
    assert processes[1] & processes[2], "by one that shared its GPU, too"


def test_the_param_reaches_the_tasks_and_a_gpu_that_torch_cannot_use_is_an_error(told: dict[str, Any]) -> None:
    assert told["given"].startswith("WorkerFailed")
    assert "was given '0', and torch sees 0 here" in told["given"] or "was given '1', and torch sees 0 here" in told["given"]


def test_more_gpus_than_executors_have_are_refused_and_none_are_asked_for_on_cpus(told: dict[str, Any]) -> None:
    assert told["too many"].startswith("ConfigError")
    assert "spark.executor.resource.gpu.amount" in told["too many"]
    assert told["cpu"] is None
