"""The driver's part of a training, one way for each kind of solver: its tables, what ranks run, and the end.

The driver never holds a vector of model size: it holds dot products. The coefficients stay in their table.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sparkps.client.tables import DenseTable, SparseTable
from sparkps.config import WorkerSettings
from sparkps.driver_bridge.groups.running import RunningGroup
from sparkps.mllib.solvers.job import RankJob, TrainingJob
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.ranks import COUNTS, Figures
from sparkps.mllib.solvers.saving import Saver
from sparkps.mllib.tables import TrainingTables

Array = NDArray[Any]


@dataclass(frozen=True)
class Solution:
    """What a solver came to, besides the coefficients."""

    #: float64 (outputs,).
    intercepts: Array
    #: Objective at the start and after each iteration; of a mini-batch solver the mean loss of each epoch.
    history: list[float]
    iterations: int
    #: Why it ended, in words.
    reason: str
    #: float64 (scalars,): further parameters of the objective that belong to no feature.
    scalars: Array = field(default_factory=lambda: np.empty(0))
    #: Seconds since the training began, for each element of `history`; 0 for what an earlier attempt did.
    seconds: list[float] = field(default_factory=list)
    #: Mean loss of the rows for validation, for each element of `history`; empty: there are none.
    validation: list[float] = field(default_factory=list)
    #: What only one kind of solver knows, by name: standard errors, for one.
    extras: dict[str, Any] = field(default_factory=dict)

    @property
    def intercept(self) -> float:
        """The only intercept."""
        (only,) = self.intercepts
        return float(only)


class Times:
    """When iterations ended, in seconds since this was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._seconds: list[float] = []

    def note(self) -> None:
        """One more has ended."""
        self._seconds.append(time.monotonic() - self._began)

    def of(self, count: int) -> list[float]:
        """The last `count`; 0 for those that nobody has noted."""
        noted = self._seconds[-count:] if count else []
        return [0.0] * (count - len(noted)) + noted


class SolverDriver(ABC):
    """What the driver does for a kind of solver, in the order of its methods.

    Parameters
    ----------
    jobs : sequence of TrainingJob
        One, or a grid of several on the same rows, for a driver that `takes_grids`.
    names : TableNames
    """

    #: Whether the driver is a member of the group's clock.
    joins: ClassVar[bool]
    #: Whether it trains several jobs on rows that are read once.
    takes_grids: ClassVar[bool] = False
    #: Whether it measures rows for validation, and ends by them.
    measures: ClassVar[bool] = False
    #: Modules that declare kernels which its ranks call.
    kernels: ClassVar[tuple[str, ...]] = ()
    #: What each rank has read. Made by `create`.
    ranks: DenseTable

    def __init__(self, jobs: Sequence[TrainingJob], names: TableNames) -> None:
        self.jobs = tuple(jobs)
        self.names = names

    @property
    def job(self) -> TrainingJob:
        """The only job, or the first: all of them have its rows and its kind of objective."""
        return self.jobs[0]

    @abstractmethod
    def task(self, rank_job: RankJob) -> Any:
        """The ranks' function."""

    def rank_task(self, workers: WorkerSettings, *, resumes: bool) -> Any:
        """See `FitDriver`."""
        return self.task(RankJob(self.jobs, self.names, workers.memory_budget, workers.local_dir, resumes=resumes))

    def create(self, tables: TrainingTables, num_workers: int) -> list[SparseTable]:
        """Make the tables; returns those of the coefficients, one for each job."""
        self.ranks = tables.dense(self.names.ranks, shape=(num_workers, COUNTS), dtype="float64")
        return self._create(tables)

    @abstractmethod
    def _create(self, tables: TrainingTables) -> list[SparseTable]:
        """The tables that solvers of this kind have besides."""

    @abstractmethod
    def run(self, group: RunningGroup, saver: Saver) -> tuple[list[Solution], Figures]:
        """From the group's start to its end; a group that goes on from a checkpoint begins where `saver` says."""


__all__ = ["Solution", "SolverDriver", "Times"]
