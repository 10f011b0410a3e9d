"""Meetings of workers: whoever is at one hears the same, in every schedule of questions, lost answers and successors."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest

from sparkps.driver_bridge.coordinator.leases import Groups
from sparkps.driver_bridge.coordinator.meetings import FRESH, Meetings
from sparkps.errors import Fenced, InvalidInput, WorkerFailed
from sparkps.wire.messages.control import MAX_SAID, AdmitGroup, Cause

RANKS = 2


@dataclass
class World:
    """Ranks that ask, are replaced, and do not always hear the answer."""

    meetings: Meetings = field(default_factory=Meetings)
    now: float = 0.0
    incarnations: list[int] = field(default_factory=lambda: [1] * RANKS)
    #: Of the attempt at each rank.
    after: list[int] = field(default_factory=lambda: [0] * RANKS)
    heard: dict[int, list[tuple[int, dict[int, bytes]]]] = field(default_factory=dict)

    def ask(self, rank: int, *, hears: bool) -> None:
        self.now += 0.01
        live = dict(enumerate(self.incarnations))
        said = f"{rank}.{self.incarnations[rank]}.{self.after[rank]}".encode()
        found = self.meetings.ask(rank, self.incarnations[rank], self.after[rank], said, self.now, live)
        if found is not None:
            assert found[rank].startswith(f"{rank}.{self.incarnations[rank]}.".encode()), "one hears what one has said"
            assert self.meetings.number > self.after[rank], "meetings have growing numbers"
            if hears:
                self.heard.setdefault(self.meetings.number, []).append((rank, found))
                self.after[rank] = self.meetings.number

    def replace(self, rank: int) -> None:
        self.incarnations[rank] += 1
        self.after[rank] = 0

    def check(self) -> None:
        for number, found in self.heard.items():
            assert all(said == found[0][1] for _, said in found), f"all at meeting {number} hear the same"
            assert set(found[0][1]) == set(range(RANKS)), "all are there"


ACTIONS = [
    *(("ask", rank, hears) for rank in range(RANKS) for hears in (True, False)),
    *(("replace", rank, True) for rank in range(RANKS)),
]


@pytest.mark.parametrize("first", range(len(ACTIONS)))
def test_in_every_schedule_all_hear_the_same_and_who_keeps_asking_meets(first):
    for schedule in itertools.product(range(len(ACTIONS)), repeat=5):
        world = World()
        for what, rank, hears in (ACTIONS[each] for each in (first, *schedule)):
            world.ask(rank, hears=hears) if what == "ask" else world.replace(rank)
        world.check()
        before = list(world.after)
        for _ in range(2):
            for rank in range(RANKS):
                world.ask(rank, hears=True)
        world.check()
        assert any(after > was for after, was in zip(world.after, before, strict=True)), "who asks again and again meets"


def test_nobody_meets_one_who_has_gone():
    meetings, live = Meetings(), {0: 1, 1: 1}
    assert meetings.ask(0, 1, 0, b"a", 0.0, live) is None
    assert meetings.ask(1, 1, 0, b"b", FRESH + 0.1, live) is None, "rank 0 has not asked for long"
    assert meetings.ask(0, 2, 0, b"c", FRESH + 0.2, {0: 2, 1: 1}) == {0: b"c", 1: b"b"}


def test_one_that_was_replaced_while_it_waited_does_not_count():
    meetings = Meetings()
    assert meetings.ask(0, 1, 0, b"old", 0.0, {0: 1, 1: 1}) is None
    assert meetings.ask(1, 1, 0, b"b", 0.1, {0: 2, 1: 1}) is None
    assert meetings.ask(0, 2, 0, b"new", 0.2, {0: 2, 1: 1}) == {0: b"new", 1: b"b"}


def test_who_has_finished_is_not_waited_for():
    meetings = Meetings()
    assert meetings.ask(1, 1, 0, b"b", 0.0, {1: 1}) == {1: b"b"}


def test_a_meeting_is_called_while_somebody_waits():
    meetings, live = Meetings(), {0: 1, 1: 1}
    assert meetings.called(0.0) == 0
    meetings.ask(0, 1, 0, b"", 0.0, live)
    assert (meetings.called(0.1), meetings.called(FRESH + 0.1)) == (1, 0)
    meetings.ask(1, 1, 0, b"", 0.2, live)
    assert meetings.called(0.3) == 0
    meetings.ask(1, 1, 1, b"", 0.4, live)
    assert meetings.called(0.5) == 2


def test_time_in_which_the_coordinator_did_not_run_counts_for_nobody():
    meetings, live = Meetings(), {0: 1, 1: 1}
    meetings.ask(0, 1, 0, b"a", 0.0, live)
    meetings.shift(100.0)
    assert meetings.ask(1, 1, 0, b"b", 100.1, live) == {0: b"a", 1: b"b"}


def test_numbers_go_on_at_a_coordinator_that_has_forgotten_them():
    meetings, live = Meetings(), {0: 1, 1: 1}
    assert meetings.ask(0, 1, 7, b"a", 0.0, live) is None
    assert meetings.ask(1, 2, 0, b"b", 0.1, {0: 1, 1: 2}) == {0: b"a", 1: b"b"}
    assert meetings.number == 8


def groups():
    made = Groups(10.0)
    spec, _ = made.admit(AdmitGroup(0, "g", 2, 3, 0, 3, "tag"), 0.0)
    for rank in range(3):
        made.lease(spec.group, rank, 100 + rank, 0.0)
    return made, spec.group


def test_only_the_attempt_that_has_the_rank_meets_and_no_solver():
    made, group = groups()
    assert made.meet(group, 0, 100, 0, b"a", 0.1) is None
    with pytest.raises(Fenced):
        made.meet(group, 1, 999, 0, b"b", 0.1)
    with pytest.raises(InvalidInput, match="ranks below 2"):
        made.meet(group, 2, 102, 0, b"solver", 0.1)
    with pytest.raises(InvalidInput, match="at most"):
        made.meet(group, 1, 101, 0, b"x" * (MAX_SAID + 1), 0.1)
    assert made.meet(group, 1, 101, 0, b"b", 0.2) == (1, {0: b"a", 1: b"b"})
    made.fail(group, Cause("WorkerFailed", "struck"))
    with pytest.raises(WorkerFailed, match="struck"):
        made.meet(group, 0, 100, 1, b"a", 0.3)


def test_who_finishes_leaves_the_others_to_meet():
    made, group = groups()
    made.finish(group, 0, 100, None, {})
    assert made.meet(group, 1, 101, 0, b"b", 0.2) == (1, {1: b"b"})
