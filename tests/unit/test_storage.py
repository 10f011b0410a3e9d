"""Disks that are full, read-only or gone are asked beforehand, and told by name."""

from __future__ import annotations

import os
import pathlib

import pytest

from sparkps.errors import from_wire, to_wire
from sparkps.storage import cannot_keep, why_unwritable
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


def test_a_directory_whose_name_is_not_text_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    error = cannot_keep("Rows", os.fsdecode(b"/bad\xff"), OSError(28, "No space left on device"), "all", "`localDir`")
    error.message.encode()
    name, message, _ = to_wire(error)
    assert "No space left on device" in str(from_wire(name, message, {}))
