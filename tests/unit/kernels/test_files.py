"""What a file of a compiled kernel holds is executed: only if it is whole, of this name, and nobody else's."""

from __future__ import annotations

import os
import pathlib
import random
import subprocess
import sys

import numpy as np
import pytest

from sparkps.kernels import ahead, compiled, files, places, rows, updates
from sparkps.kernels.files import UnfitFileError
from tests.harness.disks import give_away, no_file_larger_than

#: Loads each kernel of `argv[2:]` from `argv[1]` again and again, with one more byte of its file wrong each time; says how many of
#: the files were used. Never compiles.
LOAD_DAMAGED = """
import pathlib, random, sys
from numba.core.registry import cpu_target
from sparkps.kernels import compiled, rows, updates
compiled.use_cache_dir(sys.argv[1])
used = tried = 0
for each, dtype in ((rows.all_finite, "float32"), (updates.UPDATES["adagrad"], "float64")):
    signature = dict(each.signatures())[dtype]
    disk = compiled._DiskCache(each.python)
    path = next(path for path in pathlib.Path(sys.argv[1]).iterdir() if path.name.startswith(each.__name__ + "-"))
    whole = path.read_bytes()
    assert disk.load_overload(signature, cpu_target.target_context) is not None, "the file itself is good"
    for seed in range(300):
        chance = random.Random(seed)
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 4, 64))):
            damaged[chance.randrange(len(whole) if seed % 3 else 80)] ^= chance.randrange(1, 256)
        if seed % 10 == 0:
            damaged = damaged[: chance.randrange(len(whole))]
        if damaged == whole:
            continue
        path.write_bytes(damaged)
        tried += 1
        used += disk.load_overload(signature, cpu_target.target_context) is not None
    path.write_bytes(whole)
print(tried, "tried,", used, "used")
"""


@pytest.fixture
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A directory with two real kernels."""
    directory = tmp_path / "kernels"
    for name in ("_given", "_told", "_found"):
        monkeypatch.setattr(places, name, None)
    compiled.use_cache_dir(directory)
    for each, dtype in ((rows.all_finite, "float32"), (updates.UPDATES["adagrad"], "float64")):
        compiled._dispatcher(each.python, declared=True).compile(dict(each.signatures())[dtype])
    return directory


@pytest.fixture
def kernel_file(tmp_path: pathlib.Path) -> pathlib.Path:
    """A file with a small code."""
    path = tmp_path / "some-0123.kernel"
    files.write(path, b"code" * 100)
    return path


def test_damaged_files_are_never_executed(cache: pathlib.Path) -> None:
    made = subprocess.run(
        [sys.executable, "-c", LOAD_DAMAGED, str(cache)], capture_output=True, text=True, check=False
    )
    assert made.stdout == "600 tried, 0 used\n", (made.returncode, made.stderr[-2000:])


@pytest.mark.parametrize("content", [b"", b"damaged", b"\0" * 5000], ids=["empty", "foreign", "zeros"])
def test_a_file_that_holds_something_else_is_compiled_again_and_replaced(cache: pathlib.Path, content: bytes) -> None:
    (path,) = cache.glob("all_finite-*")
    path.write_bytes(content)
    dispatcher = compiled._dispatcher(rows.all_finite.python, declared=True)
    dispatcher.compile(dict(rows.all_finite.signatures())["float32"])
    assert dispatcher(np.array([[1.0, np.inf]], np.float32)) == rows.all_finite.of("float32")(np.array([[1.0, np.inf]], np.float32))
    assert files.read(path)
    assert sorted(cache.iterdir()) == sorted(cache.glob("*.kernel")), "nothing else stays behind"


def test_damage_is_seen_before_a_tier_starts(cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "declared", lambda: [compiled.Kernel(rows.all_finite.python, rows.all_finite._declare, ("float32",))])
    assert ahead.is_warm(ahead.TIER)
    (path,) = cache.glob("all_finite-*")
    path.write_bytes(path.read_bytes()[:-1])
    assert not ahead.is_warm(ahead.TIER)
    assert ahead.warm(ahead.TIER) == 1
    assert ahead.is_warm(ahead.TIER)


def test_what_was_written_is_read(kernel_file: pathlib.Path) -> None:
    assert files.read(kernel_file) == b"code" * 100
    assert kernel_file.stat().st_mode & 0o777 == 0o644


def test_every_single_byte_counts(kernel_file: pathlib.Path) -> None:
    whole = kernel_file.read_bytes()
    for at in range(len(whole)):
        kernel_file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(UnfitFileError, match="damaged"):
            files.read(kernel_file)


def test_every_length_but_the_right_one_is_refused(kernel_file: pathlib.Path) -> None:
    whole = kernel_file.read_bytes()
    for length in range(len(whole)):
        kernel_file.write_bytes(whole[:length])
        with pytest.raises(UnfitFileError, match="damaged"):
            files.read(kernel_file)
    kernel_file.write_bytes(whole + b"\0")
    with pytest.raises(UnfitFileError, match="damaged"):
        files.read(kernel_file)


def test_another_kernels_file_under_this_name_is_refused(kernel_file: pathlib.Path) -> None:
    other = kernel_file.with_name("other-0123.kernel")
    kernel_file.rename(other)
    with pytest.raises(UnfitFileError, match="checksum"):
        files.read(other)


def test_another_users_file_is_refused(kernel_file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_away(kernel_file, monkeypatch)
    with pytest.raises(UnfitFileError, match="belongs to user"):
        files.read(kernel_file)


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_can_write_is_refused(kernel_file: pathlib.Path, mode: int) -> None:
    kernel_file.chmod(mode)
    with pytest.raises(UnfitFileError, match="can write it"):
        files.read(kernel_file)


def test_what_is_no_file_is_refused_at_once(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    for name in ("pipe", "directory"):
        with pytest.raises(UnfitFileError):
            files.read(tmp_path / name)
    for name in ("nothing", "nothing/below"):
        with pytest.raises(FileNotFoundError):
            files.read(tmp_path / name)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(kernel_file: pathlib.Path) -> None:
    code = random.Random(0).randbytes(1 << 16)
    with no_file_larger_than(1 << 12), pytest.raises(OSError, match="File too large"):
        files.write(kernel_file, code)
    assert files.read(kernel_file) == b"code" * 100
    assert list(kernel_file.parent.iterdir()) == [kernel_file]
