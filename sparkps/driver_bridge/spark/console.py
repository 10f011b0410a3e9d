"""Spark's progress bar on the console, without the stages of nodes: those have one task each, which runs as long as the tier.

Spark's bar shows every active stage and can leave none out, so its timer is stopped while there are nodes, and a thread here does what
the timer did: five times a second it picks the stages, and has the very same bar show them. What Spark does with its bar otherwise,
above all that it wipes it off at the end of each job, goes on.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterable
from typing import Any

from sparkps.driver_bridge.spark.jobs import NODES_TAG
from sparkps.driver_bridge.spark.session import has_stopped

log = logging.getLogger(__name__)

#: Seconds between two looks at the stages, as Spark has them.
LOOK_EVERY = 0.2

#: Milliseconds for which a stage must have run, and since the end of the last job, before Spark shows anything.
_DELAY = 500

#: At most so many stages stand in the line.
_MOST_STAGES = 3

#: After so many looks in a row that failed nobody is there any more.
_MOST_FAILURES = 5


class KeepOff:
    """Keeps the jobs of nodes off Spark's progress bar, from `begin` to `end`.

    Parameters
    ----------
    spark : SparkSession
        Where its bar is off (`spark.ui.showConsoleProgress`), nothing is done.
    """

    def __init__(self, spark: Any) -> None:
        self._spark = spark
        self._bar: Any = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Stop Spark's timer, and show all other stages from here."""
        self._bar = bar_of(self._spark)
        if self._bar is None or self._thread is not None:
            return
        self._bar.stop()
        self._bar.finishAll()
        self._over.clear()
        self._thread = threading.Thread(target=self._look, name="sparkps-console-progress", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Give Spark a bar with a timer of its own again; does nothing the second time."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._over.set()
        thread.join(5.0)
        if has_stopped(self._spark.sparkContext):
            return
        try:
            self._bar.finishAll()
            _renew_bar(self._spark)
        except Exception:  # the JVM is gone, or another Spark: the application goes on without a bar
            log.debug("Spark's progress bar cannot be put back", exc_info=True)

    def _look(self) -> None:
        """The thread."""
        failures, stages = 0, None
        while not self._over.wait(LOOK_EVERY):
            if has_stopped(self._spark.sparkContext):
                return
            try:
                stages = stages or _OtherStages(self._spark, self._bar)
                stages.show()
                failures = 0
            except Exception:  # a progress bar is no reason to fail
                log.debug("Spark's stages cannot be shown", exc_info=True)
                failures += 1
                if failures == _MOST_FAILURES:
                    return


class _OtherStages:
    """Shows the active stages that are not those of nodes. Owner: the thread that shows them.

    Two calls of the JVM tell that there are none, which is how it is most of the time.
    """

    def __init__(self, spark: Any, bar: Any) -> None:
        context = spark.sparkContext
        self._bar = bar
        self._gateway = context._gateway
        self._java = context._jvm.java
        self._to_seq = context._jvm.scala.jdk.javaapi.CollectionConverters.asScala
        self._tracker = context._jsc.sc().statusTracker()
        self._store = context._jsc.sc().statusStore()
        self._show = _method(bar, "show")
        self._last_end = _method(bar, "lastFinishTime")
        #: Active stages, and whether each is a node's.
        self._of_nodes: dict[int, bool] = {}

    def show(self) -> None:
        """One look."""
        active = self._numbers(self._tracker.getActiveStageIds())
        if not all(stage in self._of_nodes for stage in active):
            nodes = self._stages_of_nodes()
            self._of_nodes = {stage: stage in nodes for stage in active}
        others = [stage for stage in active if not self._of_nodes[stage]]
        now = int(time.time() * 1000)
        if not others or now - self._call(self._last_end) < _DELAY:
            return
        shown = self._those_that_last(set(others), now)
        if shown.size() > 0:
            self._call(self._show, now, self._to_seq(shown).toSeq())

    def _stages_of_nodes(self) -> set[int]:
        stages: set[int] = set()
        for job in self._numbers(self._tracker.getJobIdsForTag(NODES_TAG)):
            found = self._tracker.getJobInfo(job)
            if found.isDefined():
                stages.update(self._numbers(found.get().stageIds()))
        return stages

    def _those_that_last(self, others: set[int], now: int) -> Any:
        """Spark's own descriptions of the first stages that do not end at once."""
        active, chosen = self._store.activeStages(), self._java.util.ArrayList()
        for position in range(active.size()):
            stage = active.apply(position)
            since = stage.submissionTime()
            if stage.stageId() in others and since.isDefined() and now - since.get().getTime() > _DELAY:
                chosen.add(stage)
                if chosen.size() == _MOST_STAGES:
                    break
        return chosen

    def _numbers(self, array: Any) -> list[int]:
        """A Java array of integers, in one call instead of one for each."""
        return integers(self._java.util.Arrays.toString(array))

    def _call(self, method: Any, *arguments: Any) -> Any:
        given = self._gateway.new_array(self._java.lang.Object, len(arguments))
        for position, argument in enumerate(arguments):
            given[position] = argument
        return method.invoke(self._bar, given)


def bar_of(spark: Any) -> Any:
    """The progress bar that Spark draws on the console; None where the user has it off."""
    bar = spark.sparkContext._jsc.sc().progressBar()
    return bar.get() if bar.isDefined() else None


def integers(written: str) -> list[int]:
    """The numbers in what Java writes for an array.

    Examples
    --------
    >>> integers("[3, 14]"), integers("[]")
    ([3, 14], [])
    """
    return [int(number) for number in re.findall(r"-?\d+", written)]


def _renew_bar(spark: Any) -> None:
    """A timer that was stopped cannot go on: Spark gets a new bar in place of the old one."""
    context = spark.sparkContext._jsc.sc()
    jvm = spark.sparkContext._jvm
    field = _named(context.getClass().getDeclaredFields(), "_progressBar")
    field.setAccessible(True)
    field.set(context, jvm.scala.Option.apply(jvm.org.apache.spark.ui.ConsoleProgressBar(context)))


def _method(thing: Any, name: str) -> Any:
    """A private method of a Java object."""
    found = _named(thing.getClass().getDeclaredMethods(), name)
    found.setAccessible(True)
    return found


def _named(members: Iterable[Any], name: str) -> Any:
    return next(member for member in members if member.getName() == name)


__all__ = ["LOOK_EVERY", "KeepOff", "bar_of", "integers"]
