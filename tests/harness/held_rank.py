"""A rank that stops in a clock until its process is killed, and a fit to which that happens."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sparkps import PSContext
from tests.harness.waiting import wait_until


class Held:
    """A train function one of whose ranks stops in a clock, after its pushes and before its tick, until it is killed.

    A successor, which begins at a later clock than 0, goes through.
    """

    def __init__(self, train: Callable[[Any, Any], Any], clock: int, rank: int = 0) -> None:
        self.train, self.clock, self.rank = train, clock, rank

    def __call__(self, worker: Any, batches: Any) -> Any:
        if worker.rank == self.rank and worker.clock == 0:
            tick = worker.tick

            def held(state: bytes | None = None) -> None:
                if worker.clock == self.clock:
                    worker.report(held=os.getpid())
                    threading.Event().wait(40)
                tick(state)

            worker.tick = held
        return self.train(worker, batches)


def status_of(ps: PSContext, rank: int) -> dict[str, Any]:
    """A rank of the only worker group, as the status has it; empty without a group."""
    groups = ps.status()["groups"]
    return groups[0]["ranks"][rank] if groups else {}


def disturbed_by(ps: PSContext, clock: int, fit: Callable[[], Any], rank: int = 0) -> Any:
    """What the fit gives one of whose ranks is held in that clock, and killed."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(fit)
        assert wait_until(lambda: "held" in status_of(ps, rank).get("counters", {}), 120.0, 0.05)
        held = status_of(ps, rank)
        assert (held["clock"], held["incarnation"]) == (clock - 1, 1)
        os.kill(held["counters"]["held"], signal.SIGKILL)
        return running.result(timeout=180)


__all__ = ["Held", "disturbed_by", "status_of"]
