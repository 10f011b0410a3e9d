"""Python workers are started ahead on a local master alone, and nothing comes of it if that fails."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from sparkps.driver_bridge import prestart as module
from sparkps.driver_bridge.prestart import MOST_WORKERS, start_python_workers


class FakeJob:
    """As much of a SparkJob as is used, run at once."""

    def __init__(self, spark: Any, tag: str, description: str, work: Any) -> None:
        self.work = work
        self.error: BaseException | None = None
        self.done = threading.Event()

    def start(self) -> FakeJob:
        try:
            self.work()
        except RuntimeError as error:
            self.error = error
        self.done.set()
        return self


class FakeContext:
    """Counts what it is asked to run."""

    def __init__(self, master: str, slots: int, *, broken: bool = False) -> None:
        self.master, self.defaultParallelism = master, slots
        self.broken = broken
        self.asked: list[tuple[int, int]] = []

    def parallelize(self, elements: range, slices: int) -> FakeContext:
        self.asked.append((len(elements), slices))
        return self

    def mapPartitions(self, function: Any) -> FakeContext:
        assert list(function(iter([7]))) == [7]
        return self

    def collect(self) -> list[int]:
        if self.broken:
            raise RuntimeError("no Python here")
        return []


@pytest.fixture(autouse=True)
def jobs_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SparkJob", FakeJob)


@pytest.mark.parametrize(
    ("master", "slots", "workers"), [("local", 1, 1), ("local[3]", 3, 3), ("local[*]", 64, MOST_WORKERS)]
)
def test_one_worker_a_slot_on_a_local_master(master: str, slots: int, workers: int) -> None:
    context = FakeContext(master, slots)
    assert start_python_workers(SimpleNamespace(sparkContext=context)).is_set()
    assert context.asked == [(workers, workers)]


@pytest.mark.parametrize("master", ["yarn", "spark://host:7077", "local-cluster[2,1,1024]", "k8s://https://host"])
def test_nothing_on_a_cluster(master: str) -> None:
    context = FakeContext(master, 4)
    assert start_python_workers(SimpleNamespace(sparkContext=context)).is_set()
    assert context.asked == []


def test_a_failure_is_nobodys_concern() -> None:
    assert start_python_workers(SimpleNamespace(sparkContext=FakeContext("local[2]", 2, broken=True))).is_set()
