"""Which checkpoint a run goes on from, when it is rolled back at all, and what that cost."""

from __future__ import annotations

import itertools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from sparkps.checkpoints.manifest import GroupCut, Manifest, Owner, RankCut
from sparkps.checkpoints.store import CheckpointStore
from sparkps.driver_bridge.groups.causes import told
from sparkps.driver_bridge.groups.checkpoints import CheckpointPlan
from sparkps.driver_bridge.groups.report import Results, RunReport
from sparkps.driver_bridge.groups.resuming import MOST_TO_ONE, Attempt, CheckpointedRun
from sparkps.driver_bridge.groups.resumption import Resumption, Source
from sparkps.errors import (
    CheckpointError,
    DeadlineExceeded,
    FunctionFailed,
    NoCheckpoint,
    NodeUnreachable,
    OutOfNodeMemory,
    ShardLost,
    SparkPSError,
    TierError,
    WorkerFailed,
)
from sparkps.specs import GroupSpec
from tests.unit.driver_bridge.coordinator_of_files import CoordinatorOfFiles

Work = Callable[["Running", Attempt], str]


class Running:
    """As a `RunningGroup`: its ranks stand where the test says."""

    def __init__(self, control: CoordinatorOfFiles, spec: GroupSpec) -> None:
        self.control, self.spec = control, spec
        self.clock = min((rank.clock for rank in spec.start), default=-1)
        #: Where it began.
        self.began = self.clock

    def reach(self, clock: int) -> None:
        self.clock = clock
        self.control.running = {self.spec: clock}

    def lose(self) -> SparkPSError:
        """A node dies with the last copies of some buckets."""
        self.control.state = "degraded"
        return told(WorkerFailed("Rank 0 failed: a node is gone", cause="ShardLost", rank=0))


class FakeGroup:
    """As a `Group` of two workers."""

    numbers = itertools.count(1)

    def __init__(self, control: CoordinatorOfFiles, source: Source | None, name: str = "run") -> None:
        self.control, self.name = control, name
        self.resumption = None if source is None else Resumption(control, source, name, 2, 2, 0)  # type: ignore[arg-type]

    @property
    def restored(self) -> Manifest | None:
        return None if self.resumption is None else self.resumption.manifest

    def __enter__(self) -> Running:
        start = () if self.resumption is None else self.resumption.restore()
        number = next(self.numbers)
        running = Running(self.control, GroupSpec(number, f"{self.name}-{number:06x}", 2, 2, 0, start))
        running.reach(running.clock)
        return running

    def __exit__(self, *_: object) -> None:
        self.control.running = {}


class Scene:
    """A directory, a coordinator, and runs."""

    def __init__(self, root: pathlib.Path) -> None:
        self.control, self.store = CoordinatorOfFiles(), CheckpointStore(str(root))

    def run(self, work: Work, *, resume: bool, name: str = "run", patience: float = 0.05) -> CheckpointedRun[str]:
        return CheckpointedRun(
            lambda source: FakeGroup(self.control, source, name),  # type: ignore[arg-type, return-value]
            self.control,  # type: ignore[arg-type]
            CheckpointPlan(self.store, 10, 0.0, resume),
            patience,
            lambda attempt: work(attempt.running, attempt),  # type: ignore[arg-type]
        )

    def lay(self, clock: int, name: str = "run", owner: str | None = "", workers: int = 2) -> str:
        """A checkpoint of an earlier program, or, without an owner, of `PSContext.checkpoint`."""
        ranks = (RankCut(clock),) * workers
        group = GroupCut(GroupSpec(1, f"{name}-aaaaaa", workers, workers, 0), clock, ranks)
        checkpoint = self.store.new_id()
        self.store.publish(
            Manifest(
                id=checkpoint, tier="last week's", time=0.0, seconds=0.0, nbytes=0, tables=(), groups=(group,), files=(), segments=(),
                owner=None if owner is None else Owner(owner or name, "last week"),
            )
        )  # fmt: skip
        return checkpoint


@pytest.fixture
def scene(tmp_path: pathlib.Path) -> Scene:
    return Scene(tmp_path)


def taken(running: Running, attempt: Attempt, clock: int) -> None:
    """The group comes so far, and a checkpoint is taken."""
    running.reach(clock)
    attempt.checkpointer.clock = clock
    assert attempt.checkpointer.take(b"", unless=lambda: False)


# ---- which one -----------------------------------------------------------------------------------------------------------


