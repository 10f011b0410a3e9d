"""Declared GPUs on a local-cluster and on a standalone cluster: each worker sees its own, and nobody else sees any."""

from __future__ import annotations

import pathlib
import sys
from typing import Any

import pytest

from tests.harness.processes import DriverProgram
from tests.harness.standalone import StandaloneCluster

#: Two Workers in the driver's JVM, each of which starts executors, JVMs of their own.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

#: Stands for conf/discover-gpu.sh: each Worker that asks gets a card that no other has.
DISCOVERY = """#!/bin/sh
for card in 0 1 2 3; do
    if mkdir "{directory}/card$card" 2>/dev/null; then echo "{{\\"name\\": \\"gpu\\", \\"addresses\\": [\\"card$card\\"]}}"; exit 0; fi
done
echo '{{"name": "gpu", "addresses": []}}'
"""

#: Trains on rows that tell which GPUs the tasks had that made them, and says what everybody has seen.
PROGRAM = """
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import SparkSession
from sparkps import PSContext
from sparkps.config import Settings
from sparkps.driver_bridge.resources import build, node_profile

sys.excepthook = lambda kind, error, trace: say(error=f"{kind.__name__}: {error}")
builder = SparkSession.builder
for key, value in CONF.items():
    builder = builder.config(key, value)
spark = builder.getOrCreate()
context = spark.sparkContext
context.setLogLevel("ERROR")

def seen():
    return sorted(address for each in TaskContext.get().resources().values() for address in each.addresses)

def etl(batches):
    for batch in batches:
        yield pa.RecordBatch.from_pydict({"seen": [",".join(seen())] * batch.num_rows})

def train(worker, batches):
    rows = sorted({text for batch in batches for text in batch.column("seen").to_pylist()})
    return {"device": worker.device, "devices": list(worker.devices), "rows": rows}

def run(df, workers, **options):
    ran = ps.run(df, train, num_workers=workers, **options)
    return {"workers": list(ran), "reader": ran.report.reader}

rows = spark.range(0, 40, 1, 2).selectExpr("cast(id as string) as seen")
made = spark.range(0, 40, 1, 2).mapInArrow(etl, "seen string")
with PSContext(spark, num_nodes=1) as ps:
    told = {"direct": run(rows, 2), "staged": run(made.repartition(2), 2)}
nodes = node_profile(context.master, dict(context.getConf().getAll()), Settings())
profile = build(nodes)
told["nodes"] = context.parallelize([0, 1], 2).withResources(profile).mapPartitions(lambda _: [seen()]).collect()
told["again"] = build(nodes).id == profile.id
told["profiles"] = sorted({each.resourceProfileId() for each in executors(context)})
if SHARED:
    spark.conf.set("spark.sparkps.worker.gpus", "0.5")
    with PSContext(spark, num_nodes=1) as ps:
        told["shared"] = run(rows, 4)
say(**told)
"""

EXECUTORS = """
def executors(context):
    listed = context._jsc.sc().statusStore().executorList(True)
    return [listed.apply(i) for i in range(listed.size()) if listed.apply(i).id() != "driver"]
"""


def conf(directory: pathlib.Path) -> dict[str, str]:
    script = directory / "discover.sh"
    script.write_text(DISCOVERY.format(directory=directory))
    script.chmod(0o755)
    return {
        "spark.master": "local-cluster[2,3,2048]",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": "512m",
        "spark.executor.memory": "512m",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.worker.resource.gpu.amount": "1",
        "spark.worker.resource.gpu.discoveryScript": str(script),
        "spark.sparkps.worker.gpus": "1",
        "spark.sparkps.groupStartTimeout": "150s",
        "spark.sparkps.stagingDir": str(directory / "staged"),
    }


def told_by(settings: dict[str, str], *, shared: bool) -> dict[str, Any]:
    program = f"CONF, SHARED = {settings!r}, {shared}\n{EXECUTORS}{PROGRAM}"
    with DriverProgram(program, PYSPARK_PYTHON=sys.executable) as driver:
        told = driver.hear(200)
        assert "error" not in told, told["error"] + driver.errors[-2000:]
        driver.wait(30)
    return told


