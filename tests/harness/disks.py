"""Disks without room, and files of other users, wherever a test runs.

A limit on the size of files stops every write beyond it, as a full disk does. A small file system would do the same, but
mounting one needs rights that a bare container does not give.
"""

from __future__ import annotations

import os
import pathlib
import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import psutil
import pytest


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """This process, and those that it starts meanwhile, write no file past `size` bytes: "File too large"."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def no_room_for_python_workers(size: int) -> Iterator[None]:
    """The same for Spark's Python workers, those that run and those that come."""
    limited = [process for process in psutil.Process(os.getpid()).children(recursive=True) if _is_worker(process)]
    assert limited, "Spark must have started a Python worker"
    _limit(limited, size)
    try:
        yield
    finally:
        started = [process for process in psutil.Process(os.getpid()).children(recursive=True) if _is_worker(process)]
        _limit({*limited, *started}, resource.RLIM_INFINITY)


def give_away(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `path` belong to another user; who cannot do that becomes another user."""
    if os.geteuid() == 0:
        os.chown(path, 12345, -1, follow_symlinks=False)
    else:
        other = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: other)


def _is_worker(process: psutil.Process) -> bool:
    try:
        return any("pyspark.daemon" in word for word in process.cmdline())
    except psutil.Error:
        return False


def _limit(processes: Iterable[psutil.Process], size: int) -> None:
    for process in processes:
        try:
            process.rlimit(psutil.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        except psutil.NoSuchProcess:
            continue


__all__ = ["give_away", "no_file_larger_than", "no_room_for_python_workers"]
