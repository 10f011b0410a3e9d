"""Profiles of nodes and workers on every kind of cluster, with and without dynamic allocation: pure functions of the configuration."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sparkps.config import Settings
from sparkps.driver_bridge.profiles import Held
from sparkps.driver_bridge.resources import (
    DEFAULT_NODE_MEMORY,
    DISCOVERY_IN_IMAGE,
    NODE_HEAP,
    NODE_PROCESSES,
    Executor,
    Profile,
    describe,
    describe_workers,
    held_by_nodes,
    node_profile,
    warnings,
    worker_profile,
)
from sparkps.errors import ConfigError

MIB, GIB = 1 << 20, 1 << 30

CLUSTERS = ["yarn", "k8s://https://host:443", "spark://host:7077", "local-cluster[2,4,2048]"]

DYNAMIC = {"spark.dynamicAllocation.enabled": "true", "spark.executor.cores": "4"}

SCRIPT = {"spark.yarn.dist.files": "hdfs://host/a.txt,file:///home/me/conf/discover-gpu.sh"}


def settings(**values: Any) -> Settings:
    return Settings.parse({f"spark.sparkps.{key}": str(value) for key, value in values.items()})


# ---- nodes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("master", CLUSTERS)
def test_nodes_have_executors_of_their_own_with_dynamic_allocation(master: str) -> None:
    gpus = {"spark.executor.resource.gpu.amount": "4", "spark.task.resource.gpu.amount": "1", "spark.task.cpus": "2"}
    profile = node_profile(master, {**DYNAMIC, **gpus}, settings(nodeCores=3, nodeMemory="6g"))
    assert profile == Profile("nodes", Executor(3, NODE_HEAP, 6 * GIB + NODE_PROCESSES), 3)
    assert profile.tasks_per_executor == 1, "whatever the cores"


@pytest.mark.parametrize("master", CLUSTERS)
def test_nodes_take_slots_of_the_default_executors_without_it(master: str) -> None:
    conf = {"spark.executor.cores": "4", "spark.executor.resource.gpu.amount": "4"}
    assert node_profile(master, conf, settings(nodeCores=2)) == Profile("nodes", None, 2)


def test_node_without_a_size_gets_the_usual_one() -> None:
    executor = node_profile("yarn", DYNAMIC, Settings()).executor
    assert executor is not None
    assert (executor.cores, executor.overhead) == (1, DEFAULT_NODE_MEMORY + NODE_PROCESSES)


def test_node_asks_for_the_least_memory_off_the_heap_that_spark_takes_where_others_have_some() -> None:
    off_heap = {"spark.memory.offHeap.enabled": "true", "spark.memory.offHeap.size": "8g"}
    executor = node_profile("yarn", {**DYNAMIC, **off_heap}, Settings()).executor
    assert executor is not None
    assert executor.off_heap == 1 << 20


@pytest.mark.parametrize(
    ("master", "conf", "key"),
    [
        ("local[*]", DYNAMIC, "spark.master"),
        ("local", {}, "spark.master"),
        ("yarn", {**DYNAMIC, "spark.executor.pyspark.memory": "1g"}, "spark.executor.pyspark.memory"),
        ("yarn", {"spark.executor.pyspark.memory": "1g"}, "spark.executor.pyspark.memory"),
        ("yarn", {**DYNAMIC, "spark.dynamicAllocation.maxExecutors": "2"}, "spark.dynamicAllocation.maxExecutors"),
        (
            "yarn",
            {**DYNAMIC, "spark.dynamicAllocation.shuffleTracking.enabled": "false"},
            "spark.dynamicAllocation.shuffleTracking.enabled",
        ),
        (
            "yarn",
            {**DYNAMIC, "spark.dynamicAllocation.executorAllocationRatio": "0.5"},
            "spark.dynamicAllocation.executorAllocationRatio",
        ),
        ("yarn", {}, "spark.sparkps.nodeCores"),
        ("local-cluster[2,1,1024]", {}, "spark.sparkps.nodeCores"),
        ("spark://host:7077", {"spark.executor.cores": "1"}, "spark.sparkps.nodeCores"),
    ],
)
def test_nodes_that_could_never_run_are_refused(master: str, conf: dict[str, str], key: str) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.") if key != "spark.master" else master.replace("[*]", "")) as caught:
        node_profile(master, conf, settings(nodeCores=2, numNodes=3))
    assert caught.value.key == key


@pytest.mark.parametrize(
    "kept",
    [
        {"spark.shuffle.service.enabled": "true"},
        {"spark.decommission.enabled": "true"},
        {"spark.shuffle.sort.io.plugin.class": "org.example.Remote"},
    ],
)
def test_shuffled_rows_may_be_kept_by_others(kept: dict[str, str]) -> None:
    conf = {**DYNAMIC, **kept, "spark.dynamicAllocation.shuffleTracking.enabled": "false"}
    assert node_profile("yarn", conf, Settings()).executor is not None


@pytest.mark.parametrize("master", CLUSTERS)
def test_slots_that_nodes_take_from_workers(master: str) -> None:
    conf = {"spark.executor.cores": "4", "spark.task.cpus": "2"}
    assert held_by_nodes(master, conf, settings(nodeCores=3), 2) == Held(2, 3)
    assert Held(2, 3).slots(2.0) == 4, "two slots each"
    dynamic = held_by_nodes(master, {**conf, **DYNAMIC}, settings(nodeCores=3), 2)
    assert bool(dynamic.nodes) != (master == "yarn" or master.startswith("k8s")), "all executors share the Workers' cores"
    assert held_by_nodes("local[4]", conf, Settings(), 2) == Held()


# ---- workers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("master", [*CLUSTERS, "local[2]"])
@pytest.mark.parametrize("conf", [{}, DYNAMIC])
def test_workers_without_gpus_stay_in_the_default_profile(master: str, conf: dict[str, str]) -> None:
    assert worker_profile(master, conf, 0.0) is None


@pytest.mark.parametrize(
    ("gpus", "cores", "cpus", "has", "tasks"),
    [
        (1, 4, 1, 4, 4),
        (1, 4, 2, 2, 2),
        (0.5, 4, 1, 2, 4),
        (0.5, 3, 1, 2, 3),
        (0.4, 4, 1, 2, 4),  # Spark shares a GPU out to floor(1 / 0.4) = 2 tasks
        (0.25, 2, 1, 1, 2),
        (2, 4, 2, 4, 2),
        (1, 1, 0.5, 2, 2),
    ],
)
def test_executors_of_workers_have_a_gpu_for_each_slot(gpus: float, cores: int, cpus: float, has: int, tasks: int) -> None:
    conf = {**DYNAMIC, **SCRIPT, "spark.executor.cores": str(cores), "spark.task.cpus": str(cpus), "spark.executor.memory": "2g"}
    profile = worker_profile("yarn", conf, gpus)
    assert profile == Profile("workers", Executor(cores, 2 * GIB, 0, has, "./discover-gpu.sh"), cpus, gpus)
    assert profile.tasks_per_executor == tasks


def test_what_the_default_profile_has_is_carried_over() -> None:
    conf = {
        **DYNAMIC,
        "spark.executor.memory": "2048",
        "spark.executor.memoryOverhead": "3g",
        "spark.memory.offHeap.enabled": "true",
        "spark.memory.offHeap.size": "1g",
        "spark.executor.resource.gpu.amount": "8",
        "spark.executor.resource.gpu.discoveryScript": "/opt/find.sh",
    }
    assert worker_profile("yarn", conf, 1) == Profile(
        "workers", Executor(4, 2 * GIB, 3 * GIB, 8, "/opt/find.sh", off_heap=GIB), 1, 1
    )


@pytest.mark.parametrize(
    ("master", "conf", "discovery", "vendor"),
    [
        ("yarn", SCRIPT, "./discover-gpu.sh", ""),
        ("k8s://https://host:443", {}, DISCOVERY_IN_IMAGE, "nvidia.com"),
        ("k8s://https://host:443", {"spark.executor.resource.gpu.vendor": "amd.com"}, DISCOVERY_IN_IMAGE, "amd.com"),
        ("spark://host:7077", {}, "", ""),
        ("local-cluster[2,4,2048]", {}, "", ""),
        ("local-cluster[2,4,2048]", {"spark.executor.resource.gpu.discoveryScript": "/my.sh"}, "/my.sh", ""),
    ],
)
def test_how_executors_find_their_gpus(master: str, conf: dict[str, str], discovery: str, vendor: str) -> None:
    profile = worker_profile(master, {**DYNAMIC, **conf}, 1)
    assert profile is not None
    assert profile.executor is not None
    assert (profile.executor.discovery, profile.executor.vendor) == (discovery, vendor)


@pytest.mark.parametrize("master", CLUSTERS)
def test_without_dynamic_allocation_workers_share_the_default_executors(master: str) -> None:
    conf = {"spark.executor.resource.gpu.amount": "2", "spark.executor.cores": "4"}
    assert worker_profile(master, conf, 0.5) == Profile("workers", None, 1, 0.5)


@pytest.mark.parametrize(
    ("master", "conf", "gpus", "key"),
    [
        ("yarn", {}, 1, "spark.executor.resource.gpu.amount"),
        ("yarn", {"spark.executor.resource.gpu.amount": "1"}, 2, "spark.executor.resource.gpu.amount"),
        ("yarn", {**DYNAMIC, **SCRIPT, "spark.executor.resource.gpu.amount": "1"}, 2, "spark.executor.resource.gpu.amount"),
        ("yarn", DYNAMIC, 1, "spark.executor.resource.gpu.discoveryScript"),
        ("spark://host:7077", {"spark.dynamicAllocation.enabled": "true"}, 1, "spark.executor.cores"),
        ("yarn", {**DYNAMIC, **SCRIPT, "spark.task.cpus": "5"}, 1, "spark.task.cpus"),
        ("yarn", {**DYNAMIC, **SCRIPT, "spark.task.cpus": "0"}, 1, "spark.task.cpus"),
        ("local[2]", {}, 1, "spark.driver.resource.gpu.amount"),
        ("local[2]", {"spark.driver.resource.gpu.amount": "1"}, 2, "spark.driver.resource.gpu.amount"),
    ],
)
def test_workers_that_could_never_run_are_refused(master: str, conf: dict[str, str], gpus: float, key: str) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")) as caught:
        worker_profile(master, conf, gpus)
    assert caught.value.key == key


def test_on_a_local_master_workers_share_out_the_gpus_of_the_driver() -> None:
    assert worker_profile("local[4]", {"spark.driver.resource.gpu.amount": "1"}, 0.25) is None


# ---- in words ----------------------------------------------------------------------------------------------------------


def test_profiles_in_words() -> None:
    conf = {**DYNAMIC, **SCRIPT, "spark.executor.memoryOverhead": "3g"}
    workers = worker_profile("yarn", conf, 0.5)
    assert describe_workers("yarn", conf, workers, 5) == "2 executors of 4 cores, 1 GiB of heap and 3 GiB beside it, 2 GPUs"
    assert describe_workers("yarn", conf, None, 5) == "2 executors of 4 cores, 1 GiB of heap and 3 GiB beside it, no GPU"
    assert describe_workers("spark://host:7077", {}, None, 1).startswith("1 executor of all cores of a Worker, 1 GiB of heap")
    assert describe(node_profile("yarn", {}, Settings()), 1) == "1 task of 1 core, on executors of Spark's default profile"
    assert describe(Profile("workers", None, 2, 0.5), 2) == "2 tasks of 2 cores and 0.5 GPU each, on executors of Spark's default profile"


@pytest.mark.parametrize(
    ("master", "conf", "memory", "said"),
    [
        ("yarn", {**DYNAMIC, "spark.dynamicAllocation.minExecutors": "5"}, 0, "of a node for 2 nodes, 3 of them idle"),
        ("yarn", {**DYNAMIC, "spark.dynamicAllocation.minExecutors": "2"}, 0, ""),
        ("yarn", {}, 0, "should be at least 1536m.* It is 384 MiB"),
        ("yarn", {"spark.executor.memoryOverhead": "1536m"}, 0, ""),
        ("yarn", {"spark.executor.memoryOverhead": "1536m", "spark.executor.instances": "1"}, 0, "at least 3072m where 2 nodes are on one"),
        ("yarn", {**DYNAMIC, "spark.executor.instances": "4"}, 0, "executor.instances` = 4 .* 4 executors of the size of a node for 2"),
        ("yarn", {**DYNAMIC, "spark.dynamicAllocation.initialExecutors": "2"}, 0, ""),
        ("yarn", {"spark.executor.memory": "20g"}, 0, ""),
        ("k8s://https://host", {"spark.executor.memoryOverhead": "2g"}, 2 * GIB, "should be at least 2560m.* It is 2 GiB"),
        ("k8s://https://host", {"spark.executor.memory": "2g"}, 0, "It is 819 MiB"),
        ("spark://host:7077", {"spark.dynamicAllocation.enabled": "true"}, 0, "Set `spark.executor.cores`"),
        ("spark://host:7077", DYNAMIC, 0, ""),
        ("spark://host:7077", {}, 0, ""),
        ("local[2]", {}, 0, ""),
        ("yarn", {**DYNAMIC, "spark.speculation": "true", "spark.speculation.task.duration.threshold": "10min"}, 0, "copy every task"),
        ("yarn", {**DYNAMIC, "spark.speculation.task.duration.threshold": "10min"}, 0, ""),
    ],
)
def test_warnings(master: str, conf: dict[str, str], memory: int, said: str) -> None:
    found = warnings(master, conf, 2, memory)
    assert len(found) == bool(said)
    for warning in found:
        assert re.search(said, warning), warning
