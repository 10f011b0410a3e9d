"""Checkpoints at the driver: what becomes of one that fails, or that nobody wants any more."""

from __future__ import annotations

import logging
import pathlib
import time
from typing import Any

import pytest
from msgspec.structs import replace

from sparkps.checkpoints.manifest import Owner
from sparkps.checkpoints.store import CheckpointStore
from sparkps.driver_bridge import checkpointing
from sparkps.errors import CheckpointDamaged, CheckpointError, NoCheckpoint, NodeUnreachable
from sparkps.namespaces import owner_of
from sparkps.specs import GroupSpec, TableSpec
from sparkps.wire.messages import control as c
from tests.harness.fake_webhdfs import FakeWebHdfs
from tests.unit.driver_bridge.coordinator_of_files import CoordinatorOfFiles


def files_in(root: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_one_says_whose_it_is(tmp_path: pathlib.Path) -> None:
    control, store = CoordinatorOfFiles(), CheckpointStore(str(tmp_path))
    owner = Owner("run", "3fa0c1")
    made = [checkpointing.take(control, tmp_path, owner=each) for each in (owner, None)]  # type: ignore[arg-type]
    assert [store.read(each.id).owner for each in made] == [owner, None]


def test_what_a_failed_one_has_written_goes_at_once(tmp_path: pathlib.Path) -> None:
    control = CoordinatorOfFiles()
    checkpointing.take(control, tmp_path)  # type: ignore[arg-type]
    before = files_in(tmp_path)
    with pytest.raises(CheckpointError, match="It has ended"):
        checkpointing.take(control, tmp_path, group=GroupSpec(7, "run-1", 1, 1, 0))  # type: ignore[arg-type]
    assert files_in(tmp_path) == before

    def full() -> None:
        raise CheckpointError("the disk is full")

    control.when_written = full
    with pytest.raises(CheckpointError, match="the disk is full"):
        checkpointing.take(control, tmp_path)  # type: ignore[arg-type]
    assert files_in(tmp_path) == before


def test_one_that_cannot_be_published_leaves_nothing(tmp_path: pathlib.Path) -> None:
    control = CoordinatorOfFiles()

    def torn() -> None:
        next(tmp_path.rglob("*.data")).write_bytes(b"")

    control.when_written = torn
    with pytest.raises(CheckpointError):
        checkpointing.take(control, tmp_path)  # type: ignore[arg-type]
    assert files_in(tmp_path) == []


def test_files_that_cannot_be_removed_hide_no_error(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    control = CoordinatorOfFiles()

    def full() -> None:
        monkeypatch.setattr("sparkps.checkpoints.files.LocalFiles.delete", refused)
        raise CheckpointError("the disk is full")

    def refused(*_: object) -> None:
        raise PermissionError("not yours")

    control.when_written = full
    with pytest.raises(CheckpointError, match="the disk is full"), caplog.at_level(logging.WARNING):
        checkpointing.take(control, tmp_path)  # type: ignore[arg-type]
    assert "which has failed, stay" in caplog.text


def test_one_that_is_given_up_while_it_is_written_is_none(tmp_path: pathlib.Path) -> None:
    control, given_up = CoordinatorOfFiles(), list[bool]()
    control.when_written = lambda: given_up.append(True)
    with pytest.raises(CheckpointError, match="must be wanted"):
        checkpointing.take(control, tmp_path, given_up=lambda: bool(given_up))  # type: ignore[arg-type]
    assert files_in(tmp_path) == []


def test_one_that_is_published_is_there_though_the_coordinator_is_not(tmp_path: pathlib.Path) -> None:
    control = CoordinatorOfFiles()

    def gone() -> None:
        raise NodeUnreachable("the coordinator is gone")

    control.when_taken = gone
    made = checkpointing.take(control, tmp_path)  # type: ignore[arg-type]
    assert CheckpointStore(str(tmp_path)).newest_sound(deep=True).id == made.id


class Moving(CoordinatorOfFiles):
    """Buckets are being moved, for ever."""

    tries = 0

    def request(self, message: Any, timeout: float | None = None) -> Any:
        if isinstance(message, c.TakeCheckpoint):
            self.tries += 1
            assert self.tries < 40, "tried without end"
            raise CheckpointError("buckets are being moved", again=True)
        return super().request(message, timeout)


def test_one_is_not_tried_again_after_its_deadline(tmp_path: pathlib.Path) -> None:
    control = Moving()
    with pytest.raises(CheckpointError, match="being moved"):
        checkpointing.take(control, tmp_path, timeout=0.3)  # type: ignore[arg-type]
    assert control.tries < 8


def test_one_is_not_tried_again_when_nobody_wants_it(tmp_path: pathlib.Path) -> None:
    control = Moving()
    with pytest.raises(CheckpointError, match="being moved"):
        checkpointing.take(control, tmp_path, unless=lambda: control.tries >= 2)  # type: ignore[arg-type]
    assert control.tries == 2


def test_one_that_turns_out_damaged_is_passed_over(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not where it was asked for by its id."""
    control = CoordinatorOfFiles()
    old, new = [checkpointing.take(control, tmp_path) for _ in range(2)]  # type: ignore[arg-type]
    ask = control.request

    def request(message: Any, timeout: float | None = None) -> Any:
        if isinstance(message, c.RestoreCheckpoint) and message.checkpoint == new.id:
            raise CheckpointDamaged("damaged", url="x", file="f", why="torn")
        return ask(message, timeout)

    monkeypatch.setattr(control, "request", request)
    assert checkpointing.restore(control, tmp_path).id == old.id  # type: ignore[arg-type]
    with pytest.raises(CheckpointDamaged):
        checkpointing.restore(control, tmp_path, new.id)  # type: ignore[arg-type]


def test_an_owner_s_tables_are_found_in_an_older_one_where_the_newest_is_without_them(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after rows were lost that only others have restored."""
    control, store = CoordinatorOfFiles(), CheckpointStore(str(tmp_path))
    found = []
    for names in (("ann/a", "bob/b"), ("ann/a",)):
        made = store.read(checkpointing.take(control, tmp_path).id)  # type: ignore[arg-type]
        tables = tuple(TableSpec(name, "sparse", 1, table=number, index=number) for number, name in enumerate(names, 1))
        found.insert(0, replace(made, tables=tables))
    monkeypatch.setattr(store, "sound", lambda **named: iter(found))

    def first(owner: str) -> tuple[str, list[str]]:
        manifest = next(checkpointing.candidates(store, owns=lambda name: owner_of(name) == owner))
        return manifest.id, [spec.name for spec in manifest.tables]

    assert first("ann") == (found[0].id, ["ann/a"])
    assert first("bob") == (found[1].id, ["bob/b"])
    with pytest.raises(NoCheckpoint, match="must have tables of one's own"):
        first("eve")


def test_file_system_that_never_answers_is_waited_for_no_longer_than_asked() -> None:
    with FakeWebHdfs() as server:
        server.faults = [("", "silent")] * 100
        url = f"webhdfs://{server.url.removeprefix('http://')}/checkpoints"
        for call in (checkpointing.take, checkpointing.restore):
            began = time.monotonic()
            with pytest.raises(CheckpointError, match=r"within 0\.5 s"):
                call(CoordinatorOfFiles(), url, timeout=0.5)  # type: ignore[operator]
            assert time.monotonic() - began < 5.0
