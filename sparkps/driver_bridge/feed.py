"""The rows of one group: looked at, staged where they must be, and turned into a stage of exactly W tasks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from sparkps.config import WorkerSettings
from sparkps.driver_bridge.inputs import OUTPUT_SCHEMA, Run, Shuffle, arrow_schema, read_directly
from sparkps.driver_bridge.jobs import SparkJob
from sparkps.driver_bridge.staging import StagedInput, stage, staging_root

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

log = logging.getLogger(__name__)


class Feed:
    """Brings the rows of a DataFrame to the ranks of one group.

    Parameters
    ----------
    df : DataFrame
    num_workers : int
    settings : WorkerSettings
    deterministic : bool
        Whether a row's rank and place depend on the rows alone.
    tag : str
        Of the staging job.
    """

    def __init__(
        self, df: DataFrame, num_workers: int, settings: WorkerSettings, *, deterministic: bool, tag: str
    ) -> None:
        self.df = df
        self.num_workers = num_workers
        self.schema = arrow_schema(df)
        #: Why the rows are staged; empty: they are read directly.
        self.why_staged = "deterministic=True" if deterministic else ""
        self.staging_seconds = 0.0
        self.staged: StagedInput | None = None
        self._settings = settings
        self._deterministic = deterministic
        self._tag = tag

    def prepare(self) -> None:
        """Decide how the rows reach the ranks, and stage them if they must be. To be done before admission."""
        if not self.why_staged:
            direct = read_directly(self.df, self.num_workers, _pass_on)
            self.why_staged = direct.reason if isinstance(direct, Shuffle) else ""
        if self.why_staged:
            self._stage()

    def ranked(self, run_of: Callable[[StagedInput | None], Run]) -> DataFrame:
        """The DataFrame whose one stage is the group's ranks; `run_of` makes their function."""
        if self.staged is None:
            direct = read_directly(self.df, self.num_workers, run_of(None), again=True)
            if not isinstance(direct, Shuffle):
                return direct
            self.why_staged = direct.reason  # files have come or gone since the plan was looked at
            self._stage()
        ranks = self.df.sparkSession.range(0, self.num_workers, 1, self.num_workers)
        return ranks.mapInArrow(run_of(self.staged), OUTPUT_SCHEMA)

    def remove(self) -> None:
        """Remove what was staged."""
        if self.staged is not None:
            self.staged.remove()

    def _stage(self) -> None:
        log.info("staging %d ranks: %s", self.num_workers, self.why_staged)
        began = time.monotonic()
        spark = self.df.sparkSession
        root = staging_root(spark, self._settings.staging_dir, self._settings.local_dir)
        self.staged = StagedInput(root, self.schema, ())  # so that the directory goes if staging fails

        def work() -> StagedInput:
            return stage(self.df, self.num_workers, root, self.schema, deterministic=self._deterministic)

        self.staged = SparkJob(spark, self._tag, "sparkps: staging of rows", work).start().result()
        self.staging_seconds = time.monotonic() - began


def _pass_on(rows: Iterator[Any]) -> Iterator[Any]:
    """Stands for the ranks' function while the plan is looked at."""
    yield from rows


__all__ = ["Feed"]