def test_a_run_that_begins_anew_is_not_rolled_back_to_an_older_program(scene: Scene) -> None:
    scene.lay(499)
    began = list[int]()

    def work(running: Running, attempt: Attempt) -> str:
        began.append(running.began)
        raise running.lose()

    with pytest.raises(WorkerFailed, match="a node is gone"):
        scene.run(work, resume=False).run()
    assert began == [-1]
    assert scene.control.restored == []


def test_a_run_that_begins_anew_is_rolled_back_to_its_own(scene: Scene) -> None:
    began = list[int]()

    def work(running: Running, attempt: Attempt) -> str:
        began.append(running.began)
        if running.began >= 0:
            return "done"
        taken(running, attempt, 4)
        scene.lay(499)  # newer, of another program of the same name
        scene.lay(77, owner=None)
        raise running.lose()

    assert scene.run(work, resume=False).run() == "done"
    assert began == [-1, 4]


def test_a_run_that_resumed_is_rolled_back_to_what_it_had_gone_on_from(scene: Scene) -> None:
    first = scene.lay(9)
    began = list[int]()

    def work(running: Running, attempt: Attempt) -> str:
        began.append(running.began)
        if len(began) == 2:
            return "done"
        scene.lay(499)
        raise running.lose()

    assert scene.run(work, resume=True).run() == "done"
    assert began == [9, 9]
    assert scene.control.restored == [first, first]


def test_a_run_that_resumed_from_nothing_raises_the_first_cause(scene: Scene) -> None:
    def work(running: Running, attempt: Attempt) -> str:
        scene.lay(499)
        raise running.lose()

    with pytest.raises(WorkerFailed, match="a node is gone"):
        scene.run(work, resume=True).run()
    assert scene.control.restored == []


