"""The driver's part of a deep training: tables on the tier, which the ranks push to; the driver waits, and takes what came of it."""

from __future__ import annotations

import logging
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sparkps.client.session import disconnect
from sparkps.client.tables import DenseTable, SparseTable
from sparkps.config import WorkerSettings
from sparkps.consistency import Consistency
from sparkps.driver_bridge.groups.checkpoints import Pace
from sparkps.driver_bridge.groups.running import RunningGroup
from sparkps.driver_bridge.input.scan import check_input
from sparkps.mllib.deep.dense import FlatParameters
from sparkps.mllib.deep.job import DeepJob, DeepNames, DeepRankJob, pickled, unpickled
from sparkps.mllib.deep.losses import diverged
from sparkps.mllib.deep.measuring import metrics_of
from sparkps.mllib.deep.rank import DeepRankSummary
from sparkps.mllib.deep.rows import HeldTable, TierTable, collected
from sparkps.mllib.deep.task import DeepTask
from sparkps.mllib.fits import train_by
from sparkps.mllib.solvers.measured import MetricHistory
from sparkps.mllib.solvers.measuring import CLOCKS, LOSSES, outcome
from sparkps.mllib.solvers.minibatch import Schedule
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.ranks import COUNTS, no_rows
from sparkps.mllib.solvers.saving import Saver
from sparkps.mllib.solvers.stopping import EarlyStopping
from sparkps.mllib.summaries.history import TrainingHistory
from sparkps.mllib.tables import TrainingTables, context_of
from sparkps.mllib.training import KERNELS, said_to_users, warm_kernels
from sparkps.nn.flat_optimizer import planes_of
from sparkps.nn.partition import PIPELINE, parts_of, skeleton
from sparkps.nn.tables import tables_of
from sparkps.optim import SGD

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Array = NDArray[Any]

log = logging.getLogger(__name__)

#: Steps of a worker below which a training is told to be short: Adam(1e-3) moves no parameter by much more than 0.1 in so many.
FEW_STEPS = 100


@dataclass(frozen=True)
class DeepTrained:
    """What a deep training came to."""

    #: The job with its columns as the DataFrame has them.
    job: DeepJob
    #: With the weights that were learned, on the CPU.
    module: nn.Module
    tables: dict[str, HeldTable]
    history: TrainingHistory
    #: Seconds by part of a step, those of all ranks added up, and their steps.
    seconds: dict[str, float]
    steps: int
    #: Of the distinct keys of all steps, the share whose rows workers had from earlier ones.
    cached: float

    @property
    def seconds_of_a_step(self) -> dict[str, float]:
        """Mean seconds of a rank's step, by its parts."""
        return {part: seconds / max(1, self.steps) for part, seconds in self.seconds.items()}


def train_deep(df: DataFrame, job: DeepJob) -> DeepTrained:
    """Train a module on the rows of `df`.

    Raises
    ------
    InvalidInput
        Columns or rows are wrong, or there are none.
    NotEnoughSlots
        The cluster cannot run so many workers at once.
    NonFiniteValues
        Training did not stay within finite numbers.
    WorkerFailed
        A rank failed; its first cause is told.
    """
    columns = job.columns.resolved(check_input(df))
    job = replace(job, columns=columns)
    rows = columns.selected(df)
    ps = context_of(df.sparkSession)
    warm_kernels(KERNELS)
    with said_to_users():
        return train_by(ps, rows, _Fit(job), lambda names: DeepDriver(job, names), _trained)


@dataclass(frozen=True)
class _Fit:
    """A `FitJob` of a deep job: its group reads rows ahead of their use, and is the stricter for it."""

    job: DeepJob

    @property
    def uid(self) -> str:
        return self.job.uid

    @property
    def num_workers(self) -> int | None:
        return self.job.num_workers

    @property
    def consistency(self) -> Consistency:
        return self.job.of_group

    @property
    def deterministic(self) -> bool:
        return self.job.deterministic

    @property
    def gpus_per_worker(self) -> float | None:
        return self.job.gpus_per_worker

    @property
    def checkpoint_dir(self) -> str:
        return self.job.checkpoint_dir

    @property
    def checkpoint_interval(self) -> int:
        return self.job.checkpoint_interval

    def described(self, num_workers: int) -> dict[str, str]:
        return self.job.described(num_workers)


