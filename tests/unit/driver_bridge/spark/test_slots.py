"""Slots of every kind of cluster, the default number of workers, and settings that are refused."""

from __future__ import annotations

import pytest

from sparkps.driver_bridge.profiles import Held
from sparkps.driver_bridge.spark.slots import Observed, Slots, check_platform, choose_num_workers, count_slots
from sparkps.errors import ConfigError, InvalidInput, NotEnoughSlots

EIGHT = Observed(cpus=8, running_slots=6)


@pytest.mark.parametrize(
    ("master", "conf", "default", "limit"),
    [
        ("local", {}, 1, 1),
        ("local[3]", {}, 3, 3),
        ("local[3, 4]", {}, 3, 3),
        ("local[*]", {}, 8, 8),
        ("local[*]", {"spark.task.cpus": "3"}, 2, 2),
        ("local[2]", {"spark.task.cpus": "0.5"}, 4, 4),
        ("local-cluster[2,4,1024]", {"spark.task.cpus": "2"}, 4, 4),
        ("yarn", {}, 2, 2),
        ("yarn", {"spark.executor.instances": "3", "spark.executor.cores": "4"}, 12, 12),
        ("yarn", {"spark.executor.instances": "3", "spark.executor.cores": "5", "spark.task.cpus": "2"}, 6, 6),
        ("yarn", {"spark.dynamicAllocation.enabled": "true", "spark.dynamicAllocation.maxExecutors": "5"}, 5, 5),
        ("yarn", {"spark.dynamicAllocation.enabled": "true", "spark.executor.cores": "2"}, 6, None),
        (
            "k8s://https://host",
            {"spark.dynamicAllocation.enabled": "true", "spark.dynamicAllocation.minExecutors": "9"},
            9,
            None,
        ),
        ("spark://host:7077", {}, 6, None),
        ("spark://host:7077", {"spark.cores.max": "4"}, 6, 4),
        (
            "yarn",
            {
                "spark.executor.instances": "2",
                "spark.executor.cores": "8",
                "spark.executor.resource.gpu.amount": "1",
                "spark.task.resource.gpu.amount": "0.25",
            },
            8,
            8,
        ),
    ],
)
def test_slots(master, conf, default, limit):
    slots = count_slots(master, conf, EIGHT)
    assert (slots.default, slots.limit) == (default, limit)


DYNAMIC = {"spark.dynamicAllocation.enabled": "true", "spark.executor.cores": "4"}
GPUS = {"spark.executor.resource.gpu.amount": "2"}
SCRIPT = {"spark.files": "discover-gpu.sh"}


@pytest.mark.parametrize(
    ("master", "conf", "gpus", "reserved", "default", "limit"),
    [
        # nodes beside workers on executors of a fixed number
        ("yarn", {"spark.executor.instances": "3", "spark.executor.cores": "4"}, 0, 2, 10, 10),
        ("yarn", {}, 0, 2, 1, 0),
        # cores that are left over beside a worker cost nothing: at best all nodes are there, at worst each is in a worker's place
        ("yarn", {"spark.executor.instances": "3", "spark.executor.cores": "3", "spark.task.cpus": "2"}, 0, 3, 1, 3),
        ("local-cluster[1,3,1536]", {"spark.task.cpus": "2"}, 0, 1, 1, 1),
        ("spark://host:7077", {"spark.cores.max": "3", "spark.task.cpus": "2"}, 0, 1, 5, 1),
        ("local-cluster[2,4,1024]", {}, 0, 3, 5, 5),
        ("spark://host:7077", {"spark.cores.max": "8"}, 0, 3, 3, 5),
        ("spark://host:7077", {}, 0, 2, 4, None),
        # nodes that have executors of their own
        ("yarn", {**DYNAMIC, "spark.dynamicAllocation.maxExecutors": "3"}, 0, 0, 12, 12),
        # GPUs of a fixed number of executors: two slots of four have one
        ("yarn", {"spark.executor.instances": "3", "spark.executor.cores": "4", **GPUS}, 1, 0, 6, 6),
        ("yarn", {"spark.executor.instances": "3", "spark.executor.cores": "4", **GPUS}, 0.5, 0, 12, 12),
        ("yarn", {"spark.executor.instances": "3", "spark.executor.cores": "4", **GPUS}, 2, 0, 3, 3),
        # nodes may fill one executor, whose GPUs nobody has then
        ("yarn", {"spark.executor.instances": "3", "spark.executor.cores": "4", **GPUS}, 1, 2, 6, 6),
        ("yarn", {"spark.executor.instances": "3", "spark.executor.cores": "4", **GPUS}, 1, 3, 5, 6),
        ("yarn", {"spark.executor.instances": "3", "spark.executor.cores": "4", **GPUS}, 1, 4, 4, 6),
        ("yarn", {"spark.executor.instances": "3", "spark.executor.cores": "4", **GPUS}, 1, 8, 2, 4),
        ("local-cluster[2,4,1024]", GPUS, 1, 0, 4, 4),
        ("spark://host:7077", GPUS, 1, 0, 4, None),
        # executors with GPUs of their own: four slots each
        ("yarn", {**DYNAMIC, **SCRIPT, "spark.dynamicAllocation.maxExecutors": "3"}, 1, 0, 12, 12),
        ("yarn", {**DYNAMIC, **SCRIPT, **GPUS, "spark.dynamicAllocation.maxExecutors": "3"}, 1, 0, 6, 6),
        ("yarn", {**DYNAMIC, **SCRIPT, "spark.dynamicAllocation.initialExecutors": "2"}, 1, 0, 8, None),
        ("yarn", {**DYNAMIC, **SCRIPT}, 1, 0, 1, None),
        ("local-cluster[2,4,1024]", {**DYNAMIC, "spark.worker.resource.gpu.amount": "4"}, 1, 0, 8, 8),
        ("local-cluster[2,4,1024]", {**DYNAMIC, "spark.worker.resource.gpu.amount": "4"}, 1, 2, 6, 6),
        ("local-cluster[2,4,1024]", {**DYNAMIC, "spark.executor.cores": "1", "spark.worker.resource.gpu.amount": "2"}, 1, 0, 4, 4),
        ("local-cluster[2,4,1024]", DYNAMIC, 1, 0, 1, 0),
        # a local master has the GPUs of the driver
        ("local[4]", {"spark.driver.resource.gpu.amount": "1"}, 0.5, 0, 2, 2),
        ("local[4]", {"spark.driver.resource.gpu.amount": "8"}, 1, 0, 4, 4),
    ],
)
def test_slots_beside_nodes_and_with_gpus(master, conf, gpus, reserved, default, limit):
    observed = Observed(cpus=8, running_slots=6, executors=2)
    slots = count_slots(master, conf, observed, gpus=gpus, held=Held(reserved))
    assert (slots.default, slots.limit) == (default, limit)


