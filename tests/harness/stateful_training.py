"""A training whose every clock depends on the rows before, on the rank, and on a generator that is the rank's stored state."""

from __future__ import annotations

import os
import pathlib
import pickle
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sparkps.checkpoints.store import CheckpointStore

KEYS = np.arange(200)


class StatefulTraining:
    """A train function; rank 0 may be struck in the middle, once. Picklable.

    Parameters
    ----------
    clocks : int
    strike : callable, optional
        Called by rank 0 from the middle on, once there is a checkpoint in `kept`, if there is no file at `mark` yet.
        That then has the clock.
    mark : str
    kept : str
        Folder of checkpoints. Empty: none is waited for.
    seconds : float
        That each clock takes at least.
    """

    def __init__(
        self, clocks: int, strike: Callable[[], None] | None = None, mark: str = "", kept: str = "", seconds: float = 0.0
    ) -> None:
        self.clocks, self.strike, self.mark, self.kept, self.seconds = clocks, strike, mark, kept, seconds

    def __call__(self, worker: Any, batches: Any) -> tuple[int, int]:
        """The clock at which it began, and the number of its rows."""
        rows = sum(batch.num_rows for batch in batches)
        began = worker.clock
        table, random = worker.table("w"), np.random.default_rng(worker.rank)
        if worker.state is not None:
            random.bit_generator.state = pickle.loads(worker.state)
        while worker.clock < self.clocks:
            if self.strike is not None and worker.rank == 0 and worker.clock >= self.clocks // 2:
                self._strike_once(worker.clock)
            read = table.pull(KEYS)
            table.push(KEYS, np.tanh(read) + random.normal(size=read.shape))
            threading.Event().wait(self.seconds)
            worker.tick(pickle.dumps(random.bit_generator.state))
        return began, rows

    def _strike_once(self, clock: int) -> None:
        assert self.strike is not None
        path = pathlib.Path(self.mark)
        if not path.exists() and has_checkpoint(self.kept):
            path.write_text(str(clock))
            self.strike()


class Killing:
    """Kills processes."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.pids = list(pids)

    def __call__(self) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)


def has_checkpoint(url: str, least: int = 2) -> bool:
    """Whether there are so many complete ones; of a run the first is that of the start.

    A busy machine is no reason for a test to strike before.
    """
    return not url or len(CheckpointStore(url).ids()) >= least


def fail() -> None:
    """What a user's function may do."""
    raise ValueError("struck")


__all__ = ["KEYS", "Killing", "StatefulTraining", "fail", "has_checkpoint"]
