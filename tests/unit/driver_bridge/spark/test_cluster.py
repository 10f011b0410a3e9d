"""What the cluster has, and what it can never give, with plain objects in place of the JVM's."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from sparkps.driver_bridge.profiles import Executor, Profile
from sparkps.driver_bridge.spark import cluster
from sparkps.driver_bridge.spark.cluster import (
    Executors,
    Yarn,
    check_fits,
    executors_of,
    what_there_is,
    yarn_in_words,
    yarn_of,
)
from sparkps.errors import ConfigError

MIB, GIB = 1 << 20, 1 << 30

NODES = Profile("nodes", Executor(2, 512 * MIB, 3 * GIB // 2), 2)


class Sequence:
    """Of Scala."""

    def __init__(self, *elements: Any) -> None:
        self._elements = elements

    def size(self) -> int:
        return len(self._elements)

    def apply(self, i: int) -> Any:
        return self._elements[i]


def methods(**values: Any) -> SimpleNamespace:
    """An object of the JVM, with getters."""

    def getter(value: Any) -> Any:
        return lambda *_: value

    return SimpleNamespace(**{name: getter(value) for name, value in values.items()})


def executor(id: str, profile: int, cores: int, tasks: int) -> Any:  # noqa: A002 - as in the JVM
    return methods(id=id, resourceProfileId=profile, totalCores=cores, activeTasks=tasks)


def size(memory: int, cores: int) -> Any:
    return methods(getMemorySize=memory, getVirtualCores=cores)


class Client:
    """YARN's client."""

    def __init__(self, queue: Any, reports: list[Any]) -> None:
        self.queue, self.reports = queue, reports
        self.asked = ""
        self.is_stopped = False

    def init(self, conf: Any) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None:
        self.is_stopped = True

    def getNodeReports(self, states: list[str]) -> list[Any]:
        assert states == ["RUNNING"]
        return self.reports

    def getQueueInfo(self, queue: str) -> Any:
        self.asked = queue
        return self.queue

    def createApplication(self) -> Any:
        return methods(getNewApplicationResponse=methods(getMaximumResourceCapability=size(4096, 8)))


HALF = methods(getCapacity=0.25, getMaximumCapacity=0.5, getCurrentCapacity=0.1)

REPORTS = [methods(getCapability=size(8192, 8), getUsed=size(1024, 1)), methods(getCapability=size(8192, 8), getUsed=None)]


def session(master: str = "yarn", executors: tuple[Any, ...] = (), client: Any = None, **conf: str) -> Any:
    entries = {key.replace("_", "."): value for key, value in conf.items()}
    records = SimpleNamespace(NodeState=SimpleNamespace(RUNNING="RUNNING"))
    api = SimpleNamespace(records=records)
    yarn = SimpleNamespace(
        conf=SimpleNamespace(YarnConfiguration=lambda hadoop: hadoop),
        client=SimpleNamespace(api=SimpleNamespace(YarnClient=SimpleNamespace(createYarnClient=lambda: client))),
        api=api,
    )
    store = methods(statusStore=methods(executorList=Sequence(*executors)))
    context = SimpleNamespace(
        master=master,
        getConf=lambda: SimpleNamespace(get=entries.get, getAll=lambda: list(entries.items())),
        _jsc=methods(sc=store, hadoopConfiguration="conf"),
        _jvm=SimpleNamespace(org=SimpleNamespace(apache=SimpleNamespace(hadoop=SimpleNamespace(yarn=yarn)))),
        _gateway=SimpleNamespace(new_array=lambda kind, count: [None] * count),
    )
    return SimpleNamespace(sparkContext=context)


def test_executors_are_counted_by_profile_without_the_driver() -> None:
    listed = (executor("driver", 0, 0, 0), executor("1", 2, 1, 1), executor("2", 0, 4, 1), executor("3", 0, 4, 2))
    spark = session(executors=listed)
    assert executors_of(spark.sparkContext) == [Executors(0, 2, 8, 3), Executors(2, 1, 1, 1)]


def test_yarn_is_asked_for_hosts_queue_and_largest_container() -> None:
    client = Client(HALF, REPORTS)
    found = yarn_of(session(client=client, spark_yarn_queue="ads").sparkContext)
    assert found == Yarn(2, 16 * GIB, 16, 15 * GIB, 15, "ads", 0.25, 0.5, 0.1, 4 * GIB, 8)
    assert (client.asked, client.is_stopped) == ("ads", True)
    assert yarn_in_words(found) == (
        "YARN has 2 hosts with 16 GiB and 16 cores, of which 15 GiB and 15 cores are free; its largest container has 4 GiB and 8 cores."
        " Queue 'ads' has 25% of it, at most 50% (8 GiB), and uses 10% of what it has."
    )


