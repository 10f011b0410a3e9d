"""The program that `benchmarks.first_step` submits: two fits in one application; says when what had happened (seconds since 1970)."""

from __future__ import annotations

import argparse
import json
import logging
import os
import pathlib
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyspark.sql import SparkSession

import sparkps
from sparkps import PSContext
from sparkps.driver_bridge.launchers import launched
from sparkps.mllib import training
from sparkps.mllib.classification import LogisticRegression
from sparkps.mllib.solvers.vectors import FIRST_EVALUATION

ENTERED = time.time()

#: Seconds between two looks at the tier.
LOOK_EVERY = 0.03


def started(pid: int) -> float:
    """When a process of this machine was started."""
    ticks = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(pathlib.Path("/proc/uptime").read_text().split()[0])
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")


class Kernels:
    """Seconds that the driver spends on finding or compiling kernels, in all."""

    def __init__(self) -> None:
        self.seconds = 0.0
        for module in (launched, training):
            module.warm_kernels = self._timed(module.warm_kernels)  # type: ignore[attr-defined]

    def _timed(self, warm: Any) -> Any:
        def timed(*arguments: Any) -> None:
            began = time.time()
            warm(*arguments)
            self.seconds += time.time() - began

        return timed


class Watch(threading.Thread):
    """Looks at the group of a fit until it has done its first step."""

    def __init__(self, ps: PSContext, num_workers: int) -> None:
        super().__init__(daemon=True)
        self._ps, self._num_workers = ps, num_workers
        self.seen: dict[str, float] = {}
        #: Of the group's Spark jobs.
        self.tag = ""
        self.over = threading.Event()

    def run(self) -> None:
        while "step" not in self.seen and not self.over.wait(LOOK_EVERY):
            for group in self._ps.status()["groups"]:
                self.tag = f"sparkps-{group['name']}"
                for what in self._reached(group["ranks"][: self._num_workers]):
                    self.seen.setdefault(what, time.time())

    def _reached(self, ranks: list[dict[str, Any]]) -> Iterator[str]:
        clock = min(rank["clock"] for rank in ranks)
        yield "admitted"
        if all(rank["state"] != "vacant" for rank in ranks):
            yield "ranks"
        if clock >= 0:
            yield "rows"
        if clock >= FIRST_EVALUATION:
            yield "step"


def executors(spark: SparkSession, of_nodes: bool) -> list[float]:
    """When executors registered, those of nodes or those of workers."""
    found = spark.sparkContext._jsc.sc().statusStore().executorList(False)
    listed = [found.apply(i) for i in range(found.size())]
    return [
        each.addTime().getTime() / 1e3 for each in listed if each.id() != "driver" and (each.resourceProfileId() != 0) == of_nodes
    ]


def tasks(spark: SparkSession, tag: str) -> list[float]:
    """When the tasks of tagged jobs were sent to executors."""
    java = spark.sparkContext._jsc.sc()
    store, found = java.statusStore(), []
    for job in java.statusTracker().getJobIdsForTag(tag):
        stages = store.job(job).stageIds()
        for i in range(stages.size()):
            listed = store.taskList(stages.apply(i), 0, 1000)
            found += [listed.apply(j).launchTime().getTime() / 1e3 for j in range(listed.size())]
    return found


@contextmanager
def tier(spark: SparkSession, told: dict[str, Any]) -> Iterator[PSContext]:
    """A tier, and when its parts were there."""
    asked = time.time()
    with PSContext(spark) as ps:
        ready = time.time()
        nodes = [started(node["pid"]) for node in ps.status()["nodes"]]
        told["tier"] = {"asked": asked, "executors": max(executors(spark, True)), "processes": max(nodes), "ready": ready}
        yield ps


def fit(ps: PSContext, kernels: Kernels, source: str, num_workers: int) -> dict[str, Any]:
    """One fit, and when its parts were done."""
    before = kernels.seconds
    estimator = LogisticRegression(maxIter=3, regParam=1e-3).setParams(numWorkers=num_workers)
    rows = ps.spark.read.schema("label double, features array<float>").parquet(source)
    watch = Watch(ps, num_workers)
    watch.start()
    began = time.time()
    estimator.fit(rows)
    ended = time.time()
    watch.over.set()
    watch.join()
    there = {"began": began, "ended": ended, "executors": max(executors(ps.spark, False)), "tasks": max(tasks(ps.spark, watch.tag))}
    return {**watch.seen, **there, "kernels": kernels.seconds - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="URL of Parquet files")
    parser.add_argument("told", help="local file to write to")
    parser.add_argument("--num-workers", type=int, default=2)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    logging.getLogger("py4j").setLevel(logging.WARNING)
    kernels = Kernels()
    spark = SparkSession.builder.appName("first step").getOrCreate()
    told: dict[str, Any] = {"python": started(os.getpid()), "entered": ENTERED, "session": time.time()}
    told |= {"application": spark.sparkContext.applicationId, "package": str(pathlib.Path(sparkps.__file__).parent)}
    with tier(spark, told) as ps:
        told["tier kernels"] = kernels.seconds
        told["fits"] = [fit(ps, kernels, args.source, args.num_workers) for _ in range(2)]
    told["stopped"] = time.time()
    pathlib.Path(args.told).write_text(json.dumps(told))
    spark.stop()


if __name__ == "__main__":
    main()
