"""Training at the driver, the same for every estimator and solver: a group of workers, tables, and what comes of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sparkps.driver_bridge.groups.group import Group, patience_of
from sparkps.driver_bridge.groups.resuming import Attempt, CheckpointedRun
from sparkps.driver_bridge.groups.resumption import Source
from sparkps.driver_bridge.input.scan import check_input
from sparkps.driver_bridge.spark.python_workers import want
from sparkps.errors import CheckpointError, InvalidInput, NonFiniteValues, SparkPSError, UnknownTable, WorkerFailed
from sparkps.kernels import ahead
from sparkps.mllib.checkpoints import FitCheckpoints
from sparkps.mllib.coefficients import Coefficients, TableCoefficients, collect
from sparkps.mllib.data.rows import Columns
from sparkps.mllib.data.selection import resolved, select_rows
from sparkps.mllib.errors import InvalidParam, InvalidRow
from sparkps.mllib.solvers.driver import Solution, SolverDriver
from sparkps.mllib.solvers.drivers import DRIVERS
from sparkps.mllib.solvers.job import RankJob, TrainingJob
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.ranks import Figures, not_finite
from sparkps.mllib.solvers.saving import Unsaved
from sparkps.mllib.tables import TrainingTables, context_of, new_prefix

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from sparkps.client.tables import SparseTable
    from sparkps.driver_bridge.context import PSContext

log = logging.getLogger(__name__)

#: What `PSContext` calls something, and its Param.
_PARAMS = {"`num_workers`": "`numWorkers`", "`checkpoint_dir`": "`checkpointDir`"}

#: Owner of the kernels that all workers call, whatever they train.
KERNELS = "sparkps.mllib.data"
want(KERNELS)


@dataclass(frozen=True)
class Trained:
    """What a training came to."""

    coefficients: Coefficients
    solution: Solution
    figures: Figures
    #: Where the rows were, with the kinds of raw columns.
    columns: Columns


def train(df: DataFrame, job: TrainingJob) -> Trained:
    """Train on the rows of `df`; see `train_grid`."""
    (trained,) = train_grid(df, [job])
    return trained


def train_grid(df: DataFrame, jobs: Sequence[TrainingJob]) -> list[Trained]:
    """Train several jobs on the rows of `df`, which are read once.

    Parameters
    ----------
    df : DataFrame
    jobs : sequence of TrainingJob
        One, or several of one solver that takes grids, on the same columns and without checkpoints.

    Raises
    ------
    InvalidInput
        Columns or rows are wrong, or there are none.
    NotEnoughSlots
        The cluster cannot run so many workers at once.
    WorkerFailed
        A rank failed; its first cause is told.
    """
    _check_measured(jobs[0])
    if len(jobs) > 1 and not DRIVERS[jobs[0].solver].takes_grids:
        return [train(df, job) for job in jobs]
    columns = resolved(check_input(df), jobs[0].columns)
    rows, jobs = select_rows(df, columns), [replace(job, columns=columns) for job in jobs]
    ps = context_of(df.sparkSession)
    warm_kernels(KERNELS, *jobs[0].objective.kernels, *DRIVERS[jobs[0].solver].kernels)
    try:
        return _train(ps, rows, jobs)
    except SparkPSError as error:
        told = in_terms_of_estimators(error)
        if told is error:
            raise
        raise told from error


def train_further(ps: PSContext, df: DataFrame, driver: SolverDriver) -> tuple[Solution, Figures]:
    """Train tables that outlive the training, which are the caller's, on the rows of `df`. Columns of the job are `resolved`."""
    rows = select_rows(check_input(df), driver.job.columns)
    warm_kernels(KERNELS, *driver.job.objective.kernels)
    try:
        group = _group(ps, rows, driver)
        with TrainingTables(ps) as tables:
            driver.create(tables, group.num_workers)
            with group as running:
                (solution,), figures = driver.run(running, Unsaved())
    except SparkPSError as error:
        told = in_terms_of_estimators(error)
        if told is error:
            raise
        raise told from error
    return solution, figures


def _check_measured(job: TrainingJob) -> None:
    """Raise where rows are set aside that nobody would measure."""
    if job.columns.validation and not DRIVERS[job.solver].measures:
        able = ", ".join(repr(name) for name, driver in DRIVERS.items() if driver.measures)
        raise InvalidParam(
            f"`validationIndicatorCol` must not be set with solver={job.solver!r}, which measures no rows for validation. Got"
            f" {job.columns.validation!r}; solvers that do are {able}.",
            param="validationIndicatorCol",
        )


def _train(ps: PSContext, rows: DataFrame, jobs: Sequence[TrainingJob]) -> list[Trained]:
    job = jobs[0]
    if job.checkpoint_dir:
        assert len(jobs) == 1, "a fit that keeps checkpoints is alone"
        with FitCheckpoints(job) as kept:
            trained = _train_kept(ps, rows, job, kept)
            kept.remove()
            return trained
    driver = DRIVERS[job.solver](jobs, TableNames(new_prefix(job.uid)))
    group = _group(ps, rows, driver)
    with TrainingTables(ps) as tables:
        models = driver.create(tables, group.num_workers)
        with group as running:
            solutions, figures = driver.run(running, Unsaved())
        return _trained(tables, models, solutions, figures, job)


