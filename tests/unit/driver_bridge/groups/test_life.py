"""The life of a worker group at its driver: every pair of state and event, and what is undone at its end, once and in order."""

from __future__ import annotations

import logging
from itertools import product

import pytest

from sparkps.driver_bridge.groups.group import _end_job
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


def test_what_may_happen_is_what_is_meant() -> None:
    """Written out once more: a table that is held against itself alone may say anything."""
    stages, events = GroupStage, Event
    way = [stages.PLANNED, stages.PREPARING, stages.QUEUED, stages.ADMITTED, stages.RUNNING]
    on = [events.START, events.PREPARED, events.ADMITTED, events.STARTED]
    meant = {(before, event): after for before, event, after in zip(way[:-1], on, way[1:], strict=True)}
    meant |= {(stage, events.END): stages.ENDED for stage in [*way, stages.ENDED]}
    meant |= {(stages.RUNNING, events.WAIT): stages.RUNNING, (stages.RUNNING, events.FINISHED): stages.FINISHED}
    meant |= {(stages.FINISHED, event): stages.FINISHED for event in (events.WAIT, events.FINISHED, events.END)}
    assert {(stage, event): after for stage, row in TRANSITIONS.items() for event, after in row.items()} == meant


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


def test_a_second_interrupt_keeps_no_step_from_being_taken() -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt("second")

    first = KeyboardInterrupt("first")
    life, undone = life_in(GroupStage.RUNNING), []
    life.at_end(EndStep.JOB, interrupted)
    life.at_end(EndStep.GROUP, undone.append)
    life.at_end(EndStep.ROWS, undone.append)
    with pytest.raises(KeyboardInterrupt, match="second"):
        life.end(first)
    assert undone == [first, first]
    life.end(None)
    assert undone == [first, first]


def test_a_wait_for_the_job_that_is_interrupted_cancels_it() -> None:
    class Monitor:
        def __init__(self) -> None:
            self.job, self.settled, self.cancelled = self, self, 0
            self.done = self

        def abandon(self) -> None:
            """The group is being ended."""

        def wait(self, seconds: float) -> bool:
            raise KeyboardInterrupt

        def is_set(self) -> bool:
            return False

        def cancel(self) -> None:
            self.cancelled += 1

    monitor = Monitor()
    with pytest.raises(KeyboardInterrupt):
        _end_job(monitor)  # type: ignore[arg-type]
    assert monitor.cancelled == 1
