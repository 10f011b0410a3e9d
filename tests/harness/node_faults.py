"""A training, and a driver that pushes beside it, whose tables show bit by bit what became of each push; and faults at drawn moments."""

from __future__ import annotations

import contextlib
import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.driver_bridge.launchers.restarts import Restarts
from sparkps.testing.processes import wait_until

#: Nodes of a tier that is to lose some.
NODES = 3

#: Rows that every rank, and the driver, pushes to; elements of the dense table; pushes of the driver.
ROWS, ELEMENTS, OUTSIDE = 400, 64, 80

#: Seconds that a tier has to come to itself after a fault, and that a training may take with one.
WHOLE_WITHIN, TRAINED_WITHIN = 120.0, 180.0


@dataclass(frozen=True)
class Training:
    """A train function; picklable. Sums depend on their order, counts tell each push."""

    clocks: int
    #: Each rank leaves its clock there.
    directory: str
    #: Seconds of work in a clock, at least.
    pace: float = 0.02

    def __call__(self, worker: Any, batches: Any) -> int:
        """Pull, push and tick; the number of clocks."""
        rows, halves, weights, counts = (worker.table(name) for name in ("rows", "halves", "weights", "counts"))
        keys = np.arange(ROWS)
        while worker.clock < self.clocks:
            rng = np.random.default_rng((worker.rank, worker.clock))
            read, dense = rows.pull(keys), weights.pull()
            rows.push_async(keys, np.tanh(read) + rng.normal(size=read.shape))
            weights.push(np.tanh(dense) + rng.normal(size=dense.shape))
            halves.push(keys, np.tanh(halves.pull(keys)) + rng.normal(size=read.shape))
            rows.push(keys[::3], rng.normal(size=(len(keys[::3]), 4)))
            ones = np.zeros(worker.num_workers * self.clocks)
            ones[worker.rank * self.clocks + worker.clock] = 1.0
            counts.add(ones)
            threading.Event().wait(self.pace)
            worker.tick()
            (pathlib.Path(self.directory) / str(worker.rank)).write_text(str(worker.clock))
        return int(worker.clock)


@dataclass
class Tables:
    """What a run has left, bit by bit."""

    bits: dict[str, NDArray[Any]]
    counts: NDArray[Any]
    outside: NDArray[Any]
    #: Longest time that a push of the driver took (seconds).
    longest: float = 0.0
    errors: list[BaseException] = field(default_factory=list)

    def assert_same(self, other: Tables) -> None:
        """Equal in all bits, and each push counted once."""
        assert (self.counts == 1.0).all(), f"pushes of ranks must count once: {self.counts[self.counts != 1.0][:5]}"
        assert (self.outside == OUTSIDE).all(), f"pushes of the driver must count once: {np.unique(self.outside)}, not {OUTSIDE}"
        for name, values in other.bits.items():
            assert values.tobytes() == self.bits[name].tobytes(), f"table {name!r} must have the same bits"


def clock_of(directory: pathlib.Path, rank: int = 0) -> int:
    """How far a rank is."""
    with contextlib.suppress(OSError, ValueError):
        return int((directory / str(rank)).read_text())
    return 0


def push_outside(ps: Any, ready: threading.Event) -> float:
    """The driver's own pushes, one after the other; the longest time that one took."""
    rows, sums = ps.table("outside_rows"), ps.table("outside_sums")
    keys, longest = np.arange(ROWS), 0.0
    for number in range(OUTSIDE):
        rng = np.random.default_rng(number)
        began = time.monotonic()
        rows.push(keys, np.tanh(rows.pull(keys)) + rng.normal(size=(ROWS, 4)))
        sums.add(keys, np.ones((ROWS, 1)))
        longest = max(longest, time.monotonic() - began)
        ready.wait(0.01)
    return longest


@contextlib.contextmanager
def tables(ps: Any, ranks: int, clocks: int) -> Iterator[None]:
    """The tables of a training."""
    from sparkps.optim import SGD, Adagrad, Adam

    made = [
        ps.sparse_table("rows", dim=4, optimizer=Adagrad(0.1)),
        ps.sparse_table("halves", dim=4, optimizer=Adagrad(0.1), storage="bfloat16"),
        ps.dense_table("weights", shape=ELEMENTS, dtype="float64", optimizer=Adam(0.01)),
        ps.dense_table("counts", shape=ranks * clocks, dtype="float64"),
        ps.sparse_table("outside_rows", dim=4, dtype="float64", optimizer=Adam(0.05)),
        ps.sparse_table("outside_sums", dim=1, dtype="float64", optimizer=SGD(1.0)),
    ]
    try:
        yield
    finally:
        for table in made:
            table.drop()


def trained(
    ps: Any, directory: pathlib.Path, fault: Callable[[], None] = lambda: None, *, at: float = 0.0, ranks: int = 2, clocks: int = 30,
    **options: Any,
) -> Tables:
    """Train while the driver pushes, too; when rank 0 has done this share of its clocks, and so much of the next, comes the fault."""
    directory.mkdir(parents=True)
    done = threading.Event()
    with tables(ps, ranks, clocks), ThreadPoolExecutor(2) as pool:
        task = Training(clocks, str(directory))
        run = pool.submit(ps.run, ps.spark.range(100), task, num_workers=ranks, timeout=TRAINED_WITHIN, **options)
        outside = pool.submit(push_outside, ps, done)
        when = at * clocks
        wait_until(lambda: clock_of(directory) >= int(when) or run.done(), TRAINED_WITHIN, 0.002, "the moment of the fault")
        threading.Event().wait(0.04 * (when % 1))
        fault()
        assert list(run.result(TRAINED_WITHIN)) == [clocks] * ranks
        longest = outside.result(TRAINED_WITHIN)
        keys = np.arange(ROWS)
        bits = {name: ps.table(name).pull(keys) for name in ("rows", "halves", "outside_rows")}
        bits["weights"] = ps.table("weights").pull()
        return Tables(bits, ps.table("counts").pull(), ps.table("outside_sums").pull(keys), longest)


def wait_whole(ps: Any, nodes: int) -> float:
    """Wait until so many nodes are up, every bucket has its copies, and nothing moves; how long that took."""

    def is_whole() -> bool:
        status = ps.status()
        up = [node for node in status["nodes"] if node["state"] == "up"]
        return len(up) == nodes and status["moving"] is None and not status["under_replicated"]

    return wait_until(is_whole, WHOLE_WITHIN, 0.05, f"a tier of {nodes} nodes that is whole")


def never_tired(ps: Any) -> None:
    """However often processes end, they are started again."""
    ps._tier.node_restarts, ps._tier.coordinator_restarts = Restarts(1000), Restarts(1000)


__all__ = ["NODES", "OUTSIDE", "ROWS", "Tables", "Training", "clock_of", "never_tired", "tables", "trained", "wait_whole"]
