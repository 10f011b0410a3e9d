"""What `import sparkps` promises: it is quick, it brings in nothing heavy, and its names are listed and documented."""

from __future__ import annotations

import pathlib
import statistics
import subprocess
import sys

import pytest

import sparkps

HEAVY = ("numba", "pyspark", "torch", "zmq", "pyarrow", "pandas", "scipy")

TIME_IMPORT = "import time; t = time.perf_counter(); import sparkps; print(time.perf_counter() - t)"


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def test_import_takes_less_than_half_a_second():
    assert statistics.median(float(run(TIME_IMPORT)) for _ in range(5)) < 0.5


def test_import_brings_in_nothing_heavy():
    assert run(f"import sys, sparkps; print([name for name in {HEAVY!r} if name in sys.modules])") == "[]"


def test_public_names_exist_once_and_are_documented():
    """ruff keeps them sorted (RUF022)."""
    assert len(set(sparkps.__all__)) == len(sparkps.__all__)
    for public in sparkps.__all__:
        value = getattr(sparkps, public)
        assert isinstance(value, str) or value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        sparkps.no_such_name  # noqa: B018


def test_package_is_marked_as_typed():
    assert (pathlib.Path(sparkps.__file__).parent / "py.typed").is_file()


def test_no_file_of_the_repository_has_a_name_that_some_systems_cannot_have():
    """Nor one that somebody took for a URL."""
    root = pathlib.Path(__file__).parents[2]
    try:
        said = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no checkout of git")
    listed = said.split("\0")
    assert "pyproject.toml" in listed
    assert [path for path in listed if ":" in path] == []