class DeepDriver:
    """What the driver does, in the order of its methods; a `FitDriver`.

    Parameters
    ----------
    job : DeepJob
        Its columns are resolved.
    names : TableNames
    """

    joins = False
    #: Made by `create`.
    ranks: DenseTable
    losses: DenseTable
    dense: DenseTable | None = None
    buffers: DenseTable | None = None
    measures: SparseTable | None = None

    def __init__(self, job: DeepJob, names: TableNames) -> None:
        self.job, self.names, self._of = job, names, DeepNames(names.prefix)
        self.module = unpickled(job.module)
        self.flat = FlatParameters(self.module)
        self.embeddings = tables_of(self.module, job.storage)
        #: Where the module is divided, what each rank has of its parameters; they share its memory.
        self.parts: list[FlatParameters] = []
        if job.model_parallel != "none":
            assert job.num_workers is not None, "the estimator has asked for a number of workers"
            self.parts = [
                FlatParameters.of(each) for each in parts_of(self.module, job.model_parallel, job.num_workers)
            ]
        #: Of each part, its parameters on the tier; None: it has none.
        self.dense_parts: list[DenseTable | None] = []
        #: Where ranks of this host leave what is to outlive them.
        self._directory: Path | None = None
        #: Tables that are trained, each with that of the best model on rows for validation, if there is one.
        self._kept: list[tuple[Any, Any]] = []

    def rank_task(self, workers: WorkerSettings, *, resumes: bool) -> DeepTask:
        """See `FitDriver`."""
        sizes = [(self._of.dense_part(rank), each.size) for rank, each in enumerate(self.parts)] or [(self._of.dense, self.flat.size)]
        has = [name for name, size in (*sizes, (self._of.buffers, self._buffer_size)) if size]
        if self._is_saved:
            has.append(self._of.saved_dense)
        if self.job.dense == "allreduce" and self.job.cores:  # all ranks are on this host, and lost together
            self._directory = Path(workers.local_dir or tempfile.gettempdir()) / self._of.prefix
            shutil.rmtree(self._directory, ignore_errors=True)  # what ranks of another group have left is not of this one
        shared = str(self._directory or "")
        # No worker is to have all values.
        job = replace(self.job, module=pickled(skeleton(self.module))) if self.parts else self.job
        gpus = workers.gpus if job.gpus_per_worker is None else job.gpus_per_worker
        return DeepTask(DeepRankJob(job, self._of, workers.memory_budget, workers.local_dir, frozenset(has), resumes, shared, gpus))

    @property
    def _buffer_size(self) -> int:
        """Numbers that modules keep besides parameters and change as they are trained: those of a pipeline do not."""
        return 0 if self.job.model_parallel == PIPELINE else self.flat.buffer_size

    @property
    def _is_saved(self) -> bool:
        """Whether ranks write their own copies of dense parameters to the tier."""
        return self.job.dense == "allreduce" and bool(self.job.checkpoint_dir) and self.flat.size > 0

    # ---- tables --------------------------------------------------------------------------------------------------------

    def create(self, tables: TrainingTables, num_workers: int) -> dict[str, SparseTable]:
        """Make the tables; those of embeddings."""
        job, of, aside = self.job, self._of, bool(self.job.columns.validation)
        self.ranks = tables.dense(of.ranks, shape=(num_workers, COUNTS), dtype="float64")
        self.losses = tables.dense(of.losses, shape=(max(1, job.epochs), LOSSES), dtype="float64")
        if size := metrics_of(job).size:
            self.measures = tables.sparse(of.measures, dim=size, dtype="float64")
        rows = {}
        for name, table in self.embeddings.items():
            like = {"dim": table.dim, "init": table.init, "seed": table.seed, "storage": table.storage}
            group = of.rows(name) if aside else ""
            rows[name] = tables.sparse(of.rows(name), optimizer=table.optimizer, group=group, **like)
            if aside:
                self._kept.append((rows[name], tables.sparse(of.best_rows(name), group=group, **like)))
        for rank, part in enumerate(self.parts):
            named = tables, of.dense_part(rank), of.best_dense_part(rank)
            self.dense_parts.append(self._vector(*named, part.values(), job.optimizer) if part.size else None)
        if self.flat.size and not self.parts:
            self.dense = self._vector(tables, of.dense, of.best_dense, self.flat.values(), job.optimizer)
        if self._is_saved:
            state = self.flat.size * (1 + planes_of(job.optimizer)) + self.flat.buffer_size
            tables.dense(of.saved_dense, shape=(state + 1,), dtype="float64")
        if self._buffer_size:
            self.buffers = self._vector(tables, of.buffers, of.best_buffers, self.flat.buffers(), SGD(1.0))
        return rows

    def _vector(self, tables: TrainingTables, name: str, best: str, first: Array, optimizer: Any) -> DenseTable:
        like = {"shape": first.shape, "dtype": str(first.dtype)}
        made = tables.dense(name, optimizer=optimizer, **like)
        made.assign(first)
        if self.job.columns.validation:
            self._kept.append((made, tables.dense(best, **like)))
        return made

    # ---- the end -------------------------------------------------------------------------------------------------------

    def run(self, group: RunningGroup, saver: Saver) -> DeepTrained:
        """From the group's start to its end."""
        try:
            with saver.meanwhile(self._pace):
                ranks: list[DeepRankSummary] = group.wait()
        finally:
            if self._directory is not None:
                shutil.rmtree(self._directory, ignore_errors=True)
        rows, skipped, aside = (sum(getattr(each, name) for each in ranks) for name in ("rows", "skipped", "validation_rows"))
        if not rows:
            raise no_rows(skipped, aside)
        history = self._history(rows, skipped, aside)
        self._warn(history, Schedule(tuple(each.rows for each in ranks), self.job.batch_size, self.job.seed).steps)
        for flat, table in [(self.flat, self.dense), *zip(self.parts, self.dense_parts, strict=True)]:
            if table is not None:
                values = table.pull()
                if not np.isfinite(values).all():
                    raise diverged("dense parameters that are not, after the last step")
                flat.load(values)
        if self.buffers is not None:
            self.flat.load_buffers(self.buffers.pull())
        seconds = {part: sum(each.seconds[part] for each in ranks) for part in ranks[0].seconds}
        steps, looked_up, cached = (sum(getattr(each, name) for each in ranks) for name in ("steps", "looked_up", "cached"))
        return DeepTrained(self.job, self.module.eval(), {}, history, seconds, steps, cached / max(1, looked_up))

    def _warn(self, history: TrainingHistory, epoch_steps: int) -> None:
        rows, skipped = history.rows, history.skipped
        if skipped > rows:
            log.warning("handleInvalid='skip' left out %d rows, and %d are trained on: see why with handleInvalid='error'.", skipped, rows)
        if self.job.columns.validation and not history.validation_rows:
            log.warning("Column %r marks no row for validation: nothing was measured on such rows.", self.job.columns.validation)
        steps = history.iterations * epoch_steps
        if 0 < steps < FEW_STEPS and history.iterations == self.job.epochs:  # what rows for validation have ended is long enough
            log.warning(
                "%s: %d steps of a worker, %d in each epoch, are few to learn from: raise `maxIter`, or lower `batchSize`.",
                self.job.uid, steps, epoch_steps,
            )  # fmt: skip

    def _history(self, rows: int, skipped: int, aside: int) -> TrainingHistory:
        """How training went; the model becomes the best one on rows for validation."""
        job, losses = self.job, self.losses.pull()
        epochs = [row for row in losses if row[1]]
        stopping = EarlyStopping(job.early_stopping_rounds, job.validation_tol)
        measured, reason, keeps = outcome(losses, len(self.ranks.pull()), stopping)
        if keeps:
            for trained, best in self._kept:
                trained.call("copy", source=best)
        metrics = MetricHistory(metrics_of(job))
        if self.measures is not None:
            for sums in self.measures.pull(np.arange(len(measured))):
                metrics.tell(sums)
        return TrainingHistory(
            objective=[float(row[0] / row[1]) for row in epochs],
            iterations=len(epochs),
            reason=reason,
            rows=rows,
            skipped=skipped,
            seconds=[float(row[2]) for row in epochs],
            validation_rows=aside,
            validation=measured,
            metrics=metrics.values if measured else {},
            unit="epoch",
            remedy="Set more dropout, or an optimizer with `weight_decay`",
        )

    def _pace(self, clock: int, epochs: int) -> Pace | None:
        """Clocks of so many epochs: known when every rank has said its rows, and has heard those of all."""
        if clock < 1:
            return None
        try:
            rows = self.ranks.pull()[:, 0]
        finally:  # the thread asks once
            disconnect(self.ranks.address)
        clocks = Schedule(tuple(int(each) for each in rows), self.job.batch_size, self.job.seed).epoch_clocks
        clocks += CLOCKS if self.job.columns.validation else 0
        return Pace(epochs * clocks, until=(self.job.epochs - 1) * clocks)


def _trained(tables: TrainingTables, driver: DeepDriver, rows: dict[str, SparseTable], trained: DeepTrained) -> DeepTrained:
    """With the embeddings, whose tables are kept where they are too large for the driver."""
    log.info("%s: %d epochs, %s", driver.job.uid, trained.history.iterations, trained.history.reason)
    held = {name: collected(table, rows[name]) for name, table in driver.embeddings.items()}
    for name, each in held.items():
        if isinstance(each, TierTable):
            tables.keep(rows[name])
    return replace(trained, tables=held)


__all__ = ["FEW_STEPS", "DeepDriver", "DeepTrained", "train_deep"]
