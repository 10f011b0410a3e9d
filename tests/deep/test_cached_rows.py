"""Rows that are asked for ahead and used again, on simulated nodes: no read is older than the staleness says, whoever is slow or dies."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sparkps import ASP, BSP, SSP
from sparkps.config import ClientSettings
from sparkps.mllib.deep.job import DeepJob
from sparkps.mllib.deep.rank import PARTS, DeepRank
from sparkps.nn.cached import CachedRows
from sparkps.nn.tier import TierRows
from sparkps.testing.simulation import NetworkFaults, SimulatedClient, Simulation

#: Read, and counted in, by every rank in every step.
HOT = np.arange(30)

STEPS, RANKS = 24, 3


def job_of(consistency: Any, prefetch: int, clocks: int, max_bytes: int = 1 << 20) -> DeepJob:
    """A job of one epoch, as far as a rank's clock needs it."""
    nothing: Any = None
    return DeepJob(
        "", nothing, b"", nothing, nothing, 1, 1, consistency, RANKS, False, 0,
        prefetch=prefetch, cache_clocks=clocks, cache_bytes=max_bytes,
    )  # fmt: skip


class Counting(DeepRank):
    """A rank whose steps count: a row has a number for each rank, of its steps that the row was in."""

    def __init__(self, client: SimulatedClient, group: Any, job: DeepJob, rank: int, pause: float) -> None:
        clock, _ = client.join(group, rank)
        session = client.session
        self.worker = SimpleNamespace(rank=rank, clock=clock, tick=self._ticked)
        self.client, self.session, self.job, self.pause = client, session, job, pause
        self.table = client.table("w")
        self.rows = TierRows(session, {"w": self.table})
        self.cache = CachedRows(self.rows, job.cache_bytes) if job.cached else None
        self.dense = SimpleNamespace(
            wanted=[], start=lambda t: None, begin=lambda t, more: None, end=lambda scale: None, commit=lambda ends_epoch: None
        )
        self.losses, self.wait = SimpleNamespace(pull_async=lambda: None), lambda future: future
        self.measuring, self.known_steps, self.running, self.steps = None, 0, (0.0, 0.0), 0
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._next, self._ready, self._asked, self._due = 0, deque(), deque(), None
        #: Of each step, the fewest steps of another rank, and of this one, that its rows had.
        self.others: list[int] = []
        self.own: list[int] = []

    def _ticked(self, state: bytes | None = None) -> None:
        self.session.tick(state)
        self.worker.clock = self.session.member.clock

    def _count(self):
        self._ticked()
        return SimpleNamespace(steps=STEPS), 1.0

    def _prepared(self, t: int) -> Any:
        draw = np.random.default_rng((t, self.worker.rank))
        keys = np.unique(np.concatenate([HOT, draw.integers(100, 10_000, 20)]))
        return SimpleNamespace(t=t, lookup=SimpleNamespace(keys={"w": keys}))

    def _step(self, prepared: Any, rows: dict[str, np.ndarray]) -> None:
        keys = prepared.lookup.keys["w"]
        hot = rows["w"][np.isin(keys, HOT)]
        self.others.append(int(np.delete(hot, self.worker.rank, axis=1).min()))
        self.own.append(int(hot[:, self.worker.rank].min()))
        self._catch_up()
        self.client.pause(self.pause)
        counted = np.zeros((len(keys), RANKS), np.float32)
        counted[:, self.worker.rank] = 1.0
        self.table.add_async(keys, counted)

    def _end_epoch(self, epoch: int) -> None:
        """Nothing is told."""


def trained(job: DeepJob, *, pauses: tuple[float, ...] = (1.0, 0.01, 0.02), **more: Any) -> tuple[list[Counting], Any]:
    """The ranks of a run, and the rows in the end."""
    ranks: list[Counting] = []
    faults = more.pop("faults", None)

    def program(rank: int, pause: float) -> Any:
        def run(client: SimulatedClient) -> None:
            made = Counting(client, group, job, rank, pause)
            ranks.append(made)
            made.run()
            client.session.finish()

        return run

    patient = ClientSettings(request_timeout=150.0, retry_max=4.0, wait_timeout=600.0)
    with Simulation(3, 3, faults, client=patient, **more) as simulation:
        simulation.sparse_table("w", dim=RANKS, dtype="float32")
        group = simulation.group("g", RANKS, job.of_group)
        for rank, pause in enumerate(pauses):
            simulation.start(program(rank, pause))
        simulation.run()
        for one in simulation.running.values():
            one.result()
        return ranks, simulation.rows("w")


def slack(ranks: list[Counting], staleness: int) -> int:
    """By how many steps the rows that came closest were newer than the oldest that may be: step t must see all up to t - staleness - 1."""
    return min(seen - max(0, t - staleness) for each in ranks for t, seen in enumerate(each.others) if t > staleness)


@pytest.mark.parametrize(("prefetch", "clocks"), [(0, 0), (1, 0), (0, 2), (1, 1), (1, 2), (2, 2)])
def test_rows_are_as_old_as_the_staleness_says_and_no_older(prefetch: int, clocks: int) -> None:
    job = job_of(SSP(5), prefetch, clocks)
    assert job.of_group == SSP(5 - prefetch - clocks)
    ranks, rows = trained(job)
    assert slack(ranks, 5) == 0, "one more would be too old, and so far they may be"
    for each in ranks:
        assert all(seen >= t - prefetch - clocks for t, seen in enumerate(each.own)), "own updates from before a row was asked for"
        assert (each.cache.found > 0) if clocks else (each.cache is None)
    assert all(rows[key] == [float(STEPS)] * RANKS for key in HOT.tolist()), "no update is lost or counted twice"


@pytest.mark.parametrize("max_bytes", [400, 1 << 20])
def test_a_bad_network_makes_rows_no_older(max_bytes: int) -> None:
    bad = NetworkFaults(drop=0.1, delay=0.1, duplicate=0.1, reorder=0.2, straggle=0.05, partitions=2)
    ranks, rows = trained(job_of(SSP(4), 1, 2, max_bytes), pauses=(0.3, 0.01, 0.1), faults=bad)
    assert slack(ranks, 4) >= 0
    assert all(rows[key] == [float(STEPS)] * RANKS for key in HOT.tolist())


def test_a_row_is_used_for_so_many_clocks_and_pulled_again_then() -> None:
    (first, *_), _ = trained(job_of(ASP(), 0, 3, 64 << 20), pauses=(0.5, 0.5, 0.5))
    assert first.own == [t - t % 4 for t in range(STEPS)], "a row sees the steps of its reader before it was pulled"


def test_there_is_no_cache_where_the_staleness_leaves_no_room() -> None:
    assert [job_of(given, 1, 3).cached for given in (BSP(), SSP(1), SSP(2), SSP(3), SSP(4), SSP(9), ASP())] == [0, 0, 0, 1, 2, 3, 3]
    assert job_of(BSP(), 1, 3).of_group == BSP()
    assert job_of(ASP(), 1, 3).of_group == ASP()
