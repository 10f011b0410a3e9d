"""The file system that fails on demand: as told, and the same for the same seed."""

from __future__ import annotations

import pathlib

import pytest

from sparkps.checkpoints.files import LocalFiles, open_files
from sparkps.errors import ConfigError
from sparkps.testing.failing_files import FAULTS, FailingFiles, FileFault, wrap

DATA = bytes(range(100))


def failing(path: pathlib.Path, *faults: FileFault, seed: int = 0) -> FailingFiles:
    return FailingFiles(LocalFiles(str(path)), faults, seed)


def test_writes(tmp_path: pathlib.Path) -> None:
    kinds = ["error", "torn", "truncated", "dropped", "flipped"]
    files = failing(tmp_path, *[FileFault(fault, at=at) for at, fault in enumerate(kinds, 1)])
    for name in ("error", "torn"):
        with pytest.raises(OSError, match=f"on demand: {name}"):
            files.write(name, [DATA])
    for name in ("truncated", "dropped", "flipped", "sound"):
        files.write(name, [DATA[:50], DATA[50:]])
    got = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert got.keys() == {"torn", "truncated", "flipped", "sound"}
    assert all(DATA.startswith(got[name]) and len(got[name]) < 100 for name in ("torn", "truncated"))
    differing = int.from_bytes(got["flipped"], "big") ^ int.from_bytes(DATA, "big")
    assert differing.bit_count() == 1
    assert got["sound"] == DATA
    assert [each[1:] for each in files.failed] == [("write", fault) for fault in kinds]


def test_reads(tmp_path: pathlib.Path) -> None:
    LocalFiles(str(tmp_path)).write("x", [DATA])
    files = failing(tmp_path, FileFault("truncated", at=2, verb="read"), FileFault("flipped", at=1, verb="blocks"))
    assert files.read("x") == DATA
    assert len(files.read("x")) < 100
    assert files.size("x") == len(files.read("x")) == 100
    assert b"".join(files.blocks("x")) != DATA
    assert b"".join(bytes(block) for block in files.blocks("x")) == DATA


def test_a_deletion_that_does_nothing(tmp_path: pathlib.Path) -> None:
    files = failing(tmp_path, FileFault("dropped", at=1, verb="delete"))
    files.write("x", [DATA])
    files.delete("x")
    assert files.size("x") == 100
    files.delete("x")
    assert files.entries() == []


def test_who_was_killed_does_nothing_any_more(tmp_path: pathlib.Path) -> None:
    files = failing(tmp_path, FileFault("killed", at=2))
    files.write("x", [DATA])
    with pytest.raises(OSError, match="killed"):
        files.write("y", [DATA])
    for call in (files.entries, lambda: files.write("z", [DATA]), lambda: files.delete("x"), lambda: files.read("x")):
        with pytest.raises(OSError, match="killed"):
            call()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]


def test_slow_calls_take_longer_and_are_done(tmp_path: pathlib.Path) -> None:
    slept: list[float] = []
    files = FailingFiles(LocalFiles(str(tmp_path)), [FileFault("slow", at=1, times=2, seconds=7.0)], sleep=slept.append)
    files.write("x", [DATA])
    assert files.read("x") == DATA == files.read("x")
    assert slept == [7.0, 7.0]


def outcomes(path: pathlib.Path, seed: int) -> list[tuple[int, str, str]]:
    files = failing(path, FileFault("error", chance=0.3), seed=seed)
    for _ in range(50):
        try:
            files.entries()
        except OSError:
            continue
    return files.failed


def test_chances_follow_the_seed(tmp_path: pathlib.Path) -> None:
    assert outcomes(tmp_path, 1) == outcomes(tmp_path, 1) != outcomes(tmp_path, 2)
    assert 5 < len(outcomes(tmp_path, 1)) < 30


def test_by_url(tmp_path: pathlib.Path) -> None:
    files = open_files(f"failing+{tmp_path.as_uri()}?fault=error&at=2&times=0&seed=5")
    assert isinstance(files, FailingFiles)
    assert files.url.startswith("failing+file:")
    files.write("x", [DATA])
    with pytest.raises(OSError, match="at call 2"):
        files.read("x")


@pytest.mark.parametrize("query", ["", "fault=none&at=1", "fault=error", "fault=error&at=1&colour=red", "fault=error&at=1&verb=fly"])
def test_a_query_that_says_nothing_possible_is_refused(query: str) -> None:
    with pytest.raises(ConfigError, match="must"):
        wrap(f"file:///tmp/x?{query}")


def test_every_fault_is_described() -> None:
    assert all(FAULTS.values())
