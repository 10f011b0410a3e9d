"""A running group as its driver sees it: results, first causes and their echoes, and the solver that it may have."""

from __future__ import annotations

import pickle
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from sparkps.consistency import BSP
from sparkps.driver_bridge.groups.life import EndStep, Life
from sparkps.driver_bridge.groups.rank_task import FINISHED, LOST_RESULT, RankEnd, pickle_result, purpose_of
from sparkps.driver_bridge.groups.running import RunningGroup, Terms, results_of
from sparkps.driver_bridge.groups.states import Event, GroupStage
from sparkps.errors import DeadlineExceeded, GroupError, InputFailed, NotAdmitted, ShardLost, WorkerFailed
from sparkps.secret import TierSecret, sealed
from sparkps.specs import GroupSpec
from sparkps.wire.messages.control import TierReport

SPEC, TIER = GroupSpec(1, "run-1", 2, 2, 0), "t1"


def ends(*outcomes: str) -> list[Any]:
    """What tasks give, the last rank first."""
    rows = [SimpleNamespace(rank=rank, outcome=said, result=pickle.dumps(rank * 10)) for rank, said in enumerate(outcomes)]
    return rows[::-1]


class Fixture:
    """A group whose monitor and coordinator are told what to say."""

    def __init__(self, *, timeout: float | None = None, solver: Any = None) -> None:
        self.undone: list[BaseException | None] = []
        self.life = Life(SPEC.name)
        for event in (Event.START, Event.PREPARED, Event.ADMITTED, Event.STARTED):
            self.life.enter(event)
        self.life.at_end(EndStep.GROUP, self.undone.append)
        both = ends(FINISHED, FINISHED)
        self.monitor: Any = SimpleNamespace(
            settled=threading.Event(),
            cause=None,
            ends=lambda: both,
            look=lambda: None,
            start_seconds=1.0,
            train_seconds=2.0,
            hear_out=self.hear,
        )
        #: What Spark says of rows that ended too early, as soon as it is waited for.
        self.last_words: Any = None
        self.monitor.settled.set()
        control: Any = SimpleNamespace(secret=None, request=lambda message, timeout: TierReport(0, {"groups": []}))
        rows: Any = SimpleNamespace(reader="spark", why_staged="", staging_seconds=0.0)
        self.group = RunningGroup(control, SPEC, Terms(BSP(), timeout, rows, 0.5, TIER), self.life, self.monitor, solver)

    def hear(self, error: BaseException | None) -> None:
        """As `GroupMonitor.hear_out`."""
        if isinstance(error, InputFailed):
            self.monitor.cause = self.last_words


def test_results_come_in_the_order_of_ranks_as_often_as_they_are_asked_for() -> None:
    made = Fixture()
    with made.group as group:
        assert group.wait() == [0, 10]
        assert made.life.state is GroupStage.FINISHED
        results = group.wait()
    assert results == [0, 10]
    assert (results.report.admission_seconds, results.report.train_seconds) == (0.5, 2.0)
    assert made.undone == [None], "once"


def test_a_first_cause_is_raised_in_place_of_its_echo() -> None:
    made = Fixture()

    def solve() -> None:
        with made.group:
            made.monitor.cause = WorkerFailed("no such day", rank=1)
            raise ShardLost("the group has failed")

    with pytest.raises(WorkerFailed, match="no such day") as caught:
        solve()
    assert isinstance(caught.value.__cause__, ShardLost)
    assert made.undone == [caught.value.__cause__]


def test_rows_that_ended_too_early_are_explained_before_the_group_ends() -> None:
    made = Fixture()
    made.last_words = InputFailed("They are not: ZeroDivisionError", group="run-1")

    def solve() -> None:
        with made.group:
            raise InputFailed("Spark gave up before", group="run-1")

    with pytest.raises(InputFailed, match="ZeroDivisionError"):
        solve()


def test_an_error_of_the_drivers_own_is_no_echo() -> None:
    made = Fixture()

    def solve() -> None:
        with made.group:
            made.monitor.cause = WorkerFailed("no such day", rank=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        solve()


def test_a_group_that_takes_too_long_is_ended() -> None:
    made = Fixture(timeout=0.01)
    made.monitor.settled.clear()
    with pytest.raises(DeadlineExceeded, match="must end within `timeout` = 0.01 s"):
        made.group.wait()
    assert made.life.state is GroupStage.ENDED


def test_a_group_that_was_ended_is_not_waited_for() -> None:
    made = Fixture()
    with made.group:
        pass
    with pytest.raises(GroupError, match=r"must be running to be waited for\. It is ended"):
        made.group.wait()
    made.monitor.cause = WorkerFailed("no such day", rank=1)
    with pytest.raises(WorkerFailed, match="no such day"):
        made.group.wait()


def test_a_solver_finishes_before_the_ranks_are_waited_for_and_only_once() -> None:
    finished: list[bool] = []
    solver: Any = SimpleNamespace(worker="worker", finish=lambda: finished.append(True))
    made = Fixture(solver=solver)
    assert made.group.solver == "worker"
    made.group.wait()
    made.group.wait()
    assert finished == [True]


def test_a_group_without_a_solver_says_how_to_have_one() -> None:
    with pytest.raises(GroupError, match="say `solver=True`"):
        Fixture().group.solver  # noqa: B018


@pytest.mark.parametrize(
    ("outcomes", "why"),
    [
        ((FINISHED, LOST_RESULT), "rank 1 .* was over 1 MiB"),
        (("failed", FINISHED), "rank 0 .* failed"),
        ((FINISHED,), "rank 1 .* Spark did not bring it"),
    ],
)
def test_a_rank_without_a_result_is_named(outcomes: tuple[str, ...], why: str) -> None:
    with pytest.raises(WorkerFailed, match=why):
        results_of(ends(*outcomes), SPEC, None, TIER)


def test_no_result_is_unpickled_that_no_rank_of_the_tier_has_signed() -> None:
    secret = TierSecret.new()
    signed = [RankEnd(rank, FINISHED, sealed(secret, TIER, purpose_of(SPEC, rank), pickle_result(rank))) for rank in range(2)]
    assert results_of(signed, SPEC, secret, TIER) == [0, 1]
    bare = RankEnd(1, FINISHED, pickle_result(1))
    of_another = RankEnd(1, FINISHED, sealed(TierSecret.new(), TIER, purpose_of(SPEC, 1), pickle_result(1)))
    of_another_rank = RankEnd(1, FINISHED, signed[0].result)
    of_an_earlier_life = RankEnd(1, FINISHED, sealed(secret, "of before", purpose_of(SPEC, 1), pickle_result(1)))
    another_group = GroupSpec(SPEC.group + 1, SPEC.name, 2, 2, 0)
    of_another_group = RankEnd(1, FINISHED, sealed(secret, TIER, purpose_of(another_group, 1), pickle_result(1)))
    for wrong in (bare, of_another, of_another_rank, of_an_earlier_life, of_another_group):
        with pytest.raises(NotAdmitted, match="result of rank 1"):
            results_of([signed[0], wrong], SPEC, secret, TIER)
