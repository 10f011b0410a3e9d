"""A keeper starts what lacks, takes checkpoints, and ends its tier in order, whoever asks for it."""

from __future__ import annotations

import contextlib
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from sparkps.checkpoints.manifest import Owner
from sparkps.checkpoints.store import CheckpointStore
from sparkps.cli import keeper as module
from sparkps.cli.keeper import Keeper
from sparkps.driver_bridge import checkpointing
from sparkps.errors import CheckpointError, DeadlineExceeded, TierError
from sparkps.wire.messages.control import CloseTier, TierStatus
from tests.harness.waiting import wait_until
from tests.unit.driver_bridge.coordinator_of_files import CoordinatorOfFiles

W = {"name": "w", "lost_buckets": 0}


class FakeTier:
    """A tier that is no process: its coordinator answers, unless it is silent."""

    def __init__(self) -> None:
        self.control = self
        ending = {"discard": False}
        self.report: dict[str, Any] = {"asked_to_stop": False, "ending": ending, "scaling": None, "tables": [W]}
        self.is_silent = False
        self.why: TierError | None = None
        #: What has been done to it, in order.
        self.done: list[str] = []

    def request(self, message: Any, timeout: float) -> Any:
        if isinstance(message, CloseTier):
            self.done.append(f"open: {message.why}" if message.why else "close")
            if message.why:
                self.report = {**self.report, "asked_to_stop": False}
            return None
        assert isinstance(message, TierStatus)
        if self.is_silent:
            self.done.append("silence")
            raise DeadlineExceeded("silent")
        return SimpleNamespace(report=self.report)

    def ended(self) -> TierError | None:
        return self.why

    def start_missing(self, report: dict[str, Any]) -> None:
        if report["scaling"]:
            self.done.append("start")

    def stop(self) -> None:
        self.done.append("stop")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY", 0.005)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Checkpoints that were taken."""
    made: list[str] = []

    def take(control: Any, url: str, timeout: float, owner: Any) -> Any:
        made.append(owner.name)
        control.done.append("checkpoint")
        return SimpleNamespace(id=str(len(made)), bytes=1, seconds=0.1)

    monkeypatch.setattr(module.checkpointing, "take", take)
    return made


@contextlib.contextmanager
def running(keeper: Keeper) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(keeper.run()), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        keeper.stop()
        thread.join(10)
        assert not thread.is_alive()


def test_it_ends_when_it_is_told_to() -> None:
    tier = FakeTier()
    with running(Keeper(tier)) as found:
        pass
    assert found == [None]
    assert tier.done == ["stop"]


def test_it_ends_when_somebody_asks_the_coordinator_for_it() -> None:
    tier = FakeTier()
    with running(Keeper(tier)) as found:
        tier.report = {**tier.report, "asked_to_stop": True}
        assert wait_until(lambda: bool(found), 10)
    assert found == [None]
    assert tier.done == ["stop"]


def test_a_tier_that_has_ended_by_itself_is_told_and_cleared_away() -> None:
    tier = FakeTier()
    with running(Keeper(tier)) as found:
        tier.why = TierError("the coordinator is gone")
        assert wait_until(lambda: bool(found), 10)
    assert found == [tier.why]
    assert tier.done == ["stop"]


def test_nodes_that_others_have_asked_for_are_started() -> None:
    tier = FakeTier()
    with running(Keeper(tier)):
        tier.report = {**tier.report, "scaling": "Scaling to 3 nodes"}
        assert wait_until(lambda: "start" in tier.done, 10)


def test_a_coordinator_that_does_not_answer_is_asked_again() -> None:
    tier = FakeTier()
    tier.is_silent = True
    with running(Keeper(tier)) as found:
        assert wait_until(lambda: tier.done.count("silence") > 2, 10)
        tier.is_silent = False
        tier.report = {**tier.report, "asked_to_stop": True}
        assert wait_until(lambda: bool(found), 10)
    assert found == [None]


def test_the_last_checkpoint_is_taken_before_the_end(tmp_path: Any, taken: list[str]) -> None:
    tier = FakeTier()
    with running(Keeper(tier, CheckpointStore(str(tmp_path)))):
        pass
    assert taken == ["sparkps tier"]
    assert tier.done == ["close", "checkpoint", "stop"], "nothing is written from before the last checkpoint on"


def test_checkpoints_are_taken_now_and_then(tmp_path: Any, taken: list[str]) -> None:
    tier = FakeTier()
    with running(Keeper(tier, CheckpointStore(str(tmp_path)), every=0.01)):
        assert wait_until(lambda: len(taken) >= 3, 10)
    assert tier.done[-3:] == ["close", "checkpoint", "stop"]


def test_a_tier_without_tables_has_nothing_to_come_back_to(tmp_path: Any, taken: list[str]) -> None:
    tier = FakeTier()
    tier.report = {**tier.report, "tables": []}
    with running(Keeper(tier, CheckpointStore(str(tmp_path)))) as found:
        pass
    assert found == [None]
    assert taken == []


