"""Spark jobs that the driver can wait for, cancel by tag, and leave on Ctrl-C, while the tier lives on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: Tag of the jobs that are nodes: each is one task, and runs as long as its node.
NODES_TAG = "sparkps-nodes"

#: Seconds between two looks while waiting: how long Ctrl-C may take.
_LOOK_EVERY = 0.25

#: Seconds that cancelled work has to end: Spark may be planning, which it does not stop for.
_CANCEL_GRACE = 5.0


class SparkJob(Generic[T]):
    """Work that runs Spark jobs in a thread of its own, all under one tag.

    The thread inherits the caller's local properties (scheduler pool, job group, tags), so the user's own means of
    control hold for it, too.

    Parameters
    ----------
    spark : SparkSession
    tag : str
        Of the jobs: what `cancel` goes by.
    description : str
        What the Spark UI shows.
    work : callable
        Runs the jobs.
    """

    def __init__(self, spark: Any, tag: str, description: str, work: Callable[[], T]) -> None:
        from pyspark import InheritableThread

        self.tag = tag
        self._context = spark.sparkContext
        self._description = description
        self._work = work
        #: Set by the thread, before `done`.
        self._result: T | None = None
        self.error: BaseException | None = None
        self.done = threading.Event()
        self._thread = InheritableThread(target=self._run, name=f"sparkps-{tag}", daemon=True)

    def start(self) -> SparkJob[T]:
        """Start the thread."""
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            self._context.addJobTag(self.tag)
            self._context.setLocalProperty("spark.job.description", self._description)
            self._result = self._work()
        except BaseException as error:  # handed to whoever waits
            self.error = error
        finally:
            self.done.set()

    def result(self, check: Callable[[], None] | None = None) -> T:
        """Wait for the work; cancels it when the wait is interrupted.

        Parameters
        ----------
        check : callable, optional
            Called while waiting; raises where the result is of no use any more.

        Raises
        ------
        BaseException
            What the work raised, or `check`.
        """
        try:
            while not self.done.wait(_LOOK_EVERY):
                if check is not None:
                    check()
        except BaseException:
            self.cancel(_CANCEL_GRACE)
            raise
        return self.get()

    def get(self) -> T:
        """The result of work that is done."""
        if self.error is not None:
            raise self.error
        return self._result  # type: ignore[return-value]

    def cancel(self, grace: float = 10.0) -> bool:
        """Cancel the jobs; whether the thread ended within `grace` seconds."""
        if not self.done.is_set():
            self._context.cancelJobsWithTag(self.tag)
        self._thread.join(grace)
        return not self._thread.is_alive()


__all__ = ["NODES_TAG", "SparkJob"]
