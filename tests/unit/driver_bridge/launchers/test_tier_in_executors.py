"""A tier in executors without Spark: where nodes go, and what is said where they cannot."""

from __future__ import annotations

import pathlib
import shutil
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from sparkps.config import NetworkSettings, NodeSettings, Settings
from sparkps.driver_bridge import resources
from sparkps.driver_bridge.launchers import executors as module
from sparkps.driver_bridge.launchers import locations
from sparkps.driver_bridge.launchers.executors import ExecutorsTier
from sparkps.driver_bridge.launchers.locations import Location, spread
from sparkps.driver_bridge.launchers.node_jobs import NodeJob, TaskAttempt
from sparkps.driver_bridge.profiles import Executor, Profile
from sparkps.errors import ConfigError, TierError
from sparkps.secret import forget
from sparkps.testing.tcp_tier import free_port

#: Of nodes that have executors of their own; without, they are on those that there are.
OWN, SHARED = Profile("nodes", Executor(1, 1 << 29, 1 << 30), 1), Profile("nodes", None, 1)


def tier(**fields: Any) -> ExecutorsTier:
    made = object.__new__(ExecutorsTier)
    vars(made).update({"spark": None, "_is_started": True, "_failed": "", "_jobs": {}, "_settings": Settings(), "profile": OWN, **fields})
    return made


def job(number: int, *places: Location, failure: str = "") -> Any:
    return SimpleNamespace(number=number, places=places, failure=failure)


def node(id: int, job: int, host: str, state: str = "up") -> dict[str, Any]:  # noqa: A002
    return {"id": id, "job": job, "host": host, "state": state}


def control(*nodes: dict[str, Any]) -> Any:
    return SimpleNamespace(request=lambda *_: SimpleNamespace(report={"nodes": list(nodes)}))


def test_nothing_is_started_where_keys_would_go_through_an_open_channel() -> None:
    spark: Any = SimpleNamespace(
        sparkContext=SimpleNamespace(getConf=lambda: SimpleNamespace(getAll=list)), conf=SimpleNamespace(getAll={})
    )
    with pytest.raises(ConfigError, match="`spark.authenticate` = true and `spark.network.crypto.enabled` = true"):
        module.launch(Settings(), spark)


def test_the_host_counts_on_which_a_node_is_and_not_the_one_that_was_meant() -> None:
    made = tier(_jobs={0: job(0, Location("a")), 1: job(1, Location("b"))}, control=control(node(0, 0, "b"), node(1, 1, "b")))
    assert spread([Location("b"), Location("a")], made._taken()) == [Location("a")]


def test_a_node_is_on_its_executor_by_whatever_name_the_machine_goes() -> None:
    """Pods are known by their addresses, and nodes by the machines."""
    pods = [Location(f"10.0.0.{number}", str(number)) for number in range(3)]
    jobs = {number: job(number, pods[number]) for number in range(2)}
    for number, each in jobs.items():
        attempt = TaskAttempt(number, f"10.0.0.{number}", str(number), "")
        each.running = lambda attempt=attempt: attempt
    made = tier(profile=SHARED, _jobs=jobs, control=control(node(0, 0, "vm-a"), node(1, 1, "vm-a")))
    assert spread(pods, made._taken()) == [pods[2]]


def test_a_host_with_fewer_nodes_comes_before_an_executor_without_any() -> None:
    free, used = Location("a", "2"), Location("b", "0")
    assert spread([free, used], [Location("a", "1"), Location("a", "3"), used]) == [used]


def test_late_nodes_are_told_with_what_was_asked_for_what_failed_and_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "what_there_is", lambda spark: "Spark has no executor.")
    profile = resources.node_profile("yarn", {"spark.dynamicAllocation.enabled": "true"}, Settings())
    said = tier(profile=profile, _jobs={1: job(1, failure="on host-a, executor 3: ValueError: x")})._why_late()
    assert said.startswith("Asked for: 2 executors of 1 core, 512 MiB of heap and 1.5 GiB beside it, no GPU.")
    assert "Node job 1 has failed on host-a, executor 3: ValueError: x." in said
    assert "Spark has no executor." in said
    assert "`spark.sparkps.startTimeout`" in said


def test_a_job_that_has_failed_ends_the_start_with_its_cause() -> None:
    tier()._check_nodes()
    with pytest.raises(TierError, match=r"One has failed: OSError: full$"):
        tier(_failed="OSError: full")._check_nodes()
    with pytest.raises(TierError, match=r"No module named 'sparkps'.*--archives"):
        tier(_failed="ModuleNotFoundError: No module named 'sparkps'")._check_nodes()