def check(told: dict[str, Any]) -> None:
    for name, reader in (("direct", "spark"), ("staged", "staged")):
        workers = told[name]["workers"]
        assert sorted(worker["device"] for worker in workers) == ["card0", "card1"], name
        assert all(worker["devices"] == [worker["device"]] for worker in workers)
        assert told[name]["reader"] == reader
    assert [worker["rows"] for worker in told["staged"]["workers"]] == [[""], [""]], "tasks that made the rows had none"
    assert told["nodes"] == [[], []]
    assert told["again"], "executors of one profile serve whoever asks for the same"


def test_workers_on_executors_of_the_application_see_their_own_gpu(tmp_path: pathlib.Path) -> None:
    told = told_by({**conf(tmp_path), "spark.executor.resource.gpu.amount": "1"}, shared=True)
    check(told)
    assert sorted(worker["device"] for worker in told["shared"]["workers"]) == ["card0", "card0", "card1", "card1"]
    assert told["profiles"] == [0], "nobody has executors of their own"


@pytest.mark.long
def test_workers_with_executors_of_their_own_see_their_own_gpu(tmp_path: pathlib.Path) -> None:
    # Six cores are enough for all executors, so that none has to go, and be started again, on a busy machine.
    dynamic = {"spark.dynamicAllocation.enabled": "true", "spark.executor.cores": "1", "spark.dynamicAllocation.executorIdleTimeout": "5m"}
    told = told_by({**conf(tmp_path), **dynamic}, shared=False)
    check(told)
    assert max(told["profiles"]) > 0, "workers and nodes have"


@pytest.mark.long
def test_workers_on_a_standalone_cluster_see_their_own_gpu(tmp_path: pathlib.Path) -> None:
    settings = conf(tmp_path)
    of_workers = {key: settings.pop(key) for key in list(settings) if key.startswith("spark.worker.")}
    with StandaloneCluster(tmp_path, cores=3, settings=of_workers) as cluster:
        settings |= {"spark.master": cluster.endpoint, "spark.executor.resource.gpu.amount": "1"}
        told = told_by({**settings, "spark.local.dir": str(tmp_path / "local")}, shared=False)
    check(told)
    assert told["profiles"] == [0], "nobody has executors of their own"


LOCAL = """
from pyspark.sql import SparkSession
from sparkps import PSContext

sys.excepthook = lambda kind, error, trace: say(error=f"{kind.__name__}: {error}")
builder = SparkSession.builder.master("local[4]")
for key, value in CONF.items():
    builder = builder.config(key, value)
spark = builder.getOrCreate()
told = {}
for gpus in ("1", "0.5"):
    spark.conf.set("spark.sparkps.worker.gpus", gpus)
    with PSContext(spark, num_nodes=1) as ps:
        told[gpus] = list(ps.run(spark.range(0, 40, 1, 8), lambda worker, batches: [worker.device, list(worker.devices)]))
say(**told)
"""


def test_on_a_local_master_workers_share_out_the_gpus_of_the_driver(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "of_driver.sh"
    script.write_text("""#!/bin/sh\necho '{"name": "gpu", "addresses": ["card0", "card1"]}'\n""")
    script.chmod(0o755)
    driver = {"spark.driver.resource.gpu.amount": "2", "spark.driver.resource.gpu.discoveryScript": str(script)}
    settings = {key: value for key, value in conf(tmp_path).items() if not key.startswith(("spark.worker.", "spark.master"))}
    with DriverProgram(f"CONF = {({**settings, **driver})!r}\n{LOCAL}", PYSPARK_PYTHON=sys.executable) as program:
        told = program.hear(100)
        assert "error" not in told, told["error"]
        program.wait(30)
    assert told["1"] == [["card0", ["card0"]], ["card1", ["card1"]]], "as many workers as there are GPUs"
    assert [device for device, _ in told["0.5"]] == ["card0", "card0", "card1", "card1"]
