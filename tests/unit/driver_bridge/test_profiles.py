"""Profiles as Spark takes them, and the plan of a group, without a JVM."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sparkps.config import Settings
from sparkps.driver_bridge import profiles
from sparkps.driver_bridge.groups import workers_plan
from sparkps.driver_bridge.profiles import Executor, Held, Profile, build
from sparkps.driver_bridge.spark.slots import Observed
from sparkps.errors import ConfigError, NotEnoughSlots

MIB = 1 << 20


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "_known", lambda built: built)
    monkeypatch.setattr("pyspark.SparkContext._active_spark_context", None)


@pytest.mark.usefixtures("made")
def test_spark_is_asked_for_all_that_a_profile_has() -> None:
    executor = Executor(2, 512 * MIB, 1536 * MIB + 1, 1, "./discover-gpu.sh", "nvidia.com", 0)
    built = build(Profile("workers", executor, 1, 0.5))
    asked = {name: one.amount for name, one in built.executorResources.items()}
    assert asked == {"cores": 2, "memory": 512, "memoryOverhead": 1537, "offHeap": 0, "gpu": 1}
    gpu = built.executorResources["gpu"]
    assert (gpu.discoveryScript, gpu.vendor) == ("./discover-gpu.sh", "nvidia.com")
    assert {name: one.amount for name, one in built.taskResources.items()} == {"cpus": 1.0, "gpu": 0.5}


@pytest.mark.usefixtures("made")
def test_a_node_is_asked_for_without_gpu_and_without_python_memory() -> None:
    from sparkps.driver_bridge.resources import node_profile

    conf = {"spark.dynamicAllocation.enabled": "true", "spark.executor.resource.gpu.amount": "2"}
    built = build(node_profile("yarn", conf, Settings()))
    assert set(built.executorResources) == {"cores", "memory", "memoryOverhead"}
    assert set(built.taskResources) == {"cpus"}


def test_an_equal_profile_that_spark_knows_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    known: list[Any] = []
    monkeypatch.setattr(profiles, "_known", lambda built: known.append(built) or "the known one")
    monkeypatch.setattr("pyspark.SparkContext._active_spark_context", None)
    assert build(Profile("nodes", None, 1)) == "the known one"


def ps(conf: dict[str, str], monkeypatch: pytest.MonkeyPatch, reserved: int) -> Any:
    monkeypatch.setattr(workers_plan, "observe", lambda spark: ("yarn", conf, Observed(4, 0)))
    spark = SimpleNamespace(sparkContext=SimpleNamespace(master="yarn"))
    return SimpleNamespace(spark=spark, settings=Settings(), held_by_nodes=Held(reserved))


def test_slots_that_nodes_hold_are_not_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ps({"spark.executor.instances": "2", "spark.executor.cores": "2"}, monkeypatch, 2)
    assert workers_plan.plan_workers(context, None).num_workers == 2
    with pytest.raises(NotEnoughSlots, match="nodes hold 2. 3 workers were asked for"):
        workers_plan.plan_workers(context, 3)


def test_a_group_is_refused_under_settings_that_kill_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ps({"spark.executor.pyspark.memory": "1g"}, monkeypatch, 0)
    with pytest.raises(ConfigError, match=r"spark\.executor\.pyspark\.memory"):
        workers_plan.plan_workers(context, 1)
