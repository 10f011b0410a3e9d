"""A coordinator that is killed or stopped: another one takes its place; where none does, what runs goes on, what cannot says why."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkps import PSContext
from sparkps.driver_bridge.launchers.restarts import Restarts
from sparkps.errors import SparkPSError
from sparkps.mllib.classification import LogisticRegression, LogisticRegressionModel
from sparkps.mllib.solvers import fullbatch_driver, minibatch_driver
from tests.harness.cases import cases
from tests.harness.processes import running
from tests.harness.waiting import wait_until

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(300)]

#: What cannot go on without a coordinator says so within so many seconds, far less than `controlTimeout`.
AT_ONCE = 8.0
#: The same for a fit under way.
SOON = 10.0

#: Solver -> parameters of a fit that takes a few seconds.
FITS: dict[str, dict[str, Any]] = {
    "lbfgs": {"maxIter": 30, "tol": 0.0, "standardization": False},
    "adagrad": {"maxIter": 30, "batchSize": 50, "deterministic": True},
}

#: Solver -> the module of its driver, and the train function there.
TRAIN = {"lbfgs": (fullbatch_driver, "FullBatchTask"), "adagrad": (minibatch_driver, "MiniBatchTask")}


@pytest.fixture
def ps(spark: SparkSession) -> Iterator[PSContext]:
    """A tier of its own for every test."""
    with PSContext(spark, num_nodes=2) as context:
        yield context


def coordinator(ps: PSContext) -> int:
    """Process id of the coordinator."""
    assert ps._tier is not None
    return int(ps._tier._coordinator.pid)  # type: ignore[attr-defined]


def kill_coordinator(ps: PSContext) -> int:
    """Kill the coordinator for good: its restarts are used up. Waits until its parent knows; its process id."""
    pid = coordinator(ps)
    assert ps._tier is not None
    ps._tier.coordinator_restarts = Restarts(0)  # type: ignore[attr-defined]
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: ps._tier is not None and ps._tier.ended() is not None, 120.0)
    return pid


def nodes(ps: PSContext) -> list[int]:
    assert ps._tier is not None
    return [child.pid for child in ps._tier._nodes.values()]  # type: ignore[attr-defined]


# ---- killed ------------------------------------------------------------------------------------------------------------


def test_what_needs_a_killed_coordinator_fails_at_once_and_says_why(ps: PSContext, spark: SparkSession) -> None:
    w = ps.sparse_table("w", dim=1)
    w.add([1, 2], [[1.0], [2.0]])
    df = spark.range(10)
    pid = kill_coordinator(ps)
    calls: list[Callable[[], Any]] = [
        ps.status,
        lambda: ps.sparse_table("x", dim=1),
        lambda: ps.table("w"),
        lambda: ps.function(len, "len"),
        lambda: ps.run(df, lambda worker, batches: None, num_workers=1),
        w.drop,
    ]
    for call in calls:
        began = time.monotonic()
        with pytest.raises(SparkPSError, match=rf"process {pid} was killed by signal 9.*make a new one"):
            call()
        assert time.monotonic() - began < AT_ONCE
    assert w.pull([1, 2]).tolist() == [[1.0], [2.0]]
    assert running(nodes(ps)) == nodes(ps)


@pytest.mark.parametrize("solver", FITS)
def test_new_fit_without_a_coordinator_fails_at_once(ps: PSContext, rows: DataFrame, solver: str) -> None:
    pid = kill_coordinator(ps)
    began = time.monotonic()
    with pytest.raises(SparkPSError, match=rf"process {pid} was killed by signal 9"):
        LogisticRegression(solver=solver, numWorkers=2, **FITS[solver]).fit(rows)
    assert time.monotonic() - began < AT_ONCE + 2.0


@pytest.mark.parametrize("solver", cases(["adagrad"], long=["lbfgs"]))
def test_fit_whose_coordinator_is_killed_after_a_second_ends_rightly_or_soon_with_the_reason(
    ps: PSContext, rows: DataFrame, solver: str
) -> None:
    estimator = LogisticRegression(solver=solver, numWorkers=2, **FITS[solver])
    with ThreadPoolExecutor(1) as pool:
        fit = pool.submit(estimator.fit, rows)
        threading.Event().wait(1.0)
        pid = kill_coordinator(ps)
        killed_at = time.monotonic()
        error = fit.exception(timeout=60)
        took = time.monotonic() - killed_at
    if error is None:
        assert len(fit.result().summary.objectiveHistory) > 3
    else:
        assert isinstance(error, SparkPSError)
        assert f"process {pid} was killed by signal 9" in str(error)
        assert took < SOON


class Held:
    """A train function whose rank 0 waits in its third clock of training until the coordinator is gone."""

    def __init__(self, train: Callable[[Any, Any], Any], pid: int) -> None:
        self.train = train
        self.pid = pid

    def __call__(self, worker: Any, batches: Any) -> Any:
        if worker.rank == 0:
            tick = worker.tick

            def held(state: bytes | None = None) -> None:
                if worker.clock == 5:
                    worker.report(held=True)
                    wait_until(lambda: not running([self.pid]), 120.0)
                tick(state)

            worker.tick = held
        return self.train(worker, batches)


def is_held(ps: PSContext) -> bool:
    return any("held" in rank["counters"] for group in ps.status()["groups"] for rank in group["ranks"])


def fitted(
    ps: PSContext, rows: DataFrame, patch: pytest.MonkeyPatch, solver: str, fault: Callable[[], None]
) -> tuple[LogisticRegressionModel, LogisticRegressionModel]:
    """The models of a fit without a fault, and of one whose ranks are `Held` until the fault has come."""
    estimator = LogisticRegression(solver=solver, numWorkers=2, **FITS[solver])
    undisturbed = estimator.fit(rows)
    module, name = TRAIN[solver]
    made, pid = getattr(module, name), coordinator(ps)
    patch.setattr(module, name, lambda rank_job: Held(made(rank_job), pid))
    with ThreadPoolExecutor(1) as pool:
        fit = pool.submit(estimator.fit, rows)
        assert wait_until(lambda: is_held(ps), 120.0, 0.05)
        fault()
        return undisturbed, fit.result(timeout=60)


@pytest.mark.parametrize("solver", FITS)
def test_fit_whose_coordinator_is_killed_while_it_trains_ends_rightly(
    ps: PSContext, rows: DataFrame, monkeypatch: pytest.MonkeyPatch, solver: str
) -> None:
    undisturbed, disturbed = fitted(ps, rows, monkeypatch, solver, lambda: kill_coordinator(ps))
    assert disturbed.coefficients == undisturbed.coefficients
    assert disturbed.intercept == undisturbed.intercept
    assert disturbed.summary.objectiveHistory == undisturbed.summary.objectiveHistory


def test_run_whose_worker_fails_without_a_coordinator_says_what_it_raised(ps: PSContext, spark: SparkSession) -> None:
    started = ps.dense_table("started", shape=1)
    pid = coordinator(ps)

    def train(worker: Any, batches: Any) -> None:
        started.add([1.0])
        worker.tick()
        wait_until(lambda: not running([pid]), 120.0)
        if worker.rank == 1:
            raise ValueError("a bad day")
        started.pull()  # waits for rank 1, which never ticks again
        worker.tick()
        started.pull()

    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(ps.run, spark.range(10), train, num_workers=2)
        assert wait_until(lambda: started.pull()[0] == 2, 120.0)
        kill_coordinator(ps)
        killed_at = time.monotonic()
        with pytest.raises(SparkPSError, match="a bad day"):
            run.result(timeout=60)
        assert time.monotonic() - killed_at < SOON


# ---- killed, and started again -----------------------------------------------------------------------------------------


def restart_coordinator(ps: PSContext) -> int:
    """Kill the coordinator, and wait until another one runs; the process that it was."""
    pid = coordinator(ps)
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: coordinator(ps) != pid, 120.0)
    return pid


def test_what_is_asked_of_a_killed_coordinator_is_answered_by_the_next_one(ps: PSContext, spark: SparkSession) -> None:
    w = ps.sparse_table("w", dim=1)
    w.add([1, 2], [[1.0], [2.0]])
    ps.function(len, "len")
    for restarts in (1, 2):
        restart_coordinator(ps)
        assert ps.table("w").pull([1, 2]).tolist() == [[1.0], [2.0]]
        status = ps.status()
        assert {name: status["coordinator"][name] for name in ("pid", "restarts")} == {"pid": coordinator(ps), "restarts": restarts}
        assert [node["state"] for node in status["nodes"]] == ["up", "up"]
    ps.sparse_table("x", dim=1).drop()
    assert list(ps.run(spark.range(10), lambda worker, batches: worker.rank, num_workers=2)) == [0, 1]
    assert running(nodes(ps)) == nodes(ps)


@pytest.mark.parametrize("solver", cases(["adagrad"], long=["lbfgs"]))
def test_fit_whose_coordinator_is_killed_twice_while_it_trains_is_as_if_nothing_had_happened(
    ps: PSContext, rows: DataFrame, monkeypatch: pytest.MonkeyPatch, solver: str
) -> None:
    def restart_twice() -> None:
        restart_coordinator(ps)
        restart_coordinator(ps)

    undisturbed, disturbed = fitted(ps, rows, monkeypatch, solver, restart_twice)
    assert disturbed.coefficients == undisturbed.coefficients
    assert disturbed.summary.objectiveHistory == undisturbed.summary.objectiveHistory
    assert ps.status()["groups"] == []


# ---- stopped -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hasty(spark: SparkSession) -> Iterator[PSContext]:
    """A tier whose members are dead after two seconds of silence, and leases over after one."""
    settings = {"heartbeatInterval": "200ms", "heartbeatDeadline": "2s", "leaseTtl": "1s", "controlTimeout": "5s"}
    for name, value in settings.items():
        spark.conf.set(f"spark.sparkps.{name}", value)
    with PSContext(spark, num_nodes=2) as context:
        yield context
    for name in settings:
        spark.conf.unset(f"spark.sparkps.{name}")


#: Seconds that the coordinator is stopped: over twice the deadline of heartbeats.
STOPPED = 5.0


def test_coordinator_that_is_stopped_for_long_costs_no_node_no_row_and_no_rank(
    hasty: PSContext, spark: SparkSession
) -> None:
    ps = hasty
    w = ps.sparse_table("w", dim=1, dtype="float64")
    w.add([1], [[1.0]])
    ps.dense_table("go_on", shape=1)

    def train(worker: Any, batches: Any) -> int:
        own = worker.table("w")
        control = worker.table("go_on")
        while control.pull()[0] == 0:
            own.add([2], [[1.0]])
            worker.tick()
        return int(worker.clock)

    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(ps.run, spark.range(10), train, num_workers=2)
        assert wait_until(lambda: w.pull([2])[0, 0] > 0, 120.0)
        before = w.pull([2])[0, 0]
        os.kill(coordinator(ps), signal.SIGSTOP)
        stopped_at, added = time.monotonic(), 0
        try:
            while time.monotonic() < stopped_at + STOPPED or added < 10:  # the coordinator is on no path of data
                w.add([1], [[1.0]])
                added += 1
                assert w.pull([1])[0, 0] == 1.0 + added
            assert running(nodes(ps)) == nodes(ps)
            assert w.pull([2])[0, 0] > before + 10, "training went on"
            os.kill(coordinator(ps), signal.SIGCONT)
            assert wait_until(lambda: [node["state"] for node in ps.status()["nodes"]] == ["up", "up"], 120.0)
            ranks = ps.status()["groups"][0]["ranks"]
            assert [(rank["state"], rank["incarnation"]) for rank in ranks] == [("leased", 1), ("leased", 1)]
        finally:  # the run ends, whatever was wrong
            os.kill(coordinator(ps), signal.SIGCONT)
            ps.table("go_on").assign(np.array([1.0], np.float32))
        clocks = run.result(timeout=90)
    assert w.pull([1, 2])[:, 0].tolist() == [1.0 + added, float(sum(clocks))]
    assert running(nodes(ps)) == nodes(ps)
    ps.sparse_table("x", dim=1).drop()
