"""A training whose result shows every push that was lost, or counted twice, or summed in another order; with workers that fail.

A worker fails at a moment that a seed has chosen: at any instruction of a clock, by a timer of its own.
"""

from __future__ import annotations

import os
import pathlib
import pickle
import random
import signal
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

#: Keys that every rank pushes to in every clock.
KEYS = 50


@dataclass(frozen=True)
class Fault:
    """What happens to a worker, once."""

    rank: int
    clock: int
    #: "python": its process is killed. "jvm": its executor's is. "stop": it stops for good. "slow": it computes for `seconds`.
    kind: str
    #: After the beginning of the clock.
    seconds: float


def drawn(seed: int, kinds: Iterable[str], ranks: int, clocks: int, longest: float = 0.03) -> list[Fault]:
    """One fault of each kind, in ascending clocks, at random moments."""
    rng = random.Random(seed)
    found = [Fault(rng.randrange(ranks), rng.randrange(1, clocks), kind, rng.random() * longest) for kind in kinds]
    return sorted(found, key=lambda fault: fault.clock)


@dataclass(frozen=True)
class FaultyTraining:
    """A train function of two tables, `sums` (bit by bit a function of the order of sums) and `counts`. Picklable.

    Parameters
    ----------
    sums, counts : str
        Names of the tables: sparse and dense, float64, one element; `counts` has a row of `clocks` for each rank.
    clocks : int
    faults : list of Fault
    directory : str
        Where faults leave a mark, so that none comes twice.
    """

    sums: str
    counts: str
    clocks: int
    faults: tuple[Fault, ...]
    directory: str

    def __call__(self, worker: Any, batches: Any) -> tuple[int, int, str]:
        """Number of clocks, rows that were read, and what the state of the generator is at the end."""
        rows = sum(batch.num_rows for batch in batches)
        sums, counts = worker.table(self.sums), worker.table(self.counts)
        rng = np.random.default_rng(worker.rank)
        if worker.state is not None:
            rng.bit_generator.state = pickle.loads(worker.state)
        keys = np.arange(KEYS)
        while worker.clock < self.clocks:
            self._fail(worker.rank, worker.clock)
            read = sums.pull(keys)
            for _ in range(2):
                sums.push_async(keys, rng.choice([1e16, 1.0, -1e16, 0.1], read.shape) + 0.5 * np.tanh(read))
            ones = np.zeros(worker.num_workers * self.clocks)
            ones[worker.rank * self.clocks + worker.clock] = 1.0
            counts.add(ones)
            worker.tick(pickle.dumps(rng.bit_generator.state))
        return int(worker.clock), rows, str(rng.random())

    def _fail(self, rank: int, clock: int) -> None:
        for number, fault in enumerate(self.faults):
            if (fault.rank, fault.clock) == (rank, clock) and self._is_first(number):
                if fault.kind == "slow":
                    threading.Event().wait(fault.seconds)
                else:
                    threading.Timer(fault.seconds, _STRIKES[fault.kind]).start()
                    # The clock lasts until the fault comes, wherever it comes.
                    threading.Event().wait(fault.seconds * 0.5)

    def _is_first(self, number: int) -> bool:
        try:
            (pathlib.Path(self.directory) / f"fault{number}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def _kill_executor() -> None:
    """SIGKILL to the JVM that this worker belongs to."""
    jvm = next(parent for parent in psutil.Process().parents() if parent.name() == "java")
    jvm.kill()


_STRIKES = {
    "python": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "jvm": _kill_executor,
}


@dataclass(frozen=True)
class Outcome:
    """What a run has left, in plain values."""

    results: list[Any]
    sums: list[str]
    counts: list[float]
    staged: str
    #: Faults that have come.
    fired: int


def trained(ps: Any, df: Any, directory: str, faults: Iterable[Fault], *, clocks: int, ranks: int = 2, **options: Any) -> Outcome:
    """Run the training on fresh tables, and drop them."""
    from sparkps.optim import SGD

    root = pathlib.Path(directory)
    root.mkdir(parents=True)
    with_faults = tuple(faults)
    sums = ps.sparse_table("sums", dim=1, dtype="float64", optimizer=SGD(0.5))
    counts = ps.dense_table("counts", shape=ranks * clocks, dtype="float64")
    try:
        task = FaultyTraining("sums", "counts", clocks, with_faults, directory)
        results = ps.run(df, task, num_workers=ranks, timeout=100, **options)
        return Outcome(
            [list(result) for result in results],
            [float(value).hex() for value in sums.pull(np.arange(KEYS)).ravel()],
            counts.pull().tolist(),
            results.report.staged,
            len(list(root.iterdir())),
        )
    finally:
        sums.drop()
        counts.drop()


__all__ = ["Fault", "FaultyTraining", "Outcome", "drawn", "trained"]
