"""What the environment of a process says."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

import sparkps
from sparkps import environment
from sparkps.config import Settings


def test_kernel_cache_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARKPS_KERNEL_CACHE_DIR", raising=False)
    assert environment.kernel_cache_dir() == ""
    monkeypatch.setenv("SPARKPS_KERNEL_CACHE_DIR", "/elsewhere")
    assert environment.kernel_cache_dir() == "/elsewhere"
    made = environment.child_environment(Settings(kernel_cache_dir="/third"))
    assert made["SPARKPS_KERNEL_CACHE_DIR"] == "/third"


def test_users_cache_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/some/home")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert environment.user_cache_dir() == pathlib.Path("/some/home/.cache")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert environment.user_cache_dir() == pathlib.Path("/some/home/.cache")
    monkeypatch.setenv("XDG_CACHE_HOME", "/of/caches")
    assert environment.user_cache_dir() == pathlib.Path("/of/caches")


def test_a_user_without_a_home_has_no_cache_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> pathlib.Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pathlib.Path, "home", nowhere)
    assert environment.user_cache_dir() is None


def test_a_directory_that_the_driver_finds_no_modules_in_hides_none_from_its_children(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "resource.py").write_text("raise RuntimeError('this is not the module of Python')")
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-c", "import resource, sparkps; print(sparkps.__file__)"]
    found = subprocess.run(command, env=environment.child_environment(Settings()), capture_output=True, text=True, check=True)
    assert found.stdout.strip() == sparkps.__file__
    monkeypatch.syspath_prepend("")
    assert environment.child_environment(Settings()).get("PYTHONSAFEPATH") == os.environ.get("PYTHONSAFEPATH")


def test_a_path_that_cannot_travel_is_not_told_to_clients() -> None:
    name = os.fsdecode(b"/bad\xff")
    assert environment.with_client_kernels(Settings(), pathlib.Path(name)).client.kernel_cache_dir == ""
    assert environment.with_client_kernels(Settings(), None).client.kernel_cache_dir == ""
    assert environment.with_client_kernels(Settings(), pathlib.Path("/good")).client.kernel_cache_dir == "/good"


def test_what_the_user_says_of_nccl_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    monkeypatch.setenv("TORCH_NCCL_ENABLE_MONITORING", "to be undone")
    monkeypatch.delenv("TORCH_NCCL_ENABLE_MONITORING")
    environment.leave_nccl_to_us()
    assert os.environ["TORCH_NCCL_ASYNC_ERROR_HANDLING"] == "1"
    assert os.environ["TORCH_NCCL_ENABLE_MONITORING"] == "0"