def test_what_there_is_on_yarn_and_elsewhere() -> None:
    listed = (executor("1", 0, 2, 1),)
    said = what_there_is(session(executors=listed, client=Client(HALF, REPORTS)))
    assert said.startswith("Spark has 1 executor of the default profile with 2 cores and 1 running task. YARN has 2 hosts")
    assert what_there_is(session("spark://host:7077", listed)).count(".") == 1


def test_a_cluster_that_fails_or_hangs_is_told_as_one_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_PATIENCE", 0.05)
    broken = session(client=None)
    broken.sparkContext._jsc = None
    assert what_there_is(broken) == "What executors Spark has is not known. YARN's ResourceManager did not answer."
    over = threading.Event()

    class Hanging(Client):
        def getNodeReports(self, states: list[str]) -> list[Any]:
            over.wait(20)
            return []

    assert what_there_is(session(client=Hanging(HALF, []))) == "Spark has no executor. YARN's ResourceManager did not answer."
    over.set()


def test_what_fits_is_taken() -> None:
    dynamic = {"spark_dynamicAllocation_enabled": "true"}
    check_fits(session(client=Client(HALF, REPORTS), **dynamic), NODES, 200)
    check_fits(session("local-cluster[2,2,2048]", **dynamic), NODES, 2)
    check_fits(session("spark://host:7077", **dynamic), NODES, 2)
    check_fits(session("yarn", spark_executor_instances="3", spark_executor_cores="4"), Profile("nodes", None, 2), 5)
    check_fits(session("spark://host:7077"), Profile("nodes", None, 2), 5)
    check_fits(session("spark://host:7077", spark_cores_max="6"), Profile("nodes", None, 1), 5)
    check_fits(session("yarn", spark_executor_instances="1", spark_executor_cores="3", spark_task_cpus="2"), Profile("nodes", None, 1), 1)


def test_nobody_is_refused_because_yarn_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_PATIENCE", 0.05)
    check_fits(session(client=None, spark_dynamicAllocation_enabled="true"), NODES, 2)


@pytest.mark.parametrize(
    ("spark", "profile", "count", "said"),
    [
        (
            session(client=Client(HALF, REPORTS)),
            Profile("nodes", Executor(1, 512 * MIB, 4 * GIB), 1),
            2,
            r"2 executors of 1 core, 512 MiB of heap and 4 GiB beside it.*: 4\.5 GiB and 1 core each.* has 4 GiB and 8 cores.*nodeMemory",
        ),
        (session(client=Client(HALF, REPORTS)), Profile("nodes", Executor(9, 512 * MIB, GIB), 9), 1, "9 cores each.*8 cores"),
        (
            session(client=Client(HALF, REPORTS)),
            Profile("workers", Executor(1, 3 * GIB, GIB, off_heap=GIB), 1),
            1,
            r"5 GiB and .*Set less `spark\.executor\.memory`",
        ),
        (session(client=Client(None, REPORTS), spark_yarn_queue="adds"), NODES, 1, "`spark.yarn.queue` must .* Got 'adds'"),
        (session("local-cluster[2,2,400]"), NODES, 1, "512 MiB and 2 cores each.*A Worker of .* has 400 MiB and 2 cores"),
        (
            session(client=Client(HALF, REPORTS), spark_dynamicAllocation_enabled="true", spark_dynamicAllocation_maxExecutors="2"),
            NODES,
            3,
            "maxExecutors.* Got 2 instead",
        ),
        (session("yarn"), Profile("nodes", None, 1), 2, "are 2 of 1 core, which hold 2 tasks of 1 core. 2 were asked for, .*: 3 in all"),
        (session("yarn"), Profile("workers", None, 1), 3, "hold 2 tasks of 1 core. 3 were asked for. Raise"),
        (session("local-cluster[1,3,512]"), Profile("nodes", None, 2), 2, "hold 1 task of 2 cores"),
        (session("spark://host:7077", spark_cores_max="5"), Profile("nodes", None, 1), 5, "cores.max` must be at least 6: 5 nodes .*Got 5"),
        (
            session("yarn", spark_executor_instances="1", spark_executor_cores="2", spark_task_cpus="2"),
            Profile("nodes", None, 1),
            1,
            "2 cores at least on one executor for a worker",
        ),
    ],
)
def test_what_can_never_be_is_refused_with_the_numbers(spark: Any, profile: Profile, count: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_fits(spark, profile, count)


def test_a_look_at_the_cluster_takes_seconds_at_most() -> None:
    assert cluster._PATIENCE <= 5
