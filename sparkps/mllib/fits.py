"""A fit at the driver, whatever is trained: a group of workers, its tables, and checkpoints that it goes on from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sparkps.config import WorkerSettings
from sparkps.consistency import Consistency
from sparkps.driver_bridge.groups.group import Group, patience_of
from sparkps.driver_bridge.groups.resuming import Attempt, CheckpointedRun
from sparkps.driver_bridge.groups.resumption import Source
from sparkps.driver_bridge.groups.running import RunningGroup
from sparkps.errors import UnknownTable
from sparkps.mllib.checkpoints import CheckpointedJob, FitCheckpoints
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.saving import Saver, Unsaved
from sparkps.mllib.tables import TrainingTables, new_prefix

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from sparkps.driver_bridge.context import PSContext


class FitJob(CheckpointedJob, Protocol):
    """What training asks of a job, whatever is trained. A `checkpoint_dir` that is empty: there are no checkpoints."""

    @property
    def num_workers(self) -> int | None:
        """None: as many as the cluster runs at once."""

    @property
    def consistency(self) -> Consistency:
        """How far ranks may run ahead of each other."""

    @property
    def deterministic(self) -> bool:
        """Whether a row's rank and place depend on the rows alone."""

    @property
    def gpus_per_worker(self) -> float | None:
        """GPUs of one worker, or its share of one; None: as `spark.sparkps.worker.gpus` says."""


class FitDriver(Protocol):
    """The driver's part of a training, as `train_by` calls it."""

    @property
    def joins(self) -> bool:
        """Whether it is a member of the group's clock."""

    @property
    def names(self) -> TableNames:
        """Of its tables."""

    def rank_task(self, workers: WorkerSettings, *, resumes: bool) -> Any:
        """The function of the ranks; whether they may go on from a checkpoint."""

    def create(self, tables: TrainingTables, num_workers: int) -> Any:
        """Make the tables."""

    def run(self, group: RunningGroup, saver: Saver) -> Any:
        """From the group's start to its end."""


D = TypeVar("D", bound=FitDriver)
R = TypeVar("R")


def train_by(
    ps: PSContext,
    rows: DataFrame,
    job: FitJob,
    make: Callable[[TableNames], D],
    finish: Callable[[TrainingTables, D, Any, Any], R],
) -> R:
    """Train on selected rows: with checkpoints where the job asks for them, else in one go.

    Parameters
    ----------
    ps : PSContext
    rows : DataFrame
        The columns that ranks read.
    job : FitJob
    make : callable
        The driver, of the names of its tables.
    finish : callable
        What the training came to, of its tables, the driver, what ``create`` and what ``run`` gave.
    """
    if job.checkpoint_dir:
        with FitCheckpoints(job) as kept:
            done = _train_kept(ps, rows, job, kept, make(TableNames(kept.prefix)), finish)
            kept.remove()
            return done
    driver = make(TableNames(new_prefix(job.uid)))
    group = group_of(ps, rows, job, driver)
    with TrainingTables(ps) as tables:
        made = driver.create(tables, group.num_workers)
        with group as running:
            outcome = driver.run(running, Unsaved())
        return finish(tables, driver, made, outcome)


def _train_kept(
    ps: PSContext,
    rows: DataFrame,
    job: FitJob,
    kept: FitCheckpoints,
    driver: D,
    finish: Callable[[TrainingTables, D, Any, Any], R],
) -> R:
    """With checkpoints: goes on from those of an earlier attempt, and from its own when buckets are lost."""
    prefix = ps.address.full_name(kept.prefix)
    begun = Source(kept.store, kept.is_mine, lambda name: name.startswith(prefix))
    first = group_of(ps, rows, job, driver, begun)
    plan = kept.begin(first.num_workers)
    groups = iter([first])

    def again(source: Source | None) -> Group:
        assert source is not None, "a fit goes on from what is there"
        # Rolled back: other tables have lost buckets, too.
        rolled_back = replace(source, restores=lambda name: name.startswith(prefix) or _exists(ps, name))
        return next(groups, None) or group_of(ps, rows, job, driver, rolled_back)

    def work(attempt: Attempt) -> Any:
        return driver.run(attempt.running, kept.saver(attempt))

    with TrainingTables(ps) as tables:
        made = driver.create(tables, first.num_workers)
        outcome = CheckpointedRun(again, ps.control, plan, patience_of(ps), work).run()
        return finish(tables, driver, made, outcome)


def _exists(ps: PSContext, table: str) -> bool:
    try:
        ps.table(table)
    except UnknownTable:
        return False
    return True


def group_of(ps: PSContext, rows: DataFrame, job: FitJob, driver: FitDriver, source: Source | None = None) -> Group:
    """The workers of a training, and the checkpoints that they may go on from."""
    return Group(
        ps,
        rows,
        driver.rank_task(ps.settings.workers, resumes=source is not None),
        job.num_workers,
        job.consistency,
        solver=driver.joins,
        deterministic=job.deterministic,
        # By this name a group that goes on is known.
        name=job.uid if source is None else driver.names.prefix,
        label=label_of(job.uid),
        resume_from=source,
        gpus_per_worker=job.gpus_per_worker,
    )


def label_of(uid: str) -> str:
    """What heads the progress bar: the uid's class, without the part that tells estimators of one class apart.

    Examples
    --------
    >>> label_of("NaiveBayes_4f1a2b3c4d5e")
    'NaiveBayes'
    """
    return uid.rpartition("_")[0] or uid


__all__ = ["FitDriver", "FitJob", "group_of", "label_of", "train_by"]
