"""The queue of closes: each once, in order, by one at a time, and none after a checkpoint's clock before it is over."""

from __future__ import annotations

import itertools
import random

import pytest

from sparkps.errors import CheckpointError
from sparkps.ps_nodes.due_closes import DueCloses
from sparkps.wire.effects import Close


def due_at(*clocks: int) -> DueCloses:
    due = DueCloses("g")
    for clock in clocks:
        due.add(Close(clock, 0b11))
    return due


def ignored(_: object) -> None:
    """Whoever waits for the cut."""


def taken(due: DueCloses) -> list[int]:
    """Clocks that whoever applies closes comes to, before there is none or it has to stop."""
    return [close.clock for close in iter(due.next, None)]


def test_one_caller_applies_what_is_due_and_the_next_begins_when_it_is_done() -> None:
    due = due_at(0, 1)
    assert [due.begin(), due.begin()] == [True, False]
    due.add(Close(2, 0b1))
    assert taken(due) == [0, 1, 2]
    assert not due.begin(), "nothing is due"
    due.add(Close(3, 0b1))
    assert due.begin()


def test_a_checkpoint_stops_at_its_clock_and_what_waits_goes_on_behind_it() -> None:
    due = due_at(0, 1, 2)
    due.begin()
    due.stop_after(0)
    assert (taken(due), due.busy, due.clocks()) == ([0], True, [1, 2])
    assert not due.begin(), "who has stopped goes on later"
    assert due.cut_at(1, ignored), "clock 1 is due"
    assert taken(due) == [1]
    assert due.go_on() == (ignored, True)
    assert (taken(due), due.busy) == ([2], False)


def test_a_cut_is_reached_when_its_clock_is_ticked_and_its_closes_have_their_places() -> None:
    due = due_at(0)
    due.begin()
    due.stop_after(0)
    assert not due.cut_at(0, ignored), "nobody has stopped"
    assert due.reach_cut(lambda clock: True) is None, "its close is due"
    assert taken(due) == [0]
    assert due.reach_cut(lambda clock: clock < 0) is None, "a rank has not ticked it"
    assert due.reach_cut(lambda clock: clock == 0) is ignored
    assert due.reach_cut(lambda clock: True) is None, "told once"
    assert due.go_on() == (None, False)


def test_a_cut_before_what_may_have_been_closed_is_refused() -> None:
    due = due_at()
    with pytest.raises(CheckpointError, match="Got 3 for group 'g'"):
        due.cut_at(3, ignored)
    due.stop_after(4)
    with pytest.raises(CheckpointError, match="after which none is closed"):
        due.cut_at(3, ignored)
    assert due.when_cut is None
    assert not due.cut_at(4, ignored)


def test_closes_leave_with_their_bucket() -> None:
    due = due_at(0)
    due.add(Close(1, 0b1))
    due.leave(0)
    assert [(close, len(due)) for close in iter(due.next, None)] == [(Close(0, 0b10), 0)]


def test_a_group_that_failed_has_nothing_due() -> None:
    due = due_at(0, 1)
    due.begin()
    due.clear()
    assert (due.busy, due.next(), due.busy) == (True, None, False)
    due = due_at(0)
    due.begin()
    due.give_up()
    assert (len(due), due.busy) == (0, False)


@pytest.mark.parametrize("seed", range(20))
def test_every_close_is_taken_once_in_order_whatever_checkpoints_come(seed: int) -> None:
    rng, due, clocks = random.Random(seed), due_at(), itertools.count()
    got: list[int] = []
    workers = added = 0
    last: int | None = None
    for _ in range(400):
        match rng.randrange(5):
            case 0 | 1:
                added = next(clocks) + 1
                due.add(Close(added - 1, 1))
                workers += due.begin()
            case 2 if workers:
                close = due.next()
                workers -= close is None
                got += [] if close is None else [close.clock]
                assert close is None or last is None or close.clock <= last, "none after the checkpoint's clock"
            case 3:
                last = max(got, default=-1) if last is None else last + rng.randrange(2)
                due.stop_after(last)
                workers += due.cut_at(last, ignored)
            case 4:
                last = None
                workers += due.go_on()[1]
        due.validate()
        assert workers <= 1
    workers += due.go_on()[1] + due.begin()
    got += taken(due)
    assert got == list(range(added))
