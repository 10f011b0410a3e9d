"""Profiles on YARN: containers of the size that was asked for, declared GPUs, and errors with the numbers of the cluster."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from tests.harness.hadoop import HadoopCluster

#: Stands for conf/discover-gpu.sh in every container: each gets a card that no other has.
DISCOVERY = """#!/bin/sh
for card in 0 1 2 3 4 5 6 7; do
    if mkdir "{directory}/card$card" 2>/dev/null; then echo "{{\\"name\\": \\"gpu\\", \\"addresses\\": [\\"card$card\\"]}}"; exit 0; fi
done
echo '{{"name": "gpu", "addresses": []}}'
"""

PROGRAM = """
import json, sys, threading
from pyspark import TaskContext
from pyspark.sql import SparkSession
from sparkps import PSContext
from sparkps.config import Settings
from sparkps.driver_bridge.profiles import Executor, Profile
from sparkps.driver_bridge.resources import build, node_profile
from sparkps.driver_bridge.spark.cluster import check_fits, what_there_is
from sparkps.errors import SparkPSError

spark = SparkSession.builder.getOrCreate()
context = spark.sparkContext
told = {}

def seen(rows):
    import time
    list(rows)
    time.sleep(WAIT)
    yield sorted(address for each in TaskContext.get().resources().values() for address in each.addresses)

def error_of(work):
    try:
        return f"none: {work()}"
    except SparkPSError as error:
        return f"{type(error).__name__}: {error}"

def train(worker, batches):
    return [worker.device, sum(batch.num_rows for batch in batches)]

settings = Settings.parse({"spark.sparkps.nodeMemory": "1g"})
nodes = node_profile("yarn", dict(context.getConf().getAll()), settings)
check_fits(spark, nodes, 2)
told["too large"] = error_of(lambda: check_fits(spark, Profile("nodes", Executor(1, 512 << 20, 100 << 30), 1), 2))
WAIT = 0
told["etl"] = context.parallelize([0, 1], 2).mapPartitions(seen).collect()
told["containers before"] = containers()
WAIT = 3
told["nodes"] = context.parallelize([0, 1], 2).withResources(build(nodes)).mapPartitions(seen).collect()
told["containers"] = containers()
with PSContext(spark, num_nodes=1, launch="local") as ps:
    told["workers"] = list(ps.run(spark.range(0, 40, 1, 2), train, num_workers=2))
    told["there is"] = what_there_is(spark)
    spark.conf.set("spark.sparkps.groupStartTimeout", "12s")
with PSContext(spark, num_nodes=1, launch="local") as ps:
    told["too many"] = error_of(lambda: ps.run(spark.range(0, 60, 1, 20), train, num_workers=20))
json.dump(told, open(sys.argv[1], "w"))
spark.stop()
"""

#: Of the application that runs: memory of each container but the master's, as YARN has it.
CONTAINERS = """
import urllib.request
def containers():
    get = lambda url: json.load(urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": "application/json"}), timeout=10))
    sizes = []
    for node in get(MANAGER + "/ws/v1/cluster/nodes")["nodes"]["node"]:
        listed = (get(f"http://{node['nodeHTTPAddress']}/ws/v1/node/containers")["containers"] or {}).get("container", [])
        sizes += [each["totalMemoryNeededMB"] for each in listed if each["state"] == "RUNNING" and not each["id"].endswith("_000001")]
    return sorted(sizes)
"""


@pytest.fixture(scope="module")
def told(hadoop: HadoopCluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What one application has seen."""
    import json

    directory = tmp_path_factory.mktemp("profiles")
    script, program, answer = directory / "discover-gpu.sh", directory / "program.py", directory / "told.json"
    script.write_text(DISCOVERY.format(directory=directory))
    script.chmod(0o755)
    program.write_text(f"MANAGER = {hadoop.resource_manager!r}\nimport json\n{CONTAINERS}{PROGRAM}")
    settings = {
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.initialExecutors": "0",
        "spark.dynamicAllocation.executorIdleTimeout": "20s",
        "spark.executor.instances": "0",
        "spark.sparkps.worker.gpus": "1",
    }
    command = hadoop.submit("--deploy-mode", "client", "--files", str(script), str(program), str(answer), **settings)
    ran = subprocess.run(command, env=hadoop.environment(), capture_output=True, text=True, timeout=220, check=False)
    assert ran.returncode == 0, ran.stdout[-1000:] + ran.stderr[-4000:]
    return json.loads(pathlib.Path(answer).read_text())


pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_nodes_have_containers_with_room_for_their_rows_and_no_gpu(told: dict[str, list[object]]) -> None:
    assert told["nodes"] == [[], []]
    assert told["containers"].count(512 + 1024 + 512) == 2, "heap, nodeMemory and what belongs to the processes"


def test_workers_have_a_gpu_each_and_etl_has_none(told: dict[str, list[list[object]]]) -> None:
    assert told["etl"] == [[], []]
    devices = [device for device, _ in told["workers"]]
    assert len(set(devices)) == 2
    assert all(str(device).startswith("card") for device in devices)
    assert sum(rows for _, rows in told["workers"]) == 40  # type: ignore[misc]


def test_a_container_that_can_never_be_is_refused_with_the_numbers(told: dict[str, str]) -> None:
    assert told["too large"].startswith("ConfigError: ")
    assert "100 GiB beside it" in told["too large"]
    assert "has 6 GiB and 8 cores" in told["too large"]


def test_what_there_is_has_the_numbers_of_yarn(told: dict[str, str]) -> None:
    assert "YARN has 2 hosts with 12 GiB and 16 cores" in told["there is"]
    assert "Queue 'default' has 100% of it" in told["there is"]
    assert "of profile" in told["there is"]


def test_too_small_a_queue_is_told_within_the_deadline_with_the_numbers(told: dict[str, str]) -> None:
    said = told["too many"]
    assert said.startswith("DeadlineExceeded: All 20 workers"), said
    assert "within 12 s" in said
    assert "Spark was asked for 20 executors of 1 core, 512 MiB of heap" in said
    assert "1 GPU" in said
    assert "YARN has 2 hosts with 12 GiB" in said
    assert "groupStartTimeout" in said
