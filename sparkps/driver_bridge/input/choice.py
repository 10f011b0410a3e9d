"""The rows of one group: looked at, staged where they must be, and turned into a stage of exactly W tasks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from sparkps.config import WorkerSettings
from sparkps.driver_bridge.groups.rank_task import RankTask
from sparkps.driver_bridge.input.parquet_plan import NotPlain, plain_parquet
from sparkps.driver_bridge.input.scan import RankRows, Shuffle, arrow_schema, plainly_named, read_directly
from sparkps.driver_bridge.input.staged import StagedInput, stage, staging_root
from sparkps.driver_bridge.spark.failures import input_failed
from sparkps.driver_bridge.spark.jobs import SparkJob
from sparkps.errors import InputFailed

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile
    from pyspark.sql import DataFrame

log = logging.getLogger(__name__)


class GroupInput:
    """Brings the rows of a DataFrame to the ranks of one group.

    Parameters
    ----------
    df : DataFrame
    num_workers : int
    settings : WorkerSettings
    deterministic : bool
        Whether a row's rank and place depend on the rows alone.
    group : str
        Name of the group, for messages.
    tag : str
        Of the staging job.
    check : callable
        Called while rows are staged; raises where nobody will train on them.
    profile : ResourceProfile, optional
        What the ranks' tasks run in. Staging, and all else that is done for the rows, stays in Spark's default one.
    """

    def __init__(
        self,
        df: DataFrame,
        num_workers: int,
        settings: WorkerSettings,
        *,
        deterministic: bool,
        group: str,
        tag: str,
        check: Callable[[], None],
        profile: ResourceProfile | None = None,
    ) -> None:
        self.df = plainly_named(df)
        self.num_workers = num_workers
        self.schema = arrow_schema(df)
        #: Why the rows are staged; empty: they are not.
        self.why_staged = "deterministic=True" if deterministic else ""
        self.staging_seconds = 0.0
        #: What the ranks fetch themselves: files of the user's or staged ones. None: each is given a partition of the scan.
        self.fetched: RankRows | None = None
        self._settings = settings
        self._deterministic = deterministic
        self._group = group
        self._tag = tag
        self._check = check
        self._profile = profile

    @property
    def reader(self) -> str:
        """Who reads the rows for the ranks, one of `report.READERS`."""
        if self.why_staged:
            return "staged"
        return "spark" if self.fetched is None else "parquet"

    def prepare(self) -> None:
        """Decide how the rows reach the ranks, and stage them if they must be. To be done before admission."""
        if not self.why_staged:
            if self._are_plain_parquet():
                return
            direct = read_directly(self.df, self.num_workers, _pass_on)
            self.why_staged = direct.reason if isinstance(direct, Shuffle) else ""
        if self.why_staged:
            self._stage()

    def _are_plain_parquet(self) -> bool:
        if self._settings.parquet_reader == "spark":
            return False
        try:
            found = plain_parquet(self.df, self.schema, self.num_workers, self._settings.parquet_reader)
        except Py4JError as error:  # a plan of a kind that was not foreseen: Spark knows how to run it
            found = NotPlain(str(error))
        if isinstance(found, NotPlain):
            log.debug("Spark reads the rows: %s", found.reason)
            return False
        self.fetched = found
        return True

    def stage_of(self, task_of: Callable[[RankRows | None], RankTask]) -> Callable[[], list[Any]]:
        """What runs the group's one stage, a task a rank, and collects their `RankEnd`; `task_of` makes the ranks' function.

        Ranks that fetch their rows need no DataFrame beneath them: an RDD starts seconds sooner in a JVM that has not planned
        anything yet.
        """
        if self.fetched is None:
            direct = read_directly(self.df, self.num_workers, task_of(None), again=True, profile=self._profile)
            if not isinstance(direct, Shuffle):
                return direct.collect
            self.why_staged = direct.reason  # files have come or gone since the plan was looked at
            self._stage()
        ranks = self.df.sparkSession.sparkContext.parallelize(range(self.num_workers), self.num_workers)
        ended = ranks.mapPartitions(task_of(self.fetched).on_partition)
        return (ended if self._profile is None else ended.withResources(self._profile)).collect

    def remove(self) -> None:
        """Remove what was staged."""
        if self.fetched is not None:
            self.fetched.remove()

    def _stage(self) -> None:
        log.info("staging %d ranks: %s", self.num_workers, self.why_staged)
        began = time.monotonic()
        spark = self.df.sparkSession
        root = staging_root(spark, self._settings.staging_dir, self._settings.local_dir)
        self.fetched = StagedInput(root, self.schema, ())  # so that the directory goes if staging fails

        def work() -> StagedInput:
            return stage(self.df, self.num_workers, root, self.schema, deterministic=self._deterministic)

        job = SparkJob(spark, self._tag, "sparkps: staging of rows", work).start()
        try:
            self.fetched = job.result(self._check)
        except (PySparkException, Py4JError) as error:
            raise input_failed(InputFailed("", group=self._group), error) from error
        self.staging_seconds = time.monotonic() - began


def _pass_on(rows: Iterator[Any]) -> Iterator[Any]:
    """Stands for the ranks' function while the plan is looked at."""
    yield from rows


__all__ = ["GroupInput"]
