"""A rank's hold on its place: successors of processes that are gone, and coordinators that cannot be reached."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from sparkps.config import Settings, WorkerSettings
from sparkps.driver_bridge.coordinator.core import Core
from sparkps.driver_bridge.coordinator.handlers.groups import HANDLERS
from sparkps.driver_bridge.groups import rank_lease as module
from sparkps.driver_bridge.groups import rank_task as task_module
from sparkps.driver_bridge.groups.rank_lease import RankLease, acquire, is_unreached
from sparkps.driver_bridge.groups.rank_task import FAILED, RankTask
from sparkps.errors import DeadlineExceeded, NodeUnreachable, SparkPSError, WorkerFailed
from sparkps.lifeline import is_gone, this_process
from sparkps.specs import GroupSpec
from sparkps.wire.messages import control as c
from tests.harness.waiting import wait_until

ADDRESS = c.TierAddress("tier", "inproc://coordinator")
SCHEMA = pa.schema([("x", pa.int64())])
TTL = 60.0

#: A process that is gone: this one, with another time of its start.
GONE = " ".join([*this_process().split(" ")[:-1], "1"])


class Coordinator:
    """The real rules, asked by calls; `answers` is what becomes of a request where it is not carried out."""

    def __init__(self) -> None:
        self.endpoint = ADDRESS.coordinator
        self._core = Core("tier", Settings(workers=WorkerSettings(lease_ttl=TTL)))
        self.groups = self._core.groups
        self.spec, _ = self.groups.admit(c.AdmitGroup(0, "g", 2, 2, 0, 2, "tag"), 0.0)
        self.asked: list[Any] = []
        self.answers: Callable[[Any], SparkPSError | None] = lambda message: None
        self.lock = threading.Lock()

    def request(self, message: Any, timeout: float | None = None) -> Any:
        with self.lock:
            self.asked.append(message)
            error = self.answers(message)
            if error is not None:
                raise error
            self._core.clock.come_to(time.monotonic())
            return HANDLERS[type(message)](self._core, b"", message)

    @property
    def rank(self) -> Any:
        assert self.spec is not None
        return self.groups.running[self.spec.group].ranks[0]

    def unreachable(self, message: Any) -> SparkPSError:
        return NodeUnreachable("Nobody listens.", endpoint=self.endpoint)

    def silent(self, message: Any) -> SparkPSError:
        return DeadlineExceeded("No answer in time.", endpoint=self.endpoint)


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


@pytest.fixture
def held(coordinator: Coordinator) -> Iterator[Callable[..., RankLease]]:
    """Leases rank 0; what it leased stops renewing at the end."""
    made: list[RankLease] = []

    def hold(attempt: int = 7) -> RankLease:
        spec = coordinator.spec
        assert spec is not None
        lease = acquire(coordinator, spec, 0, attempt, TTL)  # type: ignore[arg-type]
        assert isinstance(lease, RankLease)
        made.append(lease)
        return lease

    yield hold
    for lease in made:
        lease.stop()


# ---- successors --------------------------------------------------------------------------------------------------------


def test_rank_of_a_process_that_is_gone_is_taken_at_once(
    coordinator: Coordinator, held: Callable[..., RankLease]
) -> None:
    assert is_gone(GONE)
    coordinator.groups.lease(1, 0, 6, time.monotonic(), process=GONE)
    began = time.monotonic()
    assert held().incarnation == 2
    assert time.monotonic() - began < 5
    assert coordinator.rank.process == this_process()


def test_rank_of_a_process_that_lives_is_waited_for(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, held: Callable[..., RankLease]
) -> None:
    coordinator.groups.lease(1, 0, 6, time.monotonic(), process=this_process())
    releasing = threading.Timer(0.3, lambda: coordinator.request(c.ReleaseRank(0, 1, 0, 6)))
    releasing.start()
    assert held().incarnation == 2
    assert sum(isinstance(message, c.Lease) for message in coordinator.asked) > 3
    assert all(message.gone == "" for message in coordinator.asked if isinstance(message, c.Lease))
    releasing.join()


def test_attempt_that_ends_unfinished_gives_its_rank_back(
    coordinator: Coordinator, held: Callable[..., RankLease]
) -> None:
    held(7).release()
    assert coordinator.rank.expires_at is None
    assert held(8).incarnation == 2


def test_attempt_that_has_finished_gives_nothing_back(coordinator: Coordinator, held: Callable[..., RankLease]) -> None:
    lease = held()
    lease.finish(b"result")
    lease.release()
    assert (coordinator.rank.finished, coordinator.rank.attempt) == (True, 7)


def test_interrupt_while_leasing_gives_back_what_may_have_been_leased(coordinator: Coordinator) -> None:
    request = coordinator.request

    def interrupted(message: Any, timeout: float | None = None) -> Any:
        answer = request(message, timeout)
        if isinstance(message, c.Lease):
            raise KeyboardInterrupt
        return answer

    coordinator.request = interrupted  # type: ignore[method-assign]
    assert coordinator.spec is not None
    with pytest.raises(KeyboardInterrupt):
        acquire(coordinator, coordinator.spec, 0, 7, TTL)  # type: ignore[arg-type]
    assert coordinator.rank.expires_at is None


# ---- coordinators that cannot be reached -------------------------------------------------------------------------------


def test_what_was_answered_and_what_was_not(coordinator: Coordinator) -> None:
    control: Any = coordinator
    assert is_unreached(coordinator.unreachable(None), control)
    assert is_unreached(coordinator.silent(None), control)
    assert not is_unreached(NodeUnreachable("a node", endpoint="ipc://node0"), control)
    assert not is_unreached(DeadlineExceeded("the group has not started in time", group="g"), control)
    assert not is_unreached(WorkerFailed("boom", endpoint=coordinator.endpoint), control)


def test_result_that_cannot_be_recorded_is_no_error(coordinator: Coordinator, held: Callable[..., RankLease]) -> None:
    for answer in (coordinator.unreachable, coordinator.silent):
        lease = held()
        coordinator.answers = answer
        lease.finish(b"result")
        assert isinstance(coordinator.asked[-1], c.FinishRank), "it was tried"
        coordinator.answers = lambda message: None
        lease.release()
        assert not coordinator.rank.finished
        assert coordinator.rank.attempt == 7, "a rank that has ended gives nothing back"
    lease = held()
    coordinator.answers = lambda message: WorkerFailed("This attempt must stop.", rank=0)
    with pytest.raises(WorkerFailed, match="must stop"):
        lease.finish(b"result")


def test_renewals_that_fail_end_no_rank_that_has_started(
    coordinator: Coordinator, held: Callable[..., RankLease]
) -> None:
    coordinator.groups.lease(1, 1, 1, 0.0)
    lease = held()
    assert lease.wait_started(5)
    for answer in (coordinator.silent, coordinator.unreachable):
        coordinator.answers = answer
        before = len(coordinator.asked)
        assert wait_until(lambda before=before: len(coordinator.asked) > before + 1)
        lease.check()
        assert not lease.lost
        assert not lease.group_failed
    coordinator.answers = lambda message: None
    lease.finish(b"result")
    assert coordinator.rank.finished


def test_rank_that_can_never_start_says_so(coordinator: Coordinator, held: Callable[..., RankLease]) -> None:
    lease = held()
    coordinator.answers = coordinator.silent
    assert not lease.wait_started(0.5), "silent is not gone"
    coordinator.answers = coordinator.unreachable
    with pytest.raises(NodeUnreachable):
        lease.wait_started(20)
    assert not lease.group_failed


# ---- tasks -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs rank 0 of a group whose other rank has started."""
    coordinator.groups.lease(1, 1, 1, 0.0)
    session = SimpleNamespace(
        control=coordinator,
        address=ADDRESS,
        member=SimpleNamespace(clock=0),
        waited_seconds=0.0,
        takeover=lambda *_: (0, None),
        finish=lambda state: None,
        leave=lambda: None,
    )
    monkeypatch.setattr(task_module, "connect", lambda address: session)
    monkeypatch.setattr(task_module, "disconnect", lambda address: None)
    monkeypatch.setattr(task_module.ControlClient, "of", lambda address: coordinator)
    monkeypatch.setattr(module, "_PARTING", 1.0)
    assert coordinator.spec is not None
    spec: GroupSpec = coordinator.spec

    def go(train: Callable[..., Any]) -> Any:
        task = RankTask(ADDRESS, spec, train, SCHEMA, WorkerSettings(), slots=2)
        return task.run(0, 7, iter([]), ())

    return go


