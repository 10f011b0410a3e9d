"""The driver does not ask a coordinator that its launcher knows to be gone, and says why."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sparkps.client.control import ControlClient
from sparkps.driver_bridge.driver_control import DriverControl
from sparkps.driver_bridge.groups.monitor import GroupMonitor
from sparkps.driver_bridge.groups.rank_lease import SOLVER_ATTEMPT
from sparkps.driver_bridge.groups.stand_in import StandIn
from sparkps.errors import DeadlineExceeded, GroupError, NodeUnreachable, SparkPSError, WorkerFailed
from sparkps.specs import GroupSpec
from sparkps.wire.messages import control as c
from tests.harness.waiting import wait_until

GROUP = GroupSpec(1, "g", 2, 2, 0)


@pytest.fixture
def address(tmp_path: pathlib.Path) -> c.TierAddress:
    return c.TierAddress("t1", f"ipc://{tmp_path}/coordinator")


def lost(address: c.TierAddress) -> NodeUnreachable:
    return NodeUnreachable("process 7 was killed by signal 9", endpoint=address.coordinator)


# ---- requests ----------------------------------------------------------------------------------------------------------


def test_every_client_of_the_process_knows(address: c.TierAddress) -> None:
    control = DriverControl.for_tier(address, lambda: lost(address))
    assert ControlClient.of(address) is control
    began = time.monotonic()
    with pytest.raises(NodeUnreachable, match="killed by signal 9"):
        ControlClient.of(address).request(c.TierStatus(0))
    with pytest.raises(NodeUnreachable, match="killed by signal 9"):
        control.check()
    assert time.monotonic() - began < 1.0


def test_reason_takes_the_place_of_what_a_connection_saw(
    address: c.TierAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = DriverControl.for_tier(address, lambda: None)
    seen: list[SparkPSError | None] = [None, None, lost(address)]
    control.ended = lambda: seen.pop(0)

    def request(self: Any, message: Any, timeout: Any = None) -> Any:
        raise NodeUnreachable("nobody listens", endpoint=address.coordinator)

    monkeypatch.setattr(ControlClient, "request", request)
    with pytest.raises(NodeUnreachable, match="killed by signal 9") as caught:
        control.request(c.TierStatus(0))
    assert "nobody listens" in str(caught.value.__cause__)


@pytest.mark.parametrize("attributes", [{"endpoint": "ipc://node0"}, {}])
def test_what_a_coordinator_that_runs_says_is_left_as_it_is(
    address: c.TierAddress, monkeypatch: pytest.MonkeyPatch, attributes: dict[str, Any]
) -> None:
    def request(self: Any, message: Any, timeout: Any = None) -> Any:
        raise DeadlineExceeded("of a group", **attributes)

    monkeypatch.setattr(ControlClient, "request", request)
    with pytest.raises(DeadlineExceeded, match="of a group"):
        DriverControl.for_tier(address, lambda: None).request(c.TierStatus(0))


# ---- the watch over a group --------------------------------------------------------------------------------------------


class Control:
    """Answers as told."""

    endpoint = "ipc://coordinator"

    def __init__(self) -> None:
        self.answer: Callable[[Any], Any] = lambda message: report(started=True)
        self.asked: list[Any] = []

    def request(self, message: Any, timeout: float | None = None) -> Any:
        self.asked.append(message)
        answer = self.answer(message)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def gone(self, message: Any) -> Exception:
        return NodeUnreachable("The coordinator was killed by signal 9.", endpoint=self.endpoint)

    def silent(self, message: Any) -> Exception:
        return DeadlineExceeded("No answer in time.", endpoint=self.endpoint)


def report(*, started: bool) -> c.GroupReport:
    return c.GroupReport(0, 1, "running", None, started, [])


class Job:
    """A Spark job that ends when it is told to."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: BaseException | None = None

    def end(self, error: BaseException | None = None) -> None:
        self.error = error
        self.done.set()


@pytest.fixture
def control() -> Control:
    return Control()


@pytest.fixture
def jobs() -> list[Job]:
    return []


@pytest.fixture
def watch(control: Control, jobs: list[Job]) -> Iterator[Callable[[], GroupMonitor]]:
    """Watches a group whose job may be submitted four times."""

    def submit() -> Any:
        jobs.append(Job())
        return jobs[-1]

    def make(start_timeout: float = 30.0, **more: Any) -> GroupMonitor:
        bar: Any = SimpleNamespace(update=lambda ranks, lost: None, close=lambda well: None)
        address = c.TierAddress("tier", control.endpoint)
        stand_in = StandIn(address, control, GROUP, "wait", 1.0)  # type: ignore[arg-type]
        options = {"most_failures": 4, "start_timeout": start_timeout, "slots": 2, "bar": bar, **more}
        return GroupMonitor(control, GROUP, submit, stand_in, **options)  # type: ignore[arg-type]

    yield make
    for job in jobs:
        job.end()


def test_ranks_that_do_not_start_are_told_with_what_was_asked_for_and_what_there_is(
    control: Control, watch: Callable[..., GroupMonitor]
) -> None:
    control.answer = lambda message: report(started=False)
    watching = watch(0.05, look_around=lambda: "Spark has no executor.", remedy="raise `spark.executor.instances`")
    assert watching.settled.wait(10)
    with pytest.raises(DeadlineExceeded, match=r"Spark has no executor\. Ask for fewer .*, raise `spark\.executor\.instances`, or"):
        watching.check()


