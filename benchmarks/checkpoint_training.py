"""Training while checkpoints of 10 M rows are taken, beside training without: pushes a second, and the longest that one waited.

    python -m benchmarks.checkpoint_training

Two nodes, two ranks of a BSP group in processes' threads that pull and push a part of the rows in each clock. Rounds with and without
checkpoints alternate; the median of the ratios within a round counts. The promise is at least 0.8.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from typing import Any

import numpy as np

from benchmarks.common import count, machine, table
from sparkps.client.control import ControlClient
from sparkps.client.session import Session, connect, disconnect
from sparkps.client.tables import SparseTable
from sparkps.config import Settings
from sparkps.driver_bridge import checkpointing
from sparkps.driver_bridge.launchers import local
from sparkps.optim import Adagrad
from sparkps.specs import TableSpec
from sparkps.wire.messages.control import AdmitGroup, CreateTable, EndGroup

PROMISED = 0.8
RANKS = 2


class Round:
    """Ranks that train for some seconds."""

    def __init__(self, tier: Any, spec: TableSpec, rows: int, keys: int, name: str) -> None:
        self.control = ControlClient.of(tier.address)
        self.group = self.control.request(AdmitGroup(0, name, RANKS, RANKS, 0, 0, name)).spec
        self.clocks: list[float] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._rank, args=(tier, spec, rank, rows, keys)) for rank in range(RANKS)]
        for thread in self._threads:
            thread.start()

    def _rank(self, tier: Any, spec: TableSpec, rank: int, rows: int, keys: int) -> None:
        session = Session(tier.address, self.control)
        session.takeover(self.group.group, rank, 1)
        mine: Any = SparseTable(tier.address, spec).bind(session)
        random = np.random.default_rng(rank)
        while not self._over.is_set():
            began = time.perf_counter()
            some = random.integers(0, rows, keys)
            mine.push(some, 0.1 * mine.pull(some))
            session.tick()
            if rank == 0:
                self.clocks.append(time.perf_counter() - began)
        session.finish()
        session.leave()

    def end(self) -> list[float]:
        """Seconds of each clock."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        self.control.request(EndGroup(0, self.group.group))
        return self.clocks


def measured(tier: Any, spec: TableSpec, args: argparse.Namespace, url: str | None, name: str) -> tuple[float, float, float, int]:
    """Clocks a second and the longest clock while a checkpoint is taken, or for so many seconds without one; its seconds and bytes."""
    running = Round(tier, spec, args.rows, args.keys, name)
    time.sleep(1.0)
    before, began = len(running.clocks), time.perf_counter()
    made = None
    if url is None:
        time.sleep(args.seconds)
    else:
        made = checkpointing.take(running.control, url)
    seconds, after = time.perf_counter() - began, len(running.clocks)
    clocks = running.end()
    return (after - before) / seconds, max(clocks[before:after], default=seconds), seconds, made.bytes if made is not None else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=count, default=10_000_000)
    parser.add_argument("--keys", type=count, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a round without a checkpoint")
    parser.add_argument("--directory", help="on the disk to measure; by default the system's temporary directory")
    args = parser.parse_args()
    print(machine())
    directory = tempfile.mkdtemp(prefix="sparkps-benchmark-", dir=args.directory)
    tier = local.launch(Settings(num_nodes=2))
    lines, ratios = [], []
    try:
        control = ControlClient.of(tier.address)
        spec = control.request(CreateTable(0, TableSpec("rows", "sparse", 1, optimizer=Adagrad(0.1)))).spec
        connect(tier.address)
        whole = SparseTable(tier.address, spec)
        for first in range(0, args.rows, 1_000_000):
            keys = np.arange(first, min(args.rows, first + 1_000_000))
            whole.push(keys, np.ones((len(keys), 1), np.float32))
        for number in range(args.rounds):
            alone, longest, _, _ = measured(tier, spec, args, None, f"alone{number}")
            beside, stalled, seconds, nbytes = measured(tier, spec, args, directory, f"beside{number}")
            ratios.append(beside / alone)
            lines.append([number, alone, beside, beside / alone, longest * 1e3, stalled * 1e3, seconds, nbytes / seconds / 1e6])
    finally:
        disconnect(tier.address)
        tier.stop()
        shutil.rmtree(directory)
    head = ["round", "clocks/s", "beside one", "ratio", "longest clock, ms", "beside one, ms", "checkpoint, s", "MB/s"]
    print(table(head, lines))
    print(f"median ratio {statistics.median(ratios):.2f}, promised >= {PROMISED}")


if __name__ == "__main__":
    main()