def test_own_checkpoints_that_turn_out_damaged_raise_the_first_cause(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.lay(499)

    def work(running: Running, attempt: Attempt) -> str:
        taken(running, attempt, 4)
        raise running.lose()

    def none(self: Resumption) -> Any:
        raise NoCheckpoint("only damaged ones")

    run = scene.run(work, resume=False)
    monkeypatch.setattr(Resumption, "restore", none)
    with pytest.raises(WorkerFailed, match="a node is gone"):
        run.run()


def test_a_roll_back_never_begins_at_the_beginning(scene: Scene) -> None:
    """On tables that the run has changed: its checkpoints may go between the look at them and the restore."""
    sources: list[Source | None] = []
    make = FakeGroup.__init__

    def work(running: Running, attempt: Attempt) -> str:
        if len(sources) > 1:
            return "done"
        taken(running, attempt, 4)
        raise running.lose()

    def noted(self: FakeGroup, control: CoordinatorOfFiles, source: Source | None, name: str = "run") -> None:
        sources.append(source)
        make(self, control, source, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeGroup, "__init__", noted)
        scene.run(work, resume=False).run()
    assert sources[0] is None
    assert sources[1] is not None
    assert sources[1].must_be


def test_a_roll_back_is_given_up_where_one_checkpoint_helps_no_more(scene: Scene) -> None:
    began = list[int]()

    def work(running: Running, attempt: Attempt) -> str:
        began.append(running.began)
        if running.began < 0:
            taken(running, attempt, 4)
        raise running.lose()

    with pytest.raises(WorkerFailed, match="a node is gone"):
        scene.run(work, resume=False).run()
    assert began == [-1] + [4] * MOST_TO_ONE


def test_a_run_removes_its_own_older_checkpoints_alone(scene: Scene) -> None:
    earlier, other, asked_for = scene.lay(1), scene.lay(2, "other"), scene.lay(3, owner=None)

    def work(running: Running, attempt: Attempt) -> str:
        for clock in range(4):
            taken(running, attempt, clock)
        return "done"

    scene.run(work, resume=False).run()
    left = scene.store.ids()
    assert len(left) == 2 + 3
    assert {other, asked_for} < set(left)
    assert earlier not in left, "of an earlier life"


# ---- other names ---------------------------------------------------------------------------------------------------------


def start_of(scene: Scene, name: str) -> int:
    """The clock after which a run goes on."""
    began = list[int]()

    def work(running: Running, attempt: Attempt) -> str:
        began.append(running.began)
        return "done"

    scene.run(work, resume=True, name=name).run()
    return began[0]


def test_each_name_goes_on_from_its_own_newest_checkpoint(scene: Scene) -> None:
    scene.lay(5, "a")
    scene.lay(7, "b")
    scene.lay(6, "a")
    assert [start_of(scene, name) for name in ("a", "b", "c")] == [6, 7, -1]
    scene.lay(9, "b", owner=None)  # by `PSContext.checkpoint`, while it ran
    scene.lay(8, "a", owner="b")  # b's own, while a ran
    assert [start_of(scene, name) for name in ("a", "b")] == [6, 9]


def test_another_shape_of_the_same_name_is_an_error(scene: Scene) -> None:
    scene.lay(5, "a", workers=3)
    with pytest.raises(CheckpointError, match="are of 'a' of 3 workers in BSP: run it as it was, say resume=False"):
        start_of(scene, "a")
    assert start_of(scene, "b") == -1


def test_damaged_checkpoints_of_a_name_are_not_taken_for_none(scene: Scene, tmp_path: pathlib.Path) -> None:
    scene.lay(5, "a")
    mine = scene.lay(6, "b")
    (tmp_path / f"manifest-{mine}.json").write_bytes(b"{")
    with pytest.raises(NoCheckpoint, match=mine):
        start_of(scene, "b")
    assert start_of(scene, "a") == 5


def test_damaged_checkpoints_of_other_names_are_no_hindrance(scene: Scene, tmp_path: pathlib.Path) -> None:
    def work(running: Running, attempt: Attempt) -> str:
        taken(running, attempt, 4)
        return "done"

    scene.run(work, resume=False, name="a").run()
    next(tmp_path.rglob("*.data")).unlink()
    with pytest.raises(NoCheckpoint, match="it is missing"):
        start_of(scene, "a")
    assert start_of(scene, "b") == -1


# ---- which errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [OutOfNodeMemory, DeadlineExceeded, FunctionFailed, TierError, ValueError])
@pytest.mark.parametrize("by_rank", [True, False])
def test_errors_that_no_roll_back_mends_are_told_at_once(scene: Scene, kind: type[Exception], by_rank: bool) -> None:
    def work(running: Running, attempt: Attempt) -> str:
        taken(running, attempt, 4)
        if by_rank or not issubclass(kind, SparkPSError):
            raise told(WorkerFailed("Rank 0 failed", cause=kind.__name__, rank=0))
        raise kind("a wrong row")

    began = time.monotonic()
    with pytest.raises(SparkPSError):
        scene.run(work, resume=True, patience=30.0).run()
    assert time.monotonic() - began < 10.0


@pytest.mark.parametrize("kind", [ShardLost, NodeUnreachable])
def test_what_a_lost_node_causes_waits_for_the_coordinator_to_know_of_it(scene: Scene, kind: type[SparkPSError]) -> None:
    began = list[int]()

    def work(running: Running, attempt: Attempt) -> str:
        began.append(running.began)
        if len(began) == 2:
            return "done"
        taken(running, attempt, 4)
        asked = len(scene.control.asked)
        request = scene.control.request

        def later(message: Any, timeout: float | None = None) -> Any:
            if len(scene.control.asked) > asked + 2:
                scene.control.state = "degraded"
            return request(message, timeout)

        scene.control.request = later  # type: ignore[method-assign]
        raise kind("node 1 is gone")

    assert scene.run(work, resume=True, patience=30.0).run() == "done"
    assert began == [-1, 4]


# ---- what it cost --------------------------------------------------------------------------------------------------------


def test_the_report_knows_how_many_clocks_were_redone(scene: Scene) -> None:
    first = scene.lay(9)
    began = list[int]()

    def work(running: Running, attempt: Attempt) -> str:
        began.append(running.began)
        if len(began) == 1:
            taken(running, attempt, 20)
            running.reach(27)
            raise running.lose()  # 21 to 27 are done again
        if len(began) == 2:
            running.reach(22)
            raise running.lose()  # 21 and 22 once more
        taken(running, attempt, 30)
        return "done"

    run = scene.run(work, resume=True)
    assert run.run() == "done"
    assert began == [9, 20, 20]
    report = run.with_figures(_results()).report
    assert report.redone_clocks == 7 + 2
    assert report.checkpoints == 2
    assert report.resumed_from[0] == first
    assert report.resumed_from[1:] == (scene.control.restored[1],) * 2


def _results() -> Results:
    figures = RunReport("run-1", 2, "BSP()", "parquet", "", 0.0, 0.0, 0.0, 0.0, ())
    return Results([], figures)
