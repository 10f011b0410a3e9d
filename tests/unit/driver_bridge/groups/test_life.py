"""The life of a worker group at its driver: every pair of state and event, and what is undone at its end, once and in order."""

from __future__ import annotations

import logging
from itertools import product

import pytest

from sparkps.driver_bridge.groups.life import EndStep, Life
from sparkps.driver_bridge.groups.states import TRANSITIONS, Event, GroupStage
from sparkps.errors import GroupError

#: The way to each state.
WAYS: dict[GroupStage, tuple[Event, ...]] = {
    GroupStage.PLANNED: (),
    GroupStage.PREPARING: (Event.START,),
    GroupStage.QUEUED: (Event.START, Event.PREPARED),
    GroupStage.ADMITTED: (Event.START, Event.PREPARED, Event.ADMITTED),
    GroupStage.RUNNING: (Event.START, Event.PREPARED, Event.ADMITTED, Event.STARTED),
    GroupStage.FINISHED: (Event.START, Event.PREPARED, Event.ADMITTED, Event.STARTED, Event.WAIT, Event.FINISHED),
    GroupStage.ENDED: (Event.START, Event.END),
}


def life_in(state: GroupStage) -> Life:
    life = Life("g-1")
    for event in WAYS[state]:
        life.enter(event)
    assert life.state is state
    return life


@pytest.mark.parametrize(("state", "event"), list(product(GroupStage, Event)), ids=lambda value: value.name)
def test_every_event_has_a_place_in_the_table_or_is_refused_with_what_must_hold(state: GroupStage, event: Event) -> None:
    life = life_in(state)
    if event in TRANSITIONS[state]:
        life.enter(event)
        assert life.state is TRANSITIONS[state][event]
    else:
        with pytest.raises(GroupError, match=rf"group 'g-1' must be {event.value}\. It is {state}\.") as caught:
            life.enter(event)
        assert life.state is state
        assert caught.value.group == "g-1"


def test_a_group_can_be_ended_in_any_state() -> None:
    assert all(Event.END in row for row in TRANSITIONS.values())


def test_what_is_to_be_undone_is_undone_once_in_the_order_of_steps() -> None:
    life, undone = life_in(GroupStage.RUNNING), []
    for step in (EndStep.ROWS, EndStep.GROUP, EndStep.TELL, EndStep.JOB, EndStep.SOLVER):
        life.at_end(step, lambda error, step=step: undone.append((step, error)))
    error = ValueError("first")
    life.end(error)
    life.end(RuntimeError("second"))
    assert undone == [(step, error) for step in EndStep]


def test_the_newest_ending_of_a_step_counts() -> None:
    life, undone = life_in(GroupStage.QUEUED), []
    life.at_end(EndStep.GROUP, lambda _: undone.append("withdrawn"))
    life.at_end(EndStep.GROUP, lambda _: undone.append("ended"))
    life.end(None)
    assert undone == ["ended"]


def test_a_step_that_fails_is_told_and_keeps_no_other_from_being_taken(caplog: pytest.LogCaptureFixture) -> None:
    life, undone = life_in(GroupStage.RUNNING), []
    life.at_end(EndStep.TELL, lambda _: 1 / 0)
    life.at_end(EndStep.ROWS, undone.append)
    with caplog.at_level(logging.WARNING):
        life.finish()
    assert undone == [None]
    assert "while ending worker group g-1: ZeroDivisionError" in caplog.text


def test_an_interrupt_leaves_the_later_steps_to_the_next_end() -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    life, undone = life_in(GroupStage.RUNNING), []
    life.at_end(EndStep.JOB, interrupted)
    life.at_end(EndStep.ROWS, undone.append)
    with pytest.raises(KeyboardInterrupt):
        life.end(None)
    life.end(None)
    assert undone == [None]
