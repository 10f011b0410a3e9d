"""Spark jobs of one task that run nodes, and what Spark's scheduler knows of their attempts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from py4j.protocol import Py4JError

from sparkps.driver_bridge.launchers.locations import Location
from sparkps.driver_bridge.spark.failures import root_cause
from sparkps.driver_bridge.spark.jobs import NODES_TAG, SparkJob

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile
    from pyspark.sql import SparkSession

    from sparkps.driver_bridge.launchers.node_task import NodeTask

log = logging.getLogger(__name__)

#: What a caller may have set for jobs of its own thread, and what must not end, or slow down, those of nodes.
_OF_THE_CALLER = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel", "spark.scheduler.pool")

#: Seconds between the end of the job and that of its thread.
END_WITHIN = 5.0

#: States of a task that runs no more, though its stage goes on.
_ENDED = ("FAILED", "KILLED")


class TaskAttempt(NamedTuple):
    """One attempt at the task of a job, as Spark's scheduler sees it."""

    #: Spark's number of it, unique in an application.
    id: int
    host: str
    executor: str
    #: Why it has ended, in one line; empty: it runs.
    failure: str


class NodeJob:
    """A Spark job of one task, in a profile of its own, that runs one node.

    Parameters
    ----------
    spark : SparkSession
    task : NodeTask
    profile : ResourceProfile
    places : sequence of Location
        Where Spark shall run it if it can; none: anywhere.
    on_end : callable
        Called with this job when it has ended, in a thread of its own.
    """

    def __init__(
        self,
        spark: SparkSession,
        task: NodeTask,
        profile: ResourceProfile,
        places: Sequence[Location],
        on_end: Callable[[NodeJob], None],
    ) -> None:
        self.number = task.job
        self._context = spark.sparkContext
        self.places = places
        self._task, self._profile, self._on_end = task, profile, on_end
        tag = f"{NODES_TAG}-{task.address.tier_id}-{task.job}"
        self._job: SparkJob[None] = SparkJob(spark, tag, f"sparkps: node {task.job}", self._work)
        #: Attempts that are known to have ended.
        self._ended: set[int] = set()
        #: Why the latest attempt that failed did; empty: none has.
        self.failure = ""

    def start(self) -> NodeJob:
        """Start the job."""
        self._job.start()
        return self

    def _work(self) -> None:
        try:
            self._leave_the_caller()
            self._one_row().withResources(self._profile).mapPartitions(self._task).collect()
        finally:
            self._on_end(self)

    def _one_row(self) -> Any:
        """An RDD of one partition, which Spark computes in one of the places if it can."""
        from pyspark import RDD
        from pyspark.serializers import CPickleSerializer

        if not self.places:
            return self._context.parallelize([self.number], 1)
        jvm: Any = self._context._jvm
        pickled = bytearray(CPickleSerializer().dumps(self.number))  # type: ignore[no-untyped-call]
        converters = jvm.scala.jdk.javaapi.CollectionConverters
        names, rows = jvm.java.util.ArrayList(), jvm.java.util.ArrayList()
        for place in self.places:
            names.add(place.preference)
        rows.add(jvm.scala.Tuple2(pickled, converters.asScala(names).toSeq()))
        any_class = getattr(getattr(jvm.scala.reflect, "ClassTag$"), "MODULE$").Any()
        made = self._context._jsc.sc().makeRDD(converters.asScala(rows).toSeq(), any_class)
        return RDD(made.toJavaRDD(), self._context, CPickleSerializer())

    def _leave_the_caller(self) -> None:
        """Keep nothing of what the thread that started the tier has set for its own jobs: who cancels by that means others."""
        context = self._context
        for tag in set(context.getJobTags()) - {self._job.tag}:
            context.removeJobTag(tag)
        for name in _OF_THE_CALLER:
            context._jsc.sc().setLocalProperty(name, None)
        context.addJobTag(NODES_TAG)
        context.setJobDescription(f"sparkps: node {self.number}")

    @property
    def is_over(self) -> bool:
        """Whether the job has ended."""
        return self._job.done.is_set()

    def wait(self) -> None:
        """Wait until the job has ended, which it is about to."""
        self._job.done.wait(END_WITHIN)

    def why(self) -> str:
        """Why the job has failed, in one sentence; empty: it has not."""
        return root_cause(self._job.error) if self._job.error is not None else ""

    def end(self, grace: float) -> bool:
        """Wait for the end of the job, then cancel it; whether it has ended."""
        if not self._job.done.wait(grace):
            return self._job.cancel()
        return True

    # ---- attempts ------------------------------------------------------------------------------------------------------

    def newly_failed(self) -> list[TaskAttempt]:
        """Attempts that have ended since the last look, while the job goes on."""
        found = []
        try:
            for attempt in self._attempts():
                if attempt.failure and attempt.id not in self._ended:
                    self._ended.add(attempt.id)
                    self.failure = f"on {attempt.host}, executor {attempt.executor}: {attempt.failure}"
                    found.append(attempt)
        except Py4JError as error:  # Spark forgets old stages, and may be stopping
            log.debug("Spark does not tell of the attempts of node job %d: %s", self.number, error)
        return found

    def running(self) -> TaskAttempt | None:
        """The first attempt that runs, as far as Spark tells."""
        try:
            return next((attempt for attempt in self._attempts() if not attempt.failure), None)
        except Py4JError as error:
            log.debug("Spark does not tell where node job %d runs: %s", self.number, error)
            return None

    def _attempts(self) -> Iterator[TaskAttempt]:
        if self._context._jsc is None:  # Spark has stopped
            return
        java = self._context._jsc.sc()
        store = java.statusStore()
        for job in java.statusTracker().getJobIdsForTag(self._job.tag):
            stages = store.job(job).stageIds()
            for i in range(stages.size()):
                tasks = store.taskList(stages.apply(i), 0, 1000)
                for j in range(tasks.size()):
                    yield _attempt(tasks.apply(j))


def _attempt(task: Any) -> TaskAttempt:
    failure = ""
    if task.status() in _ENDED:
        said = task.errorMessage()
        failure = root_cause(RuntimeError(said.get())).removeprefix("RuntimeError: ") if said.isDefined() else task.status()
    return TaskAttempt(task.taskId(), task.host(), task.executorId(), failure)


__all__ = ["NodeJob", "TaskAttempt"]
