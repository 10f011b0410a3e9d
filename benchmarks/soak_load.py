"""What the workers of `soak` do, and how far they are: figures in a file that all processes of the host map."""

from __future__ import annotations

import os
import pathlib
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORKERS = 4

#: Figures of each rank: its process, and when its last push that has ended began and ended (monotonic seconds); whether it has finished.
_PID, _BEGAN, _ENDED, _FINISHED, _FIGURES = range(5)

#: Keys of each push that are pulled before it.
_PULLED = 100


@dataclass(frozen=True)
class Load:
    """What is pushed: a function of seed, round, rank and clock alone."""

    seed: int
    keys: int
    #: Keys of a push.
    batch: int

    def keys_of(self, number: int, rank: int, clock: int) -> NDArray[np.int64]:
        """Keys to which a rank adds 1 in a clock of a round, each once."""
        rng = np.random.default_rng((self.seed, number, rank, clock))
        return rng.choice(self.keys, self.batch, replace=False)

    def added(self, number: int, clocks: int) -> NDArray[np.float64]:
        """By key, what a whole round adds."""
        added = np.zeros(self.keys)
        for rank in range(WORKERS):
            for clock in range(clocks):
                added[self.keys_of(number, rank, clock)] += 1.0
        return added


class Progress:
    """How far each rank is.

    Parameters
    ----------
    path : Path
        The file.
    create : bool
        Make it.
    """

    def __init__(self, path: pathlib.Path, create: bool = False) -> None:
        self.path = path
        self._figures = np.memmap(path, np.float64, "w+" if create else "r+", shape=(WORKERS, _FIGURES))

    def reset(self) -> None:
        """A round begins."""
        self._figures[:] = 0.0

    def starts(self, rank: int) -> None:
        """This process has a rank."""
        self._figures[rank, _PID] = os.getpid()

    def pushed(self, rank: int, began: float) -> None:
        """A push that began then has ended."""
        self._figures[rank, _BEGAN:_FINISHED] = began, time.monotonic()

    def finished(self, rank: int) -> None:
        """The rank has come to its end."""
        self._figures[rank, _FINISHED] = 1.0

    def pid(self, rank: int) -> int:
        """The process that has a rank."""
        return int(self._figures[rank, _PID])

    def all_run(self) -> bool:
        """Whether every rank has pushed, and none has finished."""
        return bool((self._figures[:, _BEGAN] > 0.0).all() and not self._figures[:, _FINISHED].any())

    def pushed_after(self, at: float, seconds: float) -> float | None:
        """Seconds from `at` until every rank has ended a push that it began after it; None: a rank finished before.

        Raises
        ------
        AssertionError
            Not within so many seconds.
        """
        pause, last = threading.Event(), np.zeros(WORKERS)
        while not last.all():
            again = (self._figures[:, _BEGAN] > at) & (last == 0.0)
            last[again] = self._figures[again, _ENDED]
            if (self._figures[:, _FINISHED] > 0.0).any() or not self._figures[:, _PID].any():
                return None
            waited = [rank for rank in range(WORKERS) if not last[rank]]
            assert time.monotonic() - at < seconds, f"ranks {waited} have not pushed for {seconds:g} s after a fault"
            pause.wait(0.002)
        return float(last.max()) - at


def train_function(load: Load, path: str, number: int, clocks: int) -> Any:
    """The train function of a round."""

    def train(worker: Any, batches: Any) -> int:
        progress, rows = Progress(pathlib.Path(path)), worker.table("soak")
        progress.starts(worker.rank)
        for clock in range(worker.clock, clocks):
            keys = load.keys_of(number, worker.rank, clock)
            began = time.monotonic()
            assert (rows.pull(keys[:_PULLED]) >= 0.0).all(), "a row is never less than 0"
            rows.add(keys, np.ones((len(keys), 1)))
            worker.tick()
            progress.pushed(worker.rank, began)
        progress.finished(worker.rank)
        return clocks

    return train
