"""Compiled kernels are kept in the first directory that can be written, and every process finds the same one."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pytest

from sparkps.kernels import compiled, files, places, rows
from tests.harness.disks import give_away, no_file_larger_than

WHERE = "from sparkps.kernels import places; print(places.found().kept_in)"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Home and temporary directory of the test's own, and no directory that was asked for."""
    for name in ("_given", "_told", "_found"):
        monkeypatch.setattr(places, name, None)
    for name in ("SPARKPS_KERNEL_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "home").mkdir()
    (tmp_path / "temporary").mkdir()


@pytest.fixture
def home(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "home"


@pytest.fixture
def private(tmp_path: pathlib.Path) -> pathlib.Path:
    """Where kernels are kept without a home to keep them in."""
    return tmp_path / "temporary" / f"sparkps-kernels-{os.geteuid()}"


@pytest.fixture
def no_home(home: pathlib.Path) -> pathlib.Path:
    """A home in which nobody, root included, can make anything."""
    home.rmdir()
    home.write_text("not a directory")
    return home


def test_the_users_cache_directory_comes_first(home: pathlib.Path, private: pathlib.Path) -> None:
    assert places.found() == places.Places(home / ".cache" / "sparkps" / "kernels", ())
    assert places.searched() == [home / ".cache" / "sparkps" / "kernels", private, places.shipped()]
    assert not private.exists()


def test_without_a_writable_home_kernels_are_kept_in_the_temporary_directory(
    no_home: pathlib.Path, private: pathlib.Path
) -> None:
    found = places.found()
    assert found.kept_in == private
    assert private.stat().st_mode & 0o777 == 0o700
    assert str(no_home) in found.why_not
    assert "Not a directory" in found.why_not


def test_a_user_without_a_home_is_said_to_have_none(
    private: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> pathlib.Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "home", nowhere)
    assert places.found() == places.Places(private, ("this user has no home directory",))


def test_what_is_compiled_without_a_home_is_found_again(no_home: pathlib.Path, private: pathlib.Path) -> None:
    signature = dict(rows.all_finite.signatures())["float32"]
    compiled._dispatcher(rows.all_finite.python, declared=True).compile(signature)
    (kept,) = private.glob("*.kernel")
    written = kept.stat().st_mtime_ns
    dispatcher = compiled._dispatcher(rows.all_finite.python, declared=True)
    dispatcher.compile(signature)
    assert kept.stat().st_mtime_ns == written
    assert dispatcher(np.zeros((2, 2), np.float32)) == rows.all_finite.of("float32")(np.zeros((2, 2), np.float32))


def test_another_process_finds_the_same_directory(no_home: pathlib.Path, private: pathlib.Path) -> None:
    assert places.found().kept_in == private
    made = subprocess.run([sys.executable, "-c", WHERE], capture_output=True, text=True, check=False)
    assert made.stdout == f"{private}\n", made.stderr


def test_a_full_disk_is_not_kept_on(home: pathlib.Path, private: pathlib.Path) -> None:
    with no_file_larger_than(1 << 20):
        found = places.choose()
    assert found.kept_in is None
    assert found.why_not.count("File too large") == 2
    assert not list((home / ".cache" / "sparkps" / "kernels").iterdir())
    assert not list(private.iterdir())


def test_a_directory_of_another_user_is_refused(
    no_home: pathlib.Path, private: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private.mkdir(mode=0o700)
    give_away(private, monkeypatch)
    monkeypatch.setattr(places, "_usual", lambda: [(private, True)])
    found = places.found()
    assert found.kept_in is None
    assert "whose code must not be executed" in found.why_not


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o1777])
def test_a_directory_that_others_can_enter_is_refused(no_home: pathlib.Path, private: pathlib.Path, mode: int) -> None:
    private.mkdir()
    private.chmod(mode)
    assert places.found().kept_in is None
    assert "mode 700" in places.found().why_not


def test_a_link_to_elsewhere_is_refused(no_home: pathlib.Path, private: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "target").mkdir(mode=0o700)
    private.symlink_to(tmp_path / "target")
    assert places.found().kept_in is None
    assert "no directory" in places.found().why_not


def test_kernels_in_a_home_that_cannot_be_written_are_used(
    home: pathlib.Path, private: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = compiled.Kernel(rows.all_finite.python, rows.all_finite._declare, ("float32",))
    each._prepare("float32")
    monkeypatch.setattr(places, "_why_not", lambda path, private: "" if private else "Read-only file system")
    monkeypatch.setattr(places, "_found", None)
    assert places.found() == places.Places(
        private, (f"{str(home / '.cache' / 'sparkps' / 'kernels')!r}: Read-only file system",)
    )
    assert each.is_cached()


def test_kernels_of_another_user_do_not_count(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    each = compiled.Kernel(rows.all_finite.python, rows.all_finite._declare, ("float32",))
    each._prepare("float32")
    assert each.is_cached()
    (kept,) = places.searched()[0].glob("*.kernel")
    searched = places.searched()
    monkeypatch.setattr(places, "searched", lambda: searched)
    give_away(kept, monkeypatch)
    assert not each.is_cached()


def test_a_directory_that_was_asked_for_is_the_only_one_beside_that_of_the_environment(
    home: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARKPS_KERNEL_CACHE_DIR", str(tmp_path / "asked"))
    assert places.searched() == [tmp_path / "asked", places.shipped()]
    assert places.found() == places.Places(tmp_path / "asked", ())
    places.use(tmp_path / "set")
    assert places.found() == places.Places(tmp_path / "set", ())
    (tmp_path / "file").write_text("")
    places.use(tmp_path / "file")
    assert places.found().kept_in is None
    assert not (home / ".cache").exists()


def test_a_client_looks_first_where_the_tier_keeps_its_kernels(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "tier").mkdir()
    places.look_first_in(tmp_path / "tier")
    assert places.searched()[0] == places.found().kept_in == tmp_path / "tier"
    places.look_first_in(tmp_path / "not on this host")
    assert places.found().kept_in == home / ".cache" / "sparkps" / "kernels"
    assert not (tmp_path / "not on this host").exists()


def test_kernels_that_cannot_be_kept_are_said_once(
    no_home: pathlib.Path, private: pathlib.Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    private.write_text("in the way")
    monkeypatch.setattr(compiled, "_complained", set())
    for dtype in compiled.FLOATS:
        dispatcher = compiled._dispatcher(rows.all_finite.python, declared=True)
        dispatcher.compile(dict(rows.all_finite.signatures())[dtype])
        assert dispatcher.signatures
    (record,) = (r for r in caplog.records if "cannot be kept" in r.message)
    assert str(no_home) in record.message
    assert str(private) in record.message


def test_probing_leaves_nothing_behind(home: pathlib.Path) -> None:
    kept_in = places.found().kept_in
    assert kept_in is not None
    assert list(kept_in.iterdir()) == []
    files.write(kept_in / "a.kernel", b"code")
    places.choose()
    assert [path.name for path in kept_in.iterdir()] == ["a.kernel"]
