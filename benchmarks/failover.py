"""From the loss of a node to the next push of every worker: killed, standing still, cut off.

    python -m benchmarks.failover                        # 9 of each kind
    python -m benchmarks.failover --times 3 --kinds kill

Four worker processes push to all nodes of a tier of three with two copies of every bucket. A node is lost; the time runs until every
worker has ended a push that it began after that. Where the launcher sees the process end (`kill`) nobody waits for heartbeats; where
it does not (`stop`: SIGSTOP, `cut`: a partition) their deadline decides, the usual one or 500 ms. Before the next one the tier is whole.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing
import os
import pathlib
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.common import machine, table
from benchmarks.soak_load import WORKERS, Progress
from sparkps.client.session import disconnect
from sparkps.client.tables import SparseTable
from sparkps.config import Settings
from sparkps.driver_bridge.launchers.local import LocalTier
from sparkps.driver_bridge.launchers.restarts import Restarts
from sparkps.specs import TableSpec
from sparkps.testing import relayed
from sparkps.testing.processes import node_process, nodes_up, wait_until
from sparkps.wire.messages.control import CreateTable, TierAddress, TierStatus

NODES, KEYS = 3, 1000

#: What is lost how, the deadline of heartbeats in the settings ("": the usual one), and the goal for the median (seconds).
KINDS = {
    "kill": ("", 0.5),
    "stop": ("", 3.0),
    "cut": ("", 3.0),
    "stop, 500 ms": ("500ms", 1.2),
    "cut, 500 ms": ("500ms", 1.2),
}


def push(path: str, rank: int, address: TierAddress, spec: TableSpec, ended: Any) -> None:
    """A worker process."""
    progress, rows = Progress(pathlib.Path(path)), SparseTable(address, spec)
    progress.starts(rank)
    keys, ones = np.arange(KEYS), np.ones((KEYS, 1))
    while not ended.is_set():
        began = time.monotonic()
        rows.add(keys, ones)
        progress.pushed(rank, began)
    disconnect(address)


@contextlib.contextmanager
def tier_of(deadline: str) -> Iterator[LocalTier]:
    """A tier behind relays."""
    conf = {"spark.sparkps.numNodes": str(NODES), "spark.sparkps.replication": "2"}
    if deadline:
        conf["spark.sparkps.heartbeatDeadline"] = deadline
    settings = Settings.parse(conf)
    tier = relayed.launch(settings if deadline else settings.for_replicas())
    tier.node_restarts = Restarts(1000)
    try:
        yield tier
    finally:
        disconnect(tier.address)
        tier.stop()


@contextlib.contextmanager
def pushing(tier: LocalTier, directory: pathlib.Path) -> Iterator[Progress]:
    """Workers push while it lasts."""
    spawn = multiprocessing.get_context("spawn")
    ended, path = spawn.Event(), directory / "progress"
    progress = Progress(path, create=True)
    spec = tier.control.request(CreateTable(0, TableSpec("rows", "sparse", 1, "float64"))).spec
    workers = [spawn.Process(target=push, args=(str(path), rank, tier.address, spec, ended)) for rank in range(WORKERS)]
    for worker in workers:
        worker.start()
    try:
        wait_until(progress.all_run, 60.0, what="a push of every worker")
        yield progress
    finally:
        ended.set()
        for worker in workers:
            worker.join(30)


def wait_whole(tier: LocalTier) -> None:
    """All nodes are up, and nothing moves."""

    def is_whole() -> bool:
        report = tier.control.request(TierStatus(0, fresh=False)).report
        up = [node for node in report["nodes"] if node["state"] == "up"]
        return len(up) == NODES and report["moving"] is None and not report["under_replicated"]

    wait_until(is_whole, 180.0, 0.05, "a tier that is whole")


def lose(tier: LocalTier, progress: Progress, kind: str, node: int) -> float:
    """Lose a node; seconds to the next push of every worker."""
    ps: Any = SimpleNamespace(status=lambda: tier.control.request(TierStatus(0, fresh=False)).report)
    process = node_process(ps, node)
    with contextlib.ExitStack() as stack:
        at = time.monotonic()
        if kind.startswith("kill"):
            process.kill()
        elif kind.startswith("stop"):
            stack.enter_context(process.stopped())
        else:
            assert isinstance(tier, relayed.RelayedTier)
            stack.enter_context(tier.isolated(node))
            at = time.monotonic()
        seconds = progress.pushed_after(at, 60.0)
    assert seconds is not None, "every worker goes on"
    wait_until(lambda: not process.runs, 30.0, what="the end of a node that was lost")
    return seconds


def measured(kinds: list[str], times: int, seed: int = 1) -> dict[str, list[float]]:
    """Seconds, by kind; kinds take turns where they share a tier."""
    rng, found = np.random.default_rng(seed), dict[str, list[float]]()
    for deadline in dict.fromkeys(KINDS[kind][0] for kind in kinds):
        with tempfile.TemporaryDirectory() as name, tier_of(deadline) as tier, pushing(tier, pathlib.Path(name)) as progress:
            ps: Any = SimpleNamespace(status=lambda tier=tier: tier.control.request(TierStatus(0, fresh=False)).report)
            for _ in range(times):
                for kind in (kind for kind in kinds if KINDS[kind][0] == deadline):
                    wait_whole(tier)
                    threading.Event().wait(float(rng.random()))
                    seconds = lose(tier, progress, kind, int(rng.choice(nodes_up(ps))))
                    found.setdefault(kind, []).append(seconds)
                    print(f"{kind}: {seconds:.2f} s (load {os.getloadavg()[0]:.1f})", flush=True)
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--times", type=int, default=9)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    args = parser.parse_args()
    logging.getLogger("sparkps").setLevel(logging.CRITICAL)  # it tells of every node that is lost
    print(machine())
    found = measured(args.kinds, args.times)
    lines = [
        [kind, len(took), statistics.median(took), min(took), max(took), KINDS[kind][1], statistics.median(took) / KINDS[kind][1]]
        for kind, took in found.items()
    ]
    print(table(["loss", "times", "median (s)", "least", "most", "goal (s)", "median / goal"], lines))


if __name__ == "__main__":
    main()