def test_more_nodes_than_can_be_placed_are_refused_before_anything_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(spark: Any, profile: Any, count: int) -> None:
        raise ConfigError(f"{count} are too many")

    monkeypatch.setattr(module, "check_fits", refuse)
    with pytest.raises(ConfigError, match="9 are too many"):
        tier(profile=None, _scaling=threading.Lock())  .scale(9, 0.1)


def test_a_node_without_a_size_takes_what_its_container_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "conf_of", lambda spark: {"spark.authenticate": "true", "spark.network.crypto.enabled": "true"})
    monkeypatch.setattr(module, "ExecutorsTier", lambda settings, spark, secret: SimpleNamespace(start=lambda: settings))
    assert module.launch(Settings(), None).node.node_memory == resources.DEFAULT_NODE_MEMORY
    assert module.launch(Settings(node=NodeSettings(node_memory=5 << 30)), None).node.node_memory == 5 << 30


def test_the_job_of_a_dead_node_has_another_attempt_and_that_of_a_drained_one_has_not() -> None:
    made = tier(_jobs={0: job(0), 1: job(1)})
    report = {"nodes": [node(0, 0, "a", "dead"), node(1, 1, "b")], "draining": [1]}
    assert made._number_staying({0}, report) == 2
    assert made._number_staying({0, 1}, report) == 1


def test_what_is_wrong_with_workers_is_told_when_the_tier_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    conf = {"spark.executor.instances": "2", "spark.executor.cores": "2"}
    monkeypatch.setattr(module, "conf_of", lambda spark: conf)
    monkeypatch.setattr(module, "check_fits", lambda *_: None)
    monkeypatch.setattr(resources, "build", lambda profile: pytest.fail("got past the checks"))
    settings = Settings()
    object.__setattr__(settings.workers, "gpus", 1.0)
    spark = SimpleNamespace(sparkContext=SimpleNamespace(master="yarn"))
    try:
        with pytest.raises(ConfigError, match=r"worker.gpus"):
            ExecutorsTier(settings, spark)  # type: ignore[arg-type]
    finally:
        object.__setattr__(settings.workers, "gpus", 0.0)


def test_the_coordinator_is_where_settings_say_and_else_where_spark_has_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    conf = {"spark.driver.host": "driver.example", "spark.driver.bindAddress": "127.0.0.2", "spark.executor.instances": "2"}
    monkeypatch.setattr(module, "conf_of", lambda spark: conf)
    monkeypatch.setattr(module, "check_fits", lambda *_: None)
    monkeypatch.setattr(resources, "build", lambda profile: None)
    for name in ("KeepOff", "SpareNodes"):
        monkeypatch.setattr(module, name, lambda spark: None)

    def placed(**network: Any) -> tuple[str, str]:
        spark: Any = SimpleNamespace(sparkContext=SimpleNamespace(master="spark://master:7077"))
        made = ExecutorsTier(Settings(network=NetworkSettings(**network)), spark)
        forget(made.address.tier_id)
        shutil.rmtree(made.directory)
        return made.address.coordinator, made._bound()

    port = free_port()
    assert placed(coordinator_port=port) == (f"tcp://driver.example:{port}", f"tcp://127.0.0.2:{port}")
    set_here = placed(coordinator_port=port, coordinator_address="gateway.example", coordinator_bind_address="127.0.0.3")
    assert set_here == (f"tcp://gateway.example:{port}", f"tcp://127.0.0.3:{port}")
    advertised, bound = placed(coordinator_address="gateway.example")
    assert bound.startswith("tcp://127.0.0.2:")
    assert advertised == f"tcp://gateway.example:{bound.rpartition(':')[2]}"


def test_a_job_that_does_not_end_is_cancelled() -> None:
    cancelled: list[bool] = []
    made = object.__new__(NodeJob)
    made._job = SimpleNamespace(done=threading.Event(), cancel=lambda: not cancelled.append(True))  # type: ignore[assignment]
    assert made.end(0.01)
    assert cancelled


def test_a_node_job_keeps_nothing_of_the_thread_that_starts_it() -> None:
    properties: dict[str, Any] = {}
    tags = {"mine", "node-tag"}
    java = SimpleNamespace(setLocalProperty=properties.__setitem__)
    made = object.__new__(NodeJob)
    made.number = 0
    made._job = SimpleNamespace(tag="node-tag")  # type: ignore[assignment]
    made._context = SimpleNamespace(  # type: ignore[assignment]
        getJobTags=lambda: set(tags), removeJobTag=tags.discard, addJobTag=tags.add, setJobDescription=lambda text: None,
        _jsc=SimpleNamespace(sc=lambda: java),
    )
    made._leave_the_caller()
    assert "mine" not in tags
    gone = {"spark.jobGroup.id", "spark.job.interruptOnCancel", "spark.scheduler.pool"}
    assert gone <= {name for name, value in properties.items() if value is None}


