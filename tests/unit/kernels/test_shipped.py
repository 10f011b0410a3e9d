"""Compiled kernels that go with the Python environment: found wherever it was unpacked, by whoever may trust it."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pytest

from sparkps.kernels import ahead, compiled, places, rows
from sparkps.kernels.compiled import array, given, kernel
from tests.harness.disks import give_away

OWNER = __name__

#: Loads a kernel, or compiles it, and says which, where it is kept then, and that it is right.
PROGRAM = """
import sys
sys.prefix = sys.argv[1]
import numpy as np
from sparkps.kernels import places, rows
was_cached = rows.all_finite.is_cached()
finite = rows.all_finite.of("float32")(np.ones((2, 2), np.float32))
print(was_cached, bool(finite), rows.all_finite.is_cached(), len(list(places.shipped().glob("*.kernel"))))
"""


@kernel(lambda t: (given(t), array(t)), dtypes=("float64",))
def _tripled(values, out):  # type: ignore[no-untyped-def]
    for i in range(values.shape[0]):
        out[i] = 3 * values[i]


@pytest.fixture
def environment(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A Python environment, and a user without kernels of their own."""
    for name in ("_given", "_told", "_found"):
        monkeypatch.setattr(places, name, None)
    for name in ("SPARKPS_KERNEL_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for directory in ("home", "temporary", "environment"):
        (tmp_path / directory).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    _tripled._ready.clear()
    return tmp_path / "environment"


def start_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """As another process of the environment."""
    for name in ("_given", "_told", "_found"):
        monkeypatch.setattr(places, name, None)
    _tripled._ready.clear()


def compile_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled._DiskCache, "save_overload", lambda *_: pytest.fail("compiled instead of loaded"))


def test_an_environment_that_was_unpacked_elsewhere_brings_its_kernels(
    environment: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ahead.ship(OWNER) == environment / "share" / "sparkps" / "kernels"
    unpacked = environment.rename(environment.parent / "container")
    monkeypatch.setattr(sys, "prefix", str(unpacked))
    start_anew(monkeypatch)
    compile_nothing(monkeypatch)
    out = np.empty(2)
    _tripled.of("float64")(np.array([1.0, 2.0]), out)
    assert out.tolist() == [3, 6]


def test_kernels_on_disk_are_shipped_without_being_compiled_again(
    environment: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead.warm(OWNER)
    kept_in = places.found().kept_in
    assert kept_in is not None
    assert kept_in.is_relative_to(environment.parent / "home")
    start_anew(monkeypatch)
    compile_nothing(monkeypatch)
    shipped = ahead.ship(OWNER)
    assert [path.name for path in shipped.iterdir()] == [path.name for path in kept_in.iterdir()]


def test_the_kernels_of_the_environment_are_read_and_others_are_kept_elsewhere(environment: pathlib.Path) -> None:
    shipped = places.shipped()
    shipped.mkdir(parents=True)
    ahead.warm(OWNER)
    assert list(shipped.iterdir()) == []
    assert places.found().kept_in == environment.parent / "home" / ".cache" / "sparkps" / "kernels"


def test_a_directory_that_was_asked_for_needs_no_kernels_of_its_own(
    environment: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead.ship(OWNER)
    start_anew(monkeypatch)
    places.use(environment.parent / "asked")
    assert ahead.is_warm(OWNER)


@pytest.mark.parametrize("harm", ["another user's", "writable by others", "damaged"])
def test_what_cannot_be_trusted_is_compiled_again(
    environment: pathlib.Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    (kept,) = ahead.ship(OWNER).iterdir()
    if harm == "damaged":
        kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    elif harm == "writable by others":
        kept.chmod(0o666)
    start_anew(monkeypatch)
    monkeypatch.setattr(places, "searched", lambda: [kept.parent])
    if harm == "another user's":
        give_away(kept, monkeypatch)
    assert not ahead.is_warm(OWNER)


@pytest.mark.parametrize("cpu", ["", "generic"])
def test_another_processor_compiles_its_own(environment: pathlib.Path, cpu: str) -> None:
    """Machine code of this host may hold instructions that another one does not know."""
    shipped = places.shipped()
    shipped.mkdir(parents=True)
    compiled.Kernel(rows.all_finite.python, rows.all_finite._declare, compiled.FLOATS).ready(compiled.FLOATS)
    rows.all_finite.copy_to(shipped)
    number = len(list(shipped.iterdir()))
    assert number == len(list(rows.all_finite.signatures()))
    described = {"HOME": str(environment.parent / "another"), **({"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""} if cpu else {})}
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(environment)],
        env={**os.environ, **described, "TMPDIR": str(environment.parent / "temporary")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    was_cached, is_right, _, left = said.stdout.split()
    assert (was_cached, is_right, left) == (str(not cpu), "True", str(number))


def test_the_command_says_where_they_are(environment: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    ahead.main(["--ship", OWNER])
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "sparkps: compiling kernel 1 of 1, _tripled",
        f"sparkps: compiled kernels are in {environment / 'share' / 'sparkps' / 'kernels'}",
    ]
