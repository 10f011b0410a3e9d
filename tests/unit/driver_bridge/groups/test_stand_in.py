"""A group that goes on without lost workers does not wait without end for the last ones, which are not given up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sparkps import WorkerLost
from sparkps.driver_bridge.groups import stand_in as module
from sparkps.driver_bridge.groups.rank_task import unpickled_result
from sparkps.driver_bridge.groups.stand_in import ALL_SILENT, StandIn
from sparkps.errors import NotAdmitted, WorkerFailed
from sparkps.secret import TierSecret, forget, keep
from sparkps.specs import GroupSpec
from sparkps.wire.messages.control import Cause, FinishRank, GroupReport, Leased, RankReport, TierAddress, Wait


class Coordinator:
    """Gives up no rank: each is the last worker, or awaited."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def request(self, message: Any, timeout: float | None = None) -> Any:
        self.asked.append(message.rank)
        return Wait(message.seq, "rank 1 is the last worker")


def report(*states: str, incarnation: int = 1, cause: Cause | None = None) -> GroupReport:
    ranks = [RankReport(rank, state, 7, incarnation, {}) for rank, state in enumerate(states)]
    return GroupReport(1, 1, "running", cause, True, ranks)


def stand_in(word: str = "continue", ttl: float = 1.0) -> tuple[StandIn, Coordinator]:
    coordinator = Coordinator()
    address = TierAddress("tier", "ipc:///nowhere", 1.0)
    return StandIn(address, coordinator, GroupSpec(1, "g", 3, 2, 0), word, ttl), coordinator  # type: ignore[arg-type]


def test_a_group_whose_last_workers_are_silent_for_long_fails_and_names_them() -> None:
    one, coordinator = stand_in()
    for second in range(int(ALL_SILENT) + 1):
        assert one.look(report("lost", "vacant", "leased"), 100.0 + second) is None, "the solver's rank is no worker"
    error = one.look(report("lost", "vacant", "leased"), 101.0 + ALL_SILENT)
    assert isinstance(error, WorkerFailed)
    assert "ranks [1], were silent for 61 s" in str(error)
    assert (error.attributes["rank"], error.attributes["group"]) == (1, "g")
    assert set(coordinator.asked) == {1}


def test_leases_that_last_longer_are_waited_for_longer() -> None:
    one, _ = stand_in(ttl=30.0)
    assert not any(one.look(report("vacant", "vacant"), float(second)) for second in range(91))
    assert one.look(report("vacant", "vacant"), 91.0) is not None


def test_time_in_which_nobody_looked_is_nobodys_silence() -> None:
    """The coordinator was gone, or the driver stood still."""
    one, _ = stand_in()
    for minute in range(12):
        assert one.look(report("vacant", "vacant"), 60.0 * minute) is None


@pytest.mark.parametrize("between", [("vacant", "leased"), ("leased", "leased"), ("finished", "leased")])
def test_a_worker_that_is_heard_between_lets_the_wait_begin_anew(between: tuple[str, str]) -> None:
    one, _ = stand_in()
    assert not any(one.look(report("vacant", "vacant"), float(second)) for second in range(51))
    assert one.look(report(*between), 51.0) is None
    assert not any(one.look(report("vacant", "vacant"), float(second)) for second in range(55, 116))
    assert one.look(report("vacant", "vacant"), 116.0) is not None


@pytest.mark.parametrize("given", [report("finished", "finished"), report("finished", "lost"), report("vacant", "vacant", incarnation=0)])
def test_ranks_that_have_ended_or_not_begun_are_not_silent(given: GroupReport) -> None:
    one, _ = stand_in()
    assert not any(one.look(given, float(second)) for second in range(200))


def test_what_it_records_for_a_lost_rank_is_signed_as_that_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the driver, which unpickles nothing that nobody of the tier has signed, could not read it."""
    recorded: list[FinishRank] = []

    def request(message: Any, timeout: float | None = None) -> Any:
        if isinstance(message, FinishRank):
            recorded.append(message)
        return Leased(0, 2, True)

    session = SimpleNamespace(takeover=lambda *_: (7, None), finish=lambda stored: None, close=lambda: None)
    monkeypatch.setattr(module, "Session", lambda *_: session)
    address, group, secret = TierAddress("guarded", "tcp://127.0.0.1:1", 1.0, True), GroupSpec(1, "g", 3, 2, 0), TierSecret.new()
    keep(address.tier_id, secret)
    try:
        gives_up = StandIn(address, SimpleNamespace(request=request), group, "continue", 1.0)  # type: ignore[arg-type]
        assert gives_up.give_up_now(1, lambda: False)
    finally:
        forget(address.tier_id)
    assert (recorded[0].rank, gives_up.lost) == (1, {1: WorkerLost(1, 7)})
    result = recorded[0].result
    assert result is not None
    assert unpickled_result(secret, address.tier_id, group, 1, result) == WorkerLost(1, 7)
    with pytest.raises(NotAdmitted):
        unpickled_result(secret, address.tier_id, group, 0, result)


def test_a_group_that_waits_for_successors_or_has_failed_is_left_alone() -> None:
    waits, asked = stand_in("wait")
    failed, _ = stand_in()
    for now in map(float, range(200)):
        assert waits.look(report("vacant", "vacant"), now) is None
        assert failed.look(report("vacant", "vacant", cause=Cause.of(WorkerFailed("no"))), now) is None
    assert asked.asked == []
