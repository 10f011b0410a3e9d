"""A fit from the driver's side: tables, worker group, solver, and what comes of them.

The driver never holds a vector of model size: it holds dot products, and at the end the coefficients if they are few.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sparkps.consistency import BSP, Consistency
from sparkps.driver_bridge.input.scan import check_input
from sparkps.errors import InvalidInput, SparkPSError, WorkerFailed
from sparkps.mllib.base import (
    Coefficients,
    FitTables,
    TableCoefficients,
    collect,
    context_of,
    new_prefix,
    select_rows,
    warm_kernels,
)
from sparkps.mllib.data.rows import Columns
from sparkps.mllib.data.store import INTERCEPT_KEY
from sparkps.mllib.solvers.fullbatch import FullBatchTask, RankSummary, WorkerPlan
from sparkps.mllib.solvers.lbfgs import POINT, TRIAL, TRIAL_GRADIENT, Lbfgs, Minimum, Progress, vector_names
from sparkps.mllib.solvers.minibatch import OPTIMIZERS, MiniBatchPlan, MiniBatchTask
from sparkps.mllib.solvers.scaling import FACTS, STATISTICS
from sparkps.mllib.solvers.vectors import TableNames, TierVectors

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from sparkps.driver_bridge.context import PSContext

log = logging.getLogger(__name__)

#: Owners of the kernels that a fit's workers call.
KERNELS = ("sparkps.mllib.data", "sparkps.mllib.linear")
#: Pairs of vectors that L-BFGS keeps, as in pyspark.ml.
HISTORY = 10


@dataclass(frozen=True)
class FitSettings:
    """A fit of a linear model with two classes."""

    #: For names of tables and messages.
    uid: str
    columns: Columns
    loss: str
    solver: str
    max_iter: int
    tol: float
    #: Weights of the penalties l1·‖w‖₁ and ½·l2·‖w‖².
    l1: float
    l2: float
    standardization: bool
    fit_intercept: bool
    step_size: float
    batch_size: int
    consistency: Consistency
    num_workers: int | None
    deterministic: bool
    seed: int


@dataclass(frozen=True)
class Fit:
    """What a fit came to."""

    coefficients: Coefficients
    intercept: float
    num_features: int
    #: Length that vectors to be scored must have; 0: only indices were known.
    width: int
    #: Objective at the start and after each iteration; of a mini-batch solver the mean loss of each epoch.
    history: list[float]
    iterations: int
    #: Why it ended, in words.
    reason: str
    #: Rows trained on, and rows left out.
    rows: int
    skipped: int


def fit(df: DataFrame, settings: FitSettings) -> Fit:
    """Train on the rows of `df`.

    Raises
    ------
    InvalidInput
        Columns or rows are wrong, or there are none.
    WorkerFailed
        A rank failed; its first cause is told.
    """
    rows = select_rows(check_input(df), settings.columns)
    ps = context_of(df.sparkSession)
    warm_kernels(*KERNELS)
    try:
        return (_fit_full_batch if settings.solver == "lbfgs" else _fit_mini_batch)(ps, rows, settings)
    except WorkerFailed as failed:
        raise _as_input(failed) from failed


def _as_input(failed: WorkerFailed) -> SparkPSError:
    """A rank that met a wrong row has not failed: the input is wrong."""
    _, found, said = failed.message.partition(f"{InvalidInput.__name__}: ")
    if failed.attributes.get("cause") != InvalidInput.__name__ or "column" not in failed.attributes or not found:
        return failed
    return InvalidInput(said, **{name: failed.attributes[name] for name in ("column", "rank", "row") if name in failed.attributes})


def label_of(uid: str) -> str:
    """What heads the progress bar: the uid's class, without the part that tells estimators of one class apart.

    Examples
    --------
    >>> label_of("LogisticRegression_4f1a2b3c4d5e")
    'LogisticRegression'
    """
    return uid.rpartition("_")[0] or uid


def _group_options(settings: FitSettings) -> dict[str, Any]:
    return {"deterministic": settings.deterministic, "name": settings.uid, "label": label_of(settings.uid)}


def _figures(results: list[RankSummary], settings: FitSettings) -> dict[str, int]:
    """Of all ranks together."""
    rows = sum(each.rows for each in results)
    skipped = sum(each.skipped for each in results)
    if not rows:
        raise _no_rows(skipped)
    widths = sorted({each.width for each in results if each.width})
    if len(widths) > 1:
        name = settings.columns.features
        raise InvalidInput(
            f"Column {name!r}: all vectors must have the same size. Got vectors of sizes {', '.join(map(str, widths))}.", column=name
        )
    declared = settings.columns.num_features
    num_features = declared or max(each.num_features for each in results)
    return {"rows": rows, "skipped": skipped, "num_features": num_features, "width": sum(widths)}


def _no_rows(skipped: int) -> InvalidInput:
    return InvalidInput(
        f"The training data must have at least one row. Got none ({skipped} were left out by handleInvalid)."
    )


def _no_weight(settings: FitSettings) -> InvalidInput:
    name = settings.columns.weight
    return InvalidInput(f"Column {name!r}: the weights of all rows together must be above 0. Got 0.", column=name)


# ---- L-BFGS ------------------------------------------------------------------------------------------------------------


def _fit_full_batch(ps: PSContext, rows: DataFrame, settings: FitSettings) -> Fit:
    names = TableNames(new_prefix(settings.uid))
    plan = WorkerPlan(
        columns=settings.columns,
        names=names,
        loss=settings.loss,
        l2=settings.l2,
        standardization=settings.standardization,
        fit_intercept=settings.fit_intercept,
        budget=ps.settings.workers.memory_budget,
        scratch=ps.settings.workers.local_dir,
    )
    with FitTables(ps) as tables:
        model = tables.sparse(names.coefficients, dim=1, dtype="float64", group=names.prefix)
        vectors = [names.scaled_mean, *(names.vector(name) for name in vector_names(HISTORY))]
        for name in vectors:
            tables.sparse(name, dim=1, dtype="float64", group=names.prefix)
        tables.sparse(names.statistics, dim=STATISTICS, dtype="float64", group=names.prefix)
        for name, size in ((names.facts, FACTS), (names.totals, 2), (names.control, 2)):
            tables.dense(name, shape=(size,), dtype="float64")
        options = {"consistency": BSP(), "solver": True, **_group_options(settings)}
        with ps.start_group(rows, FullBatchTask(plan), settings.num_workers, **options) as group:
            found, intercept = _solve(group.solver, names, settings)
            results = group.wait()
        log.info("%s: %d iterations, %s", settings.uid, found.iterations, found.reason)
        coefficients = collect(model)
        if isinstance(coefficients, TableCoefficients):
            tables.keep(model)
        return Fit(coefficients, intercept, history=found.history, iterations=found.iterations, reason=found.reason,
                   **_figures(results, settings))  # fmt: skip


def _solve(solver: Any, names: TableNames, settings: FitSettings) -> tuple[Minimum, float]:
    """The solver's part of the group's clock; the minimum, and the intercept of the raw features."""
    solver.report(epoch=0, epochs=settings.max_iter)
    solver.tick()
    solver.tick()
    for name in vector_names(HISTORY):  # all of them now: later the coordinator may be gone, and training goes on
        solver.table(names.vector(name))
    weight, _, positive, count = solver.table(names.facts).pull()
    if not count:
        raise _no_rows(0)
    if not weight:
        raise _no_weight(settings)
    vectors = TierVectors(solver, names, TRIAL, TRIAL_GRADIENT, centred=settings.fit_intercept)
    trial = solver.table(names.vector(TRIAL))
    if settings.fit_intercept and positive in (0.0, weight):
        vectors.finish(TRIAL)
        return Minimum([0.0], 0, "all labels are equal", 0), math.inf if positive else -math.inf
    if settings.fit_intercept:
        start = math.log(positive / (weight - positive))
        trial.assign(np.array([INTERCEPT_KEY]), np.array([[start]]))

    def report(progress: Progress) -> None:
        solver.report(epoch=progress.iteration, epochs=settings.max_iter, loss=progress.objective)

    found = Lbfgs(vectors, settings.max_iter, settings.tol, HISTORY, report).minimize()
    vectors.finish(POINT)
    if not settings.fit_intercept:
        return found, 0.0
    solver.tick()
    return found, float(trial.pull(np.array([INTERCEPT_KEY]))[0, 0]) - vectors.shift


# ---- mini-batch --------------------------------------------------------------------------------------------------------


def _fit_mini_batch(ps: PSContext, rows: DataFrame, settings: FitSettings) -> Fit:
    names = TableNames(new_prefix(settings.uid))
    plan = MiniBatchPlan(
        columns=settings.columns,
        names=names,
        loss=settings.loss,
        batch_size=settings.batch_size,
        epochs=settings.max_iter,
        fit_intercept=settings.fit_intercept,
        seed=settings.seed,
        staleness=settings.consistency.bound,
        budget=ps.settings.workers.memory_budget,
        scratch=ps.settings.workers.local_dir,
    )
    optimizer = OPTIMIZERS[settings.solver]
    with FitTables(ps) as tables:
        model = tables.sparse(names.coefficients, dim=1, optimizer=optimizer(settings.step_size, settings.l1, settings.l2))
        bias = tables.dense(plan.intercept, shape=(1,), optimizer=optimizer(settings.step_size, 0.0, 0.0))
        losses = tables.dense(plan.losses, shape=(max(1, settings.max_iter), 2), dtype="float64")
        task, options = MiniBatchTask(plan), _group_options(settings)
        with _counted(ps, plan, rows, task, settings, options, tables) as group:
            results = group.wait()
        figures = _figures(results, settings)
        history = [float(loss / weight) for loss, weight in losses.pull() if weight]
        if settings.max_iter and not history:
            raise _no_weight(settings)
        intercept = float(bias.pull()[0])
        coefficients = collect(model)
        if isinstance(coefficients, TableCoefficients):
            tables.keep(model)
        return Fit(
            coefficients, intercept, history=history, iterations=len(history), reason="maxIter was reached", **figures
        )


def _counted(
    ps: Any, plan: MiniBatchPlan, rows: Any, task: Any, settings: FitSettings, options: Any, tables: FitTables
) -> Any:
    """The group, with a table of counts for as many workers as it has."""
    from sparkps.driver_bridge.groups.group import Group

    group = Group(ps, rows, task, settings.num_workers, settings.consistency, **options)
    tables.dense(plan.counts, shape=(group.num_workers, 2), dtype="float64")
    return group


__all__ = ["HISTORY", "Fit", "FitSettings", "fit", "label_of"]
