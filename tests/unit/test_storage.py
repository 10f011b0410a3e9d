"""Disks that are full, read-only or gone are asked beforehand, and told by name."""

from __future__ import annotations

import os
import pathlib
import tempfile

import pytest

from sparkps.errors import GroupError, from_wire, to_wire
from sparkps.storage import SpillFile, cannot_keep, why_unwritable
from tests.harness.disks import no_file_larger_than


def test_a_directory_with_room_is_writable_and_stays_as_it_was(tmp_path: pathlib.Path) -> None:
    assert why_unwritable(tmp_path, 1 << 20) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_directory_without_room_says_so(tmp_path: pathlib.Path) -> None:
    with no_file_larger_than(1 << 16):
        assert why_unwritable(tmp_path, 1 << 16) == ""
        assert why_unwritable(tmp_path, (1 << 16) + 1) == "File too large"
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_reserve_room_is_written_to(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with no_file_larger_than(1 << 16):
        assert why_unwritable(tmp_path, 1 << 16) == ""
        assert why_unwritable(tmp_path, 1 << 17) == "File too large"


def test_what_is_no_directory_says_so(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    assert why_unwritable(tmp_path / "file", 1) == "Not a directory"
    assert why_unwritable(tmp_path / "nothing", 1) == "No such file or directory"


def test_a_spill_file_gives_back_what_was_appended(tmp_path: pathlib.Path) -> None:
    file = SpillFile(str(tmp_path / "made"))
    assert [file.append(b"abc"), file.append(memoryview(b"defgh")), file.append(b"")] == [0, 3, 8]
    assert (bytes(file.read(0, 3)), bytes(file.read(4, 4)), file.size) == (b"abc", b"efgh", 8)
    assert list((tmp_path / "made").iterdir()) == []
    file.close()
    file.close()


def test_half_an_append_is_none(tmp_path: pathlib.Path) -> None:
    file = SpillFile(str(tmp_path))
    file.append(b"a" * 1000)
    with no_file_larger_than(2000), pytest.raises(GroupError, match="File too large"):
        file.append(b"b" * 1500)
    assert file.size == 1000
    assert file.append(b"c" * 10) == 1000
    assert bytes(file.read(1000, 10)) == b"c" * 10
    file.close()


def test_the_temporary_directory_is_named_where_no_other_was_set(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    file = SpillFile()
    with no_file_larger_than(10), pytest.raises(GroupError, match="TMPDIR") as caught:
        file.append(b"b" * 100)
    file.close()
    assert caught.value.directory == str(tmp_path)


def test_a_directory_whose_name_is_not_text_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    error = cannot_keep("Rows", os.fsdecode(b"/bad\xff"), OSError(28, "No space left on device"), "all", "`localDir`")
    error.message.encode()
    name, message, _ = to_wire(error)
    assert "No space left on device" in str(from_wire(name, message, {}))
