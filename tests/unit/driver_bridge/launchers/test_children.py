"""A child whose start fails says why, also where its log cannot."""

from __future__ import annotations

import os
import pathlib
import sys
import tempfile

import pytest

from sparkps.driver_bridge.launchers import scratch
from sparkps.driver_bridge.launchers.children import Child, end
from sparkps.errors import ConfigError, TierError
from tests.harness.disks import no_file_larger_than

SAYS_WHY = "import sys; sys.stderr.write('this is why\\n' * 2000); sys.stderr.flush(); sys.exit(3)"


def ended(log: pathlib.Path, program: str = SAYS_WHY) -> Child:
    child = Child("node7", [sys.executable, "-c", program], log, os.environ)
    try:
        assert child.exited.wait(30)
    finally:
        end([child], 0.0)
    return child


def test_the_end_of_the_log_tells_why(tmp_path: pathlib.Path) -> None:
    said = ended(tmp_path / "log").ending()
    assert "exited with status 3" in said
    assert said.endswith("this is why")


@pytest.mark.parametrize("room", [0, 100])
def test_a_log_that_the_disk_does_not_take_is_not_called_empty(tmp_path: pathlib.Path, room: int) -> None:
    with no_file_larger_than(room):
        said = ended(tmp_path / "log").ending()
    assert "is empty" not in said
    assert "File too large" in said
    assert str(tmp_path) in said
    assert "set TMPDIR" in said


def test_an_empty_log_is_said_to_be_one_with_its_path(tmp_path: pathlib.Path) -> None:
    assert f"Its log, {str(tmp_path / 'log')!r}, is empty" in ended(tmp_path / "log", "pass").ending()


def test_a_log_that_cannot_be_opened_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(TierError, match=r"log of node7 must be writable.*No such file.*set TMPDIR"):
        Child("node7", [sys.executable, "-c", ""], tmp_path / "nothing" / "log", os.environ)


def test_a_program_that_does_not_start_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(TierError, match="process of node7 must start.*No such file"):
        Child("node7", [str(tmp_path / "no program")], tmp_path / "log", os.environ)


# ---- the directory of sockets and logs ---------------------------------------------------------------------------------


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield pathlib.Path(name)


def test_sockets_are_in_the_temporary_directory(temporary: pathlib.Path) -> None:
    directory = scratch.socket_directory()
    assert directory.parent == temporary
    assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", [b"bad\xff", b"l" * 100, b"nothing"], ids=["bytes", "long", "gone"])
def test_sockets_go_elsewhere_with_a_warning(
    temporary: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: bytes
) -> None:
    unfit = temporary / os.fsdecode(name)
    if name != b"nothing":
        unfit.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(unfit))
    directory = scratch.socket_directory()
    try:
        assert directory.parent == pathlib.Path("/tmp")
        (record,) = caplog.records
        assert repr(str(unfit)) in record.message
    finally:
        directory.rmdir()


def test_no_directory_with_room_is_an_error_by_name(temporary: pathlib.Path) -> None:
    with no_file_larger_than(1 << 16), pytest.raises(ConfigError, match="File too large.*Set TMPDIR") as caught:
        scratch.socket_directory()
    assert str(temporary) in str(caught.value)
    assert not list(temporary.iterdir())
