"""When checkpoints of a running group are taken, and that a run does not end for want of one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from sparkps.checkpoints.manifest import Checkpoint, Owner
from sparkps.checkpoints.store import CheckpointStore
from sparkps.driver_bridge import checkpointing
from sparkps.driver_bridge.groups import checkpoints
from sparkps.driver_bridge.groups.checkpoints import Checkpointer, CheckpointPlan, Pace
from sparkps.errors import CheckpointError
from sparkps.specs import GroupSpec
from tests.harness.waiting import wait_until

SPEC = GroupSpec(7, "run-1", 2, 2, 0)


class Control:
    """A coordinator that says where the group's clock is."""

    def __init__(self) -> None:
        self.clock = -1

    def request(self, message: Any, timeout: float | None = None) -> Any:
        class Answer:
            report = {"groups": [{"id": SPEC.group, "clock": self.clock}]}

        return Answer


class Taking:
    """Stands for `checkpointing.take`."""

    def __init__(self) -> None:
        self.extras: list[bytes] = []
        self.error: Exception | None = None
        self.owners: list[Owner] = []
        #: If it is there, nothing is taken before it is set.
        self.hangs: threading.Event | None = None
        self.begun, self.ended = threading.Event(), threading.Event()
        self.seen_given_up: list[bool] = []

    def __call__(self, control: Any, url: str, *, extra: bytes, given_up: Callable[[], bool], **more: Any) -> Checkpoint:
        self.owners.append(more["owner"])
        if self.error is not None:
            raise self.error
        if self.hangs is not None:
            self.begun.set()
            assert self.hangs.wait(30)
            self.seen_given_up.append(given_up())
            self.ended.set()
        self.extras.append(extra)
        return Checkpoint(url, f"{len(self.extras):08d}-aaaaaaaa", {}, 0, 0.0)


@pytest.fixture
def taking(monkeypatch: pytest.MonkeyPatch) -> Taking:
    found = Taking()
    monkeypatch.setattr(checkpointing, "take", found)
    monkeypatch.setattr(checkpoints, "_LOOK_EVERY", 0.001)
    return found


@pytest.fixture
def plan(tmp_path: Any) -> CheckpointPlan:
    return CheckpointPlan(CheckpointStore(str(tmp_path)), 0, 0.0, True, b"of a fit")


def test_the_pace_is_asked_for_until_it_is_known_and_the_last_clocks_take_none(taking: Taking, plan: CheckpointPlan) -> None:
    control, asked, seen = Control(), list[int](), threading.Event()

    def pace(clock: int) -> Pace | None:
        asked.append(clock)
        seen.set()
        return Pace(every_clocks=10, until=30) if clock >= 1 else None

    def reach(clock: int, count: int) -> None:
        control.clock = clock
        assert wait_until(lambda: checkpointer.clock == clock and len(taking.extras) == count, 10, 0.001)

    checkpointer = Checkpointer(control, plan, SPEC).at_pace(pace)  # type: ignore[arg-type]
    with checkpointer:
        assert seen.wait(10)
        reach(0, 0)
        reach(1, 0)
        reach(9, 1)
        known = len(asked)
        reach(25, 2)
        reach(40, 2)
    assert len(taking.extras) == 2, "the run is about to end"
    assert asked[known - 1 :] == asked[-1:], "asked no more"
    assert taking.extras == [b"of a fit"] * 2


def test_a_checkpoint_that_cannot_be_taken_now_does_not_end_the_run(taking: Taking, plan: CheckpointPlan) -> None:
    checkpointer = Checkpointer(Control(), plan, SPEC)  # type: ignore[arg-type]
    assert checkpointer.take(b"1", unless=lambda: False)
    for error in (CheckpointError("the disk is full"), OSError("no such host")):
        taking.error = error
        assert not checkpointer.take(b"2", unless=lambda: False)
        checkpointer._schedule._rests_until = 0.0
    assert [made.id for made in checkpointer.taken] == ["00000001-aaaaaaaa"]


def test_after_one_that_failed_none_is_tried_for_a_while(taking: Taking, plan: CheckpointPlan) -> None:
    checkpointer = Checkpointer(Control(), plan, SPEC)  # type: ignore[arg-type]
    taking.error = CheckpointError("the disk is full")
    tries = [checkpointer.take(b"1", unless=lambda: False) for _ in range(5)]
    assert not any(tries)
    assert len(taking.owners) == 1


