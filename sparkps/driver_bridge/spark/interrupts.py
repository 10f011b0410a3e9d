"""Ctrl-C ends the user's Spark jobs, and not the nodes, which are Spark jobs, too.

pyspark's handler of SIGINT calls ``SparkContext.cancelAllJobs()`` and raises KeyboardInterrupt. While there are nodes, that method of the
one SparkContext leaves them out. No signal handler is touched: not that of pyspark, which stays where it is, nor one of the user or
of a notebook in its place, which may call the method or not; and it makes no difference in which thread a tier starts.

An interrupt in the middle of a call of the JVM must not disturb the calls of other threads either: each node is one.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

from py4j.clientserver import ClientServerConnection
from py4j.java_gateway import GatewayConnection

from sparkps.driver_bridge.spark.console import integers
from sparkps.driver_bridge.spark.jobs import NODES_TAG

log = logging.getLogger(__name__)

#: Seconds for which whoever cancels waits until the JVM has been told of all jobs.
PATIENCE = 5.0

#: Milliseconds in which Spark's own list of jobs comes up to date.
_EVENTS_WITHIN = 1000

#: What the error of a cancelled job says after "Job 7 cancelled".
_REASON = "as part of cancellation of all jobs"


#: How py4j sends, by the class of the connection: one for each thread, or those that all threads share (`PYSPARK_PIN_THREAD=false`).
_SENDS: dict[type, Callable[..., Any]] = {cls: cls.send_command for cls in (ClientServerConnection, GatewayConnection)}


class SpareNodes:
    """Leaves the jobs of nodes out of ``SparkContext.cancelAllJobs()``, from `begin` to `end`.

    Parameters
    ----------
    spark : SparkSession
    """

    def __init__(self, spark: Any) -> None:
        self._context = spark.sparkContext

    def begin(self) -> None:
        """From now on nodes are spared."""
        vars(self._context)["cancelAllJobs"] = self.cancel_others
        for connection, send_command in _SENDS.items():
            connection.send_command = _guarded(send_command)  # type: ignore[attr-defined]

    def end(self) -> None:
        """Let the SparkContext cancel all jobs again; does nothing the second time."""
        if vars(self._context).get("cancelAllJobs") == self.cancel_others:
            del vars(self._context)["cancelAllJobs"]
            for connection, send_command in _SENDS.items():
                connection.send_command = send_command  # type: ignore[attr-defined]

    def cancel_others(self) -> None:
        """Cancel all jobs but those of nodes.

        In a thread of its own: a signal handler interrupts its thread, perhaps in the middle of a call of the JVM, whose connection can
        carry no other call before it has the answer. (So pyspark's own handler cancels nothing then.)
        """
        thread = threading.Thread(target=self._cancel, name="sparkps-cancel-jobs", daemon=True)
        thread.start()
        thread.join(PATIENCE)
        if thread.is_alive():
            log.warning("Spark's jobs are being cancelled; Spark has not taken note of all within %g s", PATIENCE)

    def _cancel(self) -> None:
        try:
            _cancel_others(self._context)
        except Exception:  # the JVM is gone, or going
            log.warning("Spark's jobs cannot be cancelled", exc_info=True)


def _cancel_others(context: Any) -> None:
    """Cancel until nothing is left that was not told to end: one that is being submitted appears a moment later."""
    spark, arrays = context._jsc.sc(), context._jvm.java.util.Arrays
    tracker = spark.statusTracker()
    told: set[int] = set()
    while True:
        _let_events_arrive(spark)
        active = integers(arrays.toString(tracker.getActiveJobIds()))
        # after the others: a job that is in that list is in this one, too, if it is a node's
        nodes = integers(arrays.toString(tracker.getJobIdsForTag(NODES_TAG)))
        found = set(active) - set(nodes) - told
        if not found:
            return
        for job in sorted(found):
            spark.cancelJob(job, _REASON)
        told |= found


def _let_events_arrive(spark: Any) -> None:
    """Wait until Spark's list of jobs has what has happened up to now."""
    try:
        spark.listenerBus().waitUntilEmpty(_EVENTS_WITHIN)
    except Exception:  # not in time: what has arrived must do
        log.debug("Spark's events are late", exc_info=True)


def _guarded(send_command: Callable[..., Any]) -> Callable[..., Any]:
    """A connection's way to send, after which one whose call was interrupted is left alone, and closed when nobody holds it any more.

    py4j itself would tell the JVM to close it, and the JVM closes those of all threads. Then py4j sends once more what they had asked
    for, without their local properties: each job that a thread waits for would run a second time.
    """

    @functools.wraps(send_command)
    def guarded(connection: Any, *command: Any) -> Any:
        try:
            return send_command(connection, *command)
        except Exception:
            raise
        except BaseException:  # KeyboardInterrupt, whoever raised it
            connection.socket = None
            raise

    return guarded


__all__ = ["PATIENCE", "SpareNodes"]