def test_ranks_that_start_while_the_driver_looks_around_are_not_late(control: Control, watch: Callable[..., GroupMonitor]) -> None:
    control.answer = lambda message: report(started=False)

    def look_around() -> str:
        control.answer = lambda message: report(started=True)
        return "Spark has two executors."

    watching = watch(0.05, look_around=look_around)
    assert wait_until(lambda: watching.start_seconds > 0)
    watching.check()


@pytest.mark.parametrize("how", ["gone", "silent"])
def test_group_that_has_started_ends_rightly_without_a_coordinator(
    control: Control, jobs: list[Job], watch: Callable[[], GroupMonitor], how: str
) -> None:
    watching = watch()
    assert wait_until(lambda: watching.start_seconds > 0)
    control.answer = getattr(control, how)
    before = len(control.asked)
    assert wait_until(lambda: len(control.asked) > before + 1)
    assert not watching.settled.is_set()
    jobs[0].end()
    assert watching.settled.wait(10)
    assert watching.cause is None
    assert watching.look() is not None, "the last report"
    watching.check()


def test_worker_that_is_lost_without_a_coordinator_ends_the_group_at_once_with_both_reasons(
    control: Control, jobs: list[Job], watch: Callable[[], GroupMonitor]
) -> None:
    watching = watch()
    assert wait_until(lambda: watching.start_seconds > 0)
    control.answer = control.gone
    before = len(control.asked)
    assert wait_until(lambda: len(control.asked) > before + 1)
    jobs[0].end(RuntimeError("Python worker exited unexpectedly (crashed)"))
    assert watching.settled.wait(10)
    assert len(jobs) == 1, "not submitted again: nobody could lease the rank"
    with pytest.raises(WorkerFailed, match=r"Python worker exited.*was killed by signal 9"):
        watching.check()


def test_group_that_cannot_start_without_a_coordinator_says_so_at_once(
    control: Control, watch: Callable[[], GroupMonitor]
) -> None:
    control.answer = lambda message: report(started=False)
    watching = watch()
    control.answer = control.gone
    assert watching.settled.wait(10)
    assert isinstance(watching.cause, NodeUnreachable)


def test_group_that_waits_for_a_silent_coordinator_goes_on_when_it_answers(
    control: Control, jobs: list[Job], watch: Callable[[], GroupMonitor]
) -> None:
    control.answer = control.silent
    watching = watch()
    assert wait_until(lambda: len(control.asked) > 2)
    control.answer = lambda message: report(started=True)
    assert wait_until(lambda: watching.start_seconds > 0)
    jobs[0].end(RuntimeError("Python worker exited unexpectedly (crashed)"))
    assert wait_until(lambda: len(jobs) == 2), "submitted again"
    jobs[1].end()
    assert watching.settled.wait(10)
    assert watching.cause is None


def test_group_that_the_coordinator_has_ended_is_over(control: Control, watch: Callable[[], GroupMonitor]) -> None:
    watching = watch()
    assert wait_until(lambda: watching.start_seconds > 0)
    control.answer = lambda message: GroupError("Worker group 1 must not have ended. It has.")
    assert watching.settled.wait(10)
    assert isinstance(watching.cause, GroupError)
    assert watching.look() is not None, "figures are still wanted"


def test_cause_that_cannot_be_told_is_the_cause(control: Control, watch: Callable[[], GroupMonitor]) -> None:
    watching = watch()
    control.answer = control.silent
    error = DeadlineExceeded("late")
    assert watching.fail(error) is error
    assert any(isinstance(message, c.FailRank) and message.attempt == SOLVER_ATTEMPT for message in control.asked)


def lost_with(task: int) -> RuntimeError:
    return RuntimeError(
        f"Job aborted due to stage failure: Task {task} in stage 3.0 failed 1 times, most recent failure: Lost task {task}.0 in stage 3.0"
        " (TID 6): org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)"
    )


def test_job_is_submitted_again_until_one_and_the_same_task_was_lost_four_times(
    control: Control, jobs: list[Job], watch: Callable[[], GroupMonitor]
) -> None:
    watching = watch()
    assert wait_until(lambda: watching.start_seconds > 0)
    for number, task in enumerate([0, 1, 0, 1, 0, 1]):
        jobs[number].end(lost_with(task))
        assert wait_until(lambda: len(jobs) == number + 2), "submitted again"  # noqa: B023 - called at once
    jobs[6].end(lost_with(0))
    assert watching.settled.wait(10)
    assert len(jobs) == 7
    with pytest.raises(WorkerFailed, match="Python worker exited"):
        watching.check()


def test_no_rank_is_given_up_while_the_tasks_of_a_job_that_was_submitted_again_start(
    control: Control, jobs: list[Job], watch: Callable[[], GroupMonitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up: list[Any] = []
    monkeypatch.setattr(StandIn, "look", lambda self, report, now: given_up.append(report))
    watching = watch()
    assert wait_until(lambda: len(given_up) > 0), "ranks are looked at"
    jobs[0].end(lost_with(0))
    assert wait_until(lambda: len(jobs) == 2)
    given_up.clear()
    before = len(control.asked)
    assert wait_until(lambda: len(control.asked) > before + 2)
    assert given_up == []
    jobs[1].end()
    assert watching.settled.wait(10)
