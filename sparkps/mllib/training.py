"""Training at the driver, the same for every estimator and solver: a group of workers, tables, and what comes of them."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparkps.driver_bridge.groups.group import Group
from sparkps.driver_bridge.input.scan import check_input
from sparkps.errors import InvalidInput, SparkPSError, WorkerFailed
from sparkps.kernels import ahead
from sparkps.mllib.coefficients import Coefficients, TableCoefficients, collect
from sparkps.mllib.data.selection import select_rows
from sparkps.mllib.solvers.drivers import DRIVERS, Solution
from sparkps.mllib.solvers.job import RankJob, TrainingJob
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.ranks import Figures
from sparkps.mllib.tables import TrainingTables, context_of, new_prefix

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from sparkps.driver_bridge.context import PSContext

log = logging.getLogger(__name__)

#: Owner of the kernels that all workers call, whatever they train.
KERNELS = "sparkps.mllib.data"


@dataclass(frozen=True)
class Trained:
    """What a training came to."""

    coefficients: Coefficients
    solution: Solution
    figures: Figures


def train(df: DataFrame, job: TrainingJob) -> Trained:
    """Train on the rows of `df`.

    Raises
    ------
    InvalidInput
        Columns or rows are wrong, or there are none.
    NotEnoughSlots
        The cluster cannot run so many workers at once.
    WorkerFailed
        A rank failed; its first cause is told.
    """
    rows = select_rows(check_input(df), job.columns)
    ps = context_of(df.sparkSession)
    warm_kernels(KERNELS, *job.objective.kernels)
    try:
        return _train(ps, rows, job)
    except SparkPSError as error:
        told = in_terms_of_estimators(error)
        if told is error:
            raise
        raise told from error


def _train(ps: PSContext, rows: DataFrame, job: TrainingJob) -> Trained:
    names, workers = TableNames(new_prefix(job.uid)), ps.settings.workers
    driver = DRIVERS[job.solver](job, names)
    task = driver.task(RankJob(job, names, workers.memory_budget, workers.local_dir))
    group = Group(
        ps,
        rows,
        task,
        job.num_workers,
        job.consistency,
        solver=driver.joins,
        deterministic=job.deterministic,
        name=job.uid,
        label=label_of(job.uid),
    )
    with TrainingTables(ps) as tables:
        model = driver.create(tables, group.num_workers)
        with group as running:
            solution, figures = driver.run(running)
        log.info("%s: %d iterations, %s", job.uid, solution.iterations, solution.reason)
        coefficients = collect(model)
        if isinstance(coefficients, TableCoefficients):
            tables.keep(model)
        return Trained(coefficients, solution, figures)


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

    A rank that met a wrong row has not failed: the input is wrong. What `PSContext` calls `num_workers` is a Param.

    Examples
    --------
    >>> print(in_terms_of_estimators(InvalidInput("`num_workers` must be an int >= 1.")))
    `numWorkers` must be an int >= 1.
    """
    _, found, said = error.message.partition(f"{InvalidInput.__name__}: ")
    attributes = error.attributes
    if isinstance(error, WorkerFailed):
        if attributes.get("cause") == InvalidInput.__name__ and "column" in attributes and found:
            return InvalidInput(said, **{name: attributes[name] for name in ("column", "rank", "row") if name in attributes})
    elif "`num_workers`" in error.message:
        return type(error)(error.message.replace("`num_workers`", "`numWorkers`"), **attributes)
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


__all__ = ["KERNELS", "Trained", "in_terms_of_estimators", "label_of", "train", "warm_kernels"]
