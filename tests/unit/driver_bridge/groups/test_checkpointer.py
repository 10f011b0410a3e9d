"""When checkpoints of a running group are taken, and that a run does not end for want of one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from sparkps.checkpoints.manifest import Checkpoint
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

    def __call__(self, control: Any, url: str, *, group: GroupSpec, unless: Callable[[], bool], extra: bytes) -> Checkpoint:
        if self.error is not None:
            raise self.error
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
    taking.error = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        checkpointer.take(b"3", unless=lambda: False)
    assert [made.id for made in checkpointer.taken] == ["00000001-aaaaaaaa"]