def test_the_thread_tries_again_after_a_pause_not_at_each_look(taking: Taking, plan: CheckpointPlan, monkeypatch: Any) -> None:
    clock = [100.0]
    monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: clock[0], time=time.time))
    looks = []

    class Looked(Control):
        def request(self, message: Any, timeout: float | None = None) -> Any:
            looks.append(message)
            return super().request(message, timeout)

    def look(count: int) -> None:
        seen = len(looks)
        assert wait_until(lambda: len(looks) > seen + count, 10, 0.001)

    taking.error = CheckpointError("the disk is full")
    with Checkpointer(Looked(), plan, SPEC):  # type: ignore[arg-type]
        look(10)
        assert len(taking.owners) == 1, "that of the start"
        clock[0] += 1.0
        look(10)
        assert len(taking.owners) == 2
        clock[0] += 1.9
        look(10)
        assert len(taking.owners) == 2
        clock[0] += 0.1
        look(10)
        assert len(taking.owners) == 3


# ---- the end of a run ------------------------------------------------------------------------------------------------------


@pytest.fixture
def hanging(taking: Taking, monkeypatch: pytest.MonkeyPatch) -> Iterator[Taking]:
    """Checkpoints of file systems that do not answer."""
    taking.hangs = threading.Event()
    monkeypatch.setattr(checkpoints, "GRACE", 0.2)
    yield taking
    taking.hangs.set()
    assert taking.ended.wait(10)


@pytest.mark.parametrize("error", [None, CheckpointError("the run failed"), KeyboardInterrupt()])
def test_the_end_of_a_run_does_not_wait_for_a_checkpoint_that_hangs(hanging: Taking, plan: CheckpointPlan, error: Any) -> None:
    began = time.monotonic()
    with pytest.raises(type(error)) if error is not None else nullcontext():
        with Checkpointer(Control(), plan, SPEC) as checkpointer:  # type: ignore[arg-type]
            assert hanging.begun.wait(10)
            if error is not None:
                raise error
    assert time.monotonic() - began < 5.0
    assert checkpointer._thread.daemon
    assert hanging.hangs is not None
    hanging.hangs.set()
    assert hanging.ended.wait(10)
    assert hanging.seen_given_up == [True]


def test_the_end_of_a_run_waits_a_little_for_a_checkpoint_that_is_nearly_there(
    hanging: Taking, plan: CheckpointPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "GRACE", 30.0)
    assert hanging.hangs is not None
    with Checkpointer(Control(), plan, SPEC) as checkpointer:  # type: ignore[arg-type]
        assert hanging.begun.wait(10)
        timer = threading.Timer(0.1, hanging.hangs.set)
        timer.start()
    timer.join()
    assert len(checkpointer.taken) == 1
    assert hanging.seen_given_up == [False]


def test_a_solver_whose_group_has_failed_does_not_wait_for_its_checkpoint(hanging: Taking, plan: CheckpointPlan) -> None:
    began = time.monotonic()
    checkpointer = Checkpointer(Control(), plan, SPEC)  # type: ignore[arg-type]
    assert not checkpointer.take(b"1", unless=hanging.begun.is_set)
    assert time.monotonic() - began < 5.0
    assert hanging.hangs is not None
    hanging.hangs.set()
    assert hanging.ended.wait(10)
    assert hanging.seen_given_up == [True]


def test_ctrl_c_ends_the_wait_for_a_checkpoint(hanging: Taking, plan: CheckpointPlan) -> None:
    def interrupted() -> bool:
        raise KeyboardInterrupt

    checkpointer = Checkpointer(Control(), plan, SPEC)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        checkpointer.take(b"1", unless=interrupted)
    assert hanging.hangs is not None
    hanging.hangs.set()
    assert hanging.ended.wait(10)
    assert hanging.seen_given_up == [True]


# ---- whose they are --------------------------------------------------------------------------------------------------------


def test_checkpoints_say_whose_they_are(taking: Taking, plan: CheckpointPlan) -> None:
    for spec in (SPEC, GroupSpec(8, "run-2", 2, 2, 0)):  # rolled back: another group of the same run
        assert Checkpointer(Control(), plan, spec).take(b"", unless=lambda: False)  # type: ignore[arg-type]
    assert taking.owners == [Owner("run", plan.life)] * 2
