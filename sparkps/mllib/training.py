"""Training at the driver, the same for every estimator and solver: a group of workers, tables, and what comes of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sparkps.driver_bridge.input.scan import check_input
from sparkps.driver_bridge.spark.python_workers import want
from sparkps.errors import CheckpointError, InvalidInput, NonFiniteValues, SparkPSError, WorkerFailed
from sparkps.kernels import ahead
from sparkps.mllib.coefficients import Coefficients, TableCoefficients, collect
from sparkps.mllib.data.rows import Columns
from sparkps.mllib.data.selection import resolved, select_rows
from sparkps.mllib.errors import InvalidParam, InvalidRow
from sparkps.mllib.fits import group_of, train_by
from sparkps.mllib.solvers.driver import Solution, SolverDriver
from sparkps.mllib.solvers.drivers import DRIVERS
from sparkps.mllib.solvers.job import TrainingJob
from sparkps.mllib.solvers.ranks import Figures, not_finite
from sparkps.mllib.solvers.saving import Unsaved
from sparkps.mllib.tables import TrainingTables, context_of

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
    with said_to_users():
        return _train(ps, rows, jobs)


def train_further(ps: PSContext, df: DataFrame, driver: SolverDriver) -> tuple[Solution, Figures]:
    """Train tables that outlive the training, which are the caller's, on the rows of `df`. Columns of the job are `resolved`."""
    rows = select_rows(check_input(df), driver.job.columns)
    warm_kernels(KERNELS, *driver.job.objective.kernels)
    with said_to_users():
        group = group_of(ps, rows, driver.job, driver)
        with TrainingTables(ps) as tables:
            driver.create(tables, group.num_workers)
            with group as running:
                (solution,), figures = driver.run(running, Unsaved())
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

    def finish(tables: TrainingTables, driver: SolverDriver, models: Any, outcome: Any) -> list[Trained]:
        solutions, figures = outcome
        return _trained(tables, models, solutions, figures, job)

    return train_by(ps, rows, job, lambda names: DRIVERS[job.solver](jobs, names), finish)


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


@contextmanager
def said_to_users() -> Iterator[None]:
    """Errors of its block are raised `in_terms_of_estimators`."""
    try:
        yield
    except SparkPSError as error:
        told = in_terms_of_estimators(error)
        if told is error:
            raise
        raise told from error


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


__all__ = ["KERNELS", "Trained", "in_terms_of_estimators", "said_to_users", "train", "train_further", "train_grid", "warm_kernels"]