class TierOfFiles(CoordinatorOfFiles):
    """A tier whose checkpoints are files."""

    def __init__(self) -> None:
        super().__init__()
        self.control = self
        self.tables = [W]

    def request(self, message: Any, timeout: float | None = None) -> Any:
        answer = super().request(message, timeout)
        if isinstance(message, TierStatus):
            answer.report["tables"] = self.tables
        return answer


def test_the_last_three_of_its_checkpoints_stay_and_all_of_others(tmp_path: Any) -> None:
    tier, store = TierOfFiles(), CheckpointStore(str(tmp_path))
    others = [checkpointing.take(tier, tmp_path, owner=owner).id for owner in (Owner("a fit", "x"), None)]  # type: ignore[arg-type]
    keeper, taken = Keeper(tier, store), []  # type: ignore[arg-type]
    for _ in range(5):
        keeper._take()
        taken.append(store.ids()[-1])
        assert set(others) <= set(store.ids())
    assert len(set(taken)) == 5
    assert sorted(store.ids()) == sorted([*others, *taken[-3:]])


def test_tables_that_were_dropped_do_not_come_back(tmp_path: Any) -> None:
    """Where there is a checkpoint with tables, one without takes its place as the last."""
    tier, store = TierOfFiles(), CheckpointStore(str(tmp_path))
    keeper = Keeper(tier, store)  # type: ignore[arg-type]
    keeper._take()
    (before,) = store.ids()
    tier.tables = []
    assert keeper._take_last() is None
    restored = keeper.restore()
    assert restored is not None
    assert restored.id != before
    assert tier.restored == [restored.id]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Why no checkpoint can be taken; whoever clears it has mended that."""
    why = ["no room"]

    def take(control: Any, *args: Any, **named: Any) -> Any:
        if why:
            raise CheckpointError(why[0])
        control.done.append("checkpoint")
        return SimpleNamespace(id="1", bytes=1, seconds=0.1)

    monkeypatch.setattr(module.checkpointing, "take", take)
    return why


def test_a_signal_ends_it_without_its_last_checkpoint_and_that_is_an_error(tmp_path: Any, broken: list[str]) -> None:
    tier = FakeTier()
    with running(Keeper(tier, CheckpointStore(str(tmp_path)))) as found:
        pass
    assert "must be written before it ends. It was not: no room" in str(found[0])
    assert tier.done == ["close", "stop"]


def test_whoever_asks_for_the_end_is_refused_where_the_last_checkpoint_cannot_be_taken(tmp_path: Any, broken: list[str]) -> None:
    tier = FakeTier()
    with running(Keeper(tier, CheckpointStore(str(tmp_path)))) as found:
        tier.report = {**tier.report, "asked_to_stop": True}
        assert wait_until(lambda: len(tier.done) == 2, 10)
        assert tier.done[0] == "close"
        assert tier.done[1].startswith("open: The last checkpoint of the tier must be written before it ends. It was not: no room")
        assert not found
        broken.clear()
        tier.report = {**tier.report, "asked_to_stop": True}
        assert wait_until(lambda: bool(found), 10)
    assert found == [None]
    assert tier.done[2:] == ["close", "checkpoint", "stop"]


def test_while_rows_are_lost_older_checkpoints_stay(tmp_path: Any, taken: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pruned: list[int] = []
    monkeypatch.setattr(CheckpointStore, "prune", lambda *args, **named: pruned.append(1))
    tier = FakeTier()
    tier.report = {**tier.report, "tables": [W, {"name": "bob/b", "lost_buckets": 128}]}
    keeper = Keeper(tier, CheckpointStore(str(tmp_path)))
    keeper._take()
    assert (len(taken), len(pruned)) == (1, 0)
    tier.report = {**tier.report, "tables": [W]}
    keeper._take()
    assert (len(taken), len(pruned)) == (2, 1)


def test_it_ends_without_a_checkpoint_where_nobody_wants_one(tmp_path: Any, broken: list[str]) -> None:
    tier = FakeTier()
    with running(Keeper(tier, CheckpointStore(str(tmp_path)))) as found:
        tier.report = {**tier.report, "asked_to_stop": True, "ending": {"discard": True}}
        assert wait_until(lambda: bool(found), 10)
    assert found == [None]
    assert tier.done == ["stop"]


def test_one_of_its_checkpoints_that_cannot_be_taken_is_said_and_the_next_one_is_tried(
    tmp_path: Any, broken: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    tier = FakeTier()
    with running(Keeper(tier, CheckpointStore(str(tmp_path)), every=0.01)):
        assert wait_until(lambda: caplog.text.count("no room") >= 2, 10)
        broken.clear()
        assert wait_until(lambda: "checkpoint" in tier.done, 10)


def test_a_tier_that_begins_has_nothing_to_restore(tmp_path: Any) -> None:
    assert Keeper(FakeTier()).restore() is None
    assert Keeper(FakeTier(), CheckpointStore(str(tmp_path))).restore() is None
