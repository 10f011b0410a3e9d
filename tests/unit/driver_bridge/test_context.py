"""PSContext: sessions and settings that it refuses, one at a time, and what happens to it at the end."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sparkps.driver_bridge import launchers, tier_life
from sparkps.driver_bridge.context import PSContext
from sparkps.driver_bridge.profiles import Held
from sparkps.errors import ConfigError, InvalidInput, TierError
from sparkps.wire.messages.control import TierAddress
from tests.harness.waiting import wait_until


class FakeSpark:
    """As much of a SparkSession as a PSContext looks at before it starts a tier."""

    def __init__(self, master: str = "local[2]", **conf: str) -> None:
        entries = {f"spark.sparkps.{key}": value for key, value in conf.items()}
        self.conf = SimpleNamespace(getAll=entries)
        spark_conf = SimpleNamespace(getAll=lambda: list(entries.items()))
        self.sparkContext = SimpleNamespace(master=master, _jsc=object(), getConf=lambda: spark_conf)

    def stop(self) -> None:
        self.sparkContext._jsc = None


class FakeTier:
    """A tier that is no process."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.address = TierAddress("t1", "ipc:///nowhere/at/all")
        self.stops = 0
        self.held_by_nodes = Held()
        self.application = ""
        #: Why the coordinator is gone, if it is, and why a node is.
        self.gone: TierError | None = None
        self.node_gone: TierError | None = None

    def ended(self) -> TierError | None:
        return self.gone

    def lost(self) -> TierError | None:
        return self.gone or self.node_gone

    def scale(self, num_nodes: int, seconds: float) -> None:
        self.scaled = (num_nodes, seconds)

    def stop(self) -> None:
        self.stops += 1


@pytest.fixture
def tiers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeTier]]:
    """The tiers that were launched."""
    launched: list[FakeTier] = []

    def launch(settings: Any, spark: Any) -> FakeTier:
        launchers.choose(settings.launch, spark.sparkContext.master)
        launched.append(FakeTier(settings))
        return launched[-1]

    monkeypatch.setattr(tier_life, "launch", launch)
    monkeypatch.setattr(tier_life, "start_python_workers", lambda spark: threading.Event())
    monkeypatch.setattr(tier_life, "_START_PATIENCE", 0.0)
    yield launched
    if PSContext._active is not None:
        PSContext._active.stop()