def test_dynamic_allocation_that_asks_for_some_of_the_executors_only_is_refused():
    with pytest.raises(ConfigError, match=r"executorAllocationRatio` = 0\.5"):
        count_slots("yarn", {**DYNAMIC, "spark.dynamicAllocation.executorAllocationRatio": "0.5"}, EIGHT)


def test_error_says_how_many_slots_nodes_hold_and_how_many_are_needed_in_all():
    conf = {"spark.executor.instances": "2", "spark.executor.cores": "2"}
    slots = count_slots("yarn", conf, EIGHT, held=Held(2))
    with pytest.raises(NotEnoughSlots, match=r"4 task slots, of which nodes hold 2\. 3 workers .* 5 in all: ask for fewer") as caught:
        choose_num_workers(3, slots)
    assert (caught.value.slots, caught.value.reserved, caught.value.asked) == (2, 2, 3)
    none_left = count_slots("yarn", {}, EIGHT, held=Held(2))
    with pytest.raises(NotEnoughSlots, match=r"2 task slots, of which nodes hold 2\. 1 workers .* 3 in all: raise"):
        choose_num_workers(None, none_left)


def test_default_number_of_workers_is_what_can_run_at_once():
    assert choose_num_workers(None, count_slots("local[5]", {}, EIGHT)) == 5


def test_more_workers_than_slots_names_both_and_the_setting():
    with pytest.raises(NotEnoughSlots, match=r"4 task slots, 9 workers .*`spark\.executor\.instances`") as caught:
        choose_num_workers(9, count_slots("yarn", {"spark.executor.instances": "4"}, EIGHT))
    assert (caught.value.slots, caught.value.asked) == (4, 9)


def test_local_names_the_master():
    with pytest.raises(NotEnoughSlots, match=r"spark\.master"):
        choose_num_workers(3, count_slots("local[2]", {}, EIGHT))


def test_unbounded_cluster_takes_any_number():
    assert choose_num_workers(100, Slots(2, None, "")) == 100


@pytest.mark.parametrize("asked", [0, -1, 1.5, "2", True])
def test_number_of_workers_must_be_a_positive_int(asked):
    with pytest.raises(InvalidInput, match="num_workers"):
        choose_num_workers(asked, Slots(2, 2, ""))


@pytest.mark.parametrize(
    ("switch", "limit"),
    [
        ("spark.python.worker.killOnIdleTimeout", "spark.python.worker.idleTimeoutSeconds"),
        ("spark.sql.execution.pyspark.udf.killOnIdleTimeout", "spark.sql.execution.pyspark.udf.idleTimeoutSeconds"),
    ],
)
def test_kill_on_idle_is_refused_by_name(switch, limit):
    with pytest.raises(ConfigError, match="idleTimeoutSeconds") as caught:
        check_platform({switch: "true", limit: "30s"})
    assert caught.value.key == switch
    check_platform({switch: "true"})
    check_platform({switch: "true", limit: "0"})
    check_platform({limit: "30"})


def test_limit_of_python_memory_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"spark\.executor\.pyspark\.memory"):
        check_platform({"spark.executor.pyspark.memory": "2g"})


def test_ordinary_settings_pass():
    check_platform(
        {"spark.speculation": "true", "spark.task.maxFailures": "8", "spark.dynamicAllocation.enabled": "true"}
    )


def test_a_number_that_is_none_is_named():
    with pytest.raises(ConfigError, match=r"spark\.executor\.cores"):
        count_slots("yarn", {"spark.executor.cores": "many"}, EIGHT)
