"""Aggregate bandwidth of pull and push where workers and nodes come together, over links of one speed: 1 to 8 of each.

    python -m benchmarks.weak_scaling
    python -m benchmarks.weak_scaling --nodes 1 4 --mb 16

Every node is behind a relay that lets so many bytes pass a second each way, as a host's link does; there are as many workers as nodes,
each with keys of its own, spread over all nodes, and so each worker's bytes are those of one link, too. A worker has the rows of its
next step under way while it pushes those of the last, as training does. What counts is bytes of rows and keys that went through in the
time, against so many times what one worker has with one node. Links are slow on purpose: one machine plays all hosts.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.common import machine, table
from sparkps.client.futures import Future
from sparkps.client.session import disconnect
from sparkps.client.tables import SparseTable
from sparkps.config import Settings
from sparkps.specs import TableSpec
from sparkps.testing import relayed
from sparkps.wire.messages.control import CreateTable, TierAddress

#: Values of a row, and keys that a worker moves in a step.
DIM, KEYS = 16, 40_000

#: What is promised of the bandwidth of all, against that of one times their number.
GOAL = 0.9

#: Steps under way.
_AHEAD = 2


def move(rank: int, address: TierAddress, spec: TableSpec, start: Any, seconds: float, found: Any) -> None:
    """A worker process: pull and push its rows until the time is over; says how many steps it made, and in which time."""
    keys = np.arange(KEYS, dtype=np.int64) + rank * KEYS
    ones = np.ones((KEYS, DIM), np.float32)
    rows = SparseTable(address, spec)
    rows.assign(keys, ones)
    start.wait()
    began, steps = time.perf_counter(), 0
    pulls = [rows.pull_async(keys) for _ in range(_AHEAD)]
    pushes: list[Future[None]] = []
    while time.perf_counter() - began < seconds:
        pulls.pop(0).result(120.0)
        pulls.append(rows.pull_async(keys))
        pushes.append(rows.push_async(keys, ones))
        if len(pushes) > _AHEAD:
            pushes.pop(0).result(120.0)
            steps += 1
    for push in pushes:
        push.result(120.0)
    for pull in pulls:
        pull.result(120.0)
    found.put((steps + len(pushes), time.perf_counter() - began))
    disconnect(address)


@contextlib.contextmanager
def throttled(count: int, bytes_per_second: float) -> Iterator[relayed.RelayedTier]:
    """A tier each of whose nodes has a link of that speed, each way."""
    tier = relayed.launch(Settings(num_nodes=count))
    try:
        for relay in tier.to_node.values():
            relay.throttle(bytes_per_second)
        yield tier
    finally:
        disconnect(tier.address)
        tier.stop()


def bandwidth(count: int, bytes_per_second: float, seconds: float) -> float:
    """Bytes a second that go through relays in both directions, with `count` workers and nodes."""
    spawn = multiprocessing.get_context("spawn")
    start, found = spawn.Barrier(count + 1), spawn.Queue()
    with throttled(count, bytes_per_second) as tier:
        spec = tier.control.request(CreateTable(0, TableSpec("rows", "sparse", DIM))).spec
        job = (tier.address, spec, start, seconds, found)
        workers = [spawn.Process(target=move, args=(rank, *job), daemon=True) for rank in range(count)]
        for worker in workers:
            worker.start()
        start.wait(300.0)
        before = _passed(tier)
        ended = [found.get(timeout=seconds + 300.0) for _ in workers]
        moved = float(_passed(tier) - before)
        for worker in workers:
            worker.join(60.0)
    longest: float = max(took for _, took in ended)
    return moved / longest


def _passed(tier: relayed.RelayedTier) -> int:
    return sum(relay.passed("up") + relay.passed("down") for relay in tier.to_node.values())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--mb", type=float, default=4.0, help="MB a second of a link, each way")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long workers begin steps")
    args = parser.parse_args()
    print(machine())
    lines, one = [], 0.0
    for number in args.nodes:
        mb = bandwidth(number, args.mb * 1e6, args.seconds) / 1e6
        one = one or mb / number
        lines.append([number, mb, 2 * args.mb * number, mb / (2 * args.mb * number), mb / (one * number), GOAL])
        print(f"{number} of each: {mb:.1f} MB/s (load {os.getloadavg()[0]:.1f})", flush=True)
    print(table(["workers and nodes", "MB/s", "of links", "of links' speed", "of linear", "promised"], lines))


if __name__ == "__main__":
    main()
