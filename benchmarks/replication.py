"""What a second copy of every bucket costs: push and pull of 100 k keys with replication 2 against 1, acknowledged by all copies or by one.

    python -m benchmarks.replication
    python -m benchmarks.replication --rounds 60 --dim 16

Three tiers of two nodes run side by side, on one machine, and take turns: a push and a pull each, a round after the other. The ratio of a
round is within it, so that whatever else the machine does is on both sides; the median counts.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from benchmarks.common import count, machine, table
from sparkps.client.session import disconnect
from sparkps.client.tables import SparseTable
from sparkps.config import NodeSettings, Settings
from sparkps.driver_bridge.launchers.local import launch
from sparkps.specs import TableSpec
from sparkps.wire.messages.control import CreateTable

#: Goals for the medians: push and pull against replication 1.
PUSH_GOAL, PULL_GOAL = 2.2, 1.0

#: What is compared: copies, and when a write is acknowledged.
KINDS = {"1 copy": (1, "sync"), "2 copies": (2, "sync"), "2 copies, async": (2, "async")}


@contextlib.contextmanager
def table_on(copies: int, ack: str, dim: int) -> Iterator[SparseTable]:
    """A table on a tier of its own."""
    node = dataclasses.replace(NodeSettings(), replication_ack=ack)
    tier = launch(Settings(num_nodes=2, replication=copies, node=node))
    try:
        yield SparseTable(tier.address, tier.control.request(CreateTable(0, TableSpec("rows", "sparse", dim))).spec)
    finally:
        disconnect(tier.address)
        tier.stop()


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measured(rounds: int, keys: int, dim: int) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds of every push and pull, by kind."""
    rng = np.random.default_rng(1)
    chosen, values = rng.choice(1 << 40, keys, replace=False), np.ones((keys, dim), np.float32)
    found: dict[str, tuple[list[float], list[float]]] = {kind: ([], []) for kind in KINDS}
    with contextlib.ExitStack() as stack:
        tables = {kind: stack.enter_context(table_on(*how, dim)) for kind, how in KINDS.items()}
        for number in range(rounds + 3):  # the first ones make the rows, and load kernels
            for kind, rows in tables.items():
                pushed, pulled = seconds(partial(rows.push, chosen, values)), seconds(partial(rows.pull, chosen))
                if number >= 3:
                    found[kind][0].append(pushed)
                    found[kind][1].append(pulled)
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--keys", type=count, default=100_000)
    parser.add_argument("--dim", type=int, default=1)
    args = parser.parse_args()
    print(machine())
    found = measured(args.rounds, args.keys, args.dim)
    base = found["1 copy"]
    lines = []
    for kind, times in found.items():
        ratios = [statistics.median(a / b for a, b in zip(times[i], base[i], strict=True)) for i in (0, 1)]
        least = [min(times[i]) / min(base[i]) for i in (0, 1)]
        lines.append([kind, *(1000 * statistics.median(each) for each in times), *ratios, *least])
    header = ["", "push (ms)", "pull (ms)", "push ratio", "pull ratio", "push, of the least", "pull, of the least"]
    print(f"{args.keys:,} keys, dim {args.dim}, {args.rounds} rounds; load {os.getloadavg()[0]:.1f}")
    print(table(header, lines))
    print(f"goals: push with 2 copies <= {PUSH_GOAL}, pull <= {PULL_GOAL} (equal, within the noise)")


if __name__ == "__main__":
    main()