def _train_kept(ps: PSContext, rows: DataFrame, job: TrainingJob, kept: FitCheckpoints) -> list[Trained]:
    """With checkpoints: goes on from those of an earlier attempt, and from its own when buckets are lost."""
    driver = DRIVERS[job.solver]([job], TableNames(kept.prefix))
    begun = Source(kept.store, kept.is_mine, lambda name: name.startswith(kept.prefix))
    first = _group(ps, rows, driver, begun)
    plan = kept.begin(first.num_workers)
    groups = iter([first])

    def make(source: Source | None) -> Group:
        assert source is not None, "a fit goes on from what is there"
        # Rolled back: other tables have lost buckets, too.
        rolled_back = replace(source, restores=lambda name: name.startswith(kept.prefix) or _exists(ps, name))
        return next(groups, None) or _group(ps, rows, driver, rolled_back)

    def work(attempt: Attempt) -> tuple[list[Solution], Figures]:
        return driver.run(attempt.running, kept.saver(attempt))

    with TrainingTables(ps) as tables:
        models = driver.create(tables, first.num_workers)
        solutions, figures = CheckpointedRun(make, ps.control, plan, patience_of(ps), work).run()
        return _trained(tables, models, solutions, figures, job)


def _exists(ps: PSContext, table: str) -> bool:
    try:
        ps.table(table)
    except UnknownTable:
        return False
    return True


def _group(
    ps: PSContext,
    rows: DataFrame,
    driver: SolverDriver,
    source: Source | None = None,
) -> Group:
    """The workers of a training, and the checkpoints that they may go on from."""
    job, workers = driver.job, ps.settings.workers
    task = driver.task(RankJob(driver.jobs, driver.names, workers.memory_budget, workers.local_dir, resumes=source is not None))
    return Group(
        ps,
        rows,
        task,
        job.num_workers,
        job.consistency,
        solver=driver.joins,
        deterministic=job.deterministic,
        # By this name a group that goes on is known.
        name=job.uid if source is None else driver.names.prefix,
        label=label_of(job.uid),
        resume_from=source,
    )


def _trained(
    tables: TrainingTables, models: Sequence[SparseTable], solutions: Sequence[Solution], figures: Figures, job: TrainingJob
) -> list[Trained]:
    found = []
    for model, solution in zip(models, solutions, strict=True):
        log.info("%s: %d iterations, %s", job.uid, solution.iterations, solution.reason)
        coefficients = collect(model)
        if isinstance(coefficients, TableCoefficients):
            tables.keep(model)
        found.append(Trained(coefficients, solution, figures, job.columns))
    return found


def label_of(uid: str) -> str:
    """What heads the progress bar: the uid's class, without the part that tells estimators of one class apart.

    Examples
    --------
    >>> label_of("NaiveBayes_4f1a2b3c4d5e")
    'NaiveBayes'
    """
    return uid.rpartition("_")[0] or uid


def in_terms_of_estimators(error: SparkPSError) -> SparkPSError:
    """The error as the user of an estimator should read it; `error` itself where that is as it should be.

    A rank that met a wrong row has not failed: the input is wrong, as it is where sums over rows are too large for a number. What
    `PSContext` calls `num_workers` is a Param.

    Examples
    --------
    >>> print(in_terms_of_estimators(InvalidInput("`num_workers` must be an int >= 1.")))
    `numWorkers` must be an int >= 1.
    """
    _, found, said = error.message.partition(f"{InvalidInput.__name__}: ")
    attributes = error.attributes
    if isinstance(error, WorkerFailed):
        if attributes.get("cause") == CheckpointError.__name__:
            return CheckpointError(error.message.partition(f"{CheckpointError.__name__}: ")[2] or error.message)
        if attributes.get("cause") == NonFiniteValues.__name__:
            return not_finite(error.message.partition(f"{NonFiniteValues.__name__}: ")[2] or error.message)
        if attributes.get("cause") == InvalidInput.__name__ and "column" in attributes and found:
            return InvalidRow(said, **{name: attributes[name] for name in ("column", "rank", "row", "label") if name in attributes})
    for name, param in _PARAMS.items():
        if name in error.message:
            return type(error)(error.message.replace(name, param), **attributes)
    return error


def warm_kernels(*owners: str) -> None:
    """Compile the kernels that workers will call, once per machine, before they all do it at once.

    Parameters
    ----------
    *owners : str
        Packages and modules that declare them.
    """
    if ahead.is_warm(*owners):
        return
    log.warning("sparkps compiles the kernels of its estimators for this machine, once: some seconds.")
    began = time.monotonic()
    ahead.warm(*owners)
    log.warning("sparkps has compiled them in %.0f s.", time.monotonic() - began)


__all__ = ["KERNELS", "Trained", "in_terms_of_estimators", "label_of", "train", "train_further", "train_grid", "warm_kernels"]