@pytest.mark.parametrize("how", ["unreachable", "silent"])
def test_attempt_that_cannot_lease_fails_its_task(
    coordinator: Coordinator, run: Callable[..., Any], how: str
) -> None:
    coordinator.answers = getattr(coordinator, how)
    with pytest.raises((NodeUnreachable, DeadlineExceeded)):
        run(lambda worker, batches: None)


def test_attempt_of_a_group_that_failed_by_a_deadline_of_its_own_ends_in_good_order(
    coordinator: Coordinator, run: Callable[..., Any]
) -> None:
    coordinator.groups.fail(1, c.Cause("DeadlineExceeded", "All workers must start in time.", {"group": "g"}))
    assert run(lambda worker, batches: None) == (FAILED, None)


def test_failure_that_nobody_can_be_told_fails_the_task_with_what_was_raised(
    coordinator: Coordinator, run: Callable[..., Any]
) -> None:
    def train(worker: Any, batches: Any) -> None:
        coordinator.answers = coordinator.unreachable
        raise ValueError("a bad day")

    with pytest.raises(WorkerFailed, match="Rank 0 .* failed: ValueError: a bad day"):
        run(train)


def test_task_that_fails_gives_its_rank_back_if_it_can(coordinator: Coordinator, run: Callable[..., Any]) -> None:
    def train(worker: Any, batches: Any) -> None:
        coordinator.answers = lambda message: coordinator.silent(message) if isinstance(message, c.FailRank) else None
        raise ValueError("a bad day")

    with pytest.raises(WorkerFailed, match="a bad day"):
        run(train)
    assert coordinator.rank.expires_at is None
