"""Learning from a stream: each batch of a streaming query is learned once, whatever is killed and started again.

A batch is learned in three steps: it is trained on; tables and the batch's number are written to one checkpoint; Spark is told. If
the second did not happen the tables are taken back to the checkpoint before, and the batch, which Spark then gives again, is learned
anew; if only the third did not, the batch is recognised by its number and left out.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
import numpy as np

from sparkps.client.tables import DenseTable, SparseTable
from sparkps.driver_bridge.groups.running import RunningGroup
from sparkps.errors import CheckpointError, InvalidInput
from sparkps.mllib.data.raw_columns import RawColumns
from sparkps.mllib.data.selection import resolved
from sparkps.mllib.solvers.driver import Solution
from sparkps.mllib.solvers.minibatch import OPTIMIZERS
from sparkps.mllib.solvers.minibatch_driver import MiniBatchDriver
from sparkps.mllib.solvers.names import TableNames
from sparkps.mllib.solvers.ranks import Figures
from sparkps.mllib.solvers.saving import Saver
from sparkps.mllib.streaming.commits import Commit, CommitLog
from sparkps.mllib.tables import TrainingTables, new_prefix
from sparkps.mllib.training import train_further

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from sparkps.driver_bridge.context import PSContext
    from sparkps.mllib.solvers.job import TrainingJob

log = logging.getLogger(__name__)

M = TypeVar("M")
H = TypeVar("H")

#: Local property of the thread that runs a batch: the id of the query, which stays when it is started again.
_QUERY_ID = "sql.streaming.queryId"


class BatchDriver(MiniBatchDriver):
    """One pass over a batch, on tables that outlive it; a batch may have no rows."""

    def _create(self, tables: TrainingTables) -> list[SparseTable]:
        self._create_losses(tables)
        return []

    def run(self, group: RunningGroup, saver: Saver) -> tuple[list[Solution], Figures]:
        """See `SolverDriver`; the solution knows the losses alone."""
        ranks = group.wait()
        if not any(each.rows for each in ranks):
            nothing = Figures(0, sum(each.skipped for each in ranks), 0, 0)
            return [Solution(np.empty(0), [], 0, "there were no rows")], nothing
        history, seconds = self._history(self.losses.pull())
        solution = Solution(np.empty(0), history, len(history), "the batch was read", seconds=seconds)
        return [solution], Figures.of(ranks, self.job.columns)


class StreamLearner(Generic[M]):
    """Learns the batches of a stream; to be given to ``foreachBatch``. Batches are learned one at a time.

    Parameters
    ----------
    ps : PSContext
    job : TrainingJob
        Of one batch.
    url : str
        Directory of the checkpoints, one for each model: what is there is gone on from.
    params : dict
        What must be the same as when the learning began, by the names of Params.
    hold : callable
        Makes what a model holds of the tables of coefficients and of intercepts.
    make : callable
        Makes the model of that and its facts.
    export : callable
        Called with the model and the number of a batch when that was learned.

    Raises
    ------
    CheckpointError
        What is in the directory is of another model.

    Examples
    --------
    >>> learner = FTRLClassifier(stepSize=0.5).learner("/data/clicks/model")               # doctest: +SKIP
    >>> query = stream.writeStream.foreachBatch(learner).option("checkpointLocation", "/data/clicks/query").start()  # doctest: +SKIP
    >>> learner.model.transform(rows)                                                      # doctest: +SKIP
    """

    def __init__(
        self,
        ps: PSContext,
        job: TrainingJob,
        url: str,
        params: dict[str, str],
        hold: Callable[[SparseTable, DenseTable], H],
        make: Callable[[H, dict[str, Any]], M],
        export: Callable[[M, int], None],
    ) -> None:
        self._ps, self._job, self._export = ps, job, export
        self._lock = threading.Lock()
        self._log = CommitLog(ps.control, url, ps.address.full_name)
        found = self._log.latest()
        #: What was learned; owner: `_lock`.
        self._commit = found or Commit(new_prefix(job.uid), params, {})
        if self._commit.params != params:
            raise self._differs(params)
        if found is not None:
            self._log.roll_back()
        self._tables()
        if found is None:
            self._log.write(self._commit)  # what a first batch that fails goes back to
        #: Whether the tables have something of a batch that was not committed; owner: `_lock`.
        self._touched = False
        #: The model; it predicts by what was learned when it is asked, in executors, too.
        self.model = make(hold(self._model, self._bias), self._facts())

    def _differs(self, params: dict[str, str]) -> CheckpointError:
        from sparkps.mllib.checkpoints import differences

        said = ", ".join(differences(self._commit.params, params))
        return CheckpointError(
            f"The model at {self._log.url} must be learned with the Params that it was begun with. {said}: set them as they were, or give"
            " another `checkpointDir`.",
            url=self._log.url,
        )

    def _tables(self) -> None:
        job, names = self._job, TableNames(self._commit.prefix)
        optimizer = OPTIMIZERS[job.solver]
        self._model: SparseTable = self._ps.sparse_table(
            names.coefficients, dim=job.objective.dim, optimizer=optimizer(job, job.l1, job.l2), group=names.prefix
        )
        self._bias: DenseTable = self._ps.dense_table(
            names.intercept, shape=(job.objective.outputs,), optimizer=optimizer(job, 0.0, 0.0)
        )

    def _facts(self) -> dict[str, Any]:
        known: dict[str, Any] = {"numFeatures": self._commit.num_features, "width": self._commit.width}
        return {**known, "source": self._commit.source} if self._commit.source else known

    def _job_of(self, batch: DataFrame) -> TrainingJob:
        """The job of a batch, whose raw columns must be of the kinds that they were in the first one."""
        columns = self._job.columns
        if columns.raw is not None and self._commit.source:
            columns = replace(columns, raw=RawColumns.of(self._commit.source))
        return replace(self._job, columns=resolved(batch, columns))

    def _check_width(self, figures: Figures) -> None:
        """Raise where a batch has vectors of another size than those before; the batch is taken back."""
        if self._commit.width and figures.width and figures.width != self._commit.width:
            raise InvalidInput(
                f"Column {self._job.columns.features!r}: all vectors of a stream must have the same size, {self._commit.width}. Got a batch"
                f" with vectors of size {figures.width}.",
                column=self._job.columns.features,
            )

    @property
    def epochs(self) -> dict[str, int]:
        """By the id of a streaming query, the last of its batches that was learned."""
        return dict(self._commit.epochs)

    @property
    def rows(self) -> int:
        """Rows that were learned."""
        return self._commit.rows

    def __call__(self, batch: DataFrame, epoch: int) -> None:
        """Learn a batch, unless it was learned before.

        Parameters
        ----------
        batch : DataFrame
        epoch : int
            Its number in the query.
        """
        query = str(batch.sparkSession.sparkContext.getLocalProperty(_QUERY_ID) or "")
        with self._lock:
            if self._commit.has(query, epoch):
                log.info("%s: batch %d was learned before", self._job.uid, epoch)
                if epoch == self._commit.epochs[query]:  # whether it was exported nobody knows
                    self._export(self.model, epoch)
                return
            if self._touched:
                log.warning("%s: a batch was not learned to its end; the model is taken back to the one before", self._job.uid)
                self._log.roll_back()
            self._touched = True
            names = TableNames(new_prefix(self._job.uid), lasting=self._commit.prefix)
            job = self._job_of(batch)
            _, figures = train_further(self._ps, batch, BatchDriver([job], names))
            self._check_width(figures)
            commit = self._after(query, epoch, figures, job)
            self._log.write(commit)
            self._commit, self._touched = commit, False
            self.model.facts_.update(self._facts())  # type: ignore[attr-defined]
        self._export(self.model, epoch)

    def _after(self, query: str, epoch: int, figures: Figures, job: TrainingJob) -> Commit:
        before, raw = self._commit, job.columns.raw
        return msgspec.structs.replace(
            before,
            epochs={**before.epochs, query: epoch},
            rows=before.rows + figures.rows,
            num_features=max(before.num_features, figures.num_features),
            width=before.width or figures.width,
            source={} if raw is None else raw.facts(),
        )


__all__ = ["BatchDriver", "StreamLearner"]