def test_nodes_go_to_executors_of_the_default_profile_only() -> None:
    def seen(id: str, profile: int) -> Any:  # noqa: A002
        values = {"id": id, "resourceProfileId": profile, "hostPort": f"h{id}:1", "totalCores": 2}
        return SimpleNamespace(**{k: (lambda v=v: v) for k, v in values.items()}, addTime=lambda: SimpleNamespace(getTime=lambda: 1e3))

    each = [seen("driver", 0), seen("1", 0), seen("2", 3)]
    listed = SimpleNamespace(size=lambda: len(each), apply=each.__getitem__)
    store = SimpleNamespace(executorList=lambda is_active: listed)
    spark = SimpleNamespace(sparkContext=SimpleNamespace(_jsc=SimpleNamespace(sc=lambda: SimpleNamespace(statusStore=lambda: store))))
    assert [place.executor for place in locations.executors(spark)] == ["1"]  # type: ignore[arg-type]


def test_yarn_hosts_with_the_most_free_memory_come_first() -> None:
    def sized(mib: int) -> Any:
        return SimpleNamespace(getMemorySize=lambda: mib)

    def report(host: str, has: int, used: int | None) -> Any:
        return SimpleNamespace(
            getNodeId=lambda: SimpleNamespace(getHost=lambda: host), getCapability=lambda: sized(has),
            getUsed=lambda: None if used is None else sized(used),
        )

    reports = [report("full", 8192, 8000), report("half", 8192, 4096), report("idle", 8192, None)]
    client = SimpleNamespace(init=lambda conf: None, start=lambda: None, stop=lambda: None, getNodeReports=lambda states: reports)
    api = SimpleNamespace(records=SimpleNamespace(NodeState=SimpleNamespace(RUNNING=1)))
    yarn = SimpleNamespace(
        api=api, conf=SimpleNamespace(YarnConfiguration=lambda hadoop: hadoop),
        client=SimpleNamespace(api=SimpleNamespace(YarnClient=SimpleNamespace(createYarnClient=lambda: client))),
    )
    context = SimpleNamespace(
        _jvm=SimpleNamespace(org=SimpleNamespace(apache=SimpleNamespace(hadoop=SimpleNamespace(yarn=yarn)))),
        _jsc=SimpleNamespace(hadoopConfiguration=lambda: None), _gateway=SimpleNamespace(new_array=lambda kind, count: [None]),
    )
    found = locations.hosts_of_yarn(SimpleNamespace(sparkContext=context))  # type: ignore[arg-type]
    assert [place.host for place in found] == ["idle", "half", "full"]


def test_nodes_stay_off_the_progress_bar_and_survive_interrupts_from_the_first_one_on(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def once(name: str) -> Any:
        return SimpleNamespace(begin=lambda: called.append(name), start=lambda: called.append(name), is_alive=lambda: name in called)

    made = tier(address=None, _java_profile=None, _ended=None, _watcher=once("watch"), _keep_off=once("keep off"), _spare=once("spare"))
    monkeypatch.setattr(ExecutorsTier, "_candidates", lambda self: [])
    monkeypatch.setattr(ExecutorsTier, "_taken", lambda self: [])
    monkeypatch.setattr(module, "NodeJob", lambda *_: SimpleNamespace(start=lambda: called.append("job")))
    made._start_node(0)
    made._start_node(1)
    assert called == ["keep off", "spare", "watch", "job", "job"]


def test_an_interrupt_in_the_middle_of_a_stop_leaves_nothing_all_the_same(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def end_nodes(self: ExecutorsTier, grace: float) -> None:
        waits.append(grace)
        if grace:
            raise KeyboardInterrupt

    monkeypatch.setattr(ExecutorsTier, "_tell_to_stop", lambda self: True)
    monkeypatch.setattr(ExecutorsTier, "_end_nodes", end_nodes)
    directory = tmp_path / "tier"
    directory.mkdir()
    made = tier(_stopping=threading.Event(), _lock=threading.Lock(), control=SimpleNamespace(close=lambda: None), directory=directory)
    with pytest.raises(KeyboardInterrupt):
        made.stop()
    assert waits[-1] == 0.0
    assert not directory.exists()


def test_jobs_that_end_with_spark_itself_have_not_failed(caplog: pytest.LogCaptureFixture) -> None:
    ended: Any = object.__new__(NodeJob)
    ended._context = SimpleNamespace(_jsc=None)
    ended._ended = set()
    assert ended.newly_failed() == []
    spark = SimpleNamespace(sparkContext=SimpleNamespace(_jsc=None))
    made: Any = tier(_stopping=threading.Event(), spark=spark)
    made._replace(SimpleNamespace(wait=lambda: None, why=lambda: "SparkContext was shut down"))
    assert not caplog.records