def test_settings_come_from_spark_and_arguments_win(tiers: list[FakeTier]) -> None:
    with PSContext(FakeSpark(numNodes="3", leaseTtl="7s")) as ps:
        assert (ps.settings.num_nodes, ps.settings.workers.lease_ttl) == (3, 7.0)
        assert PSContext.active() is ps
        assert ps.address == tiers[0].address
    with PSContext(FakeSpark(numNodes="3"), num_nodes=1) as ps:
        assert ps.settings.num_nodes == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_nodes": 0}, "numNodes` must be an int"),
        ({"replication": 3}, "`replication` (`spark.sparkps.replication`) must be at most `num_nodes` (`spark.sparkps.numNodes`), 2"),
        ({"replication": 0}, "replication` must be an int in [1, 3]"),
        ({"replication_ack": "maybe"}, "replicationAck` must be one of 'sync', 'async'"),
        ({"launch": "elsewhere"}, "launchers that exist now: 'auto', 'local', 'executors', 'attach'. Got 'elsewhere'"),
        ({"url": "sparkps://h:1", "launch": "local"}, "Got them with launch='local'"),
        ({"secret_file": "secret"}, "are of a tier to attach to"),
        ({"url": "sparkps://h:1", "num_nodes": 3}, "`num_nodes` is for whoever starts a tier. Got 3"),
        ({"launch": "attach", "replication": 2}, "`replication` is for whoever starts a tier. Got 2"),
        ({"launch": "attach", "replication_ack": "async"}, "`replication_ack` is for whoever starts a tier"),
        ({"launch": "magic"}, "launchers that exist now"),
        ({"launch": "black magic"}, "launch` must be a name"),
    ],
)
def test_arguments_are_refused_by_name(tiers: list[FakeTier], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PSContext(FakeSpark(), **arguments)
    assert message in str(caught.value)
    assert PSContext.active() is None
    assert not tiers


def test_copies_and_when_they_are_waited_for_are_arguments(tiers: list[FakeTier]) -> None:
    with PSContext(FakeSpark(replicationAck="async"), replication=2) as ps:
        assert (ps.settings.replication, ps.settings.node.replication_ack) == (2, "async")
    with PSContext(FakeSpark(replicationAck="async"), replication_ack="sync") as ps:
        assert (ps.settings.replication, ps.settings.node.replication_ack) == (1, "sync")


@pytest.mark.parametrize("wrong", [True, 2.0, "3", None])
def test_numbers_of_nodes_are_whole(tiers: list[FakeTier], wrong: Any) -> None:
    with PSContext(FakeSpark()) as ps:
        ps.scale(3, timeout=5)
        assert tiers[0].scaled == (3, 5.0)
        with pytest.raises(InvalidInput, match=r"`num_nodes` must be an int"):
            ps.scale(wrong)
        with pytest.raises(InvalidInput, match=r"`node` must be an int"):
            ps.drain(wrong)
        with pytest.raises(InvalidInput, match=r"`timeout` must be a positive number of seconds"):
            ps.scale(3, timeout=0)


@pytest.mark.parametrize(
    ("master", "launcher"),
    [
        ("local", "local"),
        ("local[*]", "local"),
        ("local[4,2]", "local"),
        ("local-cluster[2,1,1024]", "local"),  # all on this host
        ("spark://localhost:7077", "executors"),
        ("yarn", "executors"),
        ("k8s://https://host:6443", "executors"),
    ],
)
def test_the_launcher_fits_the_master(master: str, launcher: str) -> None:
    assert launchers.choose("auto", master) == launcher
    assert [launchers.choose(asked, master) for asked in launchers.LAUNCHERS] == list(launchers.LAUNCHERS)


def test_sessions_that_cannot_have_a_tier(tiers: list[FakeTier]) -> None:
    connect = type("SparkSession", (), {"__module__": "pyspark.sql.connect.session"})()
    with pytest.raises(ConfigError, match="Spark Connect is not supported yet"):
        PSContext(connect)
    with pytest.raises(ConfigError, match=r"needs a SparkSession.*Got None"):
        PSContext(None)  # type: ignore[arg-type]
    stopped = FakeSpark()
    stopped.stop()
    with pytest.raises(ConfigError, match="was stopped"):
        PSContext(stopped)


def test_one_context_at_a_time(tiers: list[FakeTier]) -> None:
    spark = FakeSpark()
    with PSContext(spark) as ps:
        with pytest.raises(ConfigError, match=r"Only one PSContext may be active.*PSContext\.active\(\)"):
            PSContext(spark)
        assert PSContext.active() is ps
        assert PSContext.get_or_create(spark) is ps
    assert PSContext.active() is None
    assert len(tiers) == 1


def test_a_context_that_an_estimator_made_is_shared_until_it_is_stopped(tiers: list[FakeTier]) -> None:
    spark = FakeSpark()
    ps = PSContext.get_or_create(spark)
    assert PSContext.get_or_create(spark) is ps
    ps.stop()
    assert PSContext.get_or_create(spark) is not ps


def test_a_new_session_replaces_the_tier_of_one_that_was_stopped(tiers: list[FakeTier]) -> None:
    old = FakeSpark()
    ps = PSContext(old)
    old.stop()
    assert PSContext.active() is None
    assert PSContext.get_or_create(FakeSpark()) is not ps
    assert [tier.stops for tier in tiers] == [1, 0]


@pytest.mark.parametrize("what", ["gone", "node_gone"])
def test_a_shared_tier_that_has_lost_a_process_is_started_anew(tiers: list[FakeTier], what: str) -> None:
    spark = FakeSpark()
    ps = PSContext.get_or_create(spark)
    setattr(tiers[0], what, TierError("A process was killed by signal 9."))
    anew = PSContext.get_or_create(spark)
    assert anew is not ps
    assert [tier.stops for tier in tiers] == [1, 0]
    assert PSContext.get_or_create(spark) is anew


def test_one_that_was_asked_for_takes_the_place_of_a_shared_one_and_is_not_replaced(tiers: list[FakeTier]) -> None:
    spark = FakeSpark()
    PSContext.get_or_create(spark)
    with PSContext(spark) as ps:
        assert [tier.stops for tier in tiers] == [1, 0]
        tiers[1].node_gone = TierError("A process was killed by signal 9.")
        assert PSContext.get_or_create(spark) is ps, "its user decides what becomes of its tables"


def test_the_tier_ends_with_its_spark(tiers: list[FakeTier]) -> None:
    spark = FakeSpark()
    ps = PSContext(spark)
    with pytest.raises(TierError, match="was stopped"):
        spark.stop()
        ps.run(None, lambda worker, batches: None)  # type: ignore[arg-type]
    assert wait_until(lambda: tiers[0].stops == 1, 5)
    assert PSContext.active() is None


def test_stop_is_idempotent_and_calls_say_that_it_was_stopped(tiers: list[FakeTier]) -> None:
    ps = PSContext(FakeSpark())
    ps.stop()
    ps.stop()
    assert tiers[0].stops == 1
    for call in (ps.status, lambda: ps.table("w"), lambda: ps.sparse_table("w", 1), lambda: ps.function(len, "len")):
        with pytest.raises(TierError, match="must be running"):
            call()
    assert "stopped" in repr(ps)


def test_a_context_in_a_closure_is_refused_with_what_to_do(tiers: list[FakeTier]) -> None:
    with PSContext(FakeSpark()) as ps, pytest.raises(InvalidInput, match=r"ps\.table"):
        pickle.dumps(ps)


def test_functions_need_a_name(tiers: list[FakeTier]) -> None:
    with PSContext(FakeSpark()) as ps:
        for fn in (lambda shard: 0, 3, None):
            with pytest.raises(InvalidInput, match="must be callable, and have a name"):
                ps.function(fn)  # type: ignore[arg-type]


def test_without_its_coordinator_every_call_says_at_once_how_it_ended(tiers: list[FakeTier]) -> None:
    spark = FakeSpark()
    with PSContext(spark) as ps:
        tiers[0].gone = TierError("The coordinator was killed by signal 9: make a new PSContext.")
        for call in (
            ps.status,
            lambda: ps.table("w"),
            lambda: ps.sparse_table("w", 1),
            lambda: ps.function(len, "len"),
            lambda: ps.run(None, lambda worker, batches: None),
            lambda: ps.start_group(None, lambda worker, batches: None),
        ):
            with pytest.raises(TierError, match="make a new PSContext"):
                call()
        assert PSContext.get_or_create(spark) is ps, "its tables can still be read"
    assert tiers[0].stops == 1
